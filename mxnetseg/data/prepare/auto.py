"""Recognise the format of a source, and choose the preparation that converts it."""
from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import NamedTuple

from ...errors import DataError, DataNotFoundError, MXNetSegError, UsageError
from ...files import PathLike, expand
from ..base import IMAGE_SUFFIXES, list_files
from .base import Job, Preparation
from .registry import PREPARATIONS

_SUFFIXES = (*IMAGE_SUFFIXES, ".json", ".xml", ".txt", ".csv", ".yaml", ".yml", ".npy", ".zip")
_SHOWN = 8


class Recognised(NamedTuple):
    """Preparation that converts a source, and the evidence for it, in one line."""

    name: str
    evidence: str


class Auto(Preparation):
    """Recognise the format and do the same as the preparation of its name."""

    needs = "an unpacked export of a labelling tool, in one of the formats below"
    makes = "the same as the preparation that is recognised; its name and the evidence are printed"

    @classmethod
    def chosen_for(cls, src: Path) -> str:
        return recognise(src).name

    def jobs(self) -> list[Job]:
        raise NotImplementedError("prepare() runs the preparation that chosen_for() returns")


def recognise(source: PathLike) -> Recognised:
    """Return the only preparation that recognises a source.

    Raises:
        DataNotFoundError: there is no such source, or no preparation recognises it.
        UsageError: several preparations do.
    """
    source = expand(source)
    if not source.exists():
        raise DataNotFoundError("there is no such source", where=source.absolute(),
                                fix="give an unpacked export of a labelling tool as SRC")
    found, problems, formats = [], [], []
    for name in PREPARATIONS.names():
        preparation = PREPARATIONS.get(name)
        if not _recognises_itself(preparation):
            continue
        formats.append(f"{name}: {preparation.needs}")
        try:
            evidence = preparation.recognises(source)
        except MXNetSegError as error:  # of a format that this source may not have
            problems.append((name, error))
            continue
        if evidence:
            found.append(Recognised(name, evidence))

    if len(found) == 1:
        return found[0]
    if found:
        raise UsageError(
            f"the source fits {len(found)} formats", where=source.absolute(),
            received="\n".join(f"{name}: {evidence}" for name, evidence in found),
            fix="choose one:\n" + "\n".join(f"mxnetseg prepare {name} {source} DST" for name, _ in found))
    hint = ""
    if all((source / part).is_dir() for part in ("images", "masks")):
        hint = "\nimages/ and masks/ are there: if the masks hold class ids, the folder needs no conversion: " \
               f"mxnetseg check-data {source}\n" \
               f"to change the ids: mxnetseg prepare colours {source} DST --ids VALUE:ID,..."
    raise DataNotFoundError(
        "no preparation recognises the source", where=source.absolute(),
        received="\n".join([_contents(source), *(f"{name}: {error.what}: {error.where}" for name, error in problems)]),
        fix="unpack archives, and give the folder of the export as SRC. These formats were looked for:\n" +
            "\n".join(formats) + hint)


def _recognises_itself(preparation: type) -> bool:
    """Return whether a preparation overrides ``recognises``."""
    return any("recognises" in vars(base) for base in preparation.__mro__ if base is not Preparation)


def _contents(source: Path) -> str:
    """Return the numbers of files of each suffix."""
    if source.is_file():
        return f"the file {source.name}"
    try:
        counts = Counter(path.suffix.lower() for path in list_files(source, _SUFFIXES))
    except DataError as error:
        return error.what
    return ", ".join(f"{count} {suffix}" for suffix, count in counts.most_common(_SHOWN)) or "no files of these formats"
