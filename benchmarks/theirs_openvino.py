"""PyTorch's network in OpenVINO, in int8 by NNCF, run by a Python with torch, openvino and nncf: ``python
theirs_openvino.py TASK``, where TASK is JSON, as for theirs.py.

Of mxnetseg's code this file imports only theirs.py and serve.py beside it.
"""
from __future__ import annotations

import json
import os
import sys
import time

import nncf
import numpy as np
import openvino
import theirs  # beside this file
import torch
from serve import serve  # beside this file

_CALIBRATION = 2  # images


def main() -> None:
    task = json.loads(sys.argv[1])
    torch.manual_seed(0)
    net = theirs.NETWORKS[task["network"]](theirs.BACKBONES[task["backbone"]](task["output_stride"]), 19).eval()
    parameters = theirs.count_parameters(net)
    began = time.perf_counter()
    shape = (task["batch"], 3, *task["size"])
    with torch.no_grad():
        model = openvino.convert_model(net, example_input=torch.zeros(shape), input=[shape])
    rng = np.random.RandomState(0)
    images = [rng.normal(size=shape).astype("float32") for _ in range(_CALIBRATION)]
    model = nncf.quantize(model, nncf.Dataset(images), subset_size=_CALIBRATION)
    request = openvino.Core().compile_model(model, "CPU", {
        "PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": int(os.environ["OMP_NUM_THREADS"])
    }).create_infer_request()

    def run() -> None:
        request.infer([images[0]], share_inputs=True, share_outputs=True)
    for _ in range(task["warm_up"]):
        run()
    serve({"library": f"openvino {openvino.__version__}, nncf {nncf.__version__}", "parameters": parameters,
           "warm_up_s": round(time.perf_counter() - began, 2)}, run, hot=True)


if __name__ == "__main__":
    main()
