"""Drawing of a confusion matrix: which class is predicted as which."""
from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..errors import UsageError
from ..files import PathLike, atomic_write
from .text import plot_label

LABELLED_CELLS = 25  # with more classes than this, numbers in the cells become unreadable


def confusion(counts: np.ndarray, classes: Sequence[str], path: PathLike, *,
              title: str | None = None) -> None:
    """Write a row-normalised confusion matrix as a PNG; needs no display.

    Each row is a true class, each cell the percentage of its pixels that were predicted as the
    column's class, so the diagonal is the class accuracy. Rows of classes without a labelled pixel
    are grey.

    Args:
        counts: (n, n) pixels; ``counts[t, p]`` of true class ``t`` predicted as ``p``.
        classes: n names.
        path: the PNG file to write.
        title: a line above the table.

    Raises:
        UsageError: ``counts`` is not a square table with one name for each class.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.colors import PowerNorm
    from matplotlib.figure import Figure

    counts, n = np.asarray(counts), len(classes)
    if n == 0 or counts.shape != (n, n):
        raise UsageError("a confusion matrix must be a square table with one name for each class",
                         received=f"table of shape {counts.shape}, {n} names")

    totals = counts.sum(axis=1, keepdims=True)
    absent = np.broadcast_to(totals == 0, counts.shape)
    percent = np.ma.array(100 * counts / np.maximum(totals, 1), mask=absent)

    labelled = n <= LABELLED_CELLS
    cell, type_size = (0.45, 9) if labelled else (0.16, 7)
    side = cell * n  # in inches, of the table alone: saving adds space for the text around it
    figure = Figure(figsize=(side, side), dpi=120, facecolor="white")
    axis = figure.add_axes((0, 0, 1, 1))
    axis.set_facecolor("#dddddd")
    shade = PowerNorm(0.6, vmin=0, vmax=100)  # not linear, so that a confusion of a few percent is visible
    image = axis.imshow(percent, cmap="Blues", norm=shade)
    if title:
        axis.set_title(title, fontsize=12)
    names, fonts = zip(*(plot_label(name, i) for i, name in enumerate(classes)))
    axis.set_xticks(range(n), names, rotation=45 if labelled else 90, rotation_mode="anchor", ha="right",
                    va="top" if labelled else "center")
    axis.set_yticks(range(n), names)
    for ticks in (axis.get_xticklabels(), axis.get_yticklabels()):
        for tick, font in zip(ticks, fonts):
            tick.set_font(font)
            tick.set_fontsize(type_size)
    axis.set_xlabel("predicted, in % of the true class" if labelled else "predicted")
    axis.set_ylabel("true")
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)

    if labelled:
        for row, column in zip(*np.nonzero(percent.filled(0) >= 0.5)):
            value = percent[row, column]
            axis.text(column, row, f"{value:.0f}", ha="center", va="center", fontsize=8,
                      color="white" if shade(value) > 0.55 else "#222222")
    else:
        figure.colorbar(image, cax=figure.add_axes((1.03, 0.2, 0.02, 0.6)), label="% of the true class")
    with atomic_write(path) as stream:
        FigureCanvasAgg(figure).print_figure(stream, format="png", bbox_inches="tight", pad_inches=0.15)
