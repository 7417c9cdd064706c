"""Convert the user's own data in VOC's layout to folder data."""
from __future__ import annotations

from pathlib import Path

from ...errors import DataError
from ..base import list_files
from .evidence import only_folder
from .pairs import MaskedImage, image_mode, listed_pairs
from .valuemasks import ValueMasks

_IMAGES, _MASKS = "JPEGImages", ("SegmentationClass", "SegmentationClassPNG")
_LABELME_NAMES = "class_names.txt"


class VOCFolder(ValueMasks):
    """Convert masks whose values are class ids; 255 is ignored.

    The classes come from ``classes.txt``, or from ``class_names.txt``, which labelme2voc writes. The splits come from
    ``ImageSets/Segmentation``.
    """

    needs = "JPEGImages/NAME.jpg, SegmentationClass/NAME.png (or SegmentationClassPNG), classes.txt; " \
            "ImageSets/Segmentation/train.txt and val.txt are optional"

    @classmethod
    def recognises(cls, src: Path) -> str | None:
        for folder in _MASKS:
            root = only_folder(src, _IMAGES, folder)
            masks = list_files(root / folder, (".png",)) if root else []
            if masks and not (root / "labelmap.txt").exists():
                has_names = (src / "classes.txt").is_file()
                if image_mode(masks[0]) in ("1", "L", "P") or (has_names and image_mode(masks[0]) == "RGB"):
                    return f"{_IMAGES} and {folder} with {len(masks)} PNG masks in {root}, and no labelmap.txt"
        return None

    def find_pairs(self) -> list[MaskedImage]:
        found = [(root, folder) for folder in _MASKS if (root := only_folder(self.source, _IMAGES, folder))
                 and list_files(root / folder, (".png",))]
        if not found:
            raise self.source_error(f"a folder with {_IMAGES} and PNG masks in {' or '.join(_MASKS)}")
        if len(found) > 1:
            raise DataError("the source holds two folders of masks", where=self.source.absolute(),
                            received="\n".join(str(root / folder) for root, folder in found),
                            fix="remove one of them, or give a SRC with one of them")

        self._root, folder = found[0]
        pairs, others = listed_pairs(self._root, self._root / _IMAGES, self._root / folder)
        self.leave_out("images in no list of a split", others)
        return pairs

    def find_classes_file(self) -> Path | None:
        names = self._root / _LABELME_NAMES
        return super().find_classes_file() or (names if names.is_file() else None)
