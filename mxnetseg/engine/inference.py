"""Class maps of images: of whole images or in windows, at one scale or several, flipped or not.

Multi-scale and flip average *probabilities* (softmax). A :class:`~mxnetseg.backends.runtime.Runtime` computes them.
With MXNet, every step after the decoding of an image runs on the device, and only one byte a pixel, the class, is
copied back.
"""
from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import chain, groupby
from typing import Any, TypeVar

import cv2
import numpy as np

from ..backends.runtime import Runtime
from ..data.parallel import ProgressCallback, no_progress
from ..errors import DataError, UsageError
from .protocol import Protocol
from .tiles import Tile, Tiling, argmax_of_enlarged, cut
from .windows import coverage, inner_window_starts, window_starts

log = logging.getLogger(__name__)

Item = TypeVar("Item")
Group = TypeVar("Group")  # what is computed at once: images of one size, or a tile

_POOR_AGREEMENT = 0.95  # of the pixels at the seams of tiles
_MOST_SCORES = 1 << 27  # of an enlarged image, over all classes; half a GiB


class Segmenter:
    """A network with a protocol. Several threads may call it at the same time.

    Args:
        runtime: the network on its devices, for example :class:`~mxnetseg.backends.mxnet_runtime.MXNetRuntime`. The
            images of a stream are assigned to the devices alternately.
        protocol: see :class:`Protocol`; by default whole images at their own size.
        tiling: how large images are cut into tiles, to each of which the protocol is applied; None: they are not.
        batch: consecutive images of one size in a stream that are computed at once, if the protocol averages nothing.

    Attributes:
        progress: wraps the tiles of an image: ``progress(items, count)``.

    Raises:
        UsageError: the protocol needs scores, and the network gives class maps only.
    """

    def __init__(self, runtime: Runtime, protocol: Protocol | None = None, *, tiling: Tiling | None = None,
                 batch: int = 1):
        protocol = protocol or Protocol()
        self.runtime, self.protocol, self.tiling = runtime, protocol, tiling
        self._batch = batch if protocol.is_simple else 1
        self._said_tiles, self._said_agreement = False, set[bool]()
        self.progress: ProgressCallback = no_progress
        if not (protocol.is_simple or runtime.has_scores):
            raise UsageError("the network gives class maps only, and this evaluation averages scores",
                             where=f"backend {runtime.name}", received=str(protocol),
                             fix="evaluate whole images at one scale, or export the network with --input float32")

    def __call__(self, image: np.ndarray, device: Any = None) -> np.ndarray:
        """Return the class map of an image: uint8 (H, W, 3) RGB -> uint8 (H, W).

        Raises:
            DataError: the image, or its smallest scale, has a size that the network cannot read.
        """
        tiles = self.tiles(_size(image))
        if tiles:
            return self._of_tiles(image, tiles)
        return self._wait(self._submit([image], self._choose(device)))[0]

    def probabilities(self, image: np.ndarray, device: Any = None) -> np.ndarray:
        """Return averaged class probabilities: uint8 (H, W, 3) RGB -> float32 (K, H, W). It makes no tiles."""
        with self.runtime.lock:
            total = self._sum(image, self._choose(device))
            if self.protocol.mode == "gluoncv":
                average = (total / total.sum(axis=2, keepdims=True)).transpose((2, 0, 1))
            else:
                average = total.transpose((2, 0, 1)) / (len(self.protocol.scales) * (1 + self.protocol.flip))
        return self.runtime.to_host(average)

    def stream(self, images: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Yield the class maps of many images, in order.

        While one image is computed the next is decoded, and each device has an image to work on.
        """
        groups = _of_one_size(images, self._batch)
        for is_cut, some in groupby(groups, lambda group: self._is_cut(_size(group[0]))):
            if is_cut:
                for image in chain.from_iterable(some):
                    yield self._of_tiles(image, self.tiles(_size(image)))
            else:
                yield from chain.from_iterable(self._in_order(some, self._submit))

    def stream_items(self, items: Iterable[Item],
                     image_of: Callable[[Item], np.ndarray]) -> Iterator[tuple[Item, np.ndarray]]:
        """Yield each item with the class map of its image, in order; see :meth:`stream`.

        Args:
            items: are read ahead of the results.
            image_of: item -> its image.
        """
        waiting: deque[Item] = deque()  # tee() would keep up to 57

        def images() -> Iterator[np.ndarray]:
            for item in items:
                waiting.append(item)
                yield image_of(item)
        for class_map in self.stream(images()):
            yield waiting.popleft(), class_map

    def tile_probabilities(self, image: np.ndarray, tile: Tile) -> np.ndarray:
        """Return the probabilities of the pixels that a tile of :meth:`tiles` keeps: float32 (K, height, width)."""
        return tile.probabilities(self.probabilities(tile.read(image)))

    def tiles(self, size: tuple[int, int]) -> list[Tile]:
        """Return the tiles that an image of (height, width) is computed in; none if it is computed at once."""
        fixed = self.runtime.fixed_size
        if self.tiling is None or not self._is_cut(size):
            return []
        if fixed:
            return cut(size, fixed, min(fixed) // 4, alignment=1)
        side, overlap, _, reason = self.tiling
        if not self._said_tiles:
            self._said_tiles = True
            log.info("images as large as this one, %d x %d, are computed in tiles of %d, overlapping by %d%s", size[1],
                     size[0], side, overlap, reason and f" ({reason})")
        stride = self.runtime.aligned_stride if self.protocol.is_simple else 1
        return cut(size, (side, side), overlap, aligned_stride=stride, whole=self._extended_size(size))

    def _is_cut(self, size: tuple[int, int]) -> bool:
        """Return whether an image of (height, width) is computed in tiles."""
        fixed = self.runtime.fixed_size
        if self.tiling is None or size == fixed:
            return False
        return size[0] >= fixed[0] and size[1] >= fixed[1] if fixed else self.tiling.cuts(size)

    def check_size(self, size: tuple[int, int]) -> None:
        """Check that the network can read an image of (height, width).

        Raises:
            DataError: the image, its smallest scale or its smallest window has a size that the network cannot read.
        """
        tiles = self.tiles(size)
        if tiles:
            size = tiles[0].size
        if self.protocol.mode == "gluoncv":
            return self._check_input(self.protocol.crop_size)
        for height, width in self._scaled_sizes(size):
            if self.protocol.mode == "slide":
                height, width = min(height, self.protocol.crop_size[0]), min(width, self.protocol.crop_size[1])
            self._check_input((height, width))
        return None

    def _choose(self, device: Any) -> Any:
        return self.runtime.devices[0] if device is None else device

    def _in_order(self, groups: Iterable[Group], submit: Callable[[Group, Any], Any]) -> Iterator[np.ndarray]:
        """Yield results on the host, in order; ``submit`` is given a group and a device, and does not wait.

        Groups are read ahead of the results, so that each device has one to work on.
        """
        devices, waiting = self.runtime.devices, deque[Any]()
        for i, group in enumerate(groups):
            waiting.append(submit(group, devices[i % len(devices)]))
            if len(waiting) > len(devices):
                yield self._wait(waiting.popleft())
        while waiting:
            yield self._wait(waiting.popleft())

    def _submit(self, images: Sequence[np.ndarray], device: Any) -> Any:
        """Return the class maps of images of one size on the device, (N, H, W), not waited for."""
        with self.runtime.lock:
            if self.protocol.is_simple:
                height, width = _size(images[0])
                class_maps = self.runtime.class_maps(self._send([*map(self._extended, images)], device), device)
                return class_maps if class_maps.shape[1:] == (height, width) else class_maps[:, :height, :width]
            image, = images
            return self._averaged_class_map(image, device)

    def _wait(self, class_maps: Any) -> np.ndarray:
        """Return a submitted result on the host."""
        return class_maps if isinstance(class_maps, np.ndarray) else self.runtime.to_host(class_maps)

    def _of_tiles(self, image: np.ndarray, tiles: Sequence[Tile]) -> np.ndarray:
        """Return the class map of an image from those of its tiles."""
        class_map, equal, compared = np.empty(image.shape[:2], np.uint8), 0, 0
        results = self._in_order(tiles, partial(self._submit_scores, image)) if tiles[0].positions and \
            self.runtime.has_scores else self.stream(tile.read(image) for tile in tiles)
        for tile, result in zip(tiles, self.progress(results, len(tiles))):
            agree, pixels = tile.keep(tile.classes(result), class_map)
            equal, compared = equal + agree, compared + pixels
        if compared:
            self._say_agreement(equal / compared)
        return class_map

    def _submit_scores(self, image: np.ndarray, tile: Tile, device: Any) -> Any:
        """Return the probabilities of a tile on the device, (h, w, K), not waited for."""
        with self.runtime.lock:
            return self._scores([tile.read(image)], device).reshape((*tile.size, -1))

    def _say_agreement(self, agreement: float) -> None:
        """Report of the first image, and of the first poor one, how many pixels at the seams have equal classes."""
        is_poor = agreement < _POOR_AGREEMENT
        if is_poor not in self._said_agreement:
            self._said_agreement.add(is_poor)
            log.log(logging.WARNING if is_poor else logging.INFO, "neighbouring tiles agree on %.1f %% of the pixels "
                    "at their seams%s", 100 * agreement, "; the network sees further than their overlap, so larger "
                    "--tile and --overlap, or --base, give better class maps" * is_poor)

    def _averaged_class_map(self, image: np.ndarray, device: Any) -> Any:
        """Return the class map of averaged scores, (1, H, W). Too many enlarged scores are made band by band."""
        size = _size(image)
        if self.protocol.mode == "gluoncv" or max(map(max, self._scaled_sizes(size))) >= max(size):
            return self.runtime.argmax(self._sum(image, device)).reshape((1, *size))
        maps = [self._one_scale(scaled, device) for scaled in self._scaled(image)]
        if size[0] * size[1] * maps[0].shape[2] > _MOST_SCORES:
            return argmax_of_enlarged([self.runtime.to_host(scores) for scores in maps], size)[None]
        return self.runtime.argmax(_added(self._enlarged(scores, size) for scores in maps)).reshape((1, *size))

    def _sum(self, image: np.ndarray, device: Any) -> Any:
        """Return (H, W, K) scores, added up over scales and flips."""
        if self.protocol.mode == "gluoncv":
            return _added(self._scales_of_gluoncv(image, device))
        return _added(self._enlarged(self._one_scale(scaled, device), _size(image)) for scaled in self._scaled(image))

    def _scales_of_gluoncv(self, image: np.ndarray, device: Any) -> Iterator[Any]:
        """Yield (H, W, K) exponentials of each scale."""
        height, width = image.shape[:2]
        long_side = max(height, width)
        x = self.runtime.array(image, device)
        for scale in self.protocol.scales:
            target = math.ceil((self.protocol.base_size or long_side) * scale)
            # multiply before dividing, as GluonCV does: target / long_side first may round a half differently
            size: Any = tuple(target if side == long_side else int(1.0 * side * target / long_side + 0.5)
                              for side in (height, width))
            starts = [window_starts(s, c, self.protocol.stride) for s, c in zip(size, self.protocol.crop_size)]
            black = self.runtime.zeros([s[-1] + c for s, c in zip(starts, self.protocol.crop_size)] + [3], device)
            black[:size[0], :size[1]] = self.runtime.resize(x, size, align_corners=True)

            total = self._windows(black, starts, self.protocol.crop_size, device)[:size[0], :size[1]]
            if size != (height, width):
                total = self.runtime.resize(total, (height, width), align_corners=True)
            yield total

    def _enlarged(self, x: Any, size: tuple[int, int]) -> Any:
        """Resize (h, w, K) -> (H, W, K), bilinear, corner edges aligned."""
        return x if x.shape[:2] == size else self.runtime.resize(x, size, align_corners=False)

    def _scaled_sizes(self, size: tuple[int, int]) -> Iterator[tuple[int, int]]:
        """Yield (height, width) at each scale."""
        height, width = size
        base = self.protocol.base_size or max(height, width)
        for scale in self.protocol.scales:
            factor = base * scale / max(height, width)
            yield max(round(height * factor), 1), max(round(width * factor), 1)

    def _scaled(self, image: np.ndarray) -> Iterator[np.ndarray]:
        for size in self._scaled_sizes(_size(image)):
            if size == _size(image):
                yield image
            else:
                yield cv2.resize(image, size[::-1], interpolation=cv2.INTER_LINEAR)

    def _one_scale(self, image: np.ndarray, device: Any) -> Any:
        """Return (H, W, K) probabilities of an image at its own size, added up over flips."""
        height, width = size = _size(image)
        image = self._extended(image)
        extended = _size(image)
        crop_h, crop_w = (min(c, s) for c, s in zip(self.protocol.crop_size, extended))
        if self.protocol.mode == "whole" or (crop_h, crop_w) == extended:
            scores = self._scores([image], device).reshape((*extended, -1))
        else:
            starts = [inner_window_starts(s, c, self.protocol.stride) for s, c in zip(extended, (crop_h, crop_w))]
            scores = self._windows(image, starts, (crop_h, crop_w), device)
        return scores if extended == size else scores[:height, :width]

    def _extended_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """Return the size at which the network computes an image of (height, width)."""
        return size if size == self.runtime.fixed_size else self.protocol.extended(size)

    def _extended(self, image: np.ndarray) -> np.ndarray:
        """Return an image with its last row and column repeated up to the size at which it is computed."""
        size = _size(image)
        self._check_input(size)
        height, width = self._extended_size(size)
        if (height, width) == size:
            return image
        return cv2.copyMakeBorder(image, 0, height - size[0], 0, width - size[1], cv2.BORDER_REPLICATE)

    def _windows(self, image, starts: Sequence[Sequence[int]], size: tuple[int, int],
                 device: Any) -> Any:
        """Return (H, W, K), averaged over windows.

        Args:
            image: (H, W, 3), a NumPy array or on the device.
            starts: first rows, first columns of the windows.
            size: height and width of a window.
            device: where to compute.
        """
        (rows, columns), (height, width) = starts, size
        corners = [(y, x) for y in rows for x in columns]
        total = None
        for first in range(0, len(corners), self.protocol.batch):
            some = corners[first:first + self.protocol.batch]
            windows = self._scores([image[y:y + height, x:x + width] for y, x in some], device)
            if total is None:
                total = self.runtime.zeros((*image.shape[:2], windows.shape[3]), device)
            for k, (y, x) in enumerate(some):
                window = windows if len(some) == 1 else windows[:, k:k + 1]
                total[y:y + height, x:x + width] += window.reshape((height, width, -1))

        weight = np.outer(1 / coverage(image.shape[0], rows, height), 1 / coverage(image.shape[1], columns, width))
        total *= self.runtime.array(weight[..., None], device)
        return total

    def _scores(self, images: Sequence[Any], device: Any) -> Any:
        """Return (H, N, W, K) scores of images of one size, added up over flips."""
        return self.runtime.scores(self._send(images, device), device, flip=self.protocol.flip,
                                   exponentials=self.protocol.mode == "gluoncv")

    def _send(self, images: Sequence[Any], device: Any) -> Any:
        """Return images of one size as (N, H, W, 3) on the device."""
        self._check_input(images[0].shape[:2])
        return self.runtime.stack(images, device)

    def _check_input(self, size: tuple[int, int]) -> None:
        smallest, fixed = self.runtime.smallest_side, self.runtime.fixed_size
        extended = self._extended_size(size)
        if min(extended) < smallest:
            raise DataError(f"this network reads images of at least {smallest} pixels a side",
                            where=f"evaluation of {self.protocol}", received=f"{size[0]} x {size[1]}",
                            fix="enlarge the images, or evaluate with --base 512, which enlarges smaller images; "
                                "with several scales, the smallest counts")
        if fixed not in (None, extended):
            raise DataError(f"this network reads images of {fixed[0]} x {fixed[1]} pixels only",
                            where=f"evaluation of {self.protocol}", received=f"{size[0]} x {size[1]}",
                            fix="export the network without --size")


def _size(image: np.ndarray) -> tuple[int, int]:
    return image.shape[0], image.shape[1]


def _added(scores: Iterator[Any]) -> Any:
    total = next(scores)
    for one in scores:
        total += one
    return total


def _of_one_size(images: Iterable[np.ndarray], most: int) -> Iterator[list[np.ndarray]]:
    """Yield consecutive images of one size together, at most ``most``."""
    group: list[np.ndarray] = []
    for image in images:
        if group and image.shape != group[0].shape:
            yield group
            group = []
        group.append(image)
        if len(group) == most:
            yield group
            group = []
    if group:
        yield group
