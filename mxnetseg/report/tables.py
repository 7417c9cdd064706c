"""Numbers of the page: scores with intervals, confusions, sizes of objects, curves, differences of configuration."""
from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..config import Config
from ..config.schema import flat
from ..metrics.bootstrap import Resampled, interval, resample
from ..metrics.calibration import Calibration
from ..metrics.counts import HITS, LABELLED, iou, mean_iou, pixel_accuracy
from .figures import Line, line_chart
from .record import Record

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00")  # Okabe and Ito
_CONFUSIONS = 12  # of a run that are listed
CLASS_SCORE = "val_iou/"  # keys of a class's IoU in the log begin with it
_WIDEST_MATRIX = 32  # classes of a confusion matrix that is written in numbers


class Score(NamedTuple):
    """A fraction with its 95 % interval; NaN where there is nothing to score."""

    value: float
    low: float = math.nan
    high: float = math.nan

    @property
    def is_certain(self) -> bool:
        """True if the interval of a difference leaves 0 out."""
        return self.low > 0 or self.high < 0


class Run:
    """A record with the scores that several tables use.

    Args:
        record: of the evaluation.
        number: of the run on the page, from 0.
        name: of the run on the page.
        samples, seed: see :func:`mxnetseg.metrics.bootstrap.resample`.
    """

    def __init__(self, record: Record, number: int, name: str, samples: int, seed: int):
        self.record, self.about, self.name = record, record.about, name
        self.letter, self.colour = chr(ord("A") + number), COLOURS[number]
        absent_as = record.about["absent_as"]
        self.draws, self.boundary_draws = (
            resample(counts, samples=samples, seed=seed, absent_as=absent_as)
            for counts in (record.regions, record.boundaries))
        self.total, self.boundary_total = record.regions.sum(axis=0), record.boundaries.sum(axis=0)
        self.miou = _scored(mean_iou(self.total, absent_as), self.draws.miou)
        self.boundary_miou = _scored(mean_iou(self.boundary_total, absent_as), self.boundary_draws.miou)
        self.accuracy = float(pixel_accuracy(self.total))
        recall = _ratio(self.total[HITS], self.total[LABELLED])
        self.mean_accuracy = float(np.nanmean(recall)) if np.isfinite(recall).any() else math.nan
        self.image_scores = mean_iou(record.regions)
        self.calibration = Calibration(len(record.bin_pixels))
        self.calibration.pixels, self.calibration.correct = record.bin_pixels, record.bin_correct
        self.calibration.confidence = record.bin_confidence
        self.ece = self.calibration.ece()

    def class_scores(self) -> list[tuple[Score, Score]]:
        """Return IoU and Boundary IoU of each class."""
        return list(zip(_all_scored(iou(self.total), self.draws),
                        _all_scored(iou(self.boundary_total), self.boundary_draws)))


def run_names(records: Sequence[Record]) -> list[str]:
    """Return a name for each evaluation: the shortest kind of name that distinguishes them."""
    stems = [Path(record.about["checkpoint"]).stem for record in records]
    kinds = [[" on ".join(filter(None, (record.about["network"], record.about["backbone"]))) or stem
              for record, stem in zip(records, stems)],
             stems,
             [record.about["backend"] for record in records],
             [record.about["precision"] for record in records],
             [record.about["protocol"] for record in records],
             [str(record.folder) for record in records]]
    return next((names for names in kinds if len(set(names)) == len(records)), kinds[-1])


def _scored(value: Any, draws: np.ndarray) -> Score:
    return Score(float(value), *map(float, interval(draws)))


def _all_scored(values: np.ndarray, draws: Resampled) -> list[Score]:
    return [Score(float(v), float(a), float(b)) for v, a, b in zip(values, *interval(draws.iou))]


def differences(run: Run, first: Run) -> tuple[Score, list[Score]]:
    """Return how much better a run is than the first: in mean IoU and in the IoU of each class."""
    total = Score(run.miou.value - first.miou.value, *map(float, interval(run.draws.miou - first.draws.miou)))
    values = iou(run.total) - iou(first.total)
    return total, [Score(float(v), float(a), float(b))
                   for v, a, b in zip(values, *interval(run.draws.iou - first.draws.iou))]


def confusions(run: Run) -> dict[str, Any]:
    """Return the most frequent confusions, and the matrix in fractions of the true class, row by row.

    ``rows`` is None if there are too many classes to write the matrix in numbers; ``fractions`` is always there.
    """
    counts, classes = run.record.confusion, run.record.classes
    wrong = counts.copy()
    np.fill_diagonal(wrong, 0)
    order = np.argsort(wrong, axis=None, kind="stable")[::-1][:_CONFUSIONS]
    pairs = [(int(i) // len(classes), int(i) % len(classes)) for i in order if wrong.flat[i]]
    totals = counts.sum(axis=1)
    fractions = _ratio(counts, totals[:, None])
    return {
        "run": run,
        "pairs": [{"true": classes[t], "predicted": classes[p], "of_class": fractions[t, p],
                   "of_errors": wrong[t, p] / wrong.sum()} for t, p in pairs],
        "rows": list(zip(classes, fractions.tolist())) if len(classes) <= _WIDEST_MATRIX else None,
        "fractions": fractions,
    }


def sizes(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """Return a row for each size of objects: its name, the number of objects, and mean IoU and recall of each run."""
    limits = [f"{100 * limit:g} %" for limit in runs[0].about["size_limits"]]
    names = [f"below {limits[0]}", *(f"{a} to {b}" for a, b in zip(limits, limits[1:])), f"{limits[-1]} or more"]
    rows = []
    for k, name in enumerate(names):
        counts = [run.record.sizes[k] for run in runs]
        present = [c[LABELLED] > 0 for c in counts]  # of a class without an object of this size, there is no score
        rows.append({"name": name, "objects": int(runs[0].record.objects[k].sum()),
                     "iou": [float(mean_iou(c[:, here])) if here.any() else math.nan
                             for c, here in zip(counts, present)],
                     "recall": [float(_ratio(c[HITS].sum(), c[LABELLED].sum())) for c in counts],
                     "classes": [[float(v) if h else math.nan for v, h in zip(iou(c), here)]
                                 for c, here in zip(counts, present)]})
    return rows


# ---- charts ---------------------------------------------------------------------------------

def trimap_chart(runs: Sequence[Run]) -> str:
    """Draw the mean IoU near true boundaries over the width of the band."""
    widths = runs[0].about["trimap_widths"]
    lines = [Line(run.letter, run.colour,
                  [(w, 100 * float(mean_iou(c, run.about["absent_as"]))) for w, c in zip(widths, run.record.trimap)])
             for run in runs]
    return _chart(lines, title="mean IoU by distance from the true boundaries", x_label="distance in pixels",
                  y_label="mIoU in %", x_ticks=widths, log_x=True)


def reliability_chart(runs: Sequence[Run]) -> str:
    """Draw the accuracy of pixels over their confidence."""
    lines = []
    for run in runs:
        confidence, accuracy = run.calibration.reliability()
        points = [(100 * float(c), 100 * float(a)) for c, a in zip(confidence, accuracy) if math.isfinite(c)]
        lines.append(Line(run.letter, run.colour, points))
    return _chart(lines, title="accuracy of the pixels by their confidence", x_label="confidence in %",
                  y_label="correct in %", y_range=(0, 100), x_ticks=[0, 20, 40, 60, 80, 100], diagonal=True)


def confidence_chart(runs: Sequence[Run]) -> str:
    """Draw how many pixels have which confidence."""
    lines = []
    for run in runs:
        pixels, bins = run.calibration.pixels, len(run.calibration.pixels)
        lines.append(Line(run.letter, run.colour, [(100 * (k + 0.5) / bins, 100 * float(n) / max(int(pixels.sum()), 1))
                                                   for k, n in enumerate(pixels)]))
    return _chart(lines, title="share of the pixels by their confidence", x_label="confidence in %",
                  y_label="pixels in %", x_ticks=[0, 20, 40, 60, 80, 100])


def training_charts(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """Return charts of the training: loss and mIoU of all runs, and for each run a chart with a line for each class."""
    charts: list[dict[str, Any]] = []
    for key, name, scale in (("train_loss", "training loss", 1), ("val_miou", "validation mIoU in %", 100)):
        lines = [Line(run.letter, run.colour, _points(run.about["epochs"], key, scale)) for run in runs]
        charts.append({"name": name, "svg": _chart(lines, title=name, x_label="epoch", y_label=name), "run": None})
    for run in runs:
        palette = ["#" + bytes(colour).hex() for colour in run.about["palette"]]
        lines = [Line(name, colour, _points(run.about["epochs"], CLASS_SCORE + name, 100))
                 for name, colour in zip(run.record.classes, palette)]
        charts.append({"name": "IoU of each class in %", "run": run,
                       "svg": _chart(lines, title=f"IoU of each class over the training of {run.letter}",
                                     x_label="epoch", y_label="IoU in %")})
    return [chart for chart in charts if chart["svg"]]


def _points(rows: Sequence[Mapping[str, Any]], key: str, scale: float) -> list[tuple[float, float]]:
    return sorted((float(row["epoch"]), scale * float(row[key])) for row in rows
                  if _is_number(row.get("epoch")) and _is_number(row.get(key)))


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e15  # not for NaN


def _chart(lines: Sequence[Line], **options: Any) -> str:
    """Return a chart, or nothing if no line has a point."""
    lines = [line for line in lines if any(math.isfinite(y) for _, y in line.points)]
    return line_chart(lines, **options) if lines else ""


# ---- the rest -------------------------------------------------------------------------------

def configuration(runs: Sequence[Run]) -> list[tuple[str, list[str]]]:
    """Return the keys that differ between the runs, or of one run from the defaults, and their values as text.

    Of one run, the default is the last value.
    """
    defaults = flat(Config().to_dict())
    columns = [{**defaults, **flat(run.about["config"])} for run in runs]
    if len(runs) == 1:
        columns.append(defaults)
    keys = sorted({key for column in columns for key in column})
    return [(key, [_text(column.get(key)) for column in columns]) for key in keys
            if any(column.get(key) != columns[0].get(key) for column in columns)]


def _text(value: Any) -> str:
    text = "none" if value is None else str(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _ratio(numerator: Any, denominator: Any) -> np.ndarray:
    numerator, denominator = np.broadcast_arrays(np.asarray(numerator, float), np.asarray(denominator, float))
    return np.divide(numerator, denominator, out=np.full(numerator.shape, np.nan), where=denominator > 0)
