"""Convert CVAT's export "Segmentation mask 1.1" to folder data."""
from __future__ import annotations

from pathlib import Path

import numpy as np

from ...errors import DataError, DataNotFoundError
from ..base import IGNORE, read_list, read_mask
from ..masks import AmbiguousMask
from .evidence import count_files, only_folder
from .pairs import MaskedImage, MaskPairs, class_name, image_mode, listed_pairs

_LABEL_MAP, _MASKS = "labelmap.txt", "SegmentationClass"
_IGNORED = ("ignored", "__ignore__")
_BLACK = (0, 0, 0)


class CVATMasks(MaskPairs):
    """Convert the colours of ``labelmap.txt`` to ids, in the order of its lines.

    The background may have any colour. A colour that no line has is refused, also black. Grey masks may hold the
    numbers of the lines, counted from 0. Pixels of a label called ``ignored`` or ``__ignore__`` are ignored.
    """

    needs = ("labelmap.txt, SegmentationClass/NAME.png, JPEGImages/NAME.jpg and ImageSets/Segmentation/*.txt: CVAT's "
             "export 'Segmentation mask 1.1' with images")

    @classmethod
    def recognises(cls, src: Path) -> str | None:
        root = only_folder(src, _LABEL_MAP, _MASKS)
        if root is None:
            return None
        return f"{_LABEL_MAP} beside {_MASKS} with {count_files(root / _MASKS, ('.png',))} masks in {root}"

    def find_pairs(self) -> list[MaskedImage]:
        root = only_folder(self.source, _LABEL_MAP, _MASKS)
        if root is None:
            raise self.source_error(f"a folder with {_LABEL_MAP} and {_MASKS}")
        if not (root / "JPEGImages").is_dir():
            raise DataNotFoundError("the export holds masks without their images", where=root / "JPEGImages",
                                    fix="export again with 'Save images' switched on, or put the images there")

        self._read_label_map(root / _LABEL_MAP)
        pairs, others = listed_pairs(root, root / "JPEGImages", root / _MASKS)
        self.leave_out("images in no list of a split", others)
        return pairs

    def read_ids(self, path: Path) -> np.ndarray:
        try:
            index = read_mask(path, colors=self._palette, by_color=image_mode(path) == "P")
        except AmbiguousMask as error:
            raise DataError(error.what, where=path, received=error.received,
                            fix="save the masks in RGB, so that labelmap.txt decides: "
                                "magick FILE -define png:color-type=2 FILE") from error
        unlisted = int((index == len(self._labels)).sum())
        if unlisted:
            raise DataError("a mask holds black pixels, but no label is black", where=path,
                            received=f"{unlisted} pixels of 0,0,0",
                            fix="add a line to labelmap.txt: 'ignored:0,0,0::' to ignore these pixels, or NAME:0,0,0::")
        return self._ids[index]

    def _read_label_map(self, path: Path) -> None:
        """Read the lines ``name:r,g,b:parts:actions``."""
        self._labels: dict[str, tuple[int, int, int]] = {}
        for line in read_list(path):
            if line.startswith("#"):
                continue
            name, colour, *rest = [*line.split(":"), "", ""]
            if len(rest) > 4:  # two fields and the two added above
                raise _wrong(path, line, "a name without ':', a colour, parts and actions")
            name = class_name(name, path)
            numbers = [part.strip() for part in colour.split(",")]
            if len(numbers) != 3 or not all(n.isdecimal() and int(n) <= 255 for n in numbers):
                raise _wrong(path, line, "a colour of three numbers from 0 to 255")
            red, green, blue = map(int, numbers)
            if name in self._labels or (red, green, blue) in self._labels.values():
                raise _wrong(path, line, "a name and a colour that no earlier line has")
            self._labels[name] = red, green, blue

        self.classes = tuple(name for name in self._labels if name not in _IGNORED)
        if len(self._labels) > IGNORE - 1 or not self.classes:
            raise DataError("the label map has no label, or too many for 8-bit masks", where=path,
                            received=f"{len(self._labels)} labels", fix=f"keep from 1 to {IGNORE - 1} labels")
        colours = list(self._labels.values())
        # black that no label has gets the index after the labels, so that it is refused
        self._palette = np.array(colours if _BLACK in colours else [*colours, _BLACK], np.uint8)
        ids = {name: i for i, name in enumerate(self.classes)}
        self._ids = np.full(256, IGNORE, np.uint8)
        self._ids[:len(colours)] = [ids.get(name, IGNORE) for name in self._labels]
        self.colours = np.array([self._labels[name] for name in self.classes], np.uint8)
        self.reading = [[name, *colour] for name, colour in self._labels.items()]

    def find_classes_file(self) -> None:
        """Return None: the label map names the classes."""


def _wrong(path: Path, line: str, expected: str) -> DataError:
    return DataError(f"a line of the label map is wrong: expected {expected}", where=path, received=line[:200],
                     fix="write it like 'cat:0,255,0::', or export again")
