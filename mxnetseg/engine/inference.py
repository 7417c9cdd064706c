"""Class maps of images: of whole images or in windows, at one scale or several, flipped or not.

Multi-scale and flip average *probabilities* (softmax). Every step after the decoding of an image runs on the device,
and only one byte a pixel, the class, is copied back.
"""
from __future__ import annotations

import math
import threading
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import mxnet as mx
import numpy as np
from mxnet.gluon import HybridBlock

from ..config.schema import Config
from ..errors import DataError
from ..graph.blocks import compile_outermost
from ..graph.inference_graph import split_last_resize
from ..graph.shape_cache import ShapeCache
from ..nn.blocks import InputStep
from ..nn.resize import resize, resize_channels_last

# MXNet warns when a graph leaves parameters out; here auxiliary heads are left out on purpose
warnings.filterwarnings("ignore", message=r"Parameter .* is not used by any computation", category=UserWarning)
# the most channels that OpenCV resizes at once
_OPENCV_CHANNELS = 512
# Held by all segmenters while a thread submits work to MXNet, because two of them may share a network. MXNet traces a
# block with names that it keeps in the block, and a compiled graph that two threads enter at once allocates its maps
# twice. The work itself runs, and is waited for, outside the lock.
_LOCK = threading.RLock()


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
    """

    mode: str = "whole"
    base_size: int | None = None
    crop_size: tuple[int, int] = (480, 480)
    stride: float = 2 / 3
    scales: tuple[float, ...] = (1.0,)
    flip: bool = False
    batch: int = 1

    @classmethod
    def of(cls, config: Config, *, ms: bool = False) -> Protocol:
        """Return the protocol of a configuration.

        Args:
            config: its ``eval`` section is used, and ``data.crop_size`` if that names no window.
            ms: use the multi-scale form: ``eval.ms_scales`` and flip.
        """
        e = config.eval
        return cls(mode=e.mode, base_size=e.base_size, crop_size=e.crop_size or config.data.crop_size,
                   stride=e.stride, scales=tuple(e.ms_scales if ms else e.scales), flip=e.flip or ms, batch=e.batch)

    def __str__(self):
        shown = "whole images" if self.mode == "whole" else \
            f"windows of {self.crop_size[0]} x {self.crop_size[1]}, step {self.stride:.2f}"
        size = f"long side {self.base_size}" if self.base_size else "original size"
        scales = ", ".join(f"{s:g}" for s in self.scales)
        return f"{shown}, {size}, scale{'s' * (len(self.scales) > 1)} {scales}, " \
               f"{'with' if self.flip else 'without'} flip" + ", as GluonCV does it" * (self.mode == "gluoncv")


class _Network(HybridBlock):
    """uint8 (N, H, W, 3) -> the result of :meth:`from_logits`."""

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

        # for a compiled network, flip and transpose the map before the last resize, while it is small
        small = split_last_resize(y)
        if small is None:
            def channels_last(y):
                return F.transpose(y, axes=(2, 0, 3, 1))
        else:
            y, rows, columns = small

            def channels_last(y):
                return resize_channels_last(F, y, rows, columns)

        y = F.cast(y, "float32")
        if not self._flip:
            return self.from_logits(F, [channels_last(y)])
        straight, flipped = F.split(y, num_outputs=2, axis=0)
        return self.from_logits(F, [channels_last(straight), channels_last(F.flip(flipped, axis=3))])

    def from_logits(self, F, maps):
        """Compute the output from the logits.

        Args:
            F: ``mxnet.nd`` or ``mxnet.sym``.
            maps: (H, N, W, K) float32 of the images, and with ``flip`` of the flipped images, flipped back. The
                classes are last, because a CPU computes softmax and argmax over the last axis several times as fast
                as over the second.
        """
        raise NotImplementedError


class _Probabilities(_Network):
    """uint8 (N, H, W, 3) -> softmax (H, N, W, K), plus that of the flipped image if ``flip``."""

    def from_logits(self, F, maps):
        first, *others = (F.softmax(y, axis=3) for y in maps)
        return F.add_n(first, *others)


class _Exponentials(_Network):
    """uint8 or float32 (N, H, W, 3) -> exp(logits) (H, N, W, K), the logits plus those of the flipped image."""

    def from_logits(self, F, maps):
        return F.exp(F.add_n(*maps))


class _ClassMap(_Network):
    """uint8 (N, H, W, 3) -> uint8 (N, H, W): the most probable class, for one scale without flip."""

    def from_logits(self, F, maps):
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
        net: a :class:`~mxnetseg.models._base.SegModel`, initialised on all ``contexts``, or the faster
            :class:`~mxnetseg.graph.inference_graph.InferenceGraph` compiled from it.
        contexts: images are assigned to them alternately.
        protocol: see :class:`Protocol`; by default whole images at their own size.
    """

    def __init__(self, net, contexts: Sequence[mx.Context], protocol: Protocol | None = None):
        protocol = protocol or Protocol()
        self.contexts, self.protocol = list(contexts), protocol
        self._smallest_side = net.smallest_side
        self._is_simple = protocol.mode == "whole" and len(protocol.scales) == 1 and not protocol.flip \
            and protocol.base_size is None and protocol.scales[0] == 1
        scores = _Exponentials if protocol.mode == "gluoncv" else _Probabilities
        self._scores = ShapeCache(lambda: self._with_input(scores(net, protocol.flip)))
        self._class_map = ShapeCache(lambda: self._with_input(_ClassMap(net)))
        self._resize = compile_outermost(_Resize())

    def _with_input(self, block: HybridBlock) -> HybridBlock:
        block.input.initialize(ctx=self.contexts)
        return block

    def __call__(self, image: np.ndarray, context: mx.Context | None = None) -> mx.nd.NDArray:
        """Return the class map of an image: uint8 (H, W, 3) RGB -> uint8 (H, W) on the device, not waited for.

        Raises:
            DataError: the image, or its smallest scale, is smaller than the network can read.
        """
        context = context or self.contexts[0]
        with _LOCK:
            if self._is_simple:
                return self._class_map(self._send([image], context))[0]
            return mx.nd.argmax(self._sum(image, context), axis=2).astype("uint8")

    def probabilities(self, image: np.ndarray, context: mx.Context | None = None) -> mx.nd.NDArray:
        """Return averaged class probabilities: uint8 (H, W, 3) RGB -> float32 (K, H, W) on the device."""
        with _LOCK:
            total = self._sum(image, context or self.contexts[0])
            if self.protocol.mode == "gluoncv":
                return mx.nd.broadcast_div(total, total.sum(axis=2, keepdims=True)).transpose((2, 0, 1))
            return total.transpose((2, 0, 1)) / (len(self.protocol.scales) * (1 + self.protocol.flip))

    def _sum(self, image: np.ndarray, context: mx.Context) -> mx.nd.NDArray:
        """Return (H, W, K) probabilities, added up over scales and flips."""
        if self.protocol.mode == "gluoncv":
            scores = self._scales_of_gluoncv(image, context)
        else:
            scores = (self._enlarged(self._one_scale(scaled, context), (image.shape[0], image.shape[1]))
                      for scaled in self._scaled(image))
        total = next(scores)
        for one in scores:
            total += one
        return total

    def _scales_of_gluoncv(self, image: np.ndarray, context: mx.Context) -> Iterator[mx.nd.NDArray]:
        """Yield (H, W, K) exponentials of each scale."""
        height, width = image.shape[:2]
        long_side = max(height, width)
        x = mx.nd.array(image.transpose(2, 0, 1)[None], ctx=context, dtype="float32")
        for scale in self.protocol.scales:
            target = math.ceil((self.protocol.base_size or long_side) * scale)
            # multiply before dividing, as GluonCV does: target / long_side first may round a half differently
            size: Any = tuple(target if side == long_side else int(1.0 * side * target / long_side + 0.5)
                         for side in (height, width))
            starts = [_window_starts(s, c, self.protocol.stride) for s, c in zip(size, self.protocol.crop_size)]
            black = mx.nd.zeros([s[-1] + c for s, c in zip(starts, self.protocol.crop_size)] + [3], ctx=context)
            black[:size[0], :size[1]] = _corners_aligned(x, size)[0].transpose((1, 2, 0))

            total = self._windows(black, starts, self.protocol.crop_size, context)[:size[0], :size[1]]
            if size != (height, width):
                total = total.transpose((2, 0, 1)).expand_dims(0)
                total = _corners_aligned(total, (height, width))[0].transpose((1, 2, 0))
            yield total

    def _enlarged(self, x: mx.nd.NDArray, size: tuple[int, int]) -> mx.nd.NDArray:
        """Resize (h, w, K) -> (H, W, K), bilinear, corner edges aligned."""
        if x.shape[:2] == size:
            return x
        if x.context.device_type == "cpu" and x.shape[2] <= _OPENCV_CHANNELS:
            return mx.nd.image.resize(x, size=size[::-1])  # OpenCV's, whose work does not grow with the size of x
        return self._resize(x, mx.nd.empty((1, 1, *size), ctx=x.context))

    def stream(self, images: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
        """Yield the class maps of many images, in order: uint8 (H, W) on the host.

        While one image is computed the next is decoded, and each context has an image to work on.
        """
        waiting: list[mx.nd.NDArray] = []
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
        """Return (H, W, K) probabilities of an image at its own size, added up over flips."""
        height, width = image.shape[:2]
        crop_h, crop_w = (min(c, s) for c, s in zip(self.protocol.crop_size, (height, width)))
        if self.protocol.mode == "whole" or (crop_h, crop_w) == (height, width):
            return self._scores(self._send([image], context)).reshape((height, width, -1))
        starts = [_inner_window_starts(s, c, self.protocol.stride) for s, c in ((height, crop_h), (width, crop_w))]
        return self._windows(image, starts, (crop_h, crop_w), context)

    def _windows(self, image, starts: Sequence[Sequence[int]], size: tuple[int, int],
                 context: mx.Context) -> mx.nd.NDArray:
        """Return (H, W, K), averaged over windows.

        Args:
            image: (H, W, 3), a NumPy array or on the device.
            starts: first rows, first columns of the windows.
            size: height and width of a window.
            context: where to compute.
        """
        (rows, columns), (height, width) = starts, size
        corners = [(y, x) for y in rows for x in columns]
        total = None
        for first in range(0, len(corners), self.protocol.batch):
            some = corners[first:first + self.protocol.batch]
            windows = self._scores(self._send([image[y:y + height, x:x + width] for y, x in some], context))
            if total is None:
                total = mx.nd.zeros((*image.shape[:2], windows.shape[3]), ctx=context)
            for k, (y, x) in enumerate(some):
                window = windows if len(some) == 1 else windows.slice_axis(axis=1, begin=k, end=k + 1)
                total[y:y + height, x:x + width] += window.reshape((height, width, -1))

        weight = np.outer(1 / _coverage(image.shape[0], rows, height), 1 / _coverage(image.shape[1], columns, width))
        return mx.nd.broadcast_mul(total, mx.nd.array(weight[..., None], ctx=context), out=total)

    def _send(self, images: Sequence, context: mx.Context) -> mx.nd.NDArray:
        """Return (N, H, W, 3) on the device: uint8 of NumPy arrays; arrays on the device keep their type."""
        if min(images[0].shape[:2]) < self._smallest_side:
            raise DataError(f"this network reads images of at least {self._smallest_side} pixels a side",
                            where=f"evaluation of {self.protocol}",
                            received=f"{images[0].shape[0]} x {images[0].shape[1]}",
                            fix="enlarge the images, or evaluate with --base 512, which enlarges smaller images; "
                                "with several scales, the smallest counts")
        if isinstance(images[0], mx.nd.NDArray):
            return mx.nd.stack(*images)
        return mx.nd.array(np.stack(images) if len(images) > 1 else images[0][None], ctx=context, dtype="uint8")


def _coverage(length: int, starts: Sequence[int], window: int) -> np.ndarray:
    """Return the number of windows that cover each position: (length,)."""
    return sum((np.bincount(np.arange(start, start + window), minlength=length) for start in starts),
               np.zeros(length, np.int64))


def _corners_aligned(x: mx.nd.NDArray, size: tuple[int, int]) -> mx.nd.NDArray:
    return mx.nd.contrib.BilinearResize2D(x, height=size[0], width=size[1], align_corners=True)


def _window_starts(length: int, window: int, stride: float) -> list[int]:
    """Return the starts of windows that cover ``length``; the last window may extend beyond it."""
    step = max(int(window * stride), 1)
    return [i * step for i in range(-(-max(length - window, 0) // step) + 1)]


def _inner_window_starts(length: int, window: int, stride: float) -> list[int]:
    """Return the starts of windows that cover ``length``, with the last moved so that it ends there."""
    return [min(start, length - window) for start in _window_starts(length, window, stride)]
