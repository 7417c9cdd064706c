"""Scores of an evaluation, as ``mxnetseg eval`` and ``mxnetseg merge`` print and write them."""
from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..engine.watch import warn_of_one_class
from ..files import atomic_write
from ..report.recorder import TABLE, Recorder
from ..viz.confusion import confusion
from .common import chance_level

if TYPE_CHECKING:
    from ..metrics import ConfusionMatrix


def publish(out: Path, matrix: ConfusionMatrix, control: ConfusionMatrix, classes: tuple[str, ...],
            about: Mapping[str, Any], recorder: Recorder | None, description: Mapping[str, Any]) -> None:
    """Print the scores and write all files of an evaluation.

    Args:
        out: folder of the evaluation.
        matrix, control: see :func:`~mxnetseg.engine.evaluator.evaluate`.
        classes: names of the classes.
        about: what ``scores.json`` says besides the scores: checkpoint, backend, data, split, protocol, precision,
            images and ``absent_as``.
        recorder: the details of the images; None without details.
        description: what the details say of the network.
    """
    scores = matrix.result(classes, absent_as=about["absent_as"])
    print(scores.table(), flush=True)
    warn_of_one_class(scores)
    report = {**{key: about[key] for key in ("checkpoint", "backend", "data", "split", "protocol", "precision")},
              "unit": "fractions of 1", "images": about["images"],
              "control_miou": control.result(classes).to_dict()["miou"], **scores.to_dict()}
    with atomic_write(out / "scores.json", "w") as file:
        json.dump(report, file, indent=1, allow_nan=False)
    confusion(matrix.counts, classes, out / "confusion.png")
    if recorder is not None:
        recorder.finish({**description, **{key: report[key] for key in (
            "checkpoint", "backend", "data", "split", "protocol", "precision", "absent_as", "control_miou")}})
    print(f"{chance_level(control)}\n"
          f"scores      {out / 'scores.json'} (fractions of 1)\nconfusion   {out / 'confusion.png'}")
    if recorder is not None:
        print(f"images      {out / TABLE} (the worst first)\n"
              f"to judge and compare: mxnetseg report {shlex.quote(str(out))} [OTHER ...]")
