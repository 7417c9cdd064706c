"""Memory of an evaluation over time: ``python -m benchmarks.memory TASK``, where TASK is JSON.

``{"form": "float32", "data": ".../images", "network": "fcn", "backbone": "resnet18", "output_stride": 8}``: one run
evaluates every image once, as `mxnetseg eval` does, and reports the memory of the process. There is no warm-up,
because the growth in the first runs is part of the result.
"""
from __future__ import annotations

import json
import sys

import mxnet as mx

from mxnetseg.backends.mxnet_runtime import MXNetRuntime
from mxnetseg.data import get_dataset
from mxnetseg.engine.evaluator import evaluate
from mxnetseg.engine.inference import Segmenter
from mxnetseg.graph.inference_graph import compile_for_inference
from mxnetseg.models import get_model
from mxnetseg.models._cost import count_parameters

from .serve import resident_mib, serve


def main() -> None:
    imported = resident_mib()
    task = json.loads(sys.argv[1])
    mx.random.seed(0)
    dataset = get_dataset(f"folder:{task['data']}", split="val")
    net = get_model(task["network"], backbone=task["backbone"], nclass=dataset.nclass,
                    output_stride=task["output_stride"])
    segmenter = Segmenter(MXNetRuntime(compile_for_inference(net, [mx.cpu()], task["form"])))

    def run():
        evaluate(segmenter, dataset)
        return {"resident_mib": resident_mib()}
    serve({"parameters": count_parameters(net), "imported_mib": imported}, run)


if __name__ == "__main__":
    main()
