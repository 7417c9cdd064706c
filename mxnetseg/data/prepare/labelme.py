"""What has been drawn with labelme -> folder data."""
from __future__ import annotations

import base64
import logging
from collections import Counter
from io import BytesIO
from pathlib import Path
from typing import Any, Dict, List, Optional

import numpy as np
from PIL import Image

from ...errors import DataError
from ...files import atomic_write
from ..base import IGNORE, list_files
from .base import Job, Preparation, place, read_json, write_png
from .shapes import outline

_BACKGROUND, _UNDERLINED, _IGNORED = "background", "_background_", "__ignore__"
_NO_AREA = ("point", "points", "line", "linestrip")
_log = logging.getLogger(__name__)


class Labelme(Preparation):
    """Each label becomes a class, after a class ``background`` for what no shape covers.

    The classes are those of ``classes.txt``, if there is one; if it has no ``background``, the uncovered is
    ignored. Otherwise they are the labels, sorted. Shapes lie over those before them; ``__ignore__`` makes pixels
    that do not count. Points and lines have no area and are left out.
    """

    needs = "labelme's JSON files, beside their images or with the images inside; classes.txt is optional"
    makes = "folder data: images/, masks/NAME.png and classes.txt"
    options = ("classes",)
    walks = True

    def jobs(self) -> List[Job]:
        drawn: Dict[Path, Any] = {}
        for file in list_files(self.source, (".json",)):
            content = read_json(file)
            if isinstance(content, dict) and isinstance(content.get("shapes"), list):
                drawn[file] = self._checked(file, content)
        if not drawn:
            raise self.lacking("a JSON file of labelme")
        labels = {shape["label"] for content in drawn.values() for shape in content["shapes"]}
        special = {_BACKGROUND, _UNDERLINED, _IGNORED}
        self.classes = self.named_classes() or (_BACKGROUND, *sorted(labels - special))
        unknown = sorted(labels - special - set(self.classes))
        if unknown:
            raise DataError(f"{len(unknown)} labels are no classes", where=self.given_classes(),
                            received=", ".join(unknown), fix="add them, one a line, or correct the labels")
        kinds = Counter(shape["shape_type"] for content in drawn.values() for shape in content["shapes"])
        left_out = [f"{kinds[kind]} of kind {kind}" for kind in _NO_AREA if kinds[kind]]
        if left_out:
            _log.warning("shapes without area are left out: %s", ", ".join(left_out))
        return [job for file, content in drawn.items() for job in self._pair(file, content)]

    def finish(self) -> None:
        given = self.given_classes()
        self.write_list("classes.txt", given.read_text(encoding="utf-8-sig").splitlines() if given else self.classes)
        self.copy_lists()

    @staticmethod
    def _checked(file: Path, content: Dict[str, Any]) -> Dict[str, Any]:
        """What is needed of a file, without the picture that may be in it."""
        try:
            shapes = [{"label": shape["label"], "shape_type": shape.get("shape_type") or "polygon",
                       "points": [(float(x), float(y)) for x, y in shape["points"]], "mask": shape.get("mask")}
                      for shape in content["shapes"]]
            return {"shapes": shapes, "height": int(content["imageHeight"]), "width": int(content["imageWidth"]),
                    "image": content.get("imagePath") or ""}
        except (KeyError, TypeError, ValueError) as error:
            raise DataError("a JSON file is not labelme's", where=file, received=repr(error),
                            fix="open it in labelme and save it again, or remove it") from error

    def _pair(self, file: Path, content: Dict[str, Any]) -> List[Job]:
        name = file.relative_to(self.source).with_suffix("").as_posix()
        image = file.parent / content["image"].replace("\\", "/")
        suffix = image.suffix.lower() if image.is_file() else ".png"
        picture, mask = self.target / "images" / f"{name}{suffix}", self.target / "masks" / f"{name}.png"
        take = (lambda: place(image, picture)) if image.is_file() else (lambda: self._unpack(file, picture))
        return [Job(picture, take), Job(mask, lambda: write_png(self._paint(file, content), mask))]

    @staticmethod
    def _unpack(file: Path, target: Path) -> None:
        """Write the picture that is in the JSON file as PNG."""
        data: Optional[str] = read_json(file).get("imageData")
        if not data:
            raise DataError("the image of a labelme file is neither beside nor inside it", where=file,
                            fix="put the image where imagePath says")
        with Image.open(BytesIO(base64.b64decode(data))) as picture, atomic_write(target) as stream:
            picture.convert("RGB").save(stream, format="PNG")

    def _paint(self, file: Path, content: Dict[str, Any]) -> np.ndarray:
        height, width = content["height"], content["width"]
        ids = {name: i for i, name in enumerate(self.classes)}
        uncovered = ids.get(_BACKGROUND, ids.get(_UNDERLINED, IGNORE))
        ids.update({_BACKGROUND: uncovered, _UNDERLINED: uncovered, _IGNORED: IGNORE})
        mask = np.full((height, width), uncovered, np.uint8)
        for shape in content["shapes"]:
            kind = shape["shape_type"]
            if kind in _NO_AREA:
                continue
            try:
                inside = _painted(shape, height, width) if kind == "mask" else \
                    outline(kind, shape["points"], height, width)
            except DataError as error:
                error.where = file
                raise
            mask[inside] = ids[shape["label"]]
        return mask


def _painted(shape: Dict[str, Any], height: int, width: int) -> np.ndarray:
    """A shape painted by hand or by a model: a PNG for the box between its two points; bool (height, width)."""
    with Image.open(BytesIO(base64.b64decode(shape["mask"]))) as picture:
        part = np.array(picture.convert("L")) > 0
    left, top = (max(int(round(value)), 0) for value in shape["points"][0])
    inside = np.zeros((height, width), bool)
    window = inside[top:top + part.shape[0], left:left + part.shape[1]]
    window |= part[:window.shape[0], :window.shape[1]]
    return inside
