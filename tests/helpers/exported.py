"""A small network of three classes as an .onnx file, written by hand, with the record that an export adds."""
from __future__ import annotations

import json

import numpy as np

CLASSES, PALETTE = ["red", "green", "blue"], [[200, 40, 40], [40, 200, 40], [40, 40, 200]]
RECORD = {"data": {"name": "folder", "classes": CLASSES, "palette": PALETTE, "ignore": 255},
          "model": {"name": "fcn", "nclass": 3, "backbone": "resnet18"},
          "normalisation": {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.25]},
          "protocol": {"splits": {"train": "train", "val": "val"}}, "config": {"eval": {"size_divisor": None}},
          "smallest_side": 4, "inputs": ["data"]}
# 3x3, so that neighbours count; the class of a pixel is the channel that is largest around it
WEIGHT = (np.eye(3).reshape(3, 3, 1, 1) + np.random.default_rng(0).normal(size=(3, 3, 3, 3)) / 30).astype("float32")


def write_onnx(path, *, record=RECORD, uint8=False, half=False, size=None, quantized=False, inputs=1):
    """Write the file; ``record`` None: no metadata."""
    from onnx import TensorProto, helper, numpy_helper, save

    height, width = size or ("H", "W")
    kind = TensorProto.FLOAT16 if half else TensorProto.FLOAT
    weight, nodes, source = numpy_helper.from_array(WEIGHT.astype("float16") if half else WEIGHT, "weight"), [], "data"
    initializers = [weight]
    if uint8:
        scale = np.array([1 / (255 * s) for s in RECORD["normalisation"]["std"]], "float32").reshape(1, 3, 1, 1)
        shift = np.array([-m / s for m, s in zip(*RECORD["normalisation"].values())], "float32").reshape(1, 3, 1, 1)
        initializers += [numpy_helper.from_array(scale, "scale"), numpy_helper.from_array(shift, "shift")]
        nodes += [helper.make_node("Transpose", ["image"], ["t"], perm=[0, 3, 1, 2]),
                  helper.make_node("Cast", ["t"], ["f"], to=TensorProto.FLOAT),
                  helper.make_node("Mul", ["f", "scale"], ["m"]), helper.make_node("Add", ["m", "shift"], ["n"])]
        source = "n"
    if quantized:
        initializers += [numpy_helper.from_array(np.array(0.05, "float32"), "step"),
                         numpy_helper.from_array(np.array(0, "int8"), "zero")]
        nodes += [helper.make_node("QuantizeLinear", [source, "step", "zero"], ["q"]),
                  helper.make_node("DequantizeLinear", ["q", "step", "zero"], ["d"])]
        source = "d"
    nodes.append(helper.make_node("Conv", [source, "weight"], ["logits"], pads=[1, 1, 1, 1]))
    given = [helper.make_tensor_value_info("data", kind, ["N", 3, height, width])]
    result = helper.make_tensor_value_info("logits", kind, ["N", 3, height, width])
    if uint8:
        nodes += [helper.make_node("ArgMax", ["logits"], ["index"], axis=1, keepdims=0),
                  helper.make_node("Cast", ["index"], ["class_map"], to=TensorProto.UINT8)]
        given = [helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", height, width, 3])]
        result = helper.make_tensor_value_info("class_map", TensorProto.UINT8, ["N", height, width])
    given += [helper.make_tensor_value_info(f"more{i}", kind, [1]) for i in range(inputs - 1)]
    model = helper.make_model(helper.make_graph(nodes, "g", given, [result], initializers),
                              opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    if record is not None:
        helper.set_model_props(model, {"mxnetseg": record if isinstance(record, str) else json.dumps(record)})
    save(model, str(path))
    return path


def expected_logits(image):
    """Return what the file computes for a uint8 image (H, W, 3), in NumPy: (3, H, W)."""
    mean, std = (np.array(values) for values in RECORD["normalisation"].values())
    x = np.pad(((image / 255 - mean) / std).transpose(2, 0, 1), ((0, 0), (1, 1), (1, 1)))
    height, width = image.shape[:2]
    return sum(np.einsum("kc,chw->khw", WEIGHT[:, :, i, j], x[:, i:i + height, j:j + width])
               for i in range(3) for j in range(3))
