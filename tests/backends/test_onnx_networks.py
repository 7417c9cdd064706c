"""Networks of the library and exported files in ONNX Runtime and OpenVINO, against MXNet."""
import importlib.util
import subprocess
import sys
from pathlib import Path

import mxnet as mx
import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from onnx_operators import session  # noqa: E402

from mxnetseg import to_float16, to_onnx  # noqa: E402
from mxnetseg.errors import CheckpointError, UsageError  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
SIZES = (128, 160), (97, 145), (65, 257)
QUICK = ("bisenet", "fcn", "fastscnn", "segformer", "semanticfpn", "swiftnet")
# Random weights make these chaotic at full contrast: the positions of samples are steep functions of the features.
# Darker images make small features.
CHAOTIC = ("alignseg",)


def networks():
    """Return the small networks of tests/models/test_life.py."""
    spec = importlib.util.spec_from_file_location("life", ROOT / "tests/models/test_life.py")
    life = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(life)
    return life


LIFE = networks()
SUBJECTS = [subject for subject in LIFE.subjects()
            if subject[0] != "fcn" or subject[1]["backbone"] in ("resnet18", "resnest14", "densenet121", "vit_reduced")]


def parameters(names):
    for name, arguments in SUBJECTS:
        quick = name in names and not {"variant", "form"} & set(arguments) and (
            name != "fcn" or arguments["backbone"] == "resnet18")
        yield pytest.param((name, arguments), id="-".join([name, *map(str, arguments.values())]),
                           marks=() if quick else pytest.mark.slow)


def assert_close(got, wanted, relative):
    assert len(got) == len(wanted)
    for one, other in zip(got, wanted):
        other = other.asnumpy()
        assert one.shape == other.shape
        assert np.abs(one - other).max() <= relative * np.abs(other).max()


@pytest.mark.parametrize("subject", parameters(QUICK))
def test_one_model_equals_mxnet_at_any_size(subject):
    mx.random.seed(0)
    net = LIFE.build(subject)
    run = session(to_onnx(net, outputs="all"))
    for size in SIZES:
        x = LIFE.image(*size) * (0.03 if subject[0] in CHAOTIC else 1)
        assert_close(run.run(None, {"data": x.asnumpy()}), net(x), 1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("subject", parameters(()))
def test_openvino_computes_every_network(subject, tmp_path):
    openvino = pytest.importorskip("openvino")
    mx.random.seed(0)
    net = LIFE.build(subject)
    onnx.save(to_onnx(net, outputs="all"), tmp_path / "net.onnx")
    compiled = openvino.Core().compile_model(tmp_path / "net.onnx", "CPU", {
        "INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1})
    for size in SIZES:
        x = LIFE.image(*size) * (0.03 if subject[0] in CHAOTIC else 1)
        assert_close(list(compiled([x.asnumpy()]).values()), net(x), 1e-3)


# ---- input, size, precision -----------------------------------------------------------------


@pytest.fixture(scope="module")
def network():
    mx.random.seed(0)
    return LIFE.build(("fastscnn", {}))


def stored_images(height, width):
    return np.random.RandomState(0).randint(0, 256, (2, height, width, 3)).astype("uint8")


@pytest.mark.parametrize("size", [None, (64, 96)])
def test_uint8_images_give_class_maps(network, size):
    from mxnetseg.nn.blocks import InputStep

    model = to_onnx(network, input_type="uint8", size=size)
    assert [value.name for value in model.graph.input] == ["image"]
    run = session(model)
    step = InputStep(network.mean, network.std)
    step.initialize()
    for height, width in ((64, 96), (97, 145))[:2 if size is None else 1]:
        images = stored_images(height, width)
        got = run.run(["class_map"], {"image": images})[0]
        wanted = network(step(mx.nd.array(images, dtype="uint8")))[0].asnumpy().argmax(1)
        assert got.dtype == np.uint8 and got.shape == wanted.shape
        assert (got == wanted).mean() >= 0.9999


def test_a_fixed_size_leaves_no_arithmetic_of_shapes(network):
    operators = {node.op_type for node in to_onnx(network, size=(64, 96)).graph.node}
    assert not operators & {"Range", "ConstantOfShape", "Expand", "Squeeze", "Unsqueeze"}
    run = session(to_onnx(network, size=(64, 96)))
    x = LIFE.image(64, 96)
    assert_close(run.run(None, {"data": x.asnumpy()}), network(x)[:1], 1e-4)
    with pytest.raises(Exception, match="INVALID_ARGUMENT"):
        run.run(None, {"data": LIFE.image(64, 97).asnumpy()})


def test_main_is_the_first_output(network):
    assert [value.name for value in to_onnx(network).graph.output] == ["logits"]
    assert [value.name for value in to_onnx(network, outputs="all").graph.output] == ["logits", "output_1", "output_2"]


def test_weights_keep_their_names_and_batch_norm_is_folded(network):
    model = to_onnx(network)
    assert not {"BatchNormalization", "Dropout"} & {node.op_type for node in model.graph.node}
    names = {tensor.name for tensor in model.graph.initializer}
    convolutions = {name for name, p in network.named_parameters().items()
                    if name.endswith("weight") and len(p.shape) == 4}
    assert len(convolutions & names) >= 0.8 * len(convolutions)  # those of the auxiliary heads are left out


@pytest.mark.parametrize("name", ["fastscnn", pytest.param("sfnet", marks=pytest.mark.slow),
                                  pytest.param("segformer", marks=pytest.mark.slow)])
def test_float16_halves_the_file_and_keeps_the_class_map(name):
    mx.random.seed(0)
    net = LIFE.build(next(subject for subject in SUBJECTS if subject[0] == name))
    model = to_onnx(net)
    half = to_float16(model)
    assert half.ByteSize() < 0.6 * model.ByteSize() and to_onnx(net) == model
    assert [value.type.tensor_type.elem_type for value in (*half.graph.input, *half.graph.output)] == [1, 1]
    x = LIFE.image(97, 145)
    got, wanted = session(half).run(None, {"data": x.asnumpy()})[0], net(x)[0].asnumpy()
    assert np.abs(got - wanted).max() <= 1e-2 * np.abs(wanted).max()
    assert (got.argmax(1) == wanted.argmax(1)).mean() >= 0.99


def test_float16_keeps_positions_beyond_2048():
    """The grid of a warp has more positions than float16 has whole numbers."""
    from mxnetseg.nn.resize import length

    data = mx.sym.var("data")
    positions = mx.sym.contrib.arange_like(data, axis=3)
    moved = mx.sym.broadcast_mul(data, mx.sym.reshape(mx.sym.broadcast_div(positions, length(mx.sym, data, 3)),
                                                      (1, 1, 1, -1)))
    weight = mx.sym.Convolution(moved, mx.sym.var("weight"), no_bias=True, kernel=(1, 1), num_filter=1)
    half = to_float16(to_onnx(weight, {"weight": np.ones((1, 1, 1, 1), "float32")}))
    n = 3000
    got = session(half).run(None, {"data": np.ones((1, 1, 1, n), "float32")})[0]
    assert np.abs(got.reshape(-1) - np.arange(n) / n).max() <= 5e-4


def test_wrong_arguments_are_refused(network):
    for arguments in ({"outputs": "first"}, {"input_type": "int8"}, {"size": (0, 5)}, {"size": 512}):
        with pytest.raises(UsageError):
            to_onnx(network, **arguments)
    symbol = network(mx.sym.var("data"))[0]
    parameters_ = {p.name: p.data() for p in network.collect_params().values()}
    with pytest.raises(UsageError, match="normalisation"):
        to_onnx(symbol, parameters_, input_type="uint8")
    assert to_onnx(symbol, parameters_, input_type="uint8", mean=network.mean, std=network.std)
    with pytest.raises(UsageError, match="no weights in float32"):
        to_float16(to_float16(to_onnx(network)))


def test_unknown_operators_are_listed_together():
    symbol = mx.sym.arctanh(mx.sym.arctanh(mx.sym.contrib.fft(mx.sym.var("data"))))
    with pytest.raises(CheckpointError) as error:
        to_onnx(symbol, {})
    assert error.value.received == "arctanh (2x), _contrib_fft (1x)"


def test_exported_files_are_converted_without_mxnet(network, tmp_path):
    network.hybridize()
    x = LIFE.image(64, 96)
    np.savez(tmp_path / "case.npz", x=x.asnumpy(), wanted=network(x)[0].asnumpy())
    network.export(str(tmp_path / "net"))
    network.hybridize(False)
    code = (f"import sys, numpy as np, onnxruntime\nsys.modules['mxnet'] = sys.modules['torch'] = None\n"
            f"from mxnetseg import to_onnx\ncase = np.load({str(tmp_path / 'case.npz')!r})\n"
            f"model = to_onnx({str(tmp_path / 'net-symbol.json')!r}, {str(tmp_path / 'net-0000.params')!r})\n"
            "run = onnxruntime.InferenceSession(model.SerializeToString())\n"
            "got = run.run(None, {'data': case['x']})[0]\n"
            "print(np.abs(got - case['wanted']).max() / np.abs(case['wanted']).max() < 1e-4)")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=200)
    assert done.stdout.strip() == "True", done.stderr
