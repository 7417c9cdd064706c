"""Reader of the details of an evaluation, which may be damaged or come from another program's folder."""
from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..config.schema import flat
from ..errors import DataError, MXNetSegError, UsageError, reason, short
from ..files import open_regular, sha256
from ..metrics.confusion import ABSENT_AS
from .arrays import read_arrays, require
from .recorder import COUNTS, DETAILS, FORMAT, IMAGES, RECORD

_MOST_JSON = 64 << 20  # bytes
_MOST_NUMBER = 1 << 53
_AGAIN = "evaluate again: mxnetseg eval --checkpoint PATH"
_TEXTS = ("checkpoint", "backend", "network", "backbone", "data", "split", "protocol", "precision", "absent_as",
          "written")


@dataclass(frozen=True, eq=False)
class Record:
    """One evaluation.

    Attributes:
        folder: with ``details``.
        about: content of ``record.json``.
        regions, boundaries: int64 (images, 3, n), see :mod:`mxnetseg.metrics.counts`.
        confusion: int64 (n, n).
        trimap: int64 (widths, 3, n).
        sizes, objects: int64 (sizes, 3, n) and (sizes, n).
        bin_pixels, bin_correct, bin_confidence: (bins,), see :class:`~mxnetseg.metrics.calibration.Calibration`.
    """

    folder: Path
    about: dict[str, Any]
    regions: np.ndarray
    boundaries: np.ndarray
    confusion: np.ndarray
    trimap: np.ndarray
    sizes: np.ndarray
    objects: np.ndarray
    bin_pixels: np.ndarray
    bin_correct: np.ndarray
    bin_confidence: np.ndarray

    @property
    def classes(self) -> list[str]:
        """Names of the classes."""
        return self.about["classes"]

    @property
    def names(self) -> list[str]:
        """Names of the images."""
        return self.about["names"]

    def image_file(self, i: int, part: str = "") -> Path:
        """Return the small copy of image ``i``; ``part`` is ``'truth'`` or ``'prediction'``."""
        return self.folder / DETAILS / IMAGES / (f"{i:05d}_{part}.png" if part else f"{i:05d}.jpg")


def find_folder(given: Path, out: Path) -> Path:
    """Return the folder of the evaluation that a user names.

    Args:
        given: that folder, the folder above it, its ``scores.json``, or the file of a network.
        out: the folder in which ``eval`` writes, to find the evaluation of a checkpoint.

    Raises:
        UsageError: there is no such evaluation, there are several, or the network changed after it.
    """
    folder = given.parent if given.is_file() or given.name == DETAILS else given
    if (folder / DETAILS).is_dir():
        return folder
    if given.suffix == ".params" or (given.is_file() and given.name != "scores.json"):
        return _of_checkpoint(given, out)
    if not folder.exists():
        raise UsageError("the evaluation is not there", where=given.absolute(),
                         fix="give the folder that `mxnetseg eval` printed, or a checkpoint (.params)")
    below = sorted(path.parent for path in folder.glob(f"*/{DETAILS}"))
    if len(below) == 1:
        return below[0]
    if below:
        raise UsageError("the folder holds several evaluations", where=given.absolute(),
                         received=", ".join(path.name for path in below), fix=f"name one of them: {below[0]}")
    if (folder / "scores.json").is_file():
        raise UsageError("the evaluation has scores only, without the details that a report shows",
                         where=folder.absolute(), fix="evaluate again, without --scores-only")
    raise UsageError("the folder holds no evaluation", where=given.absolute(),
                     fix="give the folder that `mxnetseg eval` printed, or a checkpoint (.params)")


def _of_checkpoint(checkpoint: Path, out: Path) -> Path:
    folder = out / checkpoint.stem / "val"
    command = f"mxnetseg eval --checkpoint {checkpoint} --out {out}"
    if not checkpoint.is_file():
        raise UsageError("the checkpoint is not there", where=checkpoint.absolute(), fix="check the path")
    if not (folder / DETAILS / RECORD).is_file():
        raise UsageError("the checkpoint was not evaluated yet", where=checkpoint.absolute(),
                         received=f"no evaluation in {folder}", fix=f"first: {command}")
    if read_record(folder).about.get("sha256") != sha256(checkpoint):
        raise UsageError("the checkpoint changed after it was evaluated", where=checkpoint.absolute(),
                         received=f"{folder} holds the evaluation of another content", fix=f"again: {command}")
    return folder


def read_record(folder: Path) -> Record:
    """Read and check the details of an evaluation.

    Raises:
        UsageError: the evaluation did not end, or was written by a newer version.
        DataError: a file is damaged.
    """
    path = folder / DETAILS / RECORD
    if not path.exists():
        raise UsageError("the details of the evaluation are incomplete", where=folder.absolute(),
                         received="the last evaluation was interrupted, or ran with --scores-only", fix=_AGAIN)
    with open_regular(path, "the record of the evaluation", DataError) as stream:
        text = stream.read(_MOST_JSON + 1)
    try:
        if len(text) > _MOST_JSON:
            raise ValueError(f"more than {_MOST_JSON:,} bytes")
        about = json.loads(text)
        _check_about(about, path)
    except MXNetSegError:
        raise
    except (ValueError, RecursionError, LookupError, TypeError, OverflowError) as error:
        raise DataError("the record of the evaluation is damaged", where=path, received=reason(error),
                        fix=_AGAIN) from None
    return Record(folder, about, **_read_counts(folder / DETAILS / COUNTS, about))


def _check_about(about: Any, path: Path) -> None:
    """Raise a ValueError or another error of access unless the record has all that the page shows."""
    if not isinstance(about, dict):
        raise ValueError("expected an object")
    if isinstance(about["format"], int) and about["format"] > FORMAT:
        raise UsageError("the evaluation was written by a newer mxnetseg", where=path,
                         received=f"format {about['format']}", fix="update mxnetseg")
    classes, names, palette = about["classes"], about["names"], np.asarray(about["palette"])
    require(isinstance(classes, list) and 2 <= len(classes) <= 255 and all(isinstance(c, str) for c in classes),
             "classes: 2 to 255 names")
    require(isinstance(names, list) and len(names) > 0 and all(isinstance(n, str) for n in names), "names of images")
    require(palette.shape == (len(classes), 3) and palette.dtype.kind == "i" and palette.min() >= 0
             and palette.max() <= 255, "palette: a colour for each class")
    for key in _TEXTS:
        require(isinstance(about[key], str), f"{key}: a text")
    for key in ("config", "epochs"):
        require(isinstance(about[key], dict if key == "config" else list), f"{key}: an object or a list")
    require(all(isinstance(row, dict) for row in about["epochs"]), "epochs: objects")
    flat(about["config"])  # too many levels raise a RecursionError
    for key in ("trimap_widths", "size_limits"):
        require(isinstance(about[key], list) and all(map(_is_number, about[key])) and about[key] != [],
                 f"{key}: numbers above 0")
    for key in ("parameters", "bytes", "control_miou", "calibrated_images"):
        require(about[key] is None or _is_number(about[key]) or about[key] == 0, f"{key}: a number")
    require(isinstance(about["devices"], list) and all(isinstance(d, str) for d in about["devices"]), "devices: texts")
    require(about["absent_as"] in ABSENT_AS, f"absent_as: one of {', '.join(ABSENT_AS)}")
    speed = about["speed"]
    require(speed is None or all(_is_number(speed[key]) for key in ("milliseconds", "width", "height")),
             "speed: numbers above 0")


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value <= _MOST_NUMBER


def _read_counts(path: Path, about: dict[str, Any]) -> dict[str, np.ndarray]:
    images, n = len(about["names"]), len(about["classes"])
    widths, sizes = len(about["trimap_widths"]), len(about["size_limits"]) + 1
    shapes = {"regions": (images, 3, n), "boundaries": (images, 3, n), "confusion": (n, n), "trimap": (widths, 3, n),
              "sizes": (sizes, 3, n), "objects": (sizes, n), "bin_pixels": None, "bin_correct": None,
              "bin_confidence": None}
    try:
        counts = read_arrays(path, "the counts of the evaluation", shapes)
        for name, array in counts.items():
            shape = shapes[name] or counts["bin_pixels"].shape
            require(array.shape == shape and array.ndim > 0, f"{name}: shape {shape}, not {array.shape}")
            require(array.dtype.kind == ("f" if name == "bin_confidence" else "i"), f"{name}: not {array.dtype}")
            require(bool((array >= 0).all()), f"{name}: no negative number")
        total = counts["regions"].sum(axis=0)
        confusion = counts["confusion"]
        require(np.array_equal(total, [confusion.diagonal(), confusion.sum(1), confusion.sum(0)]),
                 "regions: the sums of the confusion matrix")
    except MXNetSegError:
        raise
    except Exception as error:  # zipfile, zlib and NumPy raise many kinds on damaged files
        raise DataError("the counts of the evaluation are damaged", where=path, received=reason(error),
                        fix=_AGAIN) from None
    return counts


def check_comparable(records: list[Record]) -> None:
    """Check that evaluations can be shown side by side: the same classes, images and masks.

    Raises:
        UsageError: they differ; the message shows both.
    """
    first = records[0]
    for other in records[1:]:
        where = f"{first.folder}\n{other.folder}"
        for key, noun in (("classes", "other classes"), ("data", "other data sets"), ("split", "other splits")):
            if first.about[key] != other.about[key]:
                raise UsageError(f"evaluations of {noun} cannot be compared", where=where,
                                 received=f"{short(first.about[key])}\n{short(other.about[key])}",
                                 fix="evaluate both checkpoints on the same split, or make a report of each")
        if first.names != other.names:
            only = sorted(set(first.names) ^ set(other.names))
            raise UsageError("evaluations of other images cannot be compared", where=where,
                             received=f"{len(first.names)} and {len(other.names)} images; "
                                      + (f"only in one: {short(only)}" if only else "in another order"),
                             fix="evaluate both checkpoints on the same split, or make a report of each")
        if not np.array_equal(first.regions[:, 1], other.regions[:, 1]):
            i = int(np.flatnonzero((first.regions[:, 1] != other.regions[:, 1]).any(axis=1))[0])
            raise UsageError("the masks changed between the evaluations", where=where,
                             received=f"other labelled pixels in {short(first.names[i])}",
                             fix="evaluate both checkpoints again")
