"""Names of parameters in PyTorch's state dictionaries."""
from __future__ import annotations

from collections.abc import Container

# PyTorch's name of a norm's parameter -> Gluon's
OF_NORMS = {"weight": "gamma", "bias": "beta"}


def gluon_name(parameters: Container[str], name: str) -> str | None:
    """Return the name here of a parameter whose PyTorch name differs at most in the last word.

    >>> gluon_name({"bn1.gamma"}, "bn1.weight")
    'bn1.gamma'

    Args:
        parameters: names of the network's parameters, which distinguish norms from convolutions.
        name: PyTorch's name.

    Returns:
        the name here; None for a norm's counter of batches, which Gluon does not have.
    """
    stem, _, last = name.rpartition(".")
    if last == "num_batches_tracked":
        return None
    return name if name in parameters else f"{stem}.{OF_NORMS.get(last, last)}"
