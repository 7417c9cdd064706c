"""Masks in colours, as RGB or palette pictures -> folder data with masks of class ids."""
from __future__ import annotations

import logging
from pathlib import Path
from typing import List

import numpy as np

from ...errors import DataNotFoundError
from ..base import IMAGE_SUFFIXES, MASK_SUFFIXES, read_mask
from ..folder import read_classes
from .base import Job, Preparation, files_by_name, fingerprint, place, write_png

_TRIED = 16  # masks that are read before anything is written
_log = logging.getLogger(__name__)


class Colours(Preparation):
    """If ``classes.txt`` gives every class a colour, the colours in the masks decide, else the masks' values.

    Black is ignored unless it is a class's. Grey masks are read as colours only if a class has a grey colour, such
    as #ffffff. A mask in colours that nobody has named is refused with a list of them, ready for ``classes.txt``.
    """

    needs = "images/NAME.jpg, masks/NAME.png in colours, and classes.txt with a line 'name #rrggbb' for each class"
    makes = "folder data: images/, masks/NAME.png of class ids, and classes.txt"
    options = ("classes",)
    walks = True

    def jobs(self) -> List[Job]:
        root = self.find("images", "masks", what="pictures and masks")
        file = self.given_classes()
        if file is None:
            raise DataNotFoundError("the classes have no names", where=self.source / "classes.txt", fix=(
                "write it, a line for each class: 'name #rrggbb', or the name alone if the masks hold ids; "
                "or name another file: --classes FILE"))
        names, self.palette, self.by_colour = read_classes(file)
        self.classes = tuple(f"{name} #{bytes(colour).hex()}" if self.by_colour else name
                             for name, colour in zip(names, self.palette))
        images, masks = (files_by_name(root / kind, suffixes)
                         for kind, suffixes in (("images", IMAGE_SUFFIXES), ("masks", MASK_SUFFIXES)))
        names = sorted(images.keys() & masks.keys())
        if not names:
            raise self.lacking("masks with the names of the images")
        for kind, alone in (("images without a mask", images.keys() - masks.keys()),
                            ("masks without an image", masks.keys() - images.keys())):
            if alone:
                _log.warning("%d %s are left out: %s", len(alone), kind, ", ".join(sorted(alone)[:5]))
        for name in names[::-(-len(names) // _TRIED)]:
            self._ids(masks[name])
        return [job for name in names for job in (self._image(name, images[name]), self._mask(name, masks[name]))]

    def finish(self) -> None:
        self.write_list("classes.txt", self.given_classes().read_text(encoding="utf-8-sig").splitlines())
        self.copy_lists()

    def _image(self, name: str, path: Path) -> Job:
        target = self.target / "images" / f"{name}{path.suffix}"
        return Job(target, lambda: place(path, target), fingerprint(path), path)

    def _mask(self, name: str, path: Path) -> Job:
        target = self.target / "masks" / f"{name}.png"
        origin = fingerprint(path, self.palette if self.by_colour else None)
        return Job(target, lambda: write_png(self._ids(path), target), origin)

    def _ids(self, path: Path) -> np.ndarray:
        return read_mask(path, colors=self.palette, by_color=True) if self.by_colour else read_mask(path)
