"""Every operator in ONNX Runtime against MXNet, at sizes that are known when the model is written, or not."""
import importlib.util
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("torch")  # the cases are those of PyTorch

from onnx_operators import build, compare_with_mxnet, session  # noqa: E402

from mxnetseg import to_onnx  # noqa: E402
from mxnetseg.backends import onnx_indexing, onnx_layers, onnx_shapes  # noqa: E402, F401  (they fill the table)
from mxnetseg.backends.operators import ONNX, TORCH  # noqa: E402
from mxnetseg.errors import CheckpointError  # noqa: E402


def cases():
    """Return the cases of the test of PyTorch's operators."""
    spec = importlib.util.spec_from_file_location("torch_ops", Path(__file__).with_name("test_torch_ops.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.CASES


# conversions that need to know a size, and what MXNet itself refuses in an inference
STATIC_ONLY = (("gather_nd", {}), ("squeeze", {}))
REFUSED = (("SoftmaxOutput", {}, 4),)
CASES = [case for case in cases() if (case[0], case[1], len(case[2] and case[2][0])) not in REFUSED]


@pytest.mark.parametrize("op, arguments, inputs, options", CASES,
                         ids=[f"{i}-{case[0]}" for i, case in enumerate(CASES)])
def test_values(op, arguments, inputs, options):
    if (op, arguments) not in STATIC_ONLY:
        compare_with_mxnet(op, arguments, inputs, **options)
    compare_with_mxnet(op, arguments, inputs, **options, static=True)


def test_every_operator_of_pytorch_has_a_function():
    assert set(ONNX) == {*TORCH, "_mxnetseg_resize"}
    tried = {ONNX[op].function for op, *_ in CASES}
    assert not [name for name, entry in ONNX.items() if not name.startswith("_") and entry.function not in tried]


@pytest.mark.parametrize("op, arguments, message", [
    ("Pooling", {"kernel": "(2, 2)", "pooling_convention": "ceil"}, "pooling_convention=ceil"),
    ("LeakyReLU", {"act_type": "rrelu"}, "act_type=rrelu"), ("Activation", {"act_type": "mish"}, "act_type=mish"),
    ("clip", {"a_min": "low", "a_max": "1"}, "not a number"), ("Flatten", {"axis": "1"}, "axis='1'"),
    ("slice_axis", {"axis": "1"}, "no begin"), ("softmax", {"use_length": "True"}, "use_length"),
    ("Dropout", {"mode": "always"}, "mode=always"), ("SoftmaxOutput", {}, "depends on MXNet's build"),
    ("SliceChannel", {"num_outputs": "4"}, "3 channels in 4 parts"), ("squeeze", {}, "not fixed"),
    ("dot", {}, "1 inputs"), ("Reshape", {"shape": "(0, 0, 0, 0, 0)"}, "wrong inputs"),
])
def test_what_is_not_supported_is_refused(op, arguments, message):
    with pytest.raises(CheckpointError) as error:
        to_onnx(build(op, arguments, 1), {}, inputs=["x0"], shapes={"x0": ("N", 3, "H", "W")})
    assert message in str(error.value) and "op" in str(error.value.where)


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(CheckpointError, match="do not fit together"):
        to_onnx(build("broadcast_add", {}, 2), {"x1": np.zeros((1, 5, 1, 1), "float32")}, inputs=["x0"],
                shapes={"x0": ("N", 3, "H", "W")})


@pytest.mark.parametrize("kind", ["half_pixel", "align_corners", "nearest"])
def test_resizes_have_mxnets_values_at_any_two_sizes(kind):
    import mxnet as mx

    from mxnetseg.nn.resize import nearest, resize

    def compute(F, x, like):
        return nearest(F, x, like) if kind == "nearest" else resize(F, x, like, align_corners=kind == "align_corners")

    symbol = compute(mx.sym, mx.sym.var("x"), mx.sym.var("like"))
    model = to_onnx(symbol, {}, inputs=["x", "like"], shapes={
        "x": ("N", 2, "h", "w"), "like": ("N", 1, "H", "W")})
    assert {"half_pixel": "Resize", "align_corners": "Resize", "nearest": "Gather"}[kind] in {
        node.op_type for node in model.graph.node}
    assert "MatMul" not in {node.op_type for node in model.graph.node}
    run = session(model)
    for n in range(1, 23):
        for m in (*range(1, 23), 57):
            x = np.random.RandomState(n).normal(size=(1, 2, n, 24 - n)).astype("float32")
            like = np.zeros((1, 1, m, m), "float32")
            got = run.run(None, {"x": x, "like": like})[0]
            wanted = compute(mx.nd, mx.nd.array(x), mx.nd.array(like)).asnumpy()
            assert np.abs(got - wanted).max() <= (0 if kind == "nearest" else 1e-5), (n, m)


@pytest.mark.parametrize("align_corners", [False, True])
def test_enlarging_and_resizing_again(align_corners):
    import mxnet as mx

    from mxnetseg.nn.resize import enlarge

    variable = mx.sym.var("x")
    symbol = mx.sym.Group([enlarge(mx.sym, variable, 3, align_corners=align_corners),
                           enlarge(mx.sym, variable, 2, align_corners=align_corners, then=mx.sym.var("then"))])
    model = to_onnx(symbol, {}, inputs=["x", "then"], outputs="all", shapes={
        "x": ("N", 2, "h", "w"), "then": ("N", 1, "H", "W")})
    assert "MatMul" not in {node.op_type for node in model.graph.node}
    run = session(model)
    for size, then in (((4, 5), (7, 10)), ((1, 3), (2, 5)), ((6, 2), (9, 4))):
        x = np.random.RandomState(0).normal(size=(1, 2, *size)).astype("float32")
        target = np.zeros((1, 1, *then), "float32")
        x_, target_ = mx.nd.array(x), mx.nd.array(target)
        wanted = (enlarge(mx.nd, x_, 3, align_corners=align_corners),
                  enlarge(mx.nd, x_, 2, align_corners=align_corners, then=target_))
        for one, other in zip(run.run(None, {"x": x, "then": target}), wanted):
            assert np.abs(one - other.asnumpy()).max() <= 1e-5
