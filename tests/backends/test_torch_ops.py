"""Every operator against MXNet: values, and gradients of all inputs."""
import mxnet as mx
import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch_operators import build, compare_with_mxnet  # noqa: E402

from mxnetseg import to_torch  # noqa: E402
from mxnetseg.backends.operators import TORCH  # noqa: E402
from mxnetseg.errors import CheckpointError  # noqa: E402
from mxnetseg.graph.symbol_file import SymbolGraph, SymbolNode, symbol_text  # noqa: E402

X = (2, 6, 7, 9)
INDEX = np.array([[0, 2, 4], [1, -1, 9]], "float32")
GRID = np.random.RandomState(1).uniform(-1.3, 1.3, (2, 2, 5, 4)).astype("float32")
AT_BOUNDS = np.array([-1, -1e-30, 0, 1e-30, 3, 6, 6.1], "float32")  # of [0, 6]
WHOLE = np.array([[7, -7, 5], [-6, 0, 9]], "int64")
DIVISORS = np.array([[2, 2, -3], [4, 5, -4]], "int64")
BN = {"eps": "1e-5", "momentum": "0.8"}

# (operator, arguments, inputs: shapes or arrays, options)
CASES = [
    *((op, {}, [X], {}) for op in (
        "abs", "sign", "ceil", "floor", "trunc", "fix", "round", "rint", "exp", "expm1", "square", "negative", "sin",
        "cos", "tan", "arctan", "sinh", "cosh", "tanh", "erf", "relu", "sigmoid", "softsign", "zeros_like", "ones_like",
        "BlockGrad", "_copy", "reciprocal", "Flatten", "shape_array", "hard_sigmoid", "logical_not",
        "softmax", "log_softmax", "softmin")),
    *((op, {}, [X], {"positive": True}) for op in ("log", "log2", "log10", "log1p", "sqrt", "rsqrt", "cbrt")),
    *((op, {}, [(2, 5)], {"small": True}) for op in ("arcsin", "arccos")),
    *((op, {}, [(2, 6, 1, 9), (1, 6, 7, 9)], {"positive": op == "broadcast_power"}) for op in (
        "broadcast_add", "broadcast_sub", "broadcast_mul", "broadcast_div", "broadcast_maximum", "broadcast_minimum",
        "broadcast_power", "broadcast_hypot", "broadcast_equal", "broadcast_not_equal", "broadcast_greater",
        "broadcast_greater_equal", "broadcast_lesser", "broadcast_lesser_equal")),
    *((op, {}, [X], {"no_gradient": (0,)}) for op in ("make_loss", "stop_gradient", "identity")),
    ("broadcast_mod", {}, [(2, 6), (1, 6)], {}),
    *((op, {}, [X, X], {}) for op in ("elemwise_add", "elemwise_sub", "elemwise_mul", "elemwise_div", "_maximum")),
    *((op, {"scalar": scalar}, [X], {"positive": "power" in op}) for scalar in ("2", "0.5") for op in (
        "_plus_scalar", "_minus_scalar", "_rminus_scalar", "_mul_scalar", "_div_scalar", "_rdiv_scalar",
        "_power_scalar", "_rpower_scalar", "_maximum_scalar", "_minimum_scalar", "_greater_scalar",
        "_lesser_equal_scalar", "_equal_scalar", "smooth_l1")),
    ("_mod_scalar", {"scalar": "0.7"}, [X], {}),
    # whole numbers stay whole
    *((f"broadcast_{op}", {}, [WHOLE, DIVISORS], {"evaluate": True}) for op in ("add", "mul", "div", "mod", "maximum")),
    *((f"_{op}_scalar", {"scalar": scalar}, [WHOLE], {"evaluate": True}) for scalar in ("2.0", "3") for op in (
        "plus", "rminus", "mul", "div", "mod", "maximum", "greater")),
    ("_div_scalar", {"scalar": "2.5"}, [WHOLE], {"evaluate": True}),
    ("_rdiv_scalar", {"scalar": "9"}, [DIVISORS], {"evaluate": True}),
    *((op, {"axis": "1"}, [WHOLE], {"evaluate": True}) for op in ("sum", "mean", "max", "prod")),
    ("add_n", {"num_args": "3"}, [X, X, X], {}),
    *(("Activation", {"act_type": act}, [X], {}) for act in ("relu", "sigmoid", "tanh", "softrelu", "softsign")),
    *(("LeakyReLU", {"act_type": act, "slope": "0.1"}, [X], {}) for act in ("leaky", "elu", "gelu")),
    ("LeakyReLU", {"act_type": "selu"}, [X], {"no_gradient": (0,)}),  # MXNet's is not that of its values
    ("LeakyReLU", {"act_type": "prelu"}, [X, (6,)], {}), ("LeakyReLU", {"act_type": "prelu"}, [X, (1,)], {}),
    ("hard_sigmoid", {"alpha": "0.3", "beta": "0.4"}, [X], {}),
    ("clip", {"a_min": "-0.5", "a_max": "0.7"}, [X], {}),
    ("clip", {"a_min": "0", "a_max": "6"}, [AT_BOUNDS], {}),
    ("Cast", {"dtype": "float32"}, [X], {}),
    ("amp_multicast", {"num_outputs": "2", "cast_narrow": "True"}, [X, X], {"no_gradient": (1,)}),
    ("where", {}, [np.array([0, 1], "float32"), (2, 3, 4), (2, 3, 4)], {"no_gradient": (0,)}),
    ("zeros_like", {"dtype": "int64"}, [X], {}), ("ones_like", {"dtype": "int64"}, [X], {}),
    ("where", {}, [np.array([[0, 1, -2]], "float32"), (1, 3), (1, 3)], {"no_gradient": (0,)}),
    *((op, arguments, [(2, 3, 4)], {}) for op in ("sum", "mean", "max", "min", "prod") for arguments in (
        {}, {"axis": "1"}, {"axis": "(0, 2)", "keepdims": "True"}, {"axis": "-1", "exclude": "True"})),
    *(("norm", arguments, [(2, 3, 4)], {}) for arguments in (
        {"ord": "2"}, {"ord": "2", "axis": "1", "keepdims": "True"}, {"ord": "1", "axis": "2"})),
    *((op, {"axis": "1"}, [X], {"no_gradient": (0,)}) for op in ("argmax", "argmin")),
    *(("dot", arguments, shapes, {}) for arguments, shapes in (
        ({}, [(2, 3, 4), (4, 5)]), ({}, [(3, 4), (4, 5, 2)]), ({"transpose_a": "True"}, [(4, 3), (4, 5)]),
        ({"transpose_b": "True"}, [(3, 4), (5, 4)]), ({}, [(4,), (4,)]))),
    *(("batch_dot", arguments, shapes, {}) for arguments, shapes in (
        ({}, [(2, 3, 4), (2, 4, 5)]), ({"transpose_b": "True"}, [(2, 3, 4), (2, 5, 4)]),
        ({"transpose_a": "True"}, [(2, 4, 3), (2, 4, 5)]))),
    *(("pick", arguments, [(2, 3, 5), INDEX], {"no_gradient": (1,)}) for arguments in (
        {}, {"keepdims": "True"}, {"mode": "wrap"})),
    ("pick", {"axis": "1"}, [(2, 5, 3), INDEX], {"no_gradient": (1,)}),
    ("one_hot", {"depth": "4", "on_value": "2", "off_value": "-1"}, [INDEX], {"no_gradient": (0,)}),
    ("take", {}, [(5, 3), INDEX], {"no_gradient": (1,)}),
    ("take", {"axis": "1", "mode": "wrap"}, [(2, 5, 3), INDEX], {"no_gradient": (1,)}),
    ("Embedding", {"input_dim": "5", "output_dim": "3"}, [np.abs(INDEX), (5, 3)], {"no_gradient": (0,)}),
    # order, gathering, constants
    *(("sort", arguments, [X], {}) for arguments in ({"axis": "-1"}, {"axis": "1", "is_ascend": "False"})),
    *(("argsort", arguments, [X], {"no_gradient": (0,)}) for arguments in (
        {}, {"axis": "1", "is_ascend": "0", "dtype": "int32"}, {"axis": "None"})),
    *(("topk", {"k": k, "ret_typ": kind, **arguments}, [X], options)
      for kind, options in (("value", {}), ("indices", {"no_gradient": (0,)}), ("mask", {"no_gradient": (0,)}),
                            ("both", {"outputs": 2, "heads": (0,)}))
      for k in ("1", "3") for arguments in ({}, {"axis": "1", "is_ascend": "True"})),
    ("topk", {"k": "0", "ret_typ": "both", "dtype": "int32"}, [X], {"outputs": 2, "heads": (0,)}),
    *(("_np_cumsum", arguments, [X], {}) for arguments in ({}, {"axis": "2"})),
    ("gather_nd", {}, [(2, 5, 3), np.array([[0, 1, 1], [4, 0, 4]], "float32")], {"no_gradient": (1,)}),
    ("batch_take", {}, [(3, 5), np.array([0, 4, 7], "int32")], {"no_gradient": (0, 1)}),
    ("diag", {}, [(3, 5)], {}), ("diag", {"k": "-1"}, [(4,)], {}), ("diag", {"k": "1", "axis1": "-2", "axis2": "-1"},
                                                                    [(2, 3, 4)], {}),
    ("_zeros", {"shape": "(2, 3)"}, [], {}), ("_ones", {"shape": "(2,)", "dtype": "int32"}, [], {}),
    ("_full", {"shape": "(2, 3)", "value": "1.5"}, [], {}),
    *(("_arange", arguments, [], {}) for arguments in (
        {"start": "5"}, {"start": "1", "stop": "4", "step": "0.5", "repeat": "2"})),
    # shapes
    *(("Reshape", {"shape": shape}, [(2, 6, 4, 5)], {}) for shape in (
        "(0, -1)", "(-1,)", "(0, 0, -3)", "(-3, -2)", "(0, -4, 2, -1, -2)", "(0, -4, -1, 3, 0, 0)", "(-2,)",
        "(6, 2, -1)")),
    ("Reshape", {"shape": "(-1, 0)", "reverse": "True"}, [(2, 6, 4)], {}),
    ("Reshape", {"shape": "(0, -3, 0)", "reverse": "True"}, [(2, 6, 4, 5)], {}),
    ("Reshape", {"target_shape": "(2, 0)"}, [(2, 6, 4)], {}),
    ("reshape_like", {}, [(2, 6), (3, 4)], {"no_gradient": (1,)}),
    ("reshape_like", {"lhs_begin": "1", "lhs_end": "2", "rhs_begin": "-2", "rhs_end": "None"}, [(5, 12), (9, 3, 4)],
     {"no_gradient": (1,)}),
    ("expand_dims", {"axis": "1"}, [(2, 3)], {}), ("expand_dims", {"axis": "-1"}, [(2, 3)], {}),
    ("squeeze", {}, [(2, 1, 3, 1)], {}), ("squeeze", {"axis": "1"}, [(2, 1, 3, 1)], {}),
    ("squeeze", {"axis": "(1, 3)"}, [(2, 1, 3, 1)], {}),
    ("transpose", {}, [(2, 3, 4)], {}), ("transpose", {"axes": "(1, 2, 0)"}, [(2, 3, 4)], {}),
    ("SwapAxis", {"dim1": "0", "dim2": "2"}, [(2, 3, 4)], {}),
    ("depth_to_space", {"block_size": "2"}, [(2, 8, 3, 5)], {}),
    ("space_to_depth", {"block_size": "2"}, [(2, 3, 4, 6)], {}),
    *(("_contrib_arange_like", arguments, [(2, 3, 4)], {}) for arguments in (
        {"axis": "2"}, {"axis": "-2", "start": "1", "step": "0.5"}, {})),
    *(("slice", arguments, [X], {}) for arguments in (
        {"begin": "(0, 1)", "end": "(1, 4)"}, {"begin": "(None, None, 1, -3)", "end": "(None, None, None, None)"},
        {"begin": "(None, None, None)", "end": "(None, None, None)", "step": "(None, 2, -1)"})),
    *(("slice_axis", {"axis": axis, "begin": begin, "end": end}, [X], {})
      for axis, begin, end in (("1", "1", "3"), ("-1", "-2", "None"), ("-2", "0", "-1"))),
    ("slice_like", {}, [(3, 4, 5), (2, 3, 5)], {"no_gradient": (1,)}),
    ("slice_like", {"axes": "(1, -1)"}, [(3, 4, 5), (7, 2, 3)], {"no_gradient": (1,)}),
    ("SliceChannel", {"num_outputs": "3"}, [X], {"outputs": 3}),
    ("SliceChannel", {"num_outputs": "2", "axis": "0", "squeeze_axis": "1"}, [X], {"outputs": 2}),
    ("_split_v2", {"indices": "(0, 2)", "axis": "1"}, [X], {"outputs": 2}),
    ("Crop", {"num_args": "2", "offset": "(1, 2)"}, [X, (2, 1, 4, 5)], {"no_gradient": (1,)}),
    ("Crop", {"num_args": "1", "h_w": "(3, 4)", "center_crop": "True"}, [X], {}),
    ("Concat", {"num_args": "2"}, [(2, 3, 4), (2, 5, 4)], {}),
    ("Concat", {"num_args": "2", "dim": "-1"}, [(2, 3, 4), (2, 3, 1)], {}),
    ("stack", {"num_args": "2", "axis": "1"}, [(2, 3), (2, 3)], {}),
    ("broadcast_axis", {"axis": "(0, 2)", "size": "(3, 4)"}, [(1, 2, 1)], {}),
    ("broadcast_to", {"shape": "(3, 0, 4)"}, [(1, 2, 1)], {}),
    ("broadcast_like", {}, [(1, 2, 1), (3, 2, 4)], {"no_gradient": (1,)}),
    ("broadcast_like", {"lhs_axes": "(0, 2)", "rhs_axes": "(1, 0)"}, [(1, 2, 1), (4, 3)], {"no_gradient": (1,)}),
    ("tile", {"reps": "(2, 1, 3)"}, [(2, 3)], {}),
    ("repeat", {"repeats": "2", "axis": "1"}, [(2, 3)], {}), ("repeat", {"repeats": "2"}, [(2, 3)], {}),
    ("reverse", {"axis": "(1,)"}, [(2, 3)], {}),
    ("Pad", {"mode": "constant", "pad_width": "(0, 0, 0, 0, 1, 2, 3, 0)", "constant_value": "0.5"}, [X], {}),
    ("Pad", {"mode": "edge", "pad_width": "(0, 0, 0, 0, 1, 2, 3, 0)"}, [X], {}),
    ("Pad", {"mode": "reflect", "pad_width": "(0, 0, 0, 0, 1, 2, 3, 0)"}, [X], {}),
    # layers
    *(("Convolution", {"kernel": "(3, 2)", "num_filter": "4", **arguments}, [X, weight, *bias], {})
      for arguments, weight, bias in (
          ({"stride": "(2, 1)", "pad": "(1, 0)"}, (4, 6, 3, 2), [(4,)]), ({"no_bias": "True"}, (4, 6, 3, 2), []),
          ({"num_group": "2", "dilate": "(2, 3)", "no_bias": "1"}, (4, 3, 3, 2), []))),
    ("Convolution", {"kernel": "(3,)", "num_filter": "4"}, [(2, 5, 9), (4, 5, 3), (4,)], {}),
    *(("Deconvolution", {"kernel": "(4, 3)", "num_filter": "4", **arguments}, [X, weight, *bias], {})
      for arguments, weight, bias in (
          ({"stride": "(2, 2)", "pad": "(1, 1)", "adj": "(0, 1)"}, (6, 4, 4, 3), []),
          ({"no_bias": "False"}, (6, 4, 4, 3), [(4,)]), ({"num_group": "2"}, (6, 2, 4, 3), []))),
    ("FullyConnected", {"num_hidden": "3"}, [(2, 5, 4), (3, 20), (3,)], {}),
    ("FullyConnected", {"num_hidden": "3", "flatten": "False", "no_bias": "True"}, [(2, 5, 4), (3, 4)], {}),
    *(("Pooling", {"kernel": "(3, 3)", "stride": "(2, 2)", "pool_type": kind, **arguments}, [(2, 3, 8, 11)], {})
      for kind in ("max", "avg", "sum") for arguments in (
          {}, {"pad": "(1, 1)"}, {"pooling_convention": "full"}, {"pooling_convention": "full", "pad": "(1, 1)"})),
    ("Pooling", {"kernel": "(3, 3)", "pool_type": "avg", "pad": "(1, 1)", "count_include_pad": "False",
                 "pooling_convention": "full", "stride": "(2, 2)"}, [X], {}),
    ("Pooling", {"kernel": "(2, 2)", "pool_type": "lp", "p_value": "2"}, [X], {}),
    *(("Pooling", {"kernel": "(1, 1)", "global_pool": "True", "pool_type": kind}, [X], {})
      for kind in ("max", "avg", "sum")),
    *(("_contrib_AdaptiveAvgPooling2D", arguments, [X], {}) for arguments in (
        {}, {"output_size": "1"}, {"output_size": "3"}, {"output_size": "(2, 5)"})),
    *(("_contrib_BilinearResize2D", arguments, [X], {}) for arguments in (
        {"height": "11", "width": "5"}, {"height": "11", "width": "5", "align_corners": "False"},
        {"scale_height": "1.5", "scale_width": "0.5"}, {"scale_height": "1.3", "scale_width": "2", "mode": "odd_scale"},
        *({"mode": mode} for mode in ("to_even_down", "to_even_up", "to_odd_down", "to_odd_up")))),
    ("_contrib_BilinearResize2D", {"mode": "like"}, [X, (2, 1, 5, 12)], {"no_gradient": (1,)}),
    ("UpSampling", {"scale": "2", "sample_type": "nearest", "num_args": "1"}, [X], {}),
    ("UpSampling", {"scale": "2", "sample_type": "nearest", "num_args": "2"}, [(1, 2, 4, 6), (1, 3, 2, 3)], {}),
    *(("UpSampling", {"scale": scale, "sample_type": "bilinear", "num_args": "2", "num_filter": "3"},
       [(1, 3, 4, 5), (3, 1, kernel, kernel)], {}) for scale, kernel in (("2", 4), ("3", 5))),
    ("BilinearSampler", {}, [X, GRID], {}),
    *(("BatchNorm", {**BN, **arguments}, [X, (6,), (6,), (6,), (6,)], {"aux": (3, 4), **options})
      for arguments, options in (
          ({"fix_gamma": "False"}, {}), ({}, {}), ({"fix_gamma": "False", "use_global_stats": "True"}, {}),
          ({"fix_gamma": "False"}, {"evaluate": True}))),
    ("BatchNorm", {"axis": "3", "fix_gamma": "False"}, [X, (9,), (9,), (9,), (9,)], {"aux": (3, 4)}),
    ("Dropout", {"p": "0.5"}, [X], {"evaluate": True}),
    ("LayerNorm", {}, [(2, 3, 5), (5,), (5,)], {}),
    ("LayerNorm", {"axis": "1", "eps": "1e-3"}, [X, (6,), (6,)], {}),
    ("GroupNorm", {"num_groups": "3"}, [X, (3,), (3,)], {}),
    ("InstanceNorm", {"eps": "0.01"}, [X, (6,), (6,)], {}),
    *(("L2Normalization", {"mode": mode}, [X], {}) for mode in ("instance", "channel", "spatial")),
    ("LRN", {"nsize": "3", "alpha": "0.1", "knorm": "1"}, [X], {}),
    *((op, {"axis": "1", "temperature": "2.5"}, [X], {}) for op in ("softmax", "log_softmax", "softmin")),
    ("SoftmaxActivation", {"mode": "channel"}, [X], {}), ("SoftmaxActivation", {}, [(3, 5)], {}),
    ("SoftmaxActivation", {}, [X], {"no_gradient": (0,)}),  # MXNet's forward and backward use different axes
    *(("SoftmaxOutput", arguments, [X, label], {"no_gradient": (0, 1), "label": True}) for arguments, label in (
        ({}, (2, 6, 7)), ({"multi_output": "True"}, (2, 7, 9)), ({"preserve_shape": "True"}, (2, 6, 7)))),
    ("SoftmaxOutput", {}, [(2, 5), (2,)], {"no_gradient": (0, 1), "label": True}),
]


@pytest.mark.parametrize("op, arguments, inputs, options", CASES,
                         ids=[f"{i}-{case[0]}" for i, case in enumerate(CASES)])
def test_values_and_gradients(op, arguments, inputs, options):
    compare_with_mxnet(op, arguments, inputs, **options)


def test_every_function_has_a_case():
    tried = {TORCH[op].function for op, *_ in CASES}
    assert not [name for name, entry in TORCH.items() if not name.startswith("_") and entry.function not in tried]


@pytest.mark.parametrize("axes", [(), (2, 3)])
def test_dropout_keeps_the_mean_and_drops_along_axes(axes):
    graph = build("Dropout", {"p": "0.3", "axes": str(axes)}, 1)
    module = to_torch(graph, {}, inputs=["x0"]).train()
    dropped = module(torch.ones(64, 50, 8, 8))
    kept = 1 / (1 - 0.3)
    assert set(np.unique(dropped.numpy()).round(5)) == {0, np.float32(kept).round(5)}
    assert abs(float((dropped == 0).float().mean()) - 0.3) < 0.03
    if axes:
        assert bool((dropped == dropped[:, :, :1, :1]).all())
    assert bool((module.eval()(torch.ones(2, 3)) == 1).all())


@pytest.mark.parametrize("op, arguments, message", [
    ("Pooling", {"kernel": "(2, 2)", "pooling_convention": "ceil"}, "pooling_convention=ceil"),
    ("LeakyReLU", {"act_type": "rrelu"}, "act_type=rrelu"), ("Activation", {"act_type": "mish"}, "act_type=mish"),
    ("clip", {"a_min": "low", "a_max": "1"}, "not a number"), ("transpose", {"axes": "(0.5, 1)"}, "whole numbers"),
    ("Flatten", {"axis": "1"}, "axis='1'"), ("slice_axis", {"axis": "1"}, "no begin"),
    ("Concat", {"dim": "1", "new_argument": "3"}, "new_argument"), ("softmax", {"use_length": "True"}, "use_length"),
    ("hard_sigmoid", {"alpha": "[" * 9000}, "not a number"),
])
def test_what_is_not_supported_is_refused(op, arguments, message):
    with pytest.raises(CheckpointError) as error:
        to_torch(build(op, arguments, 1), {}, inputs=["x0"])
    assert message in str(error.value) and "op" in str(error.value.where)


def test_statistics_of_a_batch_norm_that_is_called_twice_are_mxnets():
    # its arguments follow a shared convolution, as in a network that sees two scales
    variables = [SymbolNode("null", name, {}, ()) for name in ("x", "y", "weight", "gamma", "beta", "mean", "var")]
    conv = {"kernel": "(1, 1)", "num_filter": "4", "no_bias": "True"}
    nodes = [*variables, *(SymbolNode("Convolution", f"conv{i}", conv, ((i, 0), (2, 0))) for i in (0, 1)),
             *(SymbolNode("BatchNorm", f"bn{i}", {"momentum": "0.7"}, ((7 + i, 0), (3, 0), (4, 0), (5, 0), (6, 0)))
               for i in (0, 1)), SymbolNode("elemwise_add", "sum", {}, ((9, 0), (10, 0)))]
    graph = SymbolGraph(tuple(nodes), ((11, 0),))
    random = np.random.RandomState(0)
    values = {name: random.uniform(0.5, 1.5, (4,)).astype("float32") for name in ("gamma", "beta", "mean", "var")}
    values["weight"] = random.normal(size=(4, 3, 1, 1)).astype("float32")
    images = [random.normal(i, 1 + i, (2, 3, 5, 6)).astype("float32") for i in (0, 1)]

    arrays = {name: mx.nd.array(value) for name, value in (*values.items(), *zip("xy", images))}
    statistics = {name: arrays.pop(name) for name in ("mean", "var")}
    executor = mx.sym.load_json(symbol_text(graph)).bind(
        mx.cpu(), arrays, {"weight": mx.nd.zeros((4, 3, 1, 1))}, "write", statistics)
    executor.forward(is_train=True)
    executor.backward([mx.nd.ones((2, 4, 5, 6))])
    mx.nd.waitall()
    module = to_torch(graph, values, inputs=("x", "y")).train()
    module(*map(torch.from_numpy, images))
    for name, array in statistics.items():
        np.testing.assert_allclose(module.state_dict()[name].numpy(), array.asnumpy(), rtol=1e-5)
