"""File of a part of an evaluation, ``shards/2-of-4.npz``: its counts, to be joined with those of the other parts."""
from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DataError, MXNetSegError, UsageError, reason
from ..files import atomic_write
from ..metrics import ConfusionMatrix
from .arrays import read_arrays, require

FORMAT = 1
FOLDER = "shards"
_ABOUT, _MATRIX, _CONTROL = "about", "confusion", "control"


@dataclass(frozen=True, eq=False)
class Partial:
    """A part of an evaluation.

    Attributes:
        key: what all parts must have in common, name -> value.
        description: more about the evaluation, fit for JSON.
        shard: number of the part, from 0, and number of the parts.
        names: of its images.
        matrix, control: see :func:`mxnetseg.engine.evaluator.evaluate`.
        counts: see :meth:`mxnetseg.report.recorder.Recorder.counts`; empty without details.
        path: the file, once it was read.
    """

    key: Mapping[str, Any]
    description: Mapping[str, Any]
    shard: tuple[int, int]
    names: list[str]
    matrix: ConfusionMatrix
    control: ConfusionMatrix
    counts: Mapping[str, np.ndarray]
    path: Path = Path()


def partial_path(folder: Path, shard: tuple[int, int]) -> Path:
    """Return the file of a part, counted from 0, in the folder of an evaluation."""
    return folder / FOLDER / f"{shard[0] + 1}-of-{shard[1]}.npz"


def write_partial(partial: Partial, folder: Path) -> Path:
    """Write a part below the folder of the evaluation; return the file."""
    about = {"format": FORMAT, "key": partial.key, "description": partial.description, "shard": partial.shard,
             "names": partial.names}
    path = partial_path(folder, partial.shard)
    text = np.frombuffer(json.dumps(about, allow_nan=False).encode("ascii"), np.uint8)
    with atomic_write(path) as stream:
        np.savez_compressed(stream, **{_ABOUT: text, _MATRIX: partial.matrix.counts, _CONTROL: partial.control.counts,
                                       **partial.counts})
    return path


def read_partial(path: Path) -> Partial:
    """Read and check a part.

    Raises:
        UsageError: it was written by a newer version.
        DataError: it is damaged, or not a part of an evaluation.
    """
    try:
        arrays = read_arrays(path, "the part of the evaluation")
        about = json.loads(arrays.pop(_ABOUT).tobytes())
        if isinstance(about["format"], int) and about["format"] > FORMAT:
            raise UsageError("the part was written by a newer mxnetseg", where=path,
                             received=f"format {about['format']}", fix="update mxnetseg")
        matrix, control = arrays.pop(_MATRIX), arrays.pop(_CONTROL)
        _check(about, matrix, control, arrays)
        return Partial(about["key"], about["description"], (about["shard"][0], about["shard"][1]), about["names"],
                       ConfusionMatrix.from_counts(matrix), ConfusionMatrix.from_counts(control), arrays, path)
    except (DataError, UsageError):
        raise
    except Exception as error:  # zipfile, zlib, json and NumPy raise many kinds on damaged files
        received = error.what if isinstance(error, MXNetSegError) else reason(error)
        raise DataError("the part of the evaluation is damaged", where=path, received=received,
                        fix="remove it, and evaluate this part again with the same --shard") from None


def _check(about: Any, matrix: np.ndarray, control: np.ndarray, counts: Mapping[str, np.ndarray]) -> None:
    key, names, (index, count) = about["key"], about["names"], about["shard"]
    require(isinstance(key, dict) and isinstance(about["description"], dict), "a key and a description")
    require(isinstance(names, list) and all(isinstance(name, str) for name in names), "names of images")
    require(isinstance(index, int) and isinstance(count, int) and 0 <= index < count, "a shard")
    n = len(key["classes"])
    require(n >= 2 and isinstance(key["images"], int) and len(key["palette"]) == n, "classes and images")
    for counted in (matrix, control):
        require(counted.shape == (n, n) and counted.dtype.kind == "i" and bool((counted >= 0).all()), "a matrix")
    require(len(names) == len(range(index, key["images"], count)), "a name for each image of the part")
    if not counts:
        return
    require(counts["numbers"].tolist() == list(range(index, key["images"], count)), "the numbers of the images")
    calibrated = len(counts["calibrated"])
    bins = counts["bin_pixels"].shape[1]
    shapes = {"regions": (len(names), 3, n), "boundaries": (len(names), 3, n), "bin_pixels": (calibrated, bins),
              "bin_correct": (calibrated, bins), "bin_confidence": (calibrated, bins),
              "trimap": (len(counts["trimap"]), 3, n), "sizes": (len(counts["sizes"]), 3, n),
              "objects": (len(counts["sizes"]), n)}
    for name, shape in shapes.items():
        require(counts[name].shape == shape and bool((counts[name] >= 0).all()), f"{name}: shape {shape}")
        require(counts[name].dtype.kind == ("f" if name == "bin_confidence" else "i"), f"{name}: numbers")
    require(set(counts["calibrated"].tolist()) <= set(counts["numbers"].tolist()), "calibrated images of the part")
    total = counts["regions"].sum(axis=0)
    require(np.array_equal(total, [matrix.diagonal(), matrix.sum(1), matrix.sum(0)]),
             "regions: the sums of the confusion matrix")
