"""Names of parameters in PyTorch's state dictionaries."""
from __future__ import annotations

from collections.abc import Container

# how Gluon's norms call what PyTorch's call weight and bias
OF_NORMS = {"weight": "gamma", "bias": "beta"}


def gluon_name(parameters: Container[str], name: str) -> str | None:
    """A name that differs from ours by the last word at most, as ours.

    >>> gluon_name({"bn1.gamma"}, "bn1.weight")
    'bn1.gamma'

    Args:
        parameters: our names; they tell norms from convolutions.
        name: of PyTorch.

    Returns:
        Our name; None for a norm's counter of batches, which Gluon does not have.
    """
    stem, _, last = name.rpartition(".")
    if last == "num_batches_tracked":
        return None
    return name if name in parameters else f"{stem}.{OF_NORMS.get(last, last)}"
