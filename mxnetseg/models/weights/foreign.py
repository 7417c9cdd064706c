"""Other people's weights: their files, their names, and which network they belong to.

A *form* is a way to name the parameters of a network. A network reads one if it has a method ``from_FORM``: see
:class:`~mxnetseg.models._base.SegModel`. The files are MXNet's ``.params``, PyTorch's ``.pth`` in both formats,
``.safetensors`` and ``.npz``, told apart by how they begin; any form may come in any of them.
"""
from __future__ import annotations

from collections import Counter
from difflib import SequenceMatcher
from pathlib import Path
from typing import Dict, List, Mapping, NamedTuple, Optional, Tuple, Union

import mxnet as mx
import numpy as np

from ...errors import CheckpointError, UnknownNameError, UsageError, short
from ...files import open_regular
from .. import MODELS, build_model, model_arguments
from ..backbones import list_backbones
from .loading import Skipped, assign, read_params
from .paramsfile import MAGIC
from .tensorfiles import read_npz, read_safetensors
from .torchfile import read_torch

# form -> whose files have it
FORMS: Dict[str, str] = {
    "own": "mxnetseg itself",
    "mxnetseg": "MXNetSeg (BebDong)",
    "gluoncv": "GluonCV's segmentation networks",
    "pytorch": "the network's original in PyTorch",
    "mmseg": "mmsegmentation",
}

# Under what keys training programs keep the parameters, and what they put before the names.
_NESTS = ("state_dict", "model_state_dict", "model_state", "model", "net", "network", "weights", "params")
_PREFIXES = ("module.", "model.", "_orig_mod.")
_LOSSES = ("loss.", "criterion.")  # what is saved with a network that was wrapped together with its loss

# A number of classes that no file and no layer has: where a shape has it, the file tells the true one.
_PROBE = 997

# Where so much fits, the rest is a damaged or changed file and no other form, backbone or structure.
_SURE = 0.95


# ---- files --------------------------------------------------------------------------------------


def read_tensors(path: Union[str, Path]) -> Dict[str, np.ndarray]:
    """The named tensors of a weight file of any kind, floating-point ones as float32.

    Nests (``{"state_dict": ...}``) and prefixes that all names share (``module.``) are removed.

    Raises:
        CheckpointError: the file is missing, damaged, of no known kind, or holds no named tensors.
    """
    path = Path(path)
    with open_regular(path, "the weight file", CheckpointError) as file:
        begin = file.read(264)
    if path.suffix == ".npz":
        found = read_npz(path)
    elif path.suffix == ".safetensors" or begin[8:9] == b"{":
        found = read_safetensors(path)
    elif begin[:8] == MAGIC:
        found = {name: value.asnumpy() for name, value in read_params(path).items()}
    elif begin[:4] == b"PK\x03\x04" or begin[:1] == b"\x80":
        found = _named(read_torch(path), path)
    elif begin[257:262] == b"ustar":
        raise CheckpointError("a PyTorch checkpoint of a version before 0.1.10, which is not read", where=path,
                              fix="load and save it once with a later PyTorch")
    else:
        raise CheckpointError("the file is damaged, or of a kind that is not read", where=path,
                              received=f"it begins with {begin[:8]!r}" if begin else "an empty file",
                              fix="give a .pth, .safetensors, .params or .npz file; copy or download it again")
    return {name: value.astype(np.float32, copy=False) if value.dtype.kind == "f" else value
            for name, value in _without_prefixes(found).items()}


def _named(found, path: Path) -> Dict[str, np.ndarray]:
    """The innermost dictionary of tensors that a checkpoint's nests lead to."""
    def innermost(value, depth: int) -> Dict[str, np.ndarray]:
        if not isinstance(value, dict) or not depth:  # a dictionary can hold itself
            return {}
        nested = (innermost(value[key], depth - 1) for key in _NESTS if key in value)
        return next(filter(None, nested), None) or {
            name: t for name, t in value.items() if isinstance(name, str) and isinstance(t, np.ndarray)}

    named = innermost(found, 4)
    if not named:
        keys = ", ".join(key if isinstance(key, str) else short(key) for key in [*found][:8])[:200] \
            if isinstance(found, dict) else type(found).__name__[:80]
        raise CheckpointError("the file holds no named tensors", where=path, received=keys,
                              fix="where PyTorch is at hand, save the state_dict alone: "
                                  "torch.save(model.state_dict(), PATH)")
    return named


def _without_prefixes(tensors: Mapping[str, np.ndarray]) -> Dict[str, np.ndarray]:
    """The tensors without the prefixes that all names have, but for a loss's own."""
    tensors = dict(tensors)
    while True:
        prefix = next((p for p in _PREFIXES if any(name.startswith(p) for name in tensors)
                       and all(name.startswith((p, *_LOSSES)) for name in tensors)), None)
        if prefix is None:
            return tensors
        tensors = {name[len(prefix):]: value for name, value in tensors.items() if name.startswith(prefix)}


# ---- names --------------------------------------------------------------------------------------


def forms_of(net) -> List[str]:
    """The forms that a network, or its class, reads."""
    return [form for form in FORMS if form == "own" or hasattr(net, f"from_{form}")
            and (form != "mxnetseg" or net.mxnetseg_classes)]


def renamed(net, form: str, tensors: Mapping[str, np.ndarray]) -> Dict[str, np.ndarray]:
    """The tensors of a file of a form under our names, without those that we have no use for.

    Raises:
        UnknownNameError: ``net`` does not read that form.
    """
    if form not in forms_of(net):
        raise UnknownNameError("form of weights for this network:", form, forms_of(net))
    if form == "own":
        return dict(tensors)
    rename = getattr(net, f"from_{form}")
    parameters = net.named_parameters()
    net.named_parameters = lambda: parameters  # maps ask for it once a name, and collecting takes its time
    ours: Dict[str, np.ndarray] = {}
    try:
        for name, value in net.adapt_foreign(form, dict(tensors)).items():
            new = rename(name)
            if new is not None:  # a second tensor for one parameter is left over, under a name that nothing has
                ours[new if new not in ours else f"{new} (also {name})"] = value
    finally:
        del net.named_parameters
    return ours


def load_foreign(net, path: Union[str, Path], *, form: str = "auto") -> str:
    """Set an initialised network from other people's weight file.

    Args:
        form: one of :data:`FORMS`; ``'auto'``: the one whose names fit best.

    Returns:
        the form.

    Raises:
        CheckpointError: the file cannot be read, or does not fit the network. Nothing has been set then.
        UnknownNameError: the network does not read that form.
    """
    tensors = read_tensors(path)
    shapes = {name: tuple(p.shape) for name, p in net.named_parameters().items()}
    candidates = {f: renamed(net, f, tensors) for f in (forms_of(net) if form == "auto" else [form])}
    best = max(candidates, key=lambda f: _share(shapes, candidates[f]))
    set_parameters(net, candidates[best], where=path)
    return best


def set_parameters(net, tensors: Mapping[str, np.ndarray], *, where: object) -> None:
    """Set every parameter of ``net`` from arrays that have our names.

    Raises:
        CheckpointError: they do not fit. Nothing has been set then.
    """
    assign(net, {name: mx.nd.array(value, dtype=np.float32) for name, value in tensors.items()}, where=where)



# ---- which network ------------------------------------------------------------------------------


class Guess(NamedTuple):
    """A network that a file may belong to.

    Attributes:
        form: of :data:`FORMS`.
        arguments: of :func:`~mxnetseg.models.get_model`, without the name and ``nclass``.
        nclass: as the file's shapes tell it; None if they do not.
        tensors: the file's, under our names.
        problems: what does not fit.
        share: how much fits, 0 .. 1.
    """

    form: str
    arguments: Dict[str, object]
    nclass: Optional[int]
    tensors: Dict[str, np.ndarray]
    problems: List[Skipped]
    share: float


def recognise(tensors: Mapping[str, np.ndarray], model: str, *, form: str = "auto", nclass: Optional[int] = None,
              thorough: bool = True, **arguments) -> Guess:
    """What a file of tensors is, given the network's name: the form, the classes, the backbone, the heads.

    Args:
        tensors: of :func:`read_tensors`.
        model: a name of :func:`~mxnetseg.models.list_models`.
        form: one of :data:`FORMS`; ``'auto'``: the one that fits best.
        nclass: classes, if they are known.
        thorough: try also other backbones, heads and structures than the network's defaults, if these do not fit.
        **arguments: of the network, as far as they are known; the others are tried.

    Returns:
        the best fit, which may be a bad one: see its ``problems``.

    Raises:
        UnknownNameError: no such network or argument, or the network does not read that form.
        ConfigError: a value that the network cannot take.
    """
    network = MODELS.get(model)
    forms = forms_of(network)
    if form != "auto" and form not in forms:
        raise UnknownNameError(f"form of weights for {MODELS.resolve(model)}:", form, forms)
    built: Dict[str, object] = {}

    def fit(one: str, **tried) -> Guess:
        tried = {**network.foreign_options.get(one, {}), **tried, **arguments}
        key = repr(sorted(tried.items()))
        if key not in built:
            built[key] = build_model(model, nclass=_PROBE, **tried)
        return _fit(tensors, built[key], one, nclass, tried)

    def improved(best: Guess) -> Guess:
        for axis in _axes(model, best, arguments):
            best = along(axis, best)
        return best

    def along(axis, best: Guess) -> Guess:
        start = best.arguments
        for changed in axis:
            if not best.problems:
                break
            if "backbone" in changed and not any(p.name.startswith("backbone.") for p in best.problems):
                continue
            try:
                guess = fit(best.form, **{**start, **changed})
            except UsageError:  # a backbone that this network cannot have
                continue
            best = guess if guess.share > best.share else best
        return best

    # the form with the right names may be behind another one as long as the backbone is wrong
    guesses = sorted((fit(one) for one in (forms if form == "auto" else [form])), key=lambda guess: -guess.share)
    best = guesses[0]
    for guess in guesses if thorough else ():
        if guess.share and (guess is best or best.share < _SURE):
            best = max(best, improved(guess), key=lambda guess: guess.share)
    return best


def _axes(model: str, first: Guess, known: Mapping[str, object]) -> List[List[Dict[str, object]]]:
    """Independent changes to try: what shapes tell, structures, backbones (those of names like the present one's
    first), heads."""
    names, network, start = model_arguments(model), MODELS.get(model), first.arguments
    told = network.arguments_of({name: value.shape for name, value in first.tensors.items()})
    axes: List[List[Dict[str, object]]] = [
        [{key: value for key, value in told.items() if key not in known}],
        [dict(s) for s in network.structures if not s.keys() & known]]
    if "backbone" in names and "backbone" not in known:
        others = [name for name in list_backbones() if name != start["backbone"]]
        others.sort(key=lambda name: -SequenceMatcher(None, name, start["backbone"]).ratio())
        axes.append([{"backbone": name} for name in others])
    if "aux" in names and "aux" not in known:
        axes.append([{"aux": not start.get("aux", False)}])
    return axes


def _fit(tensors, net, form, nclass, arguments) -> Guess:
    shapes = {name: tuple(p.shape or ()) for name, p in net.named_parameters().items()}
    ours = renamed(net, form, tensors)
    seen = Counter(ours[name].shape[shape.index(_PROBE)] for name, shape in shapes.items()
                   if _PROBE in shape and name in ours and ours[name].ndim == len(shape))
    nclass = nclass or (seen.most_common(1)[0][0] if seen else None)
    shapes = {name: tuple(nclass if n == _PROBE and nclass else n for n in shape) for name, shape in shapes.items()}
    problems = [Skipped(name, "missing in the file") for name in shapes if name not in ours]
    problems += [Skipped(name, "not in this network") for name in ours if name not in shapes]
    problems += [Skipped(name, f"shape {ours[name].shape} in the file, {shape} in this network")
                 for name, shape in shapes.items() if name in ours and not _agree(ours[name].shape, shape)]
    if "backbone" in model_arguments(net.model_name):  # named, though it is the default: that may change
        arguments = {**arguments, "backbone": net.backbone_name}
    return Guess(form, dict(arguments), nclass, ours, problems, _share(shapes, ours))


def _agree(shape: Tuple[int, ...], of_network: Tuple[int, ...]) -> bool:
    """Whether a tensor has the shape of a parameter; 0 is a size that the network learns from its first input."""
    return len(shape) == len(of_network) and all(b in (a, 0) for a, b in zip(shape, of_network))


def _share(shapes: Mapping[str, Tuple[int, ...]], tensors: Mapping[str, np.ndarray]) -> float:
    """How well tensors fit parameters, 0 .. 1: those that do, over all names of both."""
    fitting = sum(name in tensors and _agree(tensors[name].shape, shape) for name, shape in shapes.items())
    return fitting / max(1, len(shapes.keys() | tensors.keys()))
