"""Base of the preparations whose masks hold class ids or colours, with the names of the classes in a text file."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ...errors import DataError, DataNotFoundError, MXNetSegError
from ..base import IGNORE, read_mask
from ..draft import draft_classes
from ..folder import read_classes
from ..masks import AmbiguousMask
from ..parallel import in_parallel
from .idmap import make_id_map
from .pairs import MaskPairs, image_mode

_BLACK, _WHITE = 0, 255


class ValueMasks(MaskPairs):
    """Convert masks by their values, or by their colours if ``classes.txt`` gives every class a colour.

    All masks are read before anything is written, because one mask alone may not show whether 255 is an ignored pixel
    or a white class. Masks that can be read in two ways are refused, and the message shows both.

    Args:
        ids: class id of each value; masks are then read by their values.
        reduce_zero_label: 0 is ignored, and each other value becomes smaller by one.
    """

    options = ("classes", "ids", "reduce_zero_label")

    def __init__(self, source: Path, target: Path, *, classes: Path | None = None,
                 ids: Mapping[int, int] | str | None = None, reduce_zero_label: bool = False):
        super().__init__(source, target, classes=classes)
        self._id_map = make_id_map(ids, reduce_zero_label)

    def check_masks(self, masks: list[Path]) -> None:
        file = self.find_classes_file()
        if file is None:
            raise self._without_classes(masks)
        self.classes, palette, is_coloured = read_classes(file)
        self._palette = palette if is_coloured and self._id_map is None else None
        self._by_shade = False
        if self._id_map:
            self._id_map.check(self.classes, file)

        values = np.zeros(256, np.int64)  # of grey masks, and of palette masks without colours of the classes
        for counts in in_parallel(self._count_values, masks):
            values += counts
        used = [int(value) for value in np.flatnonzero(values)]
        if self._id_map is None:
            self._choose_reading(used, len(masks))
        self.reading = [self._by_shade, None if self._palette is None else self._palette.tolist(),
                        sorted(self._id_map.table.items()) if self._id_map else None]

    def read_ids(self, path: Path) -> np.ndarray:
        if self._palette is None:
            values = read_mask(path)
            return self._id_map.apply(values, path) if self._id_map else values

        is_grey = image_mode(path) in ("1", "L")
        if is_grey and not self._by_shade:
            return read_mask(path)
        try:
            return read_mask(path, colors=self._palette, by_color=is_grey)
        except AmbiguousMask as error:
            by_value = self._ids_option(range(len(self.classes)))
            raise DataError(error.what, where=path, received=error.received,
                            fix=f"to read all masks by their values: {by_value}\nto read them by their colours, save "
                                "them in RGB: magick FILE -define png:color-type=2 FILE") from error

    def _count_values(self, path: Path) -> np.ndarray:
        """Return the number of pixels of each value, int64 (256,), and check the mask; 0 for masks in colours."""
        if self._palette is not None and image_mode(path) not in ("1", "L"):
            self.read_ids(path)
            return np.zeros(256, np.int64)
        values = read_mask(path)
        if self._id_map:
            self._id_map.apply(values, path)
        return np.bincount(values.ravel(), minlength=256)

    def _choose_reading(self, used: list[int], count: int) -> None:
        """Decide whether grey masks hold ids or shades of grey.

        Args:
            used: values that occur.
            count: number of masks, for messages.
        """
        number = len(self.classes)
        by_value = {**{i: i for i in range(number)}, IGNORE: IGNORE}
        by_shade: dict[int, int] = {}
        if self._palette is not None:
            by_shade = {_BLACK: IGNORE, **{int(r): i for i, (r, g, b) in enumerate(self._palette) if r == g == b}}

        unknown = [value for value in used if value not in by_value]
        if used and set(used) <= by_shade.keys():
            readings = [[table.get(value) for value in used] for table in (by_value, by_shade)]
            if not unknown and readings[0] != readings[1] and len({*readings[0]} - {IGNORE}) > 1:
                raise self._two_readings(used, by_value, by_shade, count)
            self._by_shade = readings[0] != readings[1]
        elif unknown:
            raise self._unknown_values(used, unknown, count)
        elif used and used[-1] == IGNORE and set(used) <= {_BLACK, _WHITE}:
            raise self._two_readings(used, by_value, {_BLACK: 0, _WHITE: 1}, count)

    def _two_readings(self, used: Sequence[int], by_value: dict[int, int], by_shade: dict[int, int],
                      count: int) -> DataError:
        readings = [", ".join(f"{value} = {self._name(table[value])}" for value in used)
                    for table in (by_value, by_shade)]
        options = [self._ids_option(used, table) for table in (by_value, by_shade)]
        return DataError("the masks can be read in two ways: as class ids, and as shades of grey",
                         where=self.source.absolute(),
                         received=f"values {', '.join(map(str, used))} in {count} masks\n"
                                  f"as class ids: {readings[0]}\nas shades of grey: {readings[1]}",
                         fix=f"choose one\nclass ids: {options[0]}\nshades of grey: {options[1]}")

    def _unknown_values(self, used: list[int], unknown: list[int], count: int) -> DataError:
        number = len(self.classes)
        shown = ", ".join(map(str, used[:12])) + ", ..." * (len(used) > 12)
        fixes = ["add the missing classes to classes.txt, one line for each id"]
        without_ignore = [value for value in used if value != IGNORE]
        if used == list(range(number + 1)) or without_ignore == list(range(number + 1)):
            fixes.append("if 0 means ignore: --reduce-zero-label")
        for values, meaning in ((without_ignore, ", if each value is a class"),
                                (used, ", if 255 is a class, too")):
            if len(values) == number:
                fixes.append(self._ids_option(values) + meaning)
        return DataError(f"the masks hold {len(unknown)} values that are not class ids", where=self.source.absolute(),
                         received=f"values {shown} in {count} masks; the {number} classes have the ids 0 to "
                                  f"{number - 1}, and 255 is ignored", fix="\n".join(dict.fromkeys(fixes)))

    def _without_classes(self, masks: list[Path]) -> MXNetSegError:
        draft, path = draft_classes(masks), self.source.absolute() / "classes.txt"
        if draft is None:
            return DataError("no mask can be read", where=masks[0], fix="restore the masks")
        if len(draft.lines) < 2:
            return DataNotFoundError(f"the classes have no names: {draft.found}", where=path, received=draft.values,
                                     fix="write them into this file, one a line, id 0 first; or give another file: "
                                         "--classes FILE")
        return DataNotFoundError(f"the classes have no names: {draft.found}; a draft follows", where=path,
                                 received=draft.values,
                                 fix="\n".join(["save these lines as this file, with the names of the classes in place "
                                                "of class0, class1, ...; or give another file: --classes FILE",
                                                *draft.lines]))

    def _name(self, class_id: int) -> str:
        return "ignored" if class_id == IGNORE else self.classes[class_id]

    def _ids_option(self, values: Sequence[int], table: Mapping[int, int] | None = None) -> str:
        return "--ids " + ",".join(f"{value}:{table[value] if table else i}" for i, value in enumerate(values))
