"""Evaluation protocol: at which sizes a network computes an image, and what is averaged."""
from __future__ import annotations

from dataclasses import dataclass

from ..config.schema import Config


@dataclass(frozen=True)
class Protocol:
    """Evaluation protocol of a network on an image.

    Attributes:
        mode: ``'whole'``; ``'slide'`` for windows of ``crop_size``; or ``'gluoncv'`` for windows exactly as in its
            ``MultiEvalModel``, for comparison with results published that way, among them MXNetSeg's: pixels beyond
            the image are black, corners are aligned in all resizing, and exp(logits) is averaged; with flip, it is
            exp of the sum of a window's logits and those of its flipped copy.
        base_size: long side that an image is scaled to, in pixels; None: its own.
        crop_size: (height, width) of the windows.
        stride: step of the windows, over their size, in (0, 1].
        scales: factors on ``base_size`` whose probabilities are averaged.
        flip: average over the horizontally flipped image too.
        batch: windows computed at once.
        size_divisor, remainders: (height, width) of an image are extended, by up to ``size_divisor - 1`` pixels, to
            sizes that leave these remainders; see :meth:`extended`.
    """

    mode: str = "whole"
    base_size: int | None = None
    crop_size: tuple[int, int] = (480, 480)
    stride: float = 2 / 3
    scales: tuple[float, ...] = (1.0,)
    flip: bool = False
    batch: int = 1
    size_divisor: int = 1
    remainders: tuple[int, int] = (0, 0)

    @classmethod
    def of(cls, config: Config, *, ms: bool = False) -> Protocol:
        """Return the protocol of a configuration.

        Args:
            config: its ``eval`` section is used, and ``data.crop_size`` if that names no window.
            ms: use the multi-scale form: ``eval.ms_scales`` and flip.
        """
        e, (height, width), divisor = config.eval, config.data.crop_size, config.eval.size_divisor or 1
        return cls(mode=e.mode, base_size=e.base_size, crop_size=e.crop_size or config.data.crop_size,
                   stride=e.stride, scales=tuple(e.ms_scales if ms else e.scales), flip=e.flip or ms, batch=e.batch,
                   size_divisor=divisor, remainders=(height % divisor, width % divisor))

    @property
    def is_simple(self) -> bool:
        """True for whole images at their own size, without flip: nothing is averaged."""
        return self.mode == "whole" and self.scales == (1.0,) and not self.flip and self.base_size is None

    def extended(self, size: tuple[int, int]) -> tuple[int, int]:
        """Return the size that an image of (height, width) is extended to before the network computes it.

        A network that halves maps and doubles them again, or aligns their corners, moves them by a few pixels, as many
        as the remainder of the side decides. It has learnt this from the crops of its training, and meets the same in
        images whose sides leave the remainders of the crops. Windows have the size of crops already.
        """
        if self.mode == "gluoncv":
            return size
        height, width = (side if self.mode == "slide" and side >= window else side + (rest - side) % self.size_divisor
                         for side, window, rest in zip(size, self.crop_size, self.remainders))
        return height, width

    def __str__(self):
        shown = "whole images" if self.mode == "whole" else \
            f"windows of {self.crop_size[0]} x {self.crop_size[1]}, step {self.stride:.2f}"
        size = f"long side {self.base_size}" if self.base_size else "original size"
        scales = ", ".join(f"{s:g}" for s in self.scales)
        return f"{shown}, {size}, scale{'s' * (len(self.scales) > 1)} {scales}, " \
               f"{'with' if self.flip else 'without'} flip" + ", as GluonCV does it" * (self.mode == "gluoncv")
