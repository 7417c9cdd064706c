"""Packs: one file per split, for disks and network shares on which opening thousands of small files is slow.

A folder of packs holds one file ``<split>.pack`` per split. Such a file contains, in this order:

* ``MXSEGPK1``;
* for each item the bytes of the image file, unchanged, and the mask's train ids, (H, W) uint8, compressed with zlib;
* an index, JSON: classes, colours, label map, and for each item its name, and offset, length and CRC-32 of both parts;
* 32 bytes, the index's SHA-256; 8 bytes, its offset, little-endian; ``MXSEGPK1`` again.

The checksums are verified on reading. The index comes last, so a pack is written in one pass. A pack gets its name only
when it is complete.
"""
from __future__ import annotations

import hashlib
import json
import os
import struct
import zlib
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..errors import DataError, DataNotFoundError, UnknownNameError
from ..files import atomic_write, expand
from .base import PLAIN, Decoding, Pair, PathLike, SegDataset
from .decoding import decode_image
from .pairs import check_sizes
from .parallel import TIMEOUT, ProgressCallback, in_parallel, no_progress

SUFFIX = ".pack"
_MAGIC = b"MXSEGPK1"
_TAIL = struct.Struct("<32sQ8s")  # SHA-256 and offset of the index, magic
_REMAKE = "make the pack again: mxnetseg pack NAME DST"


class Record(NamedTuple):
    """Place of an item in a pack.

    Attributes:
        name: name of the item.
        image, mask: offset, length in bytes and CRC-32. A split without labels has masks of length 0.
        size: height and width of the mask.
    """

    name: str
    image: list[int]
    mask: list[int]
    size: list[int]


class PackDataset(SegDataset):
    """A packed split; its names, images and train ids equal those of the data set it was packed from.

    Args:
        split: one of the splits that were packed.
        root: the folder of the packs.
        decoding: as for the data set; image files are packed unchanged.

    Raises:
        DataNotFoundError: no folder was given, or it holds no pack.
        UnknownNameError: the split was not packed.
        DataError: the file is not a pack, damaged or cut off.
    """

    name = "pack"
    layout = "<root>/SPLIT.pack            one for each split, as written by `mxnetseg pack NAME <root>`"

    def __init__(self, *, split: str = "train", root: PathLike | None = None, decoding: Decoding = PLAIN):
        if root is None or not packs_in(root):
            raise DataNotFoundError("there are no packs", where=root,
                                    fix=f"name their folder: --data pack:PATH\n{self.layout}")
        root = expand(root)
        self.splits = tuple(path.stem for path in packs_in(root))
        if split not in self.splits:
            raise UnknownNameError("split of this pack", split, self.splits, where=root)
        self.path = Path(root, split + SUFFIX)
        self._file = os.open(self.path, os.O_RDONLY)
        super().__init__(split=split, root=root, decoding=decoding)

    def __del__(self):
        if hasattr(self, "_file"):
            os.close(self._file)

    def _find_root(self, root: PathLike | None) -> Path:
        return Path(root)

    def _prepare(self) -> None:
        index = self._read_index()
        self.name, self.classes = index["name"], tuple(index["classes"])
        self.palette = np.array(index["palette"], np.uint8).reshape(-1, 3)
        self.label_hint = _REMAKE
        label_map = index["label_map"]
        self.label_map = None if label_map is None else {int(raw): train for raw, train in label_map.items()}
        self._records = [Record(*record) for record in index["items"]]

    def find_pairs(self) -> list[Pair]:
        # paths for messages only: the pack, and the item in it
        return [Pair(r.name, self.path / r.name, self.path / r.name if r.mask[1] else None) for r in self._records]

    def _check_pairs(self) -> None:
        """The index is complete, therefore every item exists."""

    def load_image(self, i: int, *, reduce: int = 1) -> np.ndarray:
        data = np.frombuffer(self._read(i, self._records[i].image), np.uint8)
        return decode_image(data, self.image_path(i), reduce=reduce, decoding=self.decoding)

    def load_raw_mask(self, i: int) -> np.ndarray:
        """Read the train ids of item ``i``, which were stored when the pack was made: uint8 (H, W)."""
        data = zlib.decompress(self._read(i, self._records[i].mask))
        return np.frombuffer(data, np.uint8).reshape(self._records[i].size)

    def to_train_ids(self, raw: np.ndarray, path: Path) -> np.ndarray:
        return raw

    def _read(self, i: int, place: list[int]) -> bytes:
        offset, length, checksum = place
        data = os.pread(self._file, length, offset)  # unlike seek and read, safe in several threads at once
        if len(data) != length or zlib.crc32(data) != checksum:
            raise DataError("a pack is damaged: the checksum of an item differs", where=self.image_path(i),
                            received=f"{len(data)} of {length} bytes at {offset}", fix=_REMAKE)
        return data

    def _read_index(self) -> dict[str, Any]:
        size = os.fstat(self._file).st_size
        tail = os.pread(self._file, _TAIL.size, max(size - _TAIL.size, 0))
        if len(tail) < _TAIL.size or tail[-len(_MAGIC):] != _MAGIC:
            raise DataError("the file is not a pack, or it was cut off", where=self.path, received=f"{size} bytes",
                            fix=_REMAKE)
        digest, offset, _ = _TAIL.unpack(tail)
        data = os.pread(self._file, max(size - _TAIL.size - offset, 0), offset)
        if hashlib.sha256(data).digest() != digest:
            raise DataError("a pack is damaged: the checksum of its index differs", where=self.path, fix=_REMAKE)
        return json.loads(data)


def packs_in(folder: PathLike) -> list[Path]:
    """Return the packs of a folder, sorted."""
    return sorted(expand(folder).glob("*" + SUFFIX))


def write_pack(dataset: SegDataset, path: PathLike, progress: ProgressCallback = no_progress, *,
               timeout: float = TIMEOUT) -> None:
    """Pack one split. Every file is decoded once, so that everything in the pack can be read.

    Args:
        dataset: the split.
        path: the file to write; it appears when it is complete, and an older one stays until then.
        progress: wraps a stream of items: ``progress(items, count)``, as a progress bar does.
        timeout: seconds to wait for one item.

    Raises:
        DataError: a file of the data set is damaged or does not fit, or was not read in time.
    """
    records: list[Record] = []
    with atomic_write(path) as file:
        file.write(_MAGIC)

        def store(data: bytes) -> list[int]:
            offset = file.tell()
            file.write(data)
            return [offset, len(data), zlib.crc32(data)]

        items = in_parallel(partial(_read_item, dataset), range(len(dataset)), timeout=timeout,
                            where=dataset.image_path)
        for name, image, mask, shape in progress(items, len(dataset)):
            records.append(Record(name, store(image), store(mask), shape))

        label_map = dataset.label_map
        index = json.dumps({
            "name": dataset.name, "split": dataset.split, "classes": list(dataset.classes),
            "palette": np.asarray(dataset.palette).tolist(),
            "label_map": None if label_map is None else {str(raw): train for raw, train in label_map.items()},
            "items": records}).encode()
        offset = file.tell()
        file.write(index + _TAIL.pack(hashlib.sha256(index).digest(), offset, _MAGIC))


def _read_item(dataset: SegDataset, i: int) -> tuple[str, bytes, bytes, list[int]]:
    """Read and check item ``i``: its name, image file, compressed train ids (empty without a mask) and their shape."""
    pair = dataset.pair(i)
    image, ids = dataset.load_image(i), np.zeros((0, 0), np.uint8)
    if pair.mask is not None:
        raw = dataset.load_raw_mask(i)
        check_sizes(image, raw, pair)
        ids = dataset.to_train_ids(raw, pair.mask)
    return pair.name, pair.image.read_bytes(), zlib.compress(ids.tobytes()) if ids.size else b"", list(ids.shape)


def verify(dataset: PackDataset, progress: ProgressCallback = no_progress, *, timeout: float = TIMEOUT) -> None:
    """Read every item of a pack.

    Raises:
        DataError: an item is damaged, or was not read within ``timeout`` seconds.
    """
    items = in_parallel(lambda i: dataset[i].name, range(len(dataset)), timeout=timeout, where=dataset.image_path)
    for _ in progress(items, len(dataset)):
        pass
