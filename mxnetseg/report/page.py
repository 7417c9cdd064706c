"""The report: one HTML file, without anything from a network, for one or several evaluations."""
from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from .. import __version__
from .._compat import import_optional
from ..errors import DataError, UsageError, printable, reason
from ..metrics.bootstrap import SAMPLES
from ..metrics.counts import HITS, LABELLED, pixel_accuracy
from ..viz.sheet import SIDE, draw_errors
from .figures import interval_bar
from .record import Record, check_comparable
from .tables import (
    COLOURS,
    Run,
    confidence_chart,
    configuration,
    confusions,
    differences,
    reliability_chart,
    run_names,
    sizes,
    training_charts,
    trimap_chart,
)

_AGAIN = "evaluate again: mxnetseg eval --checkpoint PATH"


def make_page(records: Sequence[Record], *, title: str | None = None, shown: int = 6, samples: int = SAMPLES,
              seed: int = 0) -> str:
    """Return the report on one or several evaluations of the same images.

    Args:
        records: one for each evaluation; the others are compared with the first.
        title: default: data set and split.
        shown: number of images in each group: the worst, the most ordinary, and those on which the evaluations
            differ most.
        samples: number of bootstrap samples.
        seed: of the bootstrap.

    Raises:
        UsageError: there are too many evaluations, or they cannot be compared.
        DataError: a small copy of an image is damaged.
        EnvironmentProblem: jinja2 is not installed.
    """
    if not 1 <= len(records) <= len(COLOURS):
        raise UsageError(f"a report shows 1 to {len(COLOURS)} evaluations", received=len(records),
                         fix="make several reports")
    check_comparable(list(records))
    runs = [Run(record, number, name, samples, seed)
            for number, (record, name) in enumerate(zip(records, run_names(records)))]
    first = runs[0]
    page = _template().render(
        title=title or f"{first.about['data']}, {first.about['split']}", version=__version__, runs=runs,
        samples=samples, seed=seed, images=len(first.record.names), totals=[differences(run, first)[0] for run in runs],
        classes=_class_rows(runs), confusions=[_with_image(confusions(run)) for run in runs],
        trimap=trimap_chart(runs), reliability=reliability_chart(runs), confidence=confidence_chart(runs),
        sizes=sizes(runs), training=training_charts(runs), groups=_groups(runs, shown),
        configuration=configuration(runs))
    return page.encode("utf-8", "backslashreplace").decode()  # a name of a file need not be valid Unicode


def _template() -> Any:
    jinja2 = import_optional("jinja2", "a report", fix="pip install 'mxnetseg[report]'")
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True,
                                     lstrip_blocks=True, finalize=_finalize)
    environment.filters.update(percent=_percent, signed=_signed)
    environment.globals.update(bar=interval_bar, isnan=math.isnan, nan=math.nan)
    return environment.from_string(resources.files(__package__).joinpath("template.html").read_text("utf-8"))


def _finalize(value: Any) -> Any:
    """Escape control characters of names, which may have come from files."""
    return printable(value) if type(value) is str else value


def _percent(value: float, digits: int = 1) -> str:
    return "–" if math.isnan(value) else f"{100 * value:.{digits}f}"


def _signed(value: float, digits: int = 1) -> str:
    return "–" if math.isnan(value) else f"{100 * value:+.{digits}f}".replace("-", "\N{MINUS SIGN}")


def _class_rows(runs: Sequence[Run]) -> list[dict[str, Any]]:
    scores, first = [run.class_scores() for run in runs], runs[0]
    changes = [differences(run, first)[1] for run in runs]
    labelled = first.total[LABELLED]
    return [{"name": name, "colour": "#" + bytes(colour).hex(), "fraction": labelled[c] / max(int(labelled.sum()), 1),
             "cells": [{"run": run, "iou": score[c][0], "boundary": score[c][1], "change": change[c]}
                       for run, score, change in zip(runs, scores, changes)]}
            for c, (name, colour) in enumerate(zip(first.record.classes, first.about["palette"]))]


def _with_image(table: dict[str, Any]) -> dict[str, Any]:
    """Add the confusion matrix as an image, for many classes: white 0 to blue 1, grey for absent classes."""
    if table["rows"] is None:
        fractions = table["fractions"]
        shade = np.sqrt(np.nan_to_num(fractions))[..., None]
        colours = (1 - shade) * 255 + shade * np.array([0, 114, 178])
        colours[np.isnan(fractions)] = 210
        _, data = cv2.imencode(".png", cv2.cvtColor(colours.round().astype(np.uint8), cv2.COLOR_RGB2BGR))
        table["image"] = _uri("png", data.tobytes())
    return table


# ---- images ---------------------------------------------------------------------------------

def _groups(runs: Sequence[Run], shown: int) -> list[dict[str, Any]]:
    """Return the groups of images that are shown, each image once."""
    scores = np.stack([run.image_scores for run in runs])
    valid = np.flatnonzero(~np.isnan(scores).any(axis=0))
    mean, spread = scores[:, valid].mean(axis=0), np.ptp(scores[:, valid], axis=0)
    orders = {"worst": ("The worst images", "Images with the lowest mean IoU.", mean)}
    if len(runs) > 1:
        orders["different"] = ("The largest differences", "Images whose mean IoU differs most between the runs.",
                               -spread)
    if len(valid):
        orders["ordinary"] = ("The most ordinary images", "Images whose mean IoU is nearest to the median.",
                              np.abs(mean - np.median(mean)))

    taken: set[int] = set()
    groups = []
    for key, (heading, rule, order) in orders.items():
        chosen = [int(i) for i in valid[np.argsort(order, kind="stable")] if int(i) not in taken]
        if key == "different":
            chosen = [i for i in chosen if np.ptp(scores[:, i]) > 0]
        chosen = chosen[:shown]
        taken.update(chosen)
        groups.append({"key": key, "heading": heading, "rule": rule, "images": [_card(runs, i) for i in chosen]})
    return [group for group in groups if group["images"]]


def _card(runs: Sequence[Run], i: int) -> dict[str, Any]:
    """Return an image with its layers as data URIs, and what is wrong in it."""
    record = runs[0].record
    photo, data = _read(record.image_file(i), "JPEG")
    image, size = np.asarray(photo.convert("RGB")), photo.size
    layers = [{"name": "image", "uri": _uri("jpeg", data)}]
    truth, data = _read(record.image_file(i, "truth"), "PNG", size)
    layers.append({"name": "truth", "uri": _uri("png", data)})
    results = []
    for run in runs:
        suffix = f" {run.letter}" if len(runs) > 1 else ""
        prediction, data = _read(run.record.image_file(i, "prediction"), "PNG", size)
        errors = draw_errors(image, np.asarray(truth), np.asarray(prediction), run.about["palette"])
        _, drawn = cv2.imencode(".jpg", cv2.cvtColor(errors, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 88])
        layers += [{"name": f"prediction{suffix}", "uri": _uri("png", data)},
                   {"name": f"errors{suffix}", "uri": _uri("jpeg", drawn.tobytes())}]
        counts = run.record.regions[i]
        missed = counts[LABELLED] - counts[HITS]
        pixels = max(int(counts[LABELLED].sum()), 1)
        results.append({"run": run, "miou": run.image_scores[i], "accuracy": float(pixel_accuracy(counts)),
                        "missed": [(record.classes[c], missed[c] / pixels) for c in np.argsort(-missed)[:2]
                                   if missed[c]]})
    return {"number": i, "name": record.names[i], "layers": layers, "results": results, "width": size[0],
            "height": size[1]}


def _read(path: Path, kind: str, size: tuple[int, int] | None = None) -> tuple[Image.Image, bytes]:
    """Read a small copy of an image; return it with the bytes of its file."""
    try:
        data = path.read_bytes()
        with Image.open(path, formats=[kind]) as image:
            if max(image.size) > SIDE or size not in (None, image.size) or (kind == "PNG" and image.mode != "P"):
                raise ValueError(f"an image of {image.size[0]} x {image.size[1]} pixels, mode {image.mode}")
            image.load()
        return image, data
    except Exception as error:  # Pillow raises many kinds on damaged files
        raise DataError("a small copy of an image is damaged", where=path, received=reason(error),
                        fix=_AGAIN) from None


def _uri(kind: str, data: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
