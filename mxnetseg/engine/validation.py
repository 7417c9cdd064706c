"""Validation of the network in training, shared by the processes of the run."""
from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..backends.group import Group
from ..backends.runtime import Runtime
from ..config.schema import Config
from ..data.base import Sample, SegDataset
from ..data.shards import Shard
from ..metrics import ConfusionMatrix, Scores
from .bars import validation_bar
from .evaluator import evaluate
from .inference import Segmenter
from .protocol import Protocol


def validate(runtime: Runtime, config: Config, dataset: SegDataset, group: Group, *, hide_bar: bool,
             observer: Callable[[Sample, np.ndarray], None] | None = None) -> Scores:
    """Score a split on whole images, by the protocol of the configuration; each process scores a shard of it.

    Args:
        runtime: the network.
        config: the configuration.
        dataset: the validation split.
        group: the processes of the run.
        hide_bar: show no progress bar.
        observer: is called with each item of this process and its prediction.
    """
    matrix, _ = evaluate(Segmenter(runtime, Protocol.of(config)), dataset, workers=config.data.workers,
                         timeout=config.data.timeout, shard=Shard(group.rank, group.size), observer=observer,
                         with_control=False, progress=validation_bar(hidden=hide_bar, on_image=group.note_progress))
    counts, = group.sum_arrays([matrix.counts])
    return ConfusionMatrix.from_counts(counts).result(dataset.classes)
