"""Progress of a training run on the screen: bars, and a line for each epoch."""
from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from tqdm import tqdm

from ..data.parallel import ProgressCallback

# The postfix holds the remaining time of the run; tqdm's own estimate is of the epoch only.
_FORMAT = "{desc}: {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt}{postfix}"


def epoch_bar(epoch: int, epochs: int, *, first: int, total: int, hidden: bool) -> tqdm:
    """Return the bar of one epoch.

    Args:
        epoch: number of the epoch, from 1.
        epochs: epochs of the run.
        first: steps of the epoch that are completed.
        total: steps of the epoch.
        hidden: show nothing.
    """
    return tqdm(total=total, initial=first, disable=hidden, leave=False, dynamic_ncols=True,
                desc=f"epoch {epoch}/{epochs}", bar_format=_FORMAT)


def validation_bar(*, hidden: bool, on_image: Callable[[], None]) -> ProgressCallback:
    """Return a callback that wraps a stream of images in a bar.

    Args:
        hidden: show nothing.
        on_image: is called after each image.
    """
    def wrap(images: Iterable, count: int) -> Iterable:
        for image in tqdm(images, total=count, desc="validate", unit="img", leave=False, disable=hidden,
                          dynamic_ncols=True):
            yield image
            on_image()
    return wrap


def postfix(*, loss: float | None, rate: float, images_per_second: float | None,
            seconds_remaining: float | None) -> str:
    """Return the numbers to the right of a bar, without those that are not known."""
    parts = [] if loss is None else [f"loss {loss:.3f}"]
    parts.append(f"lr {rate:.2g}")
    if images_per_second:
        parts.append(f"{images_per_second:.1f} img/s")
    if seconds_remaining is not None:
        parts.append(f"{tqdm.format_interval(seconds_remaining)} left")
    return ", ".join(parts)


def epoch_line(row: Mapping[str, Any], epochs: int) -> str:
    """Return the line on a completed epoch.

    Args:
        row: its row of the log.
        epochs: epochs of the run.
    """
    names = {"val_pa": "val PA", "val_miou": "val mIoU"}
    scores = "".join(f", {name} {100 * row[key]:.2f} %" for key, name in names.items() if key in row)
    return (f"epoch {row['epoch']}/{epochs}: train loss {row['train_loss']:.4g}, "
            f"learning rate {row['lr']:.2g}{scores}")
