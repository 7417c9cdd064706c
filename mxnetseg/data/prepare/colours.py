"""Convert RGB or palette masks in colours to folder data with masks of class ids."""
from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ...errors import DataNotFoundError
from ..base import IMAGE_SUFFIXES, MASK_SUFFIXES, read_mask
from ..folder import read_classes
from .base import Job, Preparation, files_by_name, fingerprint, place, write_png
from .evidence import only_folder
from .idmap import make_id_map
from .pairs import image_mode

_MASKS_CHECKED_FIRST = 16  # masks that are read before anything is written
_log = logging.getLogger(__name__)


class Colours(Preparation):
    """Convert masks by their colours if ``classes.txt`` gives every class a colour, else by their values.

    Black is ignored unless it is the colour of a class. Grey masks are read as colours only if a class has a grey
    colour, such as #ffffff. A mask with unknown colours is refused with a list of them, ready for ``classes.txt``.
    """

    needs = "images/NAME.jpg, masks/NAME.png in colours, and classes.txt with a line 'name #rrggbb' for each class"
    makes = "folder data: images/, masks/NAME.png of class ids, and classes.txt"
    options = ("classes", "ids", "reduce_zero_label")
    takes_all_files = True

    def __init__(self, source: Path, target: Path, *, classes: Path | None = None,
                 ids: Mapping[int, int] | str | None = None, reduce_zero_label: bool = False):
        super().__init__(source, target, classes=classes)
        self._id_map = make_id_map(ids, reduce_zero_label)

    @classmethod
    def recognises(cls, src: Path) -> str | None:
        root = only_folder(src, "images", "masks")
        if root is None:
            return None
        images, masks = (files_by_name(root / folder, suffixes) for folder, suffixes in
                         (("images", IMAGE_SUFFIXES), ("masks", MASK_SUFFIXES)))
        paired = sorted(images.keys() & masks.keys())
        if not paired:
            return None
        file = src / "classes.txt"
        if file.is_file() and read_classes(file)[2]:
            return f"{len(paired)} masks in {root / 'masks'}, and a colour of each class in {file}"
        if image_mode(masks[paired[0]]) == "RGB":
            return f"{len(paired)} masks in {root / 'masks'}, in RGB"
        some = [masks[name] for name in paired[::-(-len(paired) // _MASKS_CHECKED_FIRST)]]
        values = {int(value) for path in some for value in np.unique(read_mask(path))}
        return f"{len(paired)} masks in {root / 'masks'}, of 0 and 255" if values == {0, 255} else None

    def jobs(self) -> list[Job]:
        root = self.find("images", "masks", what="images and masks")
        file = self.find_classes_file()
        if file is None:
            raise DataNotFoundError("the classes have no names", where=self.source / "classes.txt", fix=(
                "write it with one line for each class: 'name #rrggbb', or only the name if the masks hold ids; "
                "or give another file: --classes FILE"))
        names, self.palette, is_coloured = read_classes(file)
        self.by_colour = is_coloured and self._id_map is None
        if self._id_map:
            self._id_map.check(names, file)
        self.classes = tuple(f"{name} #{bytes(colour).hex()}" if self.by_colour else name
                             for name, colour in zip(names, self.palette))

        images = files_by_name(root / "images", IMAGE_SUFFIXES)
        masks = files_by_name(root / "masks", MASK_SUFFIXES)
        paired = sorted(images.keys() & masks.keys())
        if not paired:
            raise self.source_error("masks with the names of the images")
        for description, unpaired in (("images without a mask", images.keys() - masks.keys()),
                                      ("masks without an image", masks.keys() - images.keys())):
            if unpaired:
                _log.warning("%d %s are left out: %s", len(unpaired), description, ", ".join(sorted(unpaired)[:5]))

        for name in paired[::-(-len(paired) // _MASKS_CHECKED_FIRST)]:
            self._ids(masks[name])
        return [job for name in paired for job in (self._image(name, images[name]), self._mask(name, masks[name]))]

    def finish(self) -> None:
        self.write_classes(self.classes)
        self.copy_lists()

    def _image(self, name: str, path: Path) -> Job:
        target = self.target / "images" / f"{name}{path.suffix}"
        return Job(target, lambda: place(path, target), fingerprint(path), path)

    def _mask(self, name: str, path: Path) -> Job:
        target = self.target / "masks" / f"{name}.png"
        origin = fingerprint(path, self.palette if self.by_colour else None,
                             *([sorted(self._id_map.table.items())] if self._id_map else []))
        return Job(target, lambda: write_png(self._ids(path), target), origin)

    def _ids(self, path: Path) -> np.ndarray:
        if self.by_colour:
            return read_mask(path, colors=self.palette, by_color=True)
        values = read_mask(path)
        return self._id_map.apply(values, path) if self._id_map else values
