"""Conversion of ONNX models to int8: the same classes, layers kept in float32, bad input."""
import json

import numpy as np
import pytest

pytest.importorskip("onnxruntime")
onnx = pytest.importorskip("onnx")

import onnxruntime  # noqa: E402
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from mxnetseg.errors import UsageError  # noqa: E402
from mxnetseg.export.onnx_int8 import METADATA, quantize  # noqa: E402
from mxnetseg.graph import int8_search  # noqa: E402

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
# the ways in which a model reads an image and gives its result
FLOAT, UINT8 = "float32", "uint8"


def network(input_type=FLOAT, size=("H", "W"), channels=8, harmful=False):
    """Return a residual network whose classes follow the image's colours, so that few pixels are undecided.

    With ``harmful``, one layer's channels have scales from 1 to 10^4, which one scale for all activations destroys.
    """
    rng = np.random.default_rng(0)
    nodes, arrays = [], {}

    def conv(x, name, weight, relu=True, pad=1):
        arrays[f"{name}.weight"], arrays[f"{name}.bias"] = weight, np.zeros(len(weight), np.float32)
        nodes.append(helper.make_node("Conv", [x, f"{name}.weight", f"{name}.bias"], [name], name, pads=[pad] * 4))
        if relu:
            nodes.append(helper.make_node("Relu", [name], [f"{name}.relu"], f"{name}.relu"))
        return f"{name}.relu" if relu else name

    if input_type == UINT8:
        arrays["scale"] = np.array([1 / (255 * s) for s in STD], np.float32).reshape(1, 3, 1, 1)
        arrays["shift"] = np.array([-m / s for m, s in zip(MEAN, STD)], np.float32).reshape(1, 3, 1, 1)
        nodes += [helper.make_node("Transpose", ["image"], ["chw"], perm=[0, 3, 1, 2]),
                  helper.make_node("Cast", ["chw"], ["float"], to=TensorProto.FLOAT),
                  helper.make_node("Mul", ["float", "scale"], ["scaled"]),
                  helper.make_node("Add", ["scaled", "shift"], ["data"])]
    first = conv("data", "first", rng.normal(0, 0.3, (channels, 3, 3, 3)).astype("float32"))
    gain = 10 ** np.linspace(0, 4 if harmful else 0, channels, dtype=np.float32).reshape(-1, 1, 1, 1)
    second = conv(first, "second", rng.normal(0, 0.2, (channels, channels, 1, 1)).astype("float32") * gain, pad=0)
    third = conv(second, "third", (rng.normal(0, 0.2, (channels, channels, 1, 1)) / gain.reshape(1, -1, 1, 1)).astype(
        "float32"), relu=False, pad=0)
    nodes.append(helper.make_node("Add", [first, third], ["sum"], "sum"))
    logits = conv("sum", "logits", rng.normal(0, 1, (4, channels, 1, 1)).astype("float32"), relu=False, pad=0)
    shape = ["N", 3, *size] if input_type == FLOAT else ["N", *size, 3]
    inputs = [helper.make_tensor_value_info("data" if input_type == FLOAT else "image", TensorProto.FLOAT if input_type
                                            == FLOAT else TensorProto.UINT8, shape)]
    outputs = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 4, *size])]
    if input_type == UINT8:
        nodes += [helper.make_node("ArgMax", [logits], ["index"], axis=1, keepdims=0),
                  helper.make_node("Cast", ["index"], ["class_map"], to=TensorProto.UINT8)]
        outputs = [helper.make_tensor_value_info("class_map", TensorProto.UINT8, ["N", *size])]
    graph = helper.make_graph(nodes, "test", inputs, outputs,
                              [numpy_helper.from_array(value, name) for name, value in arrays.items()])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, {"mean": json.dumps(MEAN), "std": json.dumps(STD), "classes": '["a", "b"]'})
    return model


@pytest.fixture
def lenient(monkeypatch):
    """Random weights leave more pixels undecided than trained ones do."""
    monkeypatch.setattr(int8_search, "AGREEMENT", 0.95)


def images(count=3, size=(24, 32)):
    rng = np.random.default_rng(1)
    return [np.kron(rng.integers(0, 256, (size[0] // 8, size[1] // 8, 3)), np.ones((8, 8, 1))).astype(np.uint8)
            for _ in range(count)]


def run(model, image):
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (value,) = session.get_inputs()
    if "float" in value.type:
        image = ((image / 255 - MEAN) / STD).astype("float32").transpose(2, 0, 1)
    (result,) = session.run(None, {value.name: np.ascontiguousarray(image[None])})
    return result.argmax(axis=1) if result.ndim == 4 else result


def report(model):
    return json.loads({entry.key: entry.value for entry in model.metadata_props}[METADATA])


@pytest.mark.parametrize("input_type", [FLOAT, UINT8])
def test_classes_stay(lenient, input_type):
    model = network(input_type)
    before = model.SerializeToString()
    quantized = quantize(model, images())
    onnx.checker.check_model(quantized, full_check=True)
    assert model.SerializeToString() == before
    assert [x.name for x in quantized.graph.output] == [x.name for x in model.graph.output]
    found = report(quantized)
    assert found["float32_layers"] == [] and found["layers"] == 5 and found["calibration_images"] == 3
    assert found["agreement"] >= int8_search.AGREEMENT
    weights = {each.name: each.data_type for each in quantized.graph.initializer}
    assert weights["first.weight_quantized"] == TensorProto.INT8 and "first.weight" not in weights
    for image in images(5, (40, 48))[3:]:  # not those of the calibration, and of another size
        assert np.mean(run(model, image) == run(quantized, image)) > 0.95


def test_zero_points_need_no_correction(lenient):
    """0 for maps after a ReLU, 128 for others; one scale for each output channel of a weight."""
    quantized = quantize(network(), images())
    arrays = {each.name: numpy_helper.to_array(each) for each in quantized.graph.initializer}
    points = {name: value for name, value in arrays.items() if name.endswith("zero_point") and value.dtype == np.uint8}
    assert {int(value) for value in points.values()} == {0, 128} and int(points["data_zero_point"]) == 128
    assert int(points["first.relu_zero_point"]) == 0
    assert arrays["first.weight_scale"].shape == (8,) and not np.any(arrays["first.weight_zero_point"])


def test_logits_are_not_rounded(lenient):
    quantized = quantize(network(), images())
    (producer,) = [node for node in quantized.graph.node if "logits" in node.output]
    assert producer.op_type == "Conv"


def test_openvino_computes_the_same(lenient):
    openvino = pytest.importorskip("openvino")
    quantized = quantize(network(UINT8), images())
    compiled = openvino.Core().compile_model(
        openvino.Core().read_model(quantized.SerializeToString()), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    for image in images():
        assert np.mean(compiled(image[None])[0] == run(quantized, image)) > 0.98


@pytest.mark.parametrize("input_type", [FLOAT, UINT8])
def test_a_layer_that_costs_accuracy_stays_in_float32(input_type):
    model = network(input_type, harmful=True)
    found = report(quantize(model, images()))
    assert "third" in found["float32_layers"] and len(found["float32_layers"]) < found["layers"]
    assert found["agreement"] >= int8_search.AGREEMENT


def test_everything_stays_in_float32_if_nothing_suffices(monkeypatch):
    monkeypatch.setattr(int8_search, "AGREEMENT", 1.1)  # more than can be reached
    quantized = quantize(network(), images())
    assert set(report(quantized)["float32_layers"]) == {"first", "second", "third", "sum", "logits"}
    assert not any(node.op_type == "QuantizeLinear" for node in quantized.graph.node)


def test_a_fixed_size_resizes_the_images():
    quantized = quantize(network(size=(16, 24)), images())
    assert run(quantized, images(1, (16, 24))[0]).shape == (1, 16, 24)


def test_weights_of_seven_bits(lenient):
    quantized = quantize(network(), images(), reduce_range=True)
    weight = next(numpy_helper.to_array(w) for w in quantized.graph.initializer if w.name == "first.weight_quantized")
    assert np.abs(weight.astype(int)).max() <= 64


def several_inputs():
    model = network()
    model.graph.input.append(helper.make_tensor_value_info("more", TensorProto.FLOAT, [1]))
    return model


def without_layers():
    graph = helper.make_graph([helper.make_node("Sigmoid", ["data"], ["logits"])], "test", [
        helper.make_tensor_value_info("data", TensorProto.FLOAT, ["N", 3, "H", "W"])], [
        helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 3, "H", "W"])])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def without_statistics():
    model = network()
    del model.metadata_props[:]
    return model


@pytest.mark.parametrize("model, given, message", [
    (network, [], "needs calibration images"),
    (network, [np.zeros((8, 8, 3), np.float32)], "not uint8"),
    (network, [np.zeros((8, 8), np.uint8)], "not uint8"),
    (network, ["street.png"], "not uint8"),
    (several_inputs, images(), "one input"),
    (without_layers, images(), "no float32 layer"),
    (without_statistics, images(), "mean is not known"),
    (lambda: quantize(network(), images()), images(), "quantised already"),
])
def test_bad_input_is_refused(model, given, message):
    options = {"mean": MEAN, "std": STD} if model is without_layers else {}
    with pytest.raises(UsageError, match=message) as caught:
        quantize(model(), given, **options)
    assert caught.value.fix


@pytest.mark.parametrize("std", [(1, 1), (1, 1, 0), (1, 1, float("nan")), "abc"])
def test_a_normalisation_that_is_none_is_refused(std):
    with pytest.raises(UsageError, match="std is not known"):
        quantize(network(), images(), mean=MEAN, std=std)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["bisenet", "fastscnn", "fcn", "pspnet"])
def test_openvino_computes_any_size_as_it_computes_one(name, monkeypatch):
    """OpenVINO optimises graphs of any size in another way than those of one size, and has done so wrongly in int8."""
    import mxnet as mx

    from mxnetseg import get_model, to_onnx

    openvino = pytest.importorskip("openvino")
    monkeypatch.setattr(int8_search, "AGREEMENT", 0.0)
    mx.random.seed(0)
    options = {} if name == "fastscnn" else {"backbone": "resnet18"}
    net = get_model(name, nclass=5, **options)
    quantized = quantize(to_onnx(net), images(2, (96, 128)), mean=net.mean, std=net.std).SerializeToString()
    core, settings = openvino.Core(), {"INFERENCE_PRECISION_HINT": "f32"}
    any_size = core.compile_model(core.read_model(quantized), "CPU", settings)
    for size in ((96, 128), (97, 145), (128, 64)):
        x = np.random.default_rng(3).normal(size=(1, 3, *size)).astype("float32")
        one_size = core.read_model(quantized)
        one_size.reshape(x.shape)
        expected = core.compile_model(one_size, "CPU", settings)(x)[0]
        assert np.abs(any_size(x)[0] - expected).max() < 0.1 * np.abs(expected).max(), size


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_score_of_a_trained_network_stays(tmp_path):
    """mIoU within 0.5 of float32, in both engines, on the sample's validation images."""
    import mxnet as mx

    from mxnetseg import to_onnx
    from mxnetseg.config import load_config
    from mxnetseg.data import get_dataset
    from mxnetseg.engine.checkpoint import restore_network
    from mxnetseg.engine.precision import calibration_images
    from mxnetseg.engine.trainer import Trainer
    from mxnetseg.metrics import ConfusionMatrix

    openvino = pytest.importorskip("openvino")
    config = load_config(model="fcn", overrides=["train.epochs=3", "train.val_every=3", "model.output_stride=32"])
    net, _ = restore_network(Trainer(config, [mx.cpu()], folder=tmp_path, quiet=True).fit().best, [mx.cpu()])
    model = to_onnx(net, input_type="uint8")
    quantized = quantize(model, calibration_images(get_dataset("sample", split="train")))
    core = openvino.Core()
    compiled = core.compile_model(core.read_model(quantized.SerializeToString()), "CPU")
    exact, int8 = (onnxruntime.InferenceSession(each.SerializeToString()) for each in (model, quantized))
    dataset = get_dataset("sample", split="val")
    matrices = [ConfusionMatrix(dataset.nclass) for _ in range(3)]
    for sample in (dataset[i] for i in range(len(dataset))):
        image = sample.image[None]
        maps = [*(session.run(None, {"image": image})[0] for session in (exact, int8)), compiled(image)[0]]
        for matrix, class_map in zip(matrices, maps):
            matrix.update(class_map[0], sample.mask)
    exact, *others = (100 * matrix.miou() for matrix in matrices)
    assert exact > 15 and all(abs(other - exact) < 0.5 for other in others), (exact, others)
