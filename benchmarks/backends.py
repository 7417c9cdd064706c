"""One backend of mxnetseg: ``python -m benchmarks.backends TASK``, where TASK is JSON.

``{"backend": "openvino", "precision": "float32", "form": null, "network": "fcn", "backbone": "resnet18",
"output_stride": 8, "size": [512, 512], "batch": 1, "warm_up": 2, "folder": "...", "parameters": 12371667}``

``folder`` is what :func:`prepare` has written: the network as ONNX, its input, and MXNet's logits. Each backend
computes the logits of normalised images and reports how far they differ from MXNet's; in float32 a large difference is
a failure, because a wrong result may be fast. The backend ``mxnet`` is measured by ours.py.
"""
from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from .serve import serve

MODEL, INPUT, LOGITS = "network.onnx", "input.npy", "logits.npy"
_TOLERANCE = 1e-3  # of the largest logit, in float32
_CALIBRATION = 2  # images


def prepare(folder: Path, *, network: str, backbone: str | None, output_stride: int | None, size: tuple[int, int],
            batch: int, precision: str) -> dict[str, Any]:
    """Write a network with random weights for all backends; return what is added to each competitor's task.

    int8 converts every layer: with random weights, the search for layers that cost accuracy would exclude all.
    """
    import mxnetseg  # noqa: F401  (makes mxnet importable)

    # isort: split
    import mxnet as mx
    import onnx

    from mxnetseg.backends.onnx_graph import to_onnx
    from mxnetseg.export.onnx_int8 import quantize
    from mxnetseg.graph import int8_search
    from mxnetseg.models import get_model
    from mxnetseg.models._cost import count_parameters

    mx.random.seed(0)
    net = get_model(network, backbone=backbone, nclass=19, output_stride=output_stride)
    x = np.random.RandomState(0).normal(size=(batch, 3, *size)).astype("float32")
    np.save(folder / INPUT, x)
    np.save(folder / LOGITS, net(mx.nd.array(x))[0].asnumpy())
    model = to_onnx(net, size=size)
    if precision == "int8":
        int8_search.AGREEMENT = 0.0
        rng = np.random.RandomState(1)
        images = [rng.randint(0, 256, (*size, 3)).astype("uint8") for _ in range(_CALIBRATION)]
        model = quantize(model, images, mean=net.mean, std=net.std)
    onnx.save(model, folder / MODEL)
    return {"folder": str(folder), "parameters": count_parameters(net)}


def _onnxruntime(task, x):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = _threads()
    session = onnxruntime.InferenceSession(str(Path(task["folder"]) / MODEL), options,
                                           providers=["CPUExecutionProvider"])
    return f"onnxruntime {onnxruntime.__version__}", lambda: session.run(None, {"data": x})[0]


def _openvino(task, x):
    import openvino

    core = openvino.Core()
    model = core.read_model(Path(task["folder"]) / MODEL)
    model.reshape(list(x.shape))
    settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": _threads()}
    if task["precision"] != "int8":  # otherwise OpenVINO's choice for the layers that are not int8
        settings["INFERENCE_PRECISION_HINT"] = {"float32": "f32", "bfloat16": "bf16"}[task["precision"]]
    request = core.compile_model(model, "CPU", settings).create_infer_request()
    return f"openvino {openvino.__version__}", lambda: request.infer([x], share_inputs=True, share_outputs=True)[0]


def _torch(task, x):
    import mxnetseg  # noqa: F401  (makes mxnet importable)

    # isort: split
    import mxnet as mx
    import torch

    from mxnetseg.backends.torch_graph import to_torch
    from mxnetseg.models import get_model

    mx.random.seed(0)
    net = to_torch(get_model(task["network"], backbone=task["backbone"], nclass=19,
                             output_stride=task["output_stride"])).eval()
    net, x = (each.to(memory_format=torch.channels_last) for each in (net, torch.from_numpy(x)))
    if task["form"] == "compiled":
        from torch._inductor import config

        config.freezing = True
        net = torch.compile(net)

    def run():
        # not .to(bfloat16), which would compute the positions of resizes in 8 bits
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=task["precision"] == "bfloat16"):
            return _first(net(x))
    return f"torch {torch.__version__}", run


def _first(outputs):
    return outputs[0] if isinstance(outputs, (list, tuple)) else outputs


def _threads() -> int:
    return int(os.environ["OMP_NUM_THREADS"])


_STARTERS = {"onnxruntime": _onnxruntime, "openvino": _openvino, "torch": _torch}


def main() -> None:
    task = json.loads(sys.argv[1])
    folder = Path(task["folder"])
    began = time.perf_counter()
    library, run = _STARTERS[task["backend"]](task, np.load(folder / INPUT))
    for _ in range(max(task["warm_up"], 1)):
        logits = run()
    logits = np.array(logits.float() if task["backend"] == "torch" else logits)
    exact = np.load(folder / LOGITS)
    difference = float(np.abs(logits - exact).max() / np.abs(exact).max())
    if task["precision"] == "float32" and not difference <= _TOLERANCE:
        raise SystemExit(f"logits differ from MXNet's by {difference:.1e} of the largest one")
    del logits, exact

    def timed() -> None:
        run()
    serve({"library": library, "parameters": task["parameters"], "difference": difference,
           "warm_up_s": round(time.perf_counter() - began, 2)}, timed, hot=True)


if __name__ == "__main__":
    main()
