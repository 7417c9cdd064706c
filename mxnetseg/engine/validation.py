"""Validation of the network in training, shared by the processes of the run."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import mxnet as mx

from ..backends.group import Group
from ..backends.mxnet_runtime import MXNetRuntime
from ..config.schema import Config
from ..data.base import SegDataset
from ..data.shards import Shard
from ..graph.inference_graph import compile_for_inference
from ..metrics import ConfusionMatrix, Scores
from .bars import validation_bar
from .evaluator import evaluate
from .inference import Protocol, Segmenter


def validate(net: Any, contexts: Sequence[mx.Context], config: Config, dataset: SegDataset, group: Group, *,
             hide_bar: bool) -> Scores:
    """Score a split on whole images, by the protocol of the configuration; each process scores a shard of it.

    Args:
        net: the network, which stays as it is.
        contexts: where it lies.
        config: the configuration.
        dataset: the validation split.
        group: the processes of the run.
        hide_bar: show no progress bar.
    """
    # a separate copy, because inference changes the layout of weights, which would slow training down
    runtime = MXNetRuntime(compile_for_inference(net, contexts), contexts)
    matrix, _ = evaluate(Segmenter(runtime, Protocol.of(config)), dataset, workers=config.data.workers,
                         timeout=config.data.timeout, shard=Shard(group.rank, group.size),
                         progress=validation_bar(hidden=hide_bar, on_image=group.note_progress))
    counts, = group.sum_arrays([matrix.counts])
    return ConfusionMatrix.from_counts(counts).result(dataset.classes)
