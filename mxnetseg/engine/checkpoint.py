"""Checkpoints: the parameters, a sidecar that describes them, and the state to resume from.

``weights/<model>/<model>_<backbone>_<data>_<yyyymmdd>_<HHMMSS>[_best].params``   parameters
the same with ``.json``                                                            sidecar
the same with ``.state``                                                           optimiser tensors

The sidecar holds the SHA-256 of the other files and its own. A crash at any moment leaves a consistent set of files,
because a set is replaced in three steps:

1. the new files are written beside the old ones, as ``.new``;
2. the sidecar is replaced atomically by one that names the new contents;
3. the ``.new`` files are moved to their places.

After a crash between the last two steps, readers find the contents in the ``.new`` files by their checksum, and the
next writer moves them.

One process writes a run (:mod:`mxnetseg.engine.lock`); any number of processes read it meanwhile. Readers change
nothing on the disk. If the files are replaced while they read, they start again.
"""
from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, NamedTuple

import mxnet as mx
import numpy as np

from .. import __version__
from ..backends.mxnet_parallel import are_finite
from ..config.schema import Model
from ..errors import CheckpointError, EnvironmentProblem, MXNetSegError, nearest, reason
from ..files import atomic_write, expand, no_file, sha256, sha256_of, sweep
from ..models import MODELS, build_model
from ..models.weights.loading import assign, initialize, load_arrays, read_params
from ..nn.norm import choose_norm
from .sidecar import FORMAT, PARAMS, STATE, check, parse

log = logging.getLogger(__name__)

SIDECAR = ".json"
_CHECKSUM = "sha256"  # key of the sidecar's own checksum
# A reader that a writer overtakes starts again: at most so often, and so often while the sidecar stays the same. The
# writer renames files within milliseconds, so files that still do not fit an unchanged sidecar are damaged.
_ATTEMPTS, _ATTEMPTS_SAME = 100, 4
_PAUSE = 0.01  # seconds; n times as long before the n-th further attempt
_SMALL = 1 << 24  # parameters; in a network of no more than these, every tensor that differs is reported by name


def model_record(config: Model, nclass: int) -> dict[str, Any]:
    """Return the arguments of :func:`~mxnetseg.models.get_model` for a configuration, as a sidecar keeps them.

    Args:
        config: the model section of the configuration.
        nclass: number of classes.
    """
    arguments = {"backbone": config.backbone, "output_stride": config.output_stride, "aux": config.aux or None,
                 **config.options}
    return {"name": MODELS.resolve(config.name), "nclass": nclass,
            **{key: value for key, value in arguments.items() if value is not None}}


def restore_network(checkpoint: Checkpoint, contexts: Sequence[mx.Context]):
    """Return the network of a checkpoint, ready for inference, and its sidecar.

    Args:
        checkpoint: the checkpoint.
        contexts: the devices that the network is initialised on.

    Raises:
        CheckpointError: a file is missing or damaged, or does not fit the network it names.
    """
    sidecar, params, _ = checkpoint.read()
    norm_layer, norm_kwargs = choose_norm("bn", contexts)
    try:
        net = build_model(**sidecar["model"], norm_layer=norm_layer, norm_kwargs=norm_kwargs)
    except MXNetSegError as error:
        raise CheckpointError(f"the checkpoint's network cannot be built: model: {error.what}",
                              where=checkpoint.sidecar_path, received=error.received, fix=error.fix) from error

    _refuse_larger(net, params, checkpoint.path)
    initialize(net, contexts, random=False)
    take_normalisation(net, sidecar)
    assign(net, params, where=checkpoint.path)
    return net, sidecar


def _refuse_larger(net, params: Mapping[str, mx.nd.NDArray], where: Path) -> None:
    """Refuse a network far larger than its file, before memory is allocated for it."""
    in_network = sum(math.prod(p.shape) for p in net.collect_params().values() if p.shape)  # 0 where not yet known
    in_file = sum(value.size for value in params.values())
    if in_network > 2 * in_file + _SMALL:
        raise CheckpointError(
            "the weights do not fit this network", where=where,
            received=f"the sidecar's network has {in_network:,} parameters; the file holds {in_file:,}",
            fix="correct the section 'model' of the sidecar, or copy the sidecar again")


def take_normalisation(net, sidecar: Mapping[str, Any]) -> None:
    """Give the network the checkpoint's mean and deviation; call it before its input step is built."""
    net.mean, net.std = (tuple(sidecar["normalisation"][k]) for k in ("mean", "std"))


class LoadedCheckpoint(NamedTuple):
    """Checkpoint in memory; its parts were written together."""

    sidecar: dict[str, Any]
    params: dict[str, mx.nd.NDArray]
    state: dict[str, mx.nd.NDArray] | None  # the tensors to resume from, if the caller asked for them


class Checkpoint:
    """One checkpoint on the disk, named by its ``.params`` file.

    Args:
        path: the ``.params`` file, existing or to be written.
    """

    def __init__(self, path: str | Path):
        path = expand(path)
        self.path = path if path.suffix == PARAMS else path.parent / (path.name + PARAMS)

    def _file(self, suffix: str) -> Path:
        return self.path.with_name(self.path.name[:-len(PARAMS)] + suffix)

    @property
    def sidecar_path(self) -> Path:
        """Path of the sidecar."""
        return self._file(SIDECAR)

    @property
    def stem(self) -> str:
        """File name without its ending."""
        return self.path.name[:-len(PARAMS)]

    # ---- writing ------------------------------------------------------------------------------

    def write(self, net, record: Mapping[str, Any], state: Mapping[str, np.ndarray] | None = None) -> None:
        """Write parameters, state (if given) and sidecar; afterwards the disk holds the new set, or the old one.

        Args:
            net: the network.
            record: content of the sidecar, which JSON can hold; versions, time and checksums are added.
            state: named tensors to resume from.

        Raises:
            EnvironmentProblem: the disk is full, or the folder can no longer be written to.
        """
        self._write_or_explain(net, record, state, half=False)

    def write_half(self, net, record: Mapping[str, Any]) -> None:
        """Write as :meth:`write` does, with the weights of convolutions and dense layers in float16, half the size."""
        self._write_or_explain(net, record, None, half=True)

    def _write_or_explain(self, net, record, state, *, half: bool) -> None:
        try:
            self._write(net, record, state, half)
        except OSError as error:
            raise EnvironmentProblem("the checkpoint could not be written", where=error.filename or self.path,
                                     received=error.strerror or error,
                                     fix="check the folder's permissions and the disk, or choose another folder "
                                         "(--weights DIR)") from error

    def _write(self, net, record: Mapping[str, Any], state: Mapping[str, np.ndarray] | None, half: bool) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if self.has_sidecar():  # after a crash its contents may be in the .new files, which are overwritten below
            with suppress(CheckpointError):
                self._move_new(self.peek()["files"])

        # All contexts hold the same parameters, unless batch norm is unsynchronised: the first one's are written.
        contents = {PARAMS: {name: _in_half(p.list_data()[0]) if half else p.list_data()[0]
                             for name, p in net.named_parameters().items()}}
        if state is not None:
            contents[STATE] = {name: mx.nd.array(array, dtype=array.dtype) for name, array in state.items()}

        try:
            files = {}
            for suffix, tensors in contents.items():
                new = self._new(suffix)
                _save(new, tensors)
                files[suffix] = {"sha256": sha256(new), "bytes": new.stat().st_size}

            sidecar = {"format": FORMAT, "mxnetseg": __version__, "mxnet": mx.__version__,
                       "written": datetime.now(timezone.utc).isoformat(timespec="seconds"), "files": files, **record}
            sidecar = json.loads(json.dumps(sidecar, allow_nan=False))  # as a reader will see it
            text = json.dumps({**sidecar, _CHECKSUM: _digest(sidecar)}, indent=1)
            with atomic_write(self.sidecar_path, "w") as file:  # from here on the new set is the valid one
                file.write(text)
        except BaseException:
            self._delete_unnamed()  # they would keep a full disk full
            raise
        self._move_new(files)

    def recover(self) -> None:
        """Finish or undo the writing that a kill interrupted. No other process may be writing this checkpoint.

        Raises:
            CheckpointError: the sidecar is damaged; no file was changed.
        """
        if self.has_sidecar():
            self._move_new(self.peek()["files"])
        self._delete_unnamed()
        sweep(self.sidecar_path)

    def _new(self, suffix: str) -> Path:
        return self._file(suffix + ".new")

    def _move_new(self, files: Mapping[str, Mapping[str, Any]]) -> None:
        """Move those ``.new`` files to their places that the sidecar names."""
        for suffix, expected in files.items():
            new = self._new(suffix)
            with suppress(FileNotFoundError):  # a reader of an older mxnetseg may move it, too
                if sha256(new) == expected["sha256"]:
                    os.replace(new, self._file(suffix))

    def _delete_unnamed(self) -> None:
        """Delete the ``.new`` files that the sidecar does not name; all of them stay if it is damaged."""
        with suppress(OSError, CheckpointError):
            files = self.peek()["files"] if self.has_sidecar() else {}
            for suffix in (PARAMS, STATE):
                new = self._new(suffix)
                if new.exists() and sha256(new) != files.get(suffix, {}).get("sha256"):
                    new.unlink()

    # ---- reading ------------------------------------------------------------------------------

    def has_sidecar(self) -> bool:
        """Return whether the checkpoint has a sidecar, which makes it complete."""
        return os.path.isfile(self.sidecar_path)  # unlike Path.is_file(), it takes a path of any length

    def has_params(self) -> bool:
        """Return whether the parameters are there, in their place or still ``.new``."""
        # their place is looked at twice, because a writer may rename the other file in between
        return any(path.exists() for path in (self.path, self._new(PARAMS), self.path))

    def read_sidecar(self) -> dict[str, Any]:
        """Return the sidecar, after checking every file that it names against its SHA-256.

        Raises:
            CheckpointError: a file is missing, truncated or changed, or the sidecar itself is damaged.
        """
        return self._read({})[0]

    def read(self, *, state: bool = False) -> LoadedCheckpoint:
        """Return the sidecar and the tensors that belong to it, even while a training replaces the files.

        Args:
            state: read the training state too.

        Raises:
            CheckpointError: as :meth:`read_sidecar`, or the checkpoint has no training state (a best one has none).
        """
        sidecar, tensors = self._read({PARAMS: read_params, **({STATE: load_arrays} if state else {})})
        return LoadedCheckpoint(sidecar, tensors[PARAMS], tensors[STATE] if state else None)

    def _read(self, loaders: Mapping[str, Callable[[Path], Any]]):
        """Return the sidecar, and the results of the loaders by suffix of the file."""
        files, attempts_same = None, 0
        for _ in range(_ATTEMPTS):
            sidecar = self.peek()
            attempts_same = attempts_same + 1 if sidecar["files"] == files else 1
            files = sidecar["files"]

            if STATE in loaders and STATE not in files:
                raise CheckpointError("this checkpoint cannot be resumed: it has no training state", where=self.path,
                                      fix="resume from the run's last checkpoint (without _best), or fine-tune from "
                                          "this one with --set train.init_from=PATH")

            try:
                return sidecar, {suffix: self._load_checked(suffix, expected, loaders.get(suffix))
                                 for suffix, expected in files.items()}
            except CheckpointError:
                if attempts_same == _ATTEMPTS_SAME:
                    raise
            time.sleep(_PAUSE * attempts_same)
        raise self._overtaken()

    def _load_checked(self, suffix: str, expected: Mapping[str, Any], load: Callable[[Path], Any] | None) -> Any:
        """Check one file, in its place or still ``.new``; return the result of ``load``."""
        for path in (self._file(suffix), self._new(suffix)):
            if os.path.exists(path) and no_file(path):  # opening a pipe would wait for its writer
                continue
            try:
                with open(path, "rb") as file:  # while it is open, its inode is not used again
                    before = _identity(os.fstat(file.fileno()))
                    if before[2] != expected["bytes"] or sha256_of(file) != expected["sha256"]:
                        continue
                    tensors = load(path) if load else None
                    if _identity(os.stat(path)) == before:
                        return tensors
            except FileNotFoundError:
                continue
            except OSError as error:
                raise CheckpointError("a file of the checkpoint cannot be read", where=path,
                                      received=error.strerror, fix="check its permissions and its disk") from None

        self._raise_damage(self._file(suffix), expected)
        raise self._overtaken()

    def _overtaken(self) -> CheckpointError:
        return CheckpointError("the checkpoint was replaced again and again while it was read", where=self.path,
                               fix="repeat the command when the training saves less often, or has ended")

    def peek(self) -> dict[str, Any]:
        """Return the sidecar, checked in itself; the other files are not looked at.

        Raises:
            CheckpointError: there is no sidecar, or it is damaged.
        """
        if not self.has_sidecar():
            if not os.path.exists(self.path):
                raise CheckpointError("the checkpoint is not there", where=self.path, fix=self._look_alikes())
            raise CheckpointError("the checkpoint has no sidecar, so its network is not known",
                                  where=self.sidecar_path,
                                  fix="copy the .json file that was written with it to the same folder")
        try:
            sidecar = parse(self.sidecar_path)
            if sidecar.get(_CHECKSUM) not in (None, _digest(sidecar)):
                raise ValueError("it has changed since it was written (SHA-256)")
        except (OSError, ValueError) as error:
            raise CheckpointError("the checkpoint's sidecar is damaged", where=self.sidecar_path,
                                  received=getattr(error, "strerror", None) or reason(error),
                                  fix="copy it again, or use another checkpoint of the run; if you edited it "
                                      f"yourself, remove its {_CHECKSUM!r}") from None

        check(sidecar, self.sidecar_path)
        return sidecar

    def _raise_damage(self, file: Path, expected: Mapping[str, Any]) -> None:
        """Raise the error for a file that is not what the sidecar names; return if it is."""
        problem = no_file(file)
        if problem is not None:
            raise CheckpointError(f"a file of the checkpoint {problem.replace('not there', 'missing')}", where=file,
                                  fix="copy it too, or use another checkpoint of the run")
        size = file.stat().st_size
        if size != expected["bytes"]:
            raise CheckpointError("a file of the checkpoint is truncated or was replaced", where=file,
                                  received=f"{size:,} bytes; {expected['bytes']:,} were written",
                                  fix="copy it again, or use another checkpoint of the run")
        if sha256(file) != expected["sha256"]:
            raise CheckpointError("a file of the checkpoint has changed since it was written (SHA-256)",
                                  where=file, fix="copy it again, or use another checkpoint of the run")

    def _look_alikes(self) -> str:
        names = [p.name for p in sorted(self.path.parent.glob("*" + PARAMS))]
        close = nearest(self.path.name, names)
        return "did you mean " + " or ".join(close) + "?" if close else "train first, or check the path"


def all_finite(net) -> bool:
    """Return whether no parameter of ``net`` is NaN or infinite."""
    return are_finite([p.list_data()[0] for p in net.named_parameters().values()])


def _in_half(value: mx.nd.NDArray) -> mx.nd.NDArray:
    """Return a weight in float16. Vectors, which are small, and weights that float16 cannot hold stay float32."""
    if value.ndim < 2:
        return value
    half = value.astype("float16")
    return half if are_finite([half.astype("float32")]) else value


def _identity(status: os.stat_result) -> tuple:
    """Return what distinguishes one unchanged file from all others."""
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _digest(sidecar: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a sidecar's content without the checksum itself, independent of its layout."""
    content = {key: value for key, value in sidecar.items() if key != _CHECKSUM}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _save(path: Path, tensors: Mapping[str, mx.nd.NDArray]) -> None:
    """Write named tensors, and wait until they are on the disk."""
    try:
        mx.nd.save(str(path), dict(tensors))
        with open(path, "rb+") as file:
            os.fsync(file.fileno())
            # The file ends with the last name, and MXNet does not notice if the disk has no room for the end.
            name = list(tensors)[-1].encode()
            file.seek(0, os.SEEK_END)
            file.seek(max(file.tell() - len(name) - 8, 0))
            problem = None if file.read() == len(name).to_bytes(8, sys.byteorder) + name else "its end is missing"
    except (mx.MXNetError, OSError) as error:
        problem = str(error).strip().splitlines()[-1]

    if problem is not None:
        raise EnvironmentProblem("the checkpoint could not be written", where=path, received=problem,
                                 fix="check whether the disk is full, or choose another (--weights DIR)")
