"""Operators with random arguments against MXNet: values and gradients."""
import mxnet as mx
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from torch_operators import compare_with_mxnet  # noqa: E402

sizes = st.integers(1, 5)
SEED = st.integers(0, 1000)


def pair(least, most):
    return st.tuples(st.integers(least, most), st.integers(least, most))


def compare(op, arguments, inputs, **options):
    """Compare with MXNet; leave out what MXNet refuses."""
    texts = {key: str(value) for key, value in arguments.items() if value is not None}
    try:
        compare_with_mxnet(op, texts, inputs, **options)
    except mx.MXNetError:
        assume(False)


def fuzz(**strategies):
    """Return a decorator that makes two tests of a function: with a few random arguments, and a slow one with many."""
    def decorate(function):
        @pytest.mark.parametrize("examples", [8, pytest.param(120, marks=pytest.mark.slow)])
        def test(examples):
            settings(max_examples=examples, database=None)(given(**strategies)(function))()
        return test
    return decorate


# ---- layers ---------------------------------------------------------------------------------

@fuzz(kernel=pair(1, 4), stride=pair(1, 3), dilate=pair(1, 3), pad=pair(0, 3), groups=st.sampled_from([1, 2, 3]),
       has_bias=st.booleans(), size=pair(5, 12), multiple=st.integers(1, 2), seed=SEED)
def test_convolution(kernel, stride, dilate, pad, groups, has_bias, size, multiple, seed):
    assume(all(n + 2 * p >= (k - 1) * d + 1 for n, p, k, d in zip(size, pad, kernel, dilate)))
    filters = groups * multiple
    compare("Convolution", {"kernel": kernel, "stride": stride, "dilate": dilate, "pad": pad, "num_group": groups,
                            "num_filter": filters, "no_bias": not has_bias},
            [(2, 6, *size), (filters, 6 // groups, *kernel), *[(filters,)] * has_bias], seed=seed)


@fuzz(kernel=pair(1, 4), stride=pair(1, 3), dilate=pair(1, 2), pad=pair(0, 2), adj=pair(0, 2),
       groups=st.sampled_from([1, 2]), has_bias=st.booleans(), size=pair(2, 6), target=st.booleans(), seed=SEED)
def test_deconvolution(kernel, stride, dilate, pad, adj, groups, has_bias, size, target, seed):
    assume(all(a < s for a, s in zip(adj, stride)))
    full = [(n - 1) * s + (k - 1) * d + 1 for n, s, k, d in zip(size, stride, kernel, dilate)]
    assume(all(n - 2 * p > 0 for n, p in zip(full, pad)))
    place = {"target_shape": tuple(n - 2 * p + a for n, p, a in zip(full, pad, adj))} if target else {"pad": pad,
                                                                                                     "adj": adj}
    compare("Deconvolution", {"kernel": kernel, "stride": stride, "dilate": dilate, **place, "num_group": groups,
                              "num_filter": 2 * groups, "no_bias": not has_bias},
            [(2, 4, *size), (4, 2, *kernel), *[(2 * groups,)] * has_bias], seed=seed)


@fuzz(kernel=pair(1, 5), stride=pair(1, 4), pad=pair(0, 3), size=pair(3, 12),
       kind=st.sampled_from(["max", "avg", "sum", "lp"]), convention=st.sampled_from(["valid", "full", "same"]),
       include=st.booleans(), seed=SEED)
def test_pooling(kernel, stride, pad, size, kind, convention, include, seed):
    assume(all(p < k and n + 2 * p >= k for n, p, k in zip(size, pad, kernel)))
    compare("Pooling", {"kernel": kernel, "stride": stride, "pad": pad, "pool_type": kind,
                        "pooling_convention": convention, "count_include_pad": include,
                        "p_value": 2 if kind == "lp" else None}, [(2, 3, *size)], seed=seed, positive=kind == "lp")


@fuzz(size=pair(1, 9), target=pair(1, 12), aligned=st.booleans(), seed=SEED)
def test_resizing_to_a_size(size, target, aligned, seed):
    compare("_contrib_BilinearResize2D", {"height": target[0], "width": target[1], "align_corners": aligned},
            [(2, 3, *size)], seed=seed)


@fuzz(size=pair(1, 9), scales=st.tuples(*[st.sampled_from([0.5, 0.75, 1.0, 1.3, 2.0, 2.5])] * 2),
       aligned=st.booleans(), mode=st.sampled_from(["size", "odd_scale", "to_even_down", "to_even_up", "to_odd_down",
                                                    "to_odd_up"]))
def test_resizing_by_a_mode(size, scales, aligned, mode):
    assume(all(n * scale >= 1 for n, scale in zip(size, scales)) and (mode != "to_even_down" or min(size) > 1))
    has_scales = mode in ("size", "odd_scale")
    compare("_contrib_BilinearResize2D", {
        "mode": mode, "align_corners": aligned, "scale_height": scales[0] if has_scales else None,
        "scale_width": scales[1] if has_scales else None}, [(1, 2, *size)])


@fuzz(size=pair(1, 9), target=pair(1, 9))
def test_adaptive_pooling(size, target):
    compare("_contrib_AdaptiveAvgPooling2D", {"output_size": target}, [(2, 3, *size)])


@fuzz(axis=st.integers(-4, 3), shape=st.tuples(*[st.integers(2, 5)] * 4), fixed=st.booleans(), frozen=st.booleans(),
       momentum=st.sampled_from([0.0, 0.5, 0.99]), seed=SEED)
def test_batch_norm(axis, shape, fixed, frozen, momentum, seed):
    compare("BatchNorm", {"axis": axis, "fix_gamma": fixed, "use_global_stats": frozen, "momentum": momentum},
            [shape, *[(shape[axis],)] * 4], aux=(3, 4), seed=seed, tolerance=1e-4)


@fuzz(op=st.sampled_from(["softmax", "log_softmax", "softmin"]), axis=st.integers(-3, 2),
       shape=st.tuples(sizes, sizes, sizes), temperature=st.sampled_from([None, 0.5, 3.0]))
def test_softmax(op, axis, shape, temperature):
    compare(op, {"axis": axis, "temperature": temperature}, [shape])


# ---- shapes ---------------------------------------------------------------------------------

@st.composite
def reshapes(draw):
    """Draw a shape and codes that change it, with at most one -1."""
    shape = draw(st.lists(st.integers(1, 6), min_size=1, max_size=5))
    codes, at, rest = [], 0, None
    while at < len(shape):
        kind = draw(st.sampled_from(["copy", "join", "split", "size", "all", "infer"]))
        if kind == "join" and at + 1 < len(shape):
            codes.append(-3)
            at += 2
            continue
        if kind == "split":
            first = draw(st.sampled_from([n for n in range(1, shape[at] + 1) if shape[at] % n == 0]))
            split = [first, shape[at] // first]
            if draw(st.booleans()):
                split[draw(st.integers(0, 1))] = -1
            codes += [-4, *split]
        elif kind == "all":
            codes.append(-2)
            break
        elif kind == "infer" and rest is None:
            rest = len(codes)
            codes.append(-1)
        else:
            codes.append(shape[at] if kind == "size" else 0)
        at += 1
    # MXNet writes outside of its memory where -1 has a higher place among the codes than the result has axes
    assume(rest is None or rest < len(codes) - codes.count(-4))
    return tuple(shape), tuple(codes)


@fuzz(case=reshapes(), is_reversed=st.booleans())
def test_reshape(case, is_reversed):
    shape, codes = case
    step = -1 if is_reversed else 1
    compare("Reshape", {"shape": codes[::step], "reverse": is_reversed}, [shape[::step]])


@st.composite
def slices(draw):
    shape = draw(st.lists(st.integers(1, 7), min_size=1, max_size=4))
    parts = []
    for n in shape[:draw(st.integers(1, len(shape)))]:
        bound = st.one_of(st.none(), st.integers(-n, n))
        step = draw(st.sampled_from([None, 1, 2, -1, -2]))
        part = draw(bound), draw(bound), step
        if not len(range(n)[slice(*part)]):
            part = None, None, step
        parts.append(part)
    return tuple(shape), parts


@fuzz(case=slices())
def test_slice(case):
    shape, parts = case
    begin, end, step = (tuple(part) for part in zip(*parts))
    # MXNet ends the process in the backward pass of some slices that have only some ends (mxnet-facts)
    compare("slice", {"begin": begin, "end": end, "step": step}, [shape], evaluate=True)
    filled = [range(n)[slice(*part)] for n, part in zip(shape, parts)]
    if all(step is None or step > 0 for *_, step in parts):
        compare("slice", {"begin": tuple(r.start for r in filled), "end": tuple(r.stop for r in filled),
                          "step": tuple(r.step for r in filled)}, [shape])


@fuzz(shape=st.tuples(sizes, sizes, sizes), axis=st.integers(-3, 2), data=st.data())
def test_slice_axis(shape, axis, data):
    n = shape[axis]
    begin = data.draw(st.integers(-n, n - 1))
    end = data.draw(st.one_of(st.none(), st.integers(-n, n)))
    assume(len(range(n)[begin:end]))
    compare("slice_axis", {"axis": axis, "begin": begin, "end": "None" if end is None else end}, [shape])


@fuzz(op=st.sampled_from(["add", "sub", "mul", "div", "maximum", "minimum", "greater", "lesser_equal", "equal"]),
       shape=st.lists(sizes, min_size=1, max_size=5), data=st.data())
def test_broadcasting(op, shape, data):
    one, other = ([1 if data.draw(st.booleans()) else n for n in shape] for _ in range(2))
    compare(f"broadcast_{op}", {}, [tuple(one), tuple(other)], tolerance=1e-4)


@fuzz(op=st.sampled_from(["sum", "mean", "max", "min", "prod", "norm"]), shape=st.tuples(*[st.integers(1, 4)] * 4),
       axes=st.lists(st.integers(-4, 3), max_size=4, unique_by=lambda i: i % 4), keepdims=st.booleans(),
       exclude=st.booleans())
def test_reductions(op, shape, axes, keepdims, exclude):
    if op == "norm":
        assume(len(axes) <= 2)
    compare(op, {"axis": tuple(axes) if axes else None, "keepdims": keepdims,
                 "exclude": None if op == "norm" else exclude}, [shape])


@fuzz(axes=st.permutations(range(4)), shape=st.tuples(sizes, sizes, sizes, sizes))
def test_transpose(axes, shape):
    compare("transpose", {"axes": tuple(axes)}, [shape])


@fuzz(mode=st.sampled_from(["constant", "edge", "reflect"]), before=pair(0, 3), after=pair(0, 3), size=pair(1, 5),
       value=st.sampled_from([0.0, 1.5]))
def test_pad(mode, before, after, size, value):
    # MXNet reads outside of the map where reflection needs more than it has
    assume(mode != "reflect" or all(max(pads) < n for pads, n in zip(zip(before, after), size)))
    compare("Pad", {"mode": mode, "constant_value": value,
                    "pad_width": (0, 0, 0, 0, before[0], after[0], before[1], after[1])}, [(2, 3, *size)])


@fuzz(parts=st.integers(1, 4), each=st.integers(1, 3), axis=st.integers(0, 2), squeeze=st.booleans())
def test_split(parts, each, axis, squeeze):
    shape = [2, 3, 4]
    shape[axis] = parts * each
    assume(not squeeze or each == 1)
    compare("SliceChannel", {"num_outputs": parts, "axis": axis, "squeeze_axis": squeeze}, [tuple(shape)],
            outputs=parts)


@fuzz(op=st.sampled_from(["pick", "take"]), axis=st.integers(-3, 2), mode=st.sampled_from(["clip", "wrap"]),
       shape=st.tuples(sizes, sizes, sizes), keepdims=st.booleans(), seed=SEED)
def test_indexing(op, axis, mode, shape, keepdims, seed):
    size = shape[:axis % 3] + shape[axis % 3 + 1:]
    index = np.random.RandomState(seed).randint(-7, 8, size).astype("float32")
    more = {"keepdims": keepdims} if op == "pick" else {}
    compare(op, {"axis": axis, "mode": mode, **more}, [shape, index], no_gradient=(1,))


@fuzz(axis=st.integers(-3, 2), k=st.integers(0, 3), shape=st.tuples(*[st.integers(3, 5)] * 3),
       ascending=st.booleans(), seed=SEED)
def test_topk(axis, k, shape, ascending, seed):
    compare("topk", {"axis": axis, "k": k, "is_ascend": ascending, "ret_typ": "both"}, [shape], outputs=2, heads=(0,),
            seed=seed)
    compare("sort", {"axis": axis, "is_ascend": ascending}, [shape], seed=seed)
