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
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from .._memory import ASSUMED_MEMORY, total_memory
from .._precisions import PrecisionChoice
from ..errors import ConfigError, DeviceError
from .package import NetworkPackage, NetworkRecord

# the most channels that OpenCV resizes at once
OPENCV_CHANNELS = 512
# Bytes that the maps of a pixel take at once, besides logits: what mxnetseg.graph.shape_cache estimates for the larger
# networks (PSPNet-R50 896, HRNet-W48 912, DANet-R50 1024, with 19 classes; FCN-R18 432).
_MAPS_OF_A_PIXEL = 1000
_LOGITS_AT_ONCE = 3  # float32 copies


class Runtime(ABC):
    """A network on its devices. Several threads may call it at the same time if they hold :attr:`lock` meanwhile.

    Attributes:
        name: registered name of the backend.
        devices: where it computes; a method's ``device`` is one of them.
        precision: number format that it computes in.
        smallest_side: shortest side of an image, in pixels, that the network accepts.
        aligned_stride: see :class:`~mxnetseg.models._base.SegModel`; 1 in files of older versions.
        fixed_size: (height, width) of the only images that the network accepts, None for any size.
        has_scores: :meth:`scores` is available. A file may contain a network that ends with its class map.
        lock: held while work is submitted; reading a result with :meth:`to_host` needs no lock.
    """

    name: str
    devices: Sequence[Any]
    precision: str
    smallest_side: int
    aligned_stride: int = 1
    fixed_size: tuple[int, int] | None = None
    has_scores: bool = True
    lock: AbstractContextManager[Any] = nullcontext()

    @property
    @abstractmethod
    def bytes_per_pixel(self) -> int:
        """Estimate of the memory that an image takes while it is computed."""

    def total_memory(self) -> int:
        """Return the memory of the smallest device in bytes."""
        return total_memory() or ASSUMED_MEMORY

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


class StoredNetwork(NamedTuple):
    """A network in the form that one backend loads.

    Attributes:
        record: what the network is.
        model: the network itself.
        precision: number format of its weights. The backend chooses a precision for float32 only.
        has_scores, fixed_size: see :class:`Runtime`.
    """

    record: NetworkRecord
    model: Any
    precision: str = "float32"
    has_scores: bool = True
    fixed_size: tuple[int, int] | None = None


class HostRuntime(Runtime):
    """A backend whose results are NumPy arrays. A subclass computes :meth:`logits`, on one device.

    Args:
        stored: the network, whose record has its normalisation.
        device: one that :meth:`choose_device` returns.
        precision: one that :meth:`choose_precision` returns.
    """

    def __init__(self, stored: StoredNetwork, device: str, precision: str):
        record = stored.record
        self._scale = [np.float32(1.0 / (255.0 * s)) for s in record.std]
        self._shift = [np.float32(-m / s) for m, s in zip(record.mean, record.std)]
        self.smallest_side, self.precision, self.devices = record.smallest_side, precision, [device]
        self.aligned_stride = record.aligned_stride
        self.has_scores, self.fixed_size = stored.has_scores, stored.fixed_size
        self._nclass = len(record.classes or ())

    # ---- before a network is loaded -----------------------------------------------------------

    @classmethod
    def read(cls, path: Path) -> StoredNetwork:
        """Return the network of a file in one of the backend's own formats."""
        raise NotImplementedError

    @classmethod
    @abstractmethod
    def convert(cls, package: NetworkPackage) -> StoredNetwork:
        """Return a network of MXNet in the backend's form."""

    @classmethod
    @abstractmethod
    def choose_device(cls, ctx: Sequence[str] | None) -> str:
        """Return the device that ``--ctx`` names, or the default for None.

        Raises:
            DeviceError: there is no such device, or several are named.
        """

    @classmethod
    @abstractmethod
    def precisions(cls, device: str) -> tuple[tuple[str, ...], PrecisionChoice]:
        """Return the precisions that a device computes a float32 network in, float32 first, and the meaning of auto."""

    @classmethod
    def choose_precision(cls, requested: str | None, stored: StoredNetwork, device: str) -> PrecisionChoice:
        """Return the precision that ``--precision`` means.

        Args:
            requested: one of :data:`mxnetseg._precisions.PRECISIONS`; None: that of the weights.
            stored: the network.
            device: where it runs.

        Raises:
            ConfigError: the backend does not compute it.
        """
        if stored.precision == "float32":
            offered, auto = cls.precisions(device)
        else:
            offered, auto = (stored.precision,), PrecisionChoice(stored.precision, "of the exported file")
        if requested == "auto":
            return auto
        if requested is None:
            return PrecisionChoice(offered[0], "default" if stored.precision == "float32" else auto.reason)
        if requested not in offered:
            raise ConfigError(f"the backend {cls.name} does not compute this network in {requested}",
                              where="--precision", received=f"{requested} on {device}, of weights in "
                              f"{stored.precision}", fix=_other_precision(requested, offered))
        return PrecisionChoice(requested, "asked for")

    # ---- a loaded network ---------------------------------------------------------------------

    @property
    def bytes_per_pixel(self) -> int:
        return _MAPS_OF_A_PIXEL + 4 * _LOGITS_AT_ONCE * self._nclass

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
        return first_argmax(self.logits(images), axis=1)

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
        return resize_bilinearly(x, size)

    def argmax(self, x: np.ndarray) -> np.ndarray:
        return first_argmax(x, axis=2)

    def to_host(self, x: np.ndarray) -> np.ndarray:
        return x


def one_device(ctx: Sequence[str] | None, backend: str) -> str | None:
    """Return the only device that ``--ctx`` names, in lower case; None for the default.

    Raises:
        DeviceError: several devices are named.
    """
    if not ctx:
        return None
    if len(ctx) > 1:
        raise DeviceError(f"the backend {backend} computes on one device", where="--ctx",
                          received=" ".join(map(str, ctx)), fix=f"--ctx {ctx[0]}, or --backend mxnet")
    return str(ctx[0]).strip().lower()


def _other_precision(requested: str, offered: Sequence[str]) -> str:
    """Return the fix for a precision that a backend does not offer."""
    fix = f"--precision {' or '.join([*offered, 'auto'])}"
    if requested in ("int8", "float16"):
        fix += f"; `mxnetseg export --format onnx --precision {requested}` writes a file that computes in {requested}"
    return fix


def resize_bilinearly(x: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize float32 (h, w, K) -> (H, W, K), bilinearly, corner edges aligned."""
    parts = [cv2.resize(np.ascontiguousarray(x[..., first:first + OPENCV_CHANNELS]), size[::-1],
                        interpolation=cv2.INTER_LINEAR).reshape(*size, -1)
             for first in range(0, x.shape[2], OPENCV_CHANNELS)]
    return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=2)


def first_argmax(x: np.ndarray, axis: int) -> np.ndarray:
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
    # in float32, as MXNet's operator has them
    position = np.arange(length, dtype=np.float32) * (np.float32(last) / np.float32(max(length - 1, 1)))
    return interpolate(x, position, axis)


def interpolate(x: np.ndarray, position: np.ndarray, axis: int) -> np.ndarray:
    """Return (h, w, K) at other positions along one of its first two axes: float32 fractions of a sample."""
    last = x.shape[axis] - 1
    low = np.minimum(position.astype(np.int64), max(last - 1, 0))
    fraction = np.expand_dims(position - low.astype(np.float32), 1 - axis)[..., None]
    return x.take(low, axis) * (1 - fraction) + x.take(np.minimum(low + 1, last), axis) * fraction
