"""The interface between the evaluation protocol and a backend.

The protocol (:mod:`mxnetseg.engine.inference`) scales, flips and cuts images into windows, and adds up the results. A
:class:`Runtime` computes them, and has the few array operations that the protocol needs. Its arrays may be on a device,
and they support what NumPy's and MXNet's arrays have in common: slices, ``+=``, ``*=``, ``/``, ``reshape``,
``transpose``, ``sum``.
"""
from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import cv2
import numpy as np

# the most channels that OpenCV resizes at once
OPENCV_CHANNELS = 512


class Runtime(ABC):
    """A network on its devices. Several threads may call it at the same time if they hold :attr:`lock` meanwhile.

    Attributes:
        name: registered name of the backend.
        devices: where it computes; a method's ``device`` is one of them.
        precision: number format that it computes in.
        smallest_side: shortest side of an image, in pixels, that the network accepts.
        fixed_size: (height, width) of the only images that the network accepts, None for any size.
        has_scores: :meth:`scores` is available. A file may contain a network that ends with its class map.
        lock: held while work is submitted; reading a result with :meth:`to_host` needs no lock.
    """

    name: str
    devices: Sequence[Any]
    precision: str
    smallest_side: int
    fixed_size: tuple[int, int] | None = None
    has_scores: bool = True
    lock: AbstractContextManager[Any] = nullcontext()

    @abstractmethod
    def class_maps(self, images: Any, device: Any) -> Any:
        """Return the most probable class of each pixel: uint8 (N, H, W, 3) -> uint8 (N, H, W)."""

    @abstractmethod
    def scores(self, images: Any, device: Any, *, flip: bool, exponentials: bool) -> Any:
        """Return the scores of each class, which the caller averages.

        Args:
            images: uint8 or float32 (N, H, W, 3), RGB in [0, 255].
            device: where to compute.
            flip: add the scores of the flipped images, flipped back.
            exponentials: return exp(logits), with ``flip`` exp of the sum of both logits, instead of softmax.

        Returns:
            float32 (H, N, W, K). The classes are last, because images are resized in that layout, and N is second,
            because MXNet computes that without a transpose of large maps.
        """

    @abstractmethod
    def stack(self, images: Sequence[Any], device: Any) -> Any:
        """Return (N, H, W, 3) on the device: NumPy arrays as uint8; arrays on the device keep their type."""

    @abstractmethod
    def array(self, values: np.ndarray, device: Any) -> Any:
        """Return a float32 copy on the device."""

    @abstractmethod
    def zeros(self, shape: Sequence[int], device: Any) -> Any:
        """Return float32 zeros on the device."""

    @abstractmethod
    def resize(self, x: Any, size: tuple[int, int], *, align_corners: bool) -> Any:
        """Resize bilinearly: float32 (h, w, K) -> (H, W, K). See :func:`mxnetseg.nn.resize.resize`."""

    @abstractmethod
    def argmax(self, x: Any) -> Any:
        """Return the number of the largest score: (H, W, K) -> uint8 (H, W)."""

    @abstractmethod
    def to_host(self, x: Any) -> np.ndarray:
        """Return a NumPy array, after waiting for the result."""


class HostRuntime(Runtime):
    """A backend whose results are NumPy arrays. A subclass computes :meth:`logits`, of one device.

    Args:
        mean, std: normalisation of the network, of pixels in [0, 1].
        smallest_side: see :class:`Runtime`.
        precision: see :class:`Runtime`.
        device: where it computes, for messages.
    """

    def __init__(self, *, mean: Sequence[float], std: Sequence[float], smallest_side: int, precision: str,
                 device: str):
        self._scale = [np.float32(1.0 / (255.0 * s)) for s in std]
        self._shift = [np.float32(-m / s) for m, s in zip(mean, std)]
        self.smallest_side, self.precision, self.devices = smallest_side, precision, [device]

    @abstractmethod
    def logits(self, images: np.ndarray) -> np.ndarray:
        """Return logits: uint8 or float32 (N, H, W, 3), RGB in [0, 255] -> float32 (N, K, H, W)."""

    def normalized(self, images: np.ndarray) -> np.ndarray:
        """Return the network's input: (N, H, W, 3) -> float32 (N, 3, H, W)."""
        x = np.empty((images.shape[0], 3, *images.shape[1:3]), np.float32)
        for channel, (scale, shift) in enumerate(zip(self._scale, self._shift)):
            np.multiply(images[..., channel], scale, out=x[:, channel])
            x[:, channel] += shift
        return x

    def class_maps(self, images: np.ndarray, device: Any) -> np.ndarray:
        return _argmax(self.logits(images), axis=1)

    def scores(self, images: np.ndarray, device: Any, *, flip: bool, exponentials: bool) -> np.ndarray:
        if flip:
            straight, flipped = np.split(self.logits(np.concatenate([images, images[:, :, ::-1]])), 2)
            maps = [straight, flipped[..., ::-1]]
        else:
            maps = [self.logits(images)]
        if exponentials:
            total = np.exp(sum(maps[1:], maps[0]))
        else:
            first, *others = map(_softmax, maps)
            total = sum(others, first)
        return np.ascontiguousarray(total.transpose(2, 0, 3, 1))

    def stack(self, images: Sequence[np.ndarray], device: Any) -> np.ndarray:
        return np.stack(images)

    def array(self, values: np.ndarray, device: Any) -> np.ndarray:
        return np.array(values, np.float32)

    def zeros(self, shape: Sequence[int], device: Any) -> np.ndarray:
        return np.zeros(shape, np.float32)

    def resize(self, x: np.ndarray, size: tuple[int, int], *, align_corners: bool) -> np.ndarray:
        if align_corners:
            return _corners_aligned(_corners_aligned(x, size[0], 0), size[1], 1)
        parts = [cv2.resize(np.ascontiguousarray(x[..., first:first + OPENCV_CHANNELS]), size[::-1],
                            interpolation=cv2.INTER_LINEAR).reshape(*size, -1)
                 for first in range(0, x.shape[2], OPENCV_CHANNELS)]
        return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=2)

    def argmax(self, x: np.ndarray) -> np.ndarray:
        return _argmax(x, axis=2)

    def to_host(self, x: np.ndarray) -> np.ndarray:
        return x


def _argmax(x: np.ndarray, axis: int) -> np.ndarray:
    """Return the index of the first maximum as uint8. NumPy's argmax takes twice as long on the axis of classes."""
    planes = iter(np.moveaxis(x, axis, 0))
    largest = next(planes).copy()
    index = np.zeros(largest.shape, np.uint8)
    for k, plane in enumerate(planes, start=1):
        np.copyto(index, np.uint8(k), where=plane > largest)
        np.maximum(largest, plane, out=largest)
    return index


def _softmax(x: np.ndarray) -> np.ndarray:
    """Return softmax over axis 1."""
    e = np.exp(x - x.max(axis=1, keepdims=True))
    e /= e.sum(axis=1, keepdims=True)
    return e


def _corners_aligned(x: np.ndarray, length: int, axis: int) -> np.ndarray:
    """Resize one axis of (h, w, K) bilinearly, so that the corner samples of both grids coincide."""
    last = x.shape[axis] - 1
    position = np.arange(length, dtype=np.float64) * last / max(length - 1, 1)
    low = np.minimum(position.astype(np.int64), max(last - 1, 0))
    fraction = np.expand_dims((position - low).astype(np.float32), 1 - axis)[..., None]
    return x.take(low, axis) * (1 - fraction) + x.take(np.minimum(low + 1, last), axis) * fraction
