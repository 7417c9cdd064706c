"""Convert Roboflow's export "Semantic Segmentation Masks" to folder data."""
from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ...errors import DataError
from ..base import IGNORE, list_files, read_list, read_mask
from ..splits import split_of
from .idmap import IdMap, make_id_map
from .pairs import MaskedImage, MaskPairs, class_name, pairs_beside

_CLASSES, _SUFFIX = "_classes.csv", "_mask"


class RoboflowMasks(MaskPairs):
    """Convert the pixel values of ``_classes.csv`` to class ids, ordered by value.

    ``--ids`` and ``--reduce-zero-label`` change the values first. Values that become one id make one class, whose name
    joins their names by '+'.
    """

    needs = "NAME_mask.png beside NAME.jpg and _classes.csv, in folders train, valid, test: Roboflow's export " \
            "'Semantic Segmentation Masks'"
    options = ("ids", "reduce_zero_label")

    def __init__(self, source: Path, target: Path, *, ids: Mapping[int, int] | str | None = None,
                 reduce_zero_label: bool = False):
        super().__init__(source, target)
        self._given = make_id_map(ids, reduce_zero_label)

    @classmethod
    def recognises(cls, src: Path) -> str | None:
        masks = sum(bool(pair.mask) for table in pixel_tables(src) for pair in _pairs(table)[0])
        return f"{masks} masks NAME{_SUFFIX}.png beside a {_CLASSES} with pixel values" if masks else None

    def find_pairs(self) -> list[MaskedImage]:
        tables = pixel_tables(self.source)
        if not tables:
            raise self.source_error(f"a {_CLASSES} with the columns Pixel Value and Class")

        names: dict[int, str] = {}
        pairs: list[MaskedImage] = []
        for table in tables:
            for value, name in _read_table(table).items():
                if names.setdefault(value, name) != name:
                    raise DataError("two tables give a pixel value different classes", where=table,
                                    received=f"{value}: {names[value]!r} and {name!r}",
                                    fix="export again, so that all splits have the same classes")
            found, orphans = _pairs(table)
            self.leave_out("masks without an image", map(str, orphans))
            below = table.parent.relative_to(self.source).as_posix()
            pairs += [pair._replace(name=f"{below}/{pair.name}".removeprefix("./"), split=split_of(below))
                      for pair in found]
        self._choose_ids(names)
        return pairs

    def read_ids(self, path: Path) -> np.ndarray:
        return self._map.apply(read_mask(path), path)

    def _choose_ids(self, names: dict[int, str]) -> None:
        """Set the classes, and the table from pixel values to their ids."""
        if self._given:
            table = {value: self._given.table[value] for value in names if value in self._given.table}
            missing = sorted(names.keys() - table.keys())
            if missing:
                raise DataError(f"{self._given.option} lists no id for a value of {_CLASSES}",
                                where=self.source.absolute(), received=f"{missing[0]}: {names[missing[0]]}",
                                fix=f"add {missing[0]}:{IGNORE} to {self._given.option} to ignore this class")
        elif IGNORE in names:
            raise DataError("a class has the pixel value 255, which also means ignore", where=self.source.absolute(),
                            received=f"255: {names[IGNORE]}",
                            fix=f"choose with --ids, which lists all values: 255:{len(names) - 1} for the class "
                                f"{names[IGNORE]}, or 255:255 to ignore it")
        else:
            table = {value: i for i, value in enumerate(sorted(names))}

        by_id: dict[int, list[str]] = {}
        for value in sorted(table):
            if table[value] != IGNORE:
                by_id.setdefault(table[value], []).append(names[value])
        if sorted(by_id) != list(range(len(by_id))):
            raise DataError("the ids that --ids gives have gaps", where=self.source.absolute(),
                            received=", ".join(map(str, sorted(by_id))), fix="use all ids from 0 on")
        self.classes = tuple("+".join(dict.fromkeys(by_id[i])) for i in range(len(by_id)))
        if len(set(self.classes)) < len(self.classes):
            raise DataError("two pixel values have the same class", where=self.source.absolute(),
                            received=", ".join(f"{value}: {name}" for value, name in sorted(names.items())),
                            fix="give them one id with --ids, or rename a class")
        self._map = IdMap(table, _CLASSES if self._given is None else self._given.option)
        self.reading = sorted(table.items())

    def find_classes_file(self) -> None:
        """Return None: the tables name the classes."""


def pixel_tables(source: Path) -> list[Path]:
    """Return the tables of pixel values at or below the source; Roboflow's tables of other tasks have other columns."""
    found = []
    for path in list_files(source, (".csv",)):
        if path.name == _CLASSES:
            header = [column.strip().lower() for column in read_list(path)[0].split(",")]
            found += [path] if header == ["pixel value", "class"] else []
    return found


def _pairs(table: Path) -> tuple[list[MaskedImage], list[Path]]:
    """Return the pairs in the folder of a table, and its masks without an image."""
    pairs, orphans = pairs_beside(table.parent, (_SUFFIX,))
    return [pair for pair in pairs if "/" not in pair.name], [path for path in orphans if path.parent == table.parent]


def _read_table(path: Path) -> dict[int, str]:
    """Return pixel value -> name of the class."""
    found: dict[int, str] = {}
    for number, row in enumerate(csv.reader(read_list(path)[1:], skipinitialspace=True), 2):
        where = f"{path}, line {number}"
        if len(row) != 2 or not row[0].strip().isdecimal() or int(row[0]) > 255 or int(row[0]) in found:
            raise DataError("a line is not a pixel value from 0 to 255, used once, and a class", where=where,
                            received=",".join(row)[:200], fix="write it like '1, cat', or export again")
        found[int(row[0])] = class_name(row[1], where)
    return found
