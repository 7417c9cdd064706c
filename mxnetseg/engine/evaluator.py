"""Evaluation of a network on a split: scores against the masks, or predictions as files."""
from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..data.base import IGNORE, Sample, SegDataset
from ..data.loader import stream
from ..data.parallel import TIMEOUT, ProgressCallback, no_progress
from ..data.shards import WHOLE, Shard
from ..errors import CheckpointError, DataError
from ..metrics import ConfusionMatrix
from ..viz.palette import save_color_png, save_id_png, save_rgb_png
from ..viz.sheet import sheet
from .inference import Segmenter

log = logging.getLogger(__name__)


def check_classes(net_classes: list[str], dataset: SegDataset, *, where: object) -> None:
    """Check that a network and a data set have the same classes.

    Raises:
        CheckpointError: the number or the names of the classes differ.
    """
    if list(net_classes) != list(dataset.classes):
        count = f"{len(net_classes)} classes, the data set {dataset.name} has {dataset.nclass}" \
            if len(net_classes) != dataset.nclass else "classes of other names"
        raise CheckpointError(
            "the checkpoint was trained for other classes than this data set has", where=where,
            received=f"{count}: {', '.join(net_classes[:6])} ... against {', '.join(dataset.classes[:6])} ...",
            fix=f"evaluate on the data set it was trained on, or fine-tune it on {dataset.name} first "
                "(--set train.init_from=PATH)")


def contents(dataset: SegDataset) -> dict[str, Any]:
    """Return a sidecar's record of a split, to notice when it holds other images: their number and a digest."""
    return {"split": dataset.split, "images": len(dataset), "names": dataset.names_digest}


def warn_of_other_images(sidecar: Mapping[str, Any], dataset: SegDataset, *, where: object) -> None:
    """Warn if the images of a split changed after the checkpoint was written.

    Args:
        sidecar: of the checkpoint. A sidecar without a record of the splits predates the choice of held-out images by
            a hash.
        dataset: a split of the data set that the checkpoint was trained on.
        where: path of the checkpoint, for the message.
    """
    recorded = sidecar.get("contents")
    if not isinstance(recorded, dict):
        if dataset.held_out:
            log.warning("the checkpoint does not record which images it was trained on. The split %r of %s is held out "
                        "by a hash of the names now, so scores are too high if it was trained on some of them (%s)",
                        dataset.split, dataset.name, where)
        return
    for then in recorded.values():
        if isinstance(then, dict) and then.get("split") == dataset.split and then.get("names") != dataset.names_digest:
            log.warning("the split %r of %s holds other images than when the checkpoint was written: %s then, %d now. "
                        "Scores are not comparable, and too high if it was trained on some of those that it is "
                        "validated on (%s)", dataset.split, dataset.name, then.get("images"), len(dataset), where)


def evaluate(segmenter: Segmenter, dataset: SegDataset, *, workers: int = 2, timeout: float = TIMEOUT,
             progress: ProgressCallback = no_progress, observer: Callable[[Sample, np.ndarray], None] | None = None,
             shard: Shard = WHOLE, with_control: bool = True) -> tuple[ConfusionMatrix, ConfusionMatrix]:
    """Score every image of a split, or of one shard of it, at its own size.

    Args:
        segmenter: the network and its protocol.
        dataset: a split with masks.
        workers: threads that read images ahead.
        timeout: seconds to wait for one image.
        progress: wraps the stream of images: ``progress(items, count)``.
        observer: is called with each item and its prediction, uint8 (H, W), in the order of the split.
        shard: the images to score. Both matrices of all shards add up to the matrices of the split.
        with_control: compute the second matrix, for which one more mask is read for each image; else it is empty.

    Returns:
        the confusion matrix, and one of the chance level: each prediction against the mask of the image that stands
        half of the split after it, if it has the same size. It shows the score that the common layout of the images
        alone gives. In a split of video frames, the next image would show the same scene.

    Raises:
        DataError: the split has no masks, a file is damaged, or not every image was read.
    """
    if dataset.mask_path(0) is None:
        raise DataError("this split has no masks to score against", where=repr(dataset),
                        fix="--mode test writes its predictions instead")
    matrix, control = (ConfusionMatrix(dataset.nclass, ignore=IGNORE) for _ in range(2))
    indices, scored = shard.indices(len(dataset)), 0
    for sample, prediction in _predictions(segmenter, dataset, workers, timeout, progress, shard):
        matrix.update(prediction, sample.mask)
        if with_control and len(dataset) > 1:
            mask = _mask(dataset, (indices[scored] + len(dataset) // 2) % len(dataset))
            if mask.shape == prediction.shape:
                control.update(prediction, mask)
        scored += 1
        if observer is not None:
            observer(sample, prediction)
    if scored != len(indices):
        raise DataError("not every image was scored", where=repr(dataset), received=f"{scored} of {len(indices)}")
    return matrix, control


def _mask(dataset: SegDataset, i: int) -> np.ndarray:
    """Return the mask of item ``i``, uint8 (H, W) train ids."""
    return dataset.to_train_ids(dataset.load_raw_mask(i), dataset.mask_path(i))


def write_predictions(segmenter: Segmenter, dataset: SegDataset, folder: Path, *, workers: int = 2,
                      timeout: float = TIMEOUT, progress: ProgressCallback = no_progress,
                      observer: Callable[[Sample, np.ndarray], None] | None = None) -> list[Path]:
    """Write every prediction of a split: ``color/NAME.png`` to look at, ``id/NAME.png`` to submit.

    ``id`` holds the ids of the data set's own files (Cityscapes: 7 for road), where they differ from the
    train ids; ``color`` holds palette images whose indices are the train ids. If the split has masks,
    ``sheet/NAME.png`` shows image, truth, prediction and errors side by side.

    Args:
        segmenter, dataset, workers, timeout, progress, observer: see :func:`evaluate`.
        folder: where the files are written.

    Returns:
        the paths of the colour images.
    """
    written = []
    for sample, prediction in _predictions(segmenter, dataset, workers, timeout, progress):
        color = folder / "color" / f"{sample.name}.png"
        save_color_png(prediction, dataset.palette, color)
        save_id_png(dataset.to_raw_ids(prediction), folder / "id" / f"{sample.name}.png")
        if sample.mask is not None:
            save_rgb_png(sheet(sample.image, sample.mask, prediction, dataset.classes, dataset.palette),
                         folder / "sheet" / f"{sample.name}.png")
        written.append(color)
        if observer is not None:
            observer(sample, prediction)
    return written


def _predictions(segmenter: Segmenter, dataset: SegDataset, workers: int, timeout: float,
                 progress: ProgressCallback, shard: Shard = WHOLE) -> Iterator[tuple[Sample, np.ndarray]]:
    samples = stream(dataset, workers=workers, timeout=timeout, shard=shard)
    pairs = segmenter.stream_items(samples, lambda sample: sample.image)
    yield from progress(pairs, len(shard.indices(len(dataset))))
