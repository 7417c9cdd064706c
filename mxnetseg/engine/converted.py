"""A network with weights of another project, and the sidecar that describes it."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import mxnet as mx

from .. import __version__
from ..config.schema import Config
from ..data import get_dataset_class
from ..errors import CheckpointError
from ..models import get_model
from ..models._foreign import Guess, recognise
from ..models.weights import gluoncv_zoo
from ..models.weights.tensors import read_tensors, set_parameters
from .checkpoint import all_finite, model_record
from .sidecar import FORMAT

PLAIN = ("backbone", "output_stride", "aux")  # arguments of a network that have their own configuration key


def build_converted(guess: Guess, config: Config, data: Mapping[str, Any], where: Path, *,
                    contexts: Sequence[mx.Context] | None = None) -> tuple[Any, dict[str, Any]]:
    """Return a network with the tensors of a foreign file, and its sidecar without the checksums.

    Args:
        guess: the file's tensors under our names, without problems, and the arguments of the network.
        config: a configuration with the names of the network and the data set.
        data: the sidecar's section on the classes.
        where: the file.
        contexts: devices; None: the CPU.

    Raises:
        CheckpointError: the file holds values that are no numbers.
    """
    config = config.replace({f"model.{key}" if key in PLAIN else f"model.options.{key}": _plain(value)
                             for key, value in {"aux": False, **guess.arguments}.items()})
    if guess.form != "own":  # the crops that it was trained on are not known, and its project extends no images
        config = config.replace({"eval.size_divisor": None})
    record = model_record(config.model, guess.nclass)
    net = get_model(**record, norm="bn", ctx=contexts)
    set_parameters(net, guess.tensors, where=where)
    if not all_finite(net):
        raise CheckpointError("the file holds values that are no numbers (NaN) or infinite", where=where,
                              fix="use another checkpoint of that run")
    return net, {
        "format": FORMAT, "mxnetseg": __version__, "model": record, "data": dict(data),
        "normalisation": {"mean": list(net.mean), "std": list(net.std)},
        "protocol": {"splits": {"train": config.data.train_split, "val": config.data.val_split}}, "metrics": {},
        "source": {"file": where.name, "form": guess.form}, "config": config.to_dict()}


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


class GluonCVCheckpoint:
    """A segmentation checkpoint of GluonCV's model store.

    Args:
        name: a key of :data:`~mxnetseg.models.weights.gluoncv_zoo.CHECKPOINTS`.
        path: its file.
    """

    def __init__(self, name: str, path: Path):
        self.name, self.path = name, path

    def restore(self, contexts: Sequence[mx.Context] | None = None) -> tuple[Any, dict[str, Any]]:
        """Return the network, ready for inference, and its sidecar.

        Raises:
            CheckpointError: the file does not hold the network that its name says.
        """
        model, backbone, dataset = gluoncv_zoo.network_of(self.name)
        described = object.__new__(get_dataset_class(dataset))  # the files of the data set are not needed
        guess = recognise(read_tensors(self.path), model, form="gluoncv", backbone=backbone,
                          nclass=len(described.classes))
        if guess.problems:
            raise CheckpointError("the file does not hold the network of its name", where=self.path,
                                  received="\n".join(f"{p.name}: {p.reason}" for p in guess.problems[:8]),
                                  fix="delete it, and `mxnetseg fetch` it again")
        config = Config().replace({"model.name": model, "data.name": dataset}, where=self.name)
        return build_converted(guess, config, described.info(), self.path, contexts=contexts)
