"""Protocol and tiles of a prediction, from a network's configuration and the caller's wishes."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ..backends.runtime import Runtime
from ..config.schema import Config
from ..errors import UsageError
from .protocol import Protocol
from .tiles import TILE, Tiling

_MEMORY_FRACTION = 1 / 4  # of a device, that an image which is not cut may take
_FLOAT_BYTES, _SCORES_AT_ONCE = 4, 3
_STRIDE = 8  # crops of 769 or 473 pixels, for example, are a multiple of it plus 1


def prediction_protocol(config: Config, *, ms: bool = False, base: int | None = None, tile: int | str | None = "auto",
                        batch: int = 1) -> Protocol:
    """Return the protocol that a :class:`Predictor` with these arguments applies.

    Raises:
        UsageError: arguments contradict each other.
    """
    protocol = Protocol.of(config, ms=ms)
    if base is not None:
        protocol = replace(protocol, base_size=base or None)
    if protocol.base_size and isinstance(tile, int):
        where = "--base" if base else "eval.base_size, which the configuration of the training sets"
        raise UsageError("images that are scaled first are not cut into tiles as well", where=where,
                         received=f"long side {protocol.base_size}, tiles of {tile}",
                         fix="--base 0 --tile SIZE cuts images of their own size; or leave --tile out")
    if batch > 1 and not protocol.is_simple:
        raise UsageError("only whole images at one scale are computed several at once", where="--batch",
                         received=f"{batch} images; {protocol}", fix="leave --batch out")
    return protocol


def choose_tiling(tile: int | str | None, overlap: int | None, protocol: Protocol, runtime: Runtime, nclass: int,
                  crop: Sequence[int]) -> Tiling | None:
    """Return how large images are cut, None if they are not.

    Args:
        tile, overlap: see :class:`~mxnetseg.engine.predictor.Predictor`.
        protocol, runtime, nclass: what computes, and how.
        crop: (height, width) of the crops that the network was trained on.

    Raises:
        UsageError: the side or the overlap is not possible.
    """
    if tile is None or (tile == "auto" and protocol.base_size):
        return None
    extra = int(all(side % _STRIDE == 1 for side in crop))
    if isinstance(tile, int):
        return Tiling.of(tile, overlap, extra=extra)
    if tile != "auto":
        raise UsageError("a tile is a number of pixels, 'auto' or None", received=repr(tile), fix="tile=1024")
    scores = _FLOAT_BYTES * _SCORES_AT_ONCE * nclass
    if protocol.mode != "whole":
        each = scores
    elif protocol.is_simple:
        each = runtime.bytes_per_pixel
    else:
        each = int(runtime.bytes_per_pixel * max(protocol.scales) ** 2 * (1 + protocol.flip)) + scores
    limit = int(runtime.total_memory() * _MEMORY_FRACTION)
    reason = f"at about {each} bytes a pixel it would take more than a quarter of the memory, {limit / 2 ** 30:.1f} " \
             "GiB; --tile none computes images at once, --base scales them"
    return Tiling.of(TILE, overlap, extra=extra, above=limit // each, reason=reason)
