"""Weights of other projects: their parameter names, and the network that a file belongs to.

A *naming* of parameters (``form``) belongs to a project. A network reads a form if it has a method ``from_FORM``: see
:class:`~mxnetseg.models._base.SegModel`. Any form may come in any file format that
:mod:`~mxnetseg.models.weights.tensors` reads.
"""
from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from difflib import SequenceMatcher
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..errors import UnknownNameError, UsageError
from . import MODELS, build_model, model_arguments
from .backbones import list_backbones
from .weights.loading import Skipped
from .weights.tensors import read_tensors, set_parameters

# form -> the project whose files use it
FORMS: dict[str, str] = {
    "own": "mxnetseg itself",
    "mxnetseg": "MXNetSeg (BebDong)",
    "gluoncv": "GluonCV's segmentation networks",
    "pytorch": "the network's original in PyTorch",
    "mmseg": "mmsegmentation",
}

# A number of classes that no file and no layer has: where a shape contains it, the file has the true one.
_PROBE = 997

# From this fit on, the rest is a damaged or changed file, not another form, backbone or structure.
_SURE = 0.95


# ---- names --------------------------------------------------------------------------------------


def forms_of(net) -> list[str]:
    """Return the forms that a network, or its class, reads."""
    return [form for form in FORMS if form == "own" or hasattr(net, f"from_{form}")
            and (form != "mxnetseg" or net.mxnetseg_classes)]


def renamed(net, form: str, tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the tensors of a file under our names, without those that the network does not use.

    Raises:
        UnknownNameError: ``net`` does not read that form.
    """
    if form not in forms_of(net):
        raise UnknownNameError("form of weights for this network:", form, forms_of(net))
    if form == "own":
        return dict(tensors)
    rename = getattr(net, f"from_{form}")
    parameters = net.named_parameters()
    net.named_parameters = lambda: parameters  # the name maps ask for it once per name, and collecting is slow
    ours: dict[str, np.ndarray] = {}
    try:
        for name, value in net.adapt_foreign(form, dict(tensors)).items():
            new = rename(name)
            if new is not None:  # a second tensor for one parameter is left over, under a name that does not exist
                ours[new if new not in ours else f"{new} (also {name})"] = value
    finally:
        del net.named_parameters
    return ours


def load_foreign(net, path: str | Path, *, form: str = "auto") -> str:
    """Set an initialised network from the weight file of another project.

    Args:
        form: one of :data:`FORMS`; ``'auto'``: the one whose names fit best.

    Returns:
        The form.

    Raises:
        CheckpointError: the file cannot be read, or does not fit the network; then no parameter is changed.
        UnknownNameError: the network does not read that form.
    """
    tensors = read_tensors(path)
    shapes = {name: tuple(p.shape) for name, p in net.named_parameters().items()}
    candidates = {f: renamed(net, f, tensors) for f in (forms_of(net) if form == "auto" else [form])}
    best = max(candidates, key=lambda f: _fraction_that_fits(shapes, candidates[f]))
    set_parameters(net, candidates[best], where=path)
    return best


# ---- which network ------------------------------------------------------------------------------


class Guess(NamedTuple):
    """A network that a file may belong to.

    Attributes:
        form: of :data:`FORMS`.
        arguments: of :func:`~mxnetseg.models.get_model`, without the name and ``nclass``.
        nclass: number of classes by the file's shapes; None if they do not show it.
        tensors: the file's, under our names.
        problems: what does not fit.
        fit: fraction of the names that fit, 0 to 1.
    """

    form: str
    arguments: dict[str, object]
    nclass: int | None
    tensors: dict[str, np.ndarray]
    problems: list[Skipped]
    fit: float


def recognise(tensors: Mapping[str, np.ndarray], model: str, *, form: str = "auto", nclass: int | None = None,
              thorough: bool = True, **arguments) -> Guess:
    """Find the form, classes, backbone and heads of a file's tensors, given the network's name.

    Args:
        tensors: of :func:`read_tensors`.
        model: a name of :func:`~mxnetseg.models.list_models`.
        form: one of :data:`FORMS`; ``'auto'``: the one that fits best.
        nclass: classes, if they are known.
        thorough: try also other backbones, heads and structures than the network's defaults, if these do not fit.
        **arguments: of the network, as far as they are known; the others are tried.

    Returns:
        The best fit, which may be a bad one: see its ``problems``.

    Raises:
        UnknownNameError: no such network or argument, or the network does not read that form.
        ConfigError: a value that the network cannot take.
    """
    network = MODELS.get(model)
    forms = forms_of(network)
    if form != "auto" and form not in forms:
        raise UnknownNameError(f"form of weights for {MODELS.resolve(model)}:", form, forms)
    built: dict[str, object] = {}

    def built_with(tried_form: str, **tried) -> Guess:
        tried = {**network.foreign_options.get(tried_form, {}), **tried, **arguments}
        key = repr(sorted(tried.items()))
        if key not in built:
            built[key] = build_model(model, nclass=_PROBE, **tried)
        return _fit(tensors, built[key], tried_form, nclass, tried)

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
                guess = built_with(best.form, **{**start, **changed})
            except UsageError:  # a backbone that this network cannot have
                continue
            best = guess if guess.fit > best.fit else best
        return best

    # with a wrong backbone, the right form may fit less well than another one
    guesses = sorted((built_with(f) for f in (forms if form == "auto" else [form])), key=lambda guess: -guess.fit)
    best = guesses[0]
    for guess in guesses if thorough else ():
        if guess.fit and (guess is best or best.fit < _SURE):
            best = max(best, improved(guess), key=lambda guess: guess.fit)
    return best


def _axes(model: str, first: Guess, known: Mapping[str, object]) -> list[list[dict[str, object]]]:
    """Return independent changes to try: arguments by shapes, structures, backbones (similar names first), heads."""
    names, network, start = model_arguments(model), MODELS.get(model), first.arguments
    known_by_shape = network.arguments_of({name: value.shape for name, value in first.tensors.items()})
    axes: list[list[dict[str, object]]] = [
        [{key: value for key, value in known_by_shape.items() if key not in known}],
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
    if "backbone" in model_arguments(net.model_name):  # named although it is the default, which may change
        arguments = {**arguments, "backbone": net.backbone_name}
    return Guess(form, dict(arguments), nclass, ours, problems, _fraction_that_fits(shapes, ours))


def _agree(shape: tuple[int, ...], of_network: tuple[int, ...]) -> bool:
    """Return whether a tensor has the shape of a parameter; 0 is a size that the first input decides."""
    return len(shape) == len(of_network) and all(b in (a, 0) for a, b in zip(shape, of_network))


def _fraction_that_fits(shapes: Mapping[str, tuple[int, ...]], tensors: Mapping[str, np.ndarray]) -> float:
    """Return the fraction of all names, of tensors and parameters, whose tensor fits its parameter."""
    fitting = sum(name in tensors and _agree(tensors[name].shape, shape) for name, shape in shapes.items())
    return fitting / max(1, len(shapes.keys() | tensors.keys()))
