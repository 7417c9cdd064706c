"""From pictures to class maps: whole or in windows, at one scale or several, mirrored or not.

Multi-scale and flip average *probabilities* (softmax). Every step behind the decoding of the picture
runs on the device, and only one byte a pixel, the class, comes back.
"""
from __future__ import annotations

import math
import threading
import warnings
from dataclasses import dataclass
from typing import Any, Iterator, List, Optional, Sequence, Tuple

import cv2
import mxnet as mx
import numpy as np
from mxnet.gluon import HybridBlock

from ..config.schema import Config
from ..errors import DataError
from ..graph.precision import Fused
from ..graph.shape_cache import PerSize, compile_outermost
from ..nn.blocks import InputStep
from ..nn.resize import before_resize, resize, resize_last

# MXNet warns when a graph leaves parameters out; here auxiliary heads are left out on purpose
warnings.filterwarnings("ignore", message=r"Parameter .* is not used by any computation", category=UserWarning)
# that OpenCV can resize at once
_OPENCV_CHANNELS = 512
# Held while a thread gives work to MXNet, by all segmenters, because two of them may share a network. MXNet traces a
# block with names that it keeps in the block, and a compiled graph that two threads enter at once allocates its maps
# twice. The work itself is done, and waited for, outside.
_LOCK = threading.RLock()


@dataclass(frozen=True)
class Protocol:
    """How pictures are shown to a network in evaluation.

    Attributes:
        mode: ``'whole'``; ``'slide'`` for windows of ``crop_size``; or ``'gluoncv'`` for windows exactly as in its
            ``MultiEvalModel``, for comparison with what was published so, MXNetSeg's results among it: what lies beyond
            the picture is black, corners are aligned in all resizing, and exp(logits) is averaged, of a mirrored window
            exp(the sum of both logits).
        base_size: long side that a picture is scaled to, in pixels; None: its own.
        crop_size: (height, width) of the windows.
        stride: step of the windows, over their size, in (0, 1].
        scales: factors on ``base_size`` whose probabilities are averaged.
        flip: average over the mirrored picture too.
        batch: windows computed at once.
    """

    mode: str = "whole"
    base_size: Optional[int] = None
    crop_size: Tuple[int, int] = (480, 480)
    stride: float = 2 / 3
    scales: Tuple[float, ...] = (1.0,)
    flip: bool = False
    batch: int = 1

    @classmethod
    def of(cls, config: Config, *, ms: bool = False) -> "Protocol":
        """The protocol of a configuration.

        Args:
            config: its ``eval`` section, with ``data.crop_size`` where it names no window.
            ms: its multi-scale form: ``eval.ms_scales`` and flip.
        """
        e = config.eval
        return cls(mode=e.mode, base_size=e.base_size, crop_size=e.crop_size or config.data.crop_size,
                   stride=e.stride, scales=tuple(e.ms_scales if ms else e.scales), flip=e.flip or ms, batch=e.batch)

    def __str__(self):
        shown = "whole images" if self.mode == "whole" else \
            "windows of %d x %d, step %.2f" % (*self.crop_size, self.stride)
        size = f"long side {self.base_size}" if self.base_size else "original size"
        scales = ", ".join(f"{s:g}" for s in self.scales)
        return f"{shown}, {size}, scale{'s' * (len(self.scales) > 1)} {scales}, " \
               f"{'with' if self.flip else 'without'} flip" + ", as GluonCV does it" * (self.mode == "gluoncv")


class _Network(HybridBlock):
    """uint8 (N, H, W, 3) -> what :meth:`of_logits` makes of the logits."""

    def __init__(self, net, flip: bool = False):
        super().__init__()
        self._flip = flip
        with self.name_scope():
            self.input = InputStep(net.mean, net.std)
            self.net = net

    def hybrid_forward(self, F, images):
        x = self.input(images)
        if self._flip:
            x = F.concat(x, F.flip(x, axis=3), dim=0)
        y = self.net(x)[0]
        # a plain network is seen as it is, to find a fault; of a fused one, what is small is mirrored and turned
        resized = before_resize(y) if isinstance(self.net, Fused) else None
        if resized is None:
            def last(y):
                return F.transpose(y, axes=(2, 0, 3, 1))
        else:
            y, rows, columns = resized

            def last(y):
                return resize_last(F, y, rows, columns)
        y = F.cast(y, "float32")
        if not self._flip:
            return self.of_logits(F, [last(y)])
        straight, mirrored = F.split(y, num_outputs=2, axis=0)
        return self.of_logits(F, [last(straight), last(F.flip(mirrored, axis=3))])

    def of_logits(self, F, maps):
        """``maps``: (H, N, W, K) float32 of the pictures, and with ``flip`` of the mirrored ones turned back. The
        classes are last, where a CPU takes softmax and argmax several times as fast as over the second axis."""
        raise NotImplementedError


class _Probabilities(_Network):
    """uint8 (N, H, W, 3) -> softmax (H, N, W, K), added up over the mirrored picture if ``flip``."""

    def of_logits(self, F, maps):
        first, *others = (F.softmax(y, axis=3) for y in maps)
        return F.add_n(first, *others)


class _Exponentials(_Network):
    """uint8 or float32 (N, H, W, 3) -> exp(logits) (H, N, W, K), the logits added up over the mirrored picture."""

    def of_logits(self, F, maps):
        return F.exp(F.add_n(*maps))


class _ClassMap(_Network):
    """uint8 (N, H, W, 3) -> uint8 (N, H, W): the most probable class, for one scale without flip."""

    def of_logits(self, F, maps):
        return F.transpose(F.cast(F.argmax(maps[0], axis=3), "uint8"), axes=(1, 0, 2))


class _Resize(HybridBlock):
    """(h, w, K), like (1, 1, H, W) -> (H, W, K)."""

    def hybrid_forward(self, F, x, like):
        x = F.expand_dims(F.transpose(x, axes=(2, 0, 1)), axis=0)
        x = resize(F, x, like, align_corners=False)
        return F.squeeze(F.transpose(x, axes=(0, 2, 3, 1)), axis=0)


class Segmenter:
    """A network with a protocol, on one or several contexts. Several threads may call it at the same time.

    Args:
        net: a :class:`~mxnetseg.models._base.SegModel`, initialised on all ``contexts``, or its
            :class:`~mxnetseg.graph.precision.Fused` form, which is faster.
        contexts: pictures are dealt out among them in turn.
        protocol: see :class:`Protocol`; by default whole pictures at their own size.
    """

    def __init__(self, net, contexts: Sequence[mx.Context], protocol: Optional[Protocol] = None):
        protocol = protocol or Protocol()
        self.contexts, self.protocol = list(contexts), protocol
        self._smallest_side = net.smallest_side
        self._simple = protocol.mode == "whole" and len(protocol.scales) == 1 and not protocol.flip \
            and protocol.base_size is None and protocol.scales[0] == 1
        kind = _Exponentials if protocol.mode == "gluoncv" else _Probabilities
        self._block = PerSize(lambda: self._with_input(kind(net, protocol.flip)))
        self._class_map = PerSize(lambda: self._with_input(_ClassMap(net)))
        self._resize = compile_outermost(_Resize())

    def _with_input(self, block: HybridBlock) -> HybridBlock:
        block.input.initialize(ctx=self.contexts)
        return block

    def __call__(self, image: np.ndarray, context: Optional[mx.Context] = None) -> mx.nd.NDArray:
        """Class map of a picture: uint8 (H, W, 3) RGB -> uint8 (H, W) on the device, not waited for.

        Raises:
            DataError: the image, or its smallest scale, is smaller than the network can read.
        """
        context = context or self.contexts[0]
        with _LOCK:
            if self._simple:
                return self._class_map(self._send([image], context))[0]
            return mx.nd.argmax(self._sum(image, context), axis=2).astype("uint8")

    def probabilities(self, image: np.ndarray, context: Optional[mx.Context] = None) -> mx.nd.NDArray:
        """Averaged class probabilities: uint8 (H, W, 3) RGB -> float32 (K, H, W) on the device."""
        with _LOCK:
            total = self._sum(image, context or self.contexts[0])
            if self.protocol.mode == "gluoncv":
                return mx.nd.broadcast_div(total, total.sum(axis=2, keepdims=True)).transpose((2, 0, 1))
            return total.transpose((2, 0, 1)) / (len(self.protocol.scales) * (1 + self.protocol.flip))

    def _sum(self, image: np.ndarray, context: mx.Context) -> mx.nd.NDArray:
        """(H, W, K) probabilities, added up over scales and mirrors."""
        if self.protocol.mode == "gluoncv":
            parts = self._as_gluoncv(image, context)
        else:
            parts = (self._enlarged(self._one_scale(scaled, context), (image.shape[0], image.shape[1]))
                     for scaled in self._scaled(image))
        total = next(parts)
        for part in parts:
            total += part
        return total

    def _as_gluoncv(self, image: np.ndarray, context: mx.Context) -> Iterator[mx.nd.NDArray]:
        """(H, W, K) exponentials of each scale."""
        height, width = image.shape[:2]
        long_side = max(height, width)
        x = mx.nd.array(image.transpose(2, 0, 1)[None], ctx=context, dtype="float32")
        for scale in self.protocol.scales:
            target = math.ceil((self.protocol.base_size or long_side) * scale)
            # integers first, as there: a product with target / long_side may fall on the other side of a half
            size: Any = tuple(target if side == long_side else int(1.0 * side * target / long_side + 0.5)
                         for side in (height, width))
            starts = [_steps(s, c, self.protocol.stride) for s, c in zip(size, self.protocol.crop_size)]
            black = mx.nd.zeros([s[-1] + c for s, c in zip(starts, self.protocol.crop_size)] + [3], ctx=context)
            black[:size[0], :size[1]] = _corners_aligned(x, size)[0].transpose((1, 2, 0))
            total = self._windows(black, starts, self.protocol.crop_size, context)[:size[0], :size[1]]
            if size != (height, width):
                total = total.transpose((2, 0, 1)).expand_dims(0)
                total = _corners_aligned(total, (height, width))[0].transpose((1, 2, 0))
            yield total

    def _enlarged(self, x: mx.nd.NDArray, size: Tuple[int, int]) -> mx.nd.NDArray:
        """(h, w, K) -> (H, W, K), bilinear, corner edges aligned."""
        if x.shape[:2] == size:
            return x
        if x.context.device_type == "cpu" and x.shape[2] <= _OPENCV_CHANNELS:
            return mx.nd.image.resize(x, size=size[::-1])  # OpenCV's, whose work does not grow with the size of x
        return self._resize(x, mx.nd.empty((1, 1, *size), ctx=x.context))

    def stream(self, images: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
        """Class maps of many pictures, in order: uint8 (H, W) on the host.

        While one picture is computed the next is decoded, and each context has one to work on.
        """
        waiting: List[mx.nd.NDArray] = []
        for i, image in enumerate(images):
            waiting.append(self(image, self.contexts[i % len(self.contexts)]))
            if len(waiting) > len(self.contexts):
                yield waiting.pop(0).asnumpy()
        while waiting:
            yield waiting.pop(0).asnumpy()

    def _scaled(self, image: np.ndarray) -> Iterator[np.ndarray]:
        height, width = image.shape[:2]
        base = self.protocol.base_size or max(height, width)
        for scale in self.protocol.scales:
            factor = base * scale / max(height, width)
            size = max(round(width * factor), 1), max(round(height * factor), 1)
            if size == (width, height):
                yield image
            else:
                yield cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)

    def _one_scale(self, image: np.ndarray, context) -> mx.nd.NDArray:
        """(H, W, K) probabilities of a picture at its own size, added up over mirrors."""
        height, width = image.shape[:2]
        crop_h, crop_w = (min(c, s) for c, s in zip(self.protocol.crop_size, (height, width)))
        if self.protocol.mode == "whole" or (crop_h, crop_w) == (height, width):
            return self._block(self._send([image], context)).reshape((height, width, -1))
        starts = [_starts(s, c, self.protocol.stride) for s, c in ((height, crop_h), (width, crop_w))]
        return self._windows(image, starts, (crop_h, crop_w), context)

    def _windows(self, image, starts: Sequence[Sequence[int]], size: Tuple[int, int],
                 context: mx.Context) -> mx.nd.NDArray:
        """(H, W, K), averaged over the windows that begin at ``starts`` (rows, columns) of an (H, W, 3) picture, be it
        NumPy's or on the device."""
        (rows, columns), (height, width) = starts, size
        corners = [(y, x) for y in rows for x in columns]
        total = None
        for first in range(0, len(corners), self.protocol.batch):
            some = corners[first:first + self.protocol.batch]
            windows = self._block(self._send([image[y:y + height, x:x + width] for y, x in some], context))
            if total is None:
                total = mx.nd.zeros((*image.shape[:2], windows.shape[3]), ctx=context)
            for k, (y, x) in enumerate(some):
                window = windows if len(some) == 1 else windows.slice_axis(axis=1, begin=k, end=k + 1)
                total[y:y + height, x:x + width] += window.reshape((height, width, -1))
        share = np.outer(1 / _covered(image.shape[0], rows, height), 1 / _covered(image.shape[1], columns, width))
        return mx.nd.broadcast_mul(total, mx.nd.array(share[..., None], ctx=context), out=total)

    def _send(self, images: Sequence, context: mx.Context) -> mx.nd.NDArray:
        """(N, H, W, 3) on the device: uint8 from NumPy, or what is there already as it is."""
        if min(images[0].shape[:2]) < self._smallest_side:
            raise DataError(f"this network reads images of at least {self._smallest_side} pixels a side",
                            where=f"evaluation of {self.protocol}",
                            received="%d x %d" % tuple(images[0].shape[:2]),
                            fix="enlarge the images, or evaluate with --base 512, which enlarges what is smaller; "
                                "with several scales, the smallest counts")
        if isinstance(images[0], mx.nd.NDArray):
            return mx.nd.stack(*images)
        return mx.nd.array(np.stack(images) if len(images) > 1 else images[0][None], ctx=context, dtype="uint8")


def _covered(length: int, starts: Sequence[int], window: int) -> np.ndarray:
    """In how many windows each place is: (length,)."""
    return sum((np.bincount(np.arange(start, start + window), minlength=length) for start in starts),
               np.zeros(length, np.int64))


def _corners_aligned(x: mx.nd.NDArray, size: Tuple[int, int]) -> mx.nd.NDArray:
    return mx.nd.contrib.BilinearResize2D(x, height=size[0], width=size[1], align_corners=True)


def _steps(length: int, window: int, stride: float) -> List[int]:
    """Where windows begin so that they cover ``length``; the last may reach beyond it."""
    step = max(int(window * stride), 1)
    return [i * step for i in range(-(-max(length - window, 0) // step) + 1)]


def _starts(length: int, window: int, stride: float) -> List[int]:
    """The same, but moved inwards so that none reaches beyond it."""
    return [min(start, length - window) for start in _steps(length, window, stride)]
