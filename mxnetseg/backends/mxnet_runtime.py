"""Networks in MXNet. Every step after the decoding of an image runs on the device, without waiting."""
from __future__ import annotations

import threading
import warnings
from collections.abc import Sequence
from typing import Any

import mxnet as mx
import numpy as np
from mxnet.gluon import HybridBlock

from ..graph.blocks import block_with_values, compile_outermost
from ..graph.inference_graph import split_last_resize
from ..graph.shape_cache import ShapeCache, device_memory
from ..graph.symbol_file import symbol_text
from ..nn.blocks import InputStep
from ..nn.resize import resize, resize_channels_last
from .package import NetworkPackage
from .runtime import OPENCV_CHANNELS, Runtime

# MXNet warns when a graph leaves parameters out; here auxiliary heads are left out on purpose
warnings.filterwarnings("ignore", message=r"Parameter .* is not used by any computation", category=UserWarning)


_USUAL_SIDE = 512  # pixels, of the image that the memory is estimated for


class MXNetRuntime(Runtime):
    """A network of MXNet on one or several contexts.

    Args:
        net: a :class:`~mxnetseg.models._base.SegModel`, initialised on all ``contexts``, or the faster
            :class:`~mxnetseg.graph.inference_graph.InferenceGraph` compiled from it.
        contexts: the devices; None: ``mx.cpu()``.
    """

    name = "mxnet"
    # One for all runtimes, because two of them may share a network. MXNet traces a block with names that it keeps in
    # the block, and a compiled graph that two threads enter at once allocates its maps twice.
    lock = threading.RLock()

    def __init__(self, net: Any, contexts: Sequence[mx.Context] | None = None):
        self.devices, self.smallest_side = list(contexts or [mx.cpu()]), net.smallest_side
        self.aligned_stride = getattr(net, "aligned_stride", 1)
        self.precision = getattr(net, "precision", "plain")
        self._net = net
        self._class_map = ShapeCache(lambda: self._with_input(_ClassMap(net)))
        self._scores: dict[tuple[bool, bool], ShapeCache] = {}
        self._resize = compile_outermost(_Resize())

    def _with_input(self, block: _Network) -> _Network:
        block.input.initialize(ctx=self.devices)
        return block

    @property
    def bytes_per_pixel(self) -> int:
        side = max(_USUAL_SIDE, self.smallest_side)
        with self.lock:
            return self._class_map.estimate_memory((1, side, side, 3)) // side ** 2

    def total_memory(self) -> int:
        return min(map(device_memory, self.devices))

    def class_maps(self, images: mx.nd.NDArray, device: mx.Context) -> mx.nd.NDArray:
        return self._class_map(images)

    def scores(self, images: mx.nd.NDArray, device: mx.Context, *, flip: bool, exponentials: bool) -> mx.nd.NDArray:
        key = (flip, exponentials)
        if key not in self._scores:
            block = _Exponentials if exponentials else _Probabilities
            self._scores[key] = ShapeCache(lambda: self._with_input(block(self._net, flip)))
        return self._scores[key](images)

    def stack(self, images: Sequence[Any], device: mx.Context) -> mx.nd.NDArray:
        if isinstance(images[0], mx.nd.NDArray):
            return mx.nd.stack(*images)
        return mx.nd.array(np.stack(images) if len(images) > 1 else images[0][None], ctx=device, dtype="uint8")

    def array(self, values: np.ndarray, device: mx.Context) -> mx.nd.NDArray:
        return mx.nd.array(values, ctx=device, dtype="float32")

    def zeros(self, shape: Sequence[int], device: mx.Context) -> mx.nd.NDArray:
        return mx.nd.zeros(tuple(shape), ctx=device)

    def resize(self, x: mx.nd.NDArray, size: tuple[int, int], *, align_corners: bool) -> mx.nd.NDArray:
        if align_corners:
            y = mx.nd.contrib.BilinearResize2D(x.transpose((2, 0, 1)).expand_dims(0), height=size[0], width=size[1],
                                               align_corners=True)
            return y[0].transpose((1, 2, 0))
        if x.context.device_type == "cpu" and x.shape[2] <= OPENCV_CHANNELS:
            return mx.nd.image.resize(x, size=size[::-1])  # OpenCV's, whose work does not grow with the size of x
        return self._resize(x, mx.nd.empty((1, 1, *size), ctx=x.context))

    def argmax(self, x: mx.nd.NDArray) -> mx.nd.NDArray:
        return mx.nd.argmax(x, axis=2).astype("uint8")

    def to_host(self, x: mx.nd.NDArray) -> np.ndarray:
        return x.asnumpy()


class PackageNetwork(HybridBlock):
    """The network of a package: normalised (N, 3, H, W) -> (logits (N, K, H, W),).

    Args:
        package: a graph with one input.
        contexts: the devices.
    """

    def __init__(self, package: NetworkPackage, contexts: Sequence[mx.Context]):
        super().__init__()
        record = package.record
        self.mean, self.std, self.smallest_side = record.mean, record.std, record.smallest_side
        self.aligned_stride = record.aligned_stride
        with self.name_scope():
            self.graph = block_with_values(mx.sym.load_json(symbol_text(package.graph)),
                                           {name: mx.nd.array(value, dtype=value.dtype)
                                            for name, value in package.arrays.items()}, contexts)

    def hybrid_forward(self, F, x):
        return (self.graph(x),)


class _Network(HybridBlock):
    """(N, H, W, 3) -> the result of :meth:`from_logits`."""

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
