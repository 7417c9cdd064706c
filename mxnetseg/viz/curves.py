"""Curves of a training run in one image: losses, scores, IoU of each class and learning rate over the epochs."""
from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ..files import PathLike, atomic_write
from .text import plot_label


class Line(NamedTuple):
    """One curve: key of its values in a row, name, colour, factor for its values, font of its name."""

    key: str
    label: str
    colour: str
    scale: float = 1.0
    font: Path | None = None


class Panel(NamedTuple):
    """One diagram: the title of its vertical axis, its curves, its height relative to the others."""

    title: str
    lines: tuple[Line, ...]
    height: float


BLUE, ORANGE, GREEN, GREY = "#0072b2", "#d55e00", "#009e73", "#555555"  # distinct in red-green deficient vision too
SCORE = "val_miou"  # the curve whose best value is marked
CLASS_SCORE = "val_iou/"  # keys of a class's IoU begin with it
NAMED = 20  # classes; of more, the lowest are named
PANELS = (
    Panel("loss", (Line("train_loss", "training", BLUE), Line("val_loss", "validation", ORANGE)), 3),
    Panel("validation score in %", (Line("val_pa", "pixel accuracy", GREEN, 100),
                                    Line("val_mpa", "class accuracy", ORANGE, 100),
                                    Line(SCORE, "mIoU", BLUE, 100)), 3),
    Panel("learning rate", (Line("lr", "learning rate", GREY),), 1.3),
)


def curves(rows: Sequence[Mapping[str, Any]], path: PathLike, *, title: str | None = None) -> None:
    """Write the curves of a training as a PNG; needs no display.

    Args:
        rows: one mapping for each epoch, or several: later values replace earlier ones, as in a resumed run.
            ``epoch`` is the place on the horizontal axis (default: the number of the row, from 0).
            ``train_loss``, ``val_loss``, ``val_pa``, ``val_mpa``, ``val_miou``, ``val_iou/CLASS`` (0 to 1) and ``lr``
            are drawn, other keys are ignored. Numbers may be text, as in a CSV file. Values that are missing, empty,
            NaN or infinite are left out of their curve, and a diagram without any value is left out of the image.
        path: the PNG file to write.
        title: a line above the diagrams, such as the name of the run.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.font_manager import FontProperties
    from matplotlib.ticker import MaxNLocator

    table = _by_epoch(rows)
    panels = [panel for panel in (*PANELS[:2], _class_panel(table), *PANELS[2:])
              if any(_points(table, line)[0] for line in panel.lines)]
    heights = [panel.height for panel in panels] or [1]
    figure = Figure(figsize=(8, 0.9 + sum(heights)), dpi=120, layout="constrained", facecolor="white")
    if title:
        figure.suptitle(title, fontsize=12)
    axes = figure.subplots(len(heights), 1, sharex=True, squeeze=False,
                           gridspec_kw={"height_ratios": heights})[:, 0]

    for axis, panel in zip(axes, panels):
        for line in panel.lines:
            _draw(axis, line, *_points(table, line))
        highest = max(axis.dataLim.ymax, 0)
        axis.set_ylim(0, 1.08 * highest or 1)
        axis.set_ylabel(panel.title)
        axis.grid(color="#e5e5e5")
        axis.set_axisbelow(True)
        axis.spines[["top", "right"]].set_visible(False)
        if len(axis.lines) > 1 or panel.lines[0].label != panel.title:
            # many classes stand beside their diagram, where they hide nothing
            is_long = len(axis.get_legend_handles_labels()[1]) > 5
            legend = axis.legend(frameon=False, **({"loc": "center left", "bbox_to_anchor": (1, 0.5), "fontsize": 8}
                                                   if is_long else {}))
            fonts = {line.label: line.font for line in panel.lines if line.font}
            for text in legend.get_texts():
                if text.get_text() in fonts:
                    text.set_fontproperties(FontProperties(fname=fonts[text.get_text()], size=text.get_size()))

    if panels:
        axes[-1].set_xlim(min(table) - 0.5, max(table) + 0.5)
        axes[-1].set_xlabel("epoch")
        axes[-1].xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1, steps=[1, 2, 5, 10]))
        figure.align_ylabels(axes)
    else:
        axes[0].set_axis_off()
        axes[0].text(0.5, 0.5, "nothing recorded yet", ha="center", va="center")
    with atomic_write(path) as stream:
        FigureCanvasAgg(figure).print_png(stream)


def _class_panel(table: Mapping[float, Mapping[str, float]]) -> Panel:
    """Return the diagram of the IoU of each class, the highest last value first; of many, only the lowest are named."""
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    last = {key: row[key] for _, row in sorted(table.items()) for key in row if key.startswith(CLASS_SCORE)}
    ordered = sorted(last, key=lambda key: -last[key])
    named, colours = ordered[-NAMED:], colormaps["tab20"].colors

    def line(number: int, key: str) -> Line:
        if key not in named:
            return Line(key, "_", "#cccccc", 100)
        name, font = plot_label(key[len(CLASS_SCORE):], number)
        label = f" {name}" if name.startswith("_") else name  # matplotlib hides a label that begins with _
        return Line(key, label.replace("$", r"\$"), to_hex(colours[number % len(colours)]), 100, font)

    lines = {key: line(number, key) for number, key in enumerate(last)}
    title = "IoU of each class in %" + (f"\n(the {NAMED} lowest are named)" if len(ordered) > NAMED else "")
    return Panel(title, tuple(lines[key] for key in ordered), 4)


def _draw(axis, line: Line, epochs: list[float], values: list[float]) -> None:
    if not epochs:
        return
    sparse = len(epochs) <= 40
    axis.plot(epochs, values, color=line.colour, label=line.label, linewidth=1.8,
              marker="o" if sparse else None, markersize=3.5)
    if line.key == SCORE:
        best = max(range(len(values)), key=values.__getitem__)
        axis.plot(epochs[best], values[best], "o", color=line.colour, markersize=8, markerfacecolor="white",
                  markeredgewidth=2, label=f"best mIoU: {values[best]:.2f} % in epoch {epochs[best]:g}")


def _points(table: Mapping[float, Mapping[str, float]], line: Line) -> tuple[list[float], list[float]]:
    """Return the epochs in which this curve has a value, and the values."""
    epochs = [epoch for epoch in sorted(table) if line.key in table[epoch]]
    return epochs, [line.scale * table[epoch][line.key] for epoch in epochs]


def _by_epoch(rows: Sequence[Mapping[str, Any]]) -> dict[float, dict[str, float]]:
    """Return a table epoch -> key -> value with finite numbers only."""
    table: dict[float, dict[str, float]] = {}
    for number, row in enumerate(rows):
        values = {key: _number(value) for key, value in row.items()}
        values = {key: value for key, value in values.items() if math.isfinite(value)}
        table.setdefault(values.get("epoch", number), {}).update(values)
    return table


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan
