"""Operators with random arguments in ONNX Runtime against MXNet."""
import mxnet as mx
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from onnx_operators import compare_with_mxnet  # noqa: E402

EXAMPLES = 12
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


@settings(max_examples=EXAMPLES)
@given(kernel=pair(1, 4), stride=pair(1, 3), dilate=pair(1, 3), pad=pair(0, 3), groups=st.sampled_from([1, 2, 3]),
       has_bias=st.booleans(), size=pair(5, 12), seed=SEED, static=st.booleans())
def test_convolution(kernel, stride, dilate, pad, groups, has_bias, size, seed, static):
    assume(all(n + 2 * p >= (k - 1) * d + 1 for n, p, k, d in zip(size, pad, kernel, dilate)))
    compare("Convolution", {"kernel": kernel, "stride": stride, "dilate": dilate, "pad": pad, "num_group": groups,
                            "num_filter": 2 * groups, "no_bias": not has_bias},
            [(2, 6, *size), (2 * groups, 6 // groups, *kernel), *[(2 * groups,)] * has_bias], seed=seed, static=static)


@settings(max_examples=EXAMPLES)
@given(kernel=pair(1, 4), stride=pair(1, 3), dilate=pair(1, 2), pad=pair(0, 2), adj=pair(0, 2),
       groups=st.sampled_from([1, 2]), size=pair(2, 6), target=st.booleans(), seed=SEED, static=st.booleans())
def test_deconvolution(kernel, stride, dilate, pad, adj, groups, size, target, seed, static):
    assume(all(a < s for a, s in zip(adj, stride)))
    full = [(n - 1) * s + (k - 1) * d + 1 for n, s, k, d in zip(size, stride, kernel, dilate)]
    assume(all(n - 2 * p > 0 for n, p in zip(full, pad)))
    wanted = tuple(n - 2 * p + a for n, p, a in zip(full, pad, adj))
    assume(not target or all(n <= most for n, most in zip(wanted, full)))
    place = {"target_shape": wanted} if target else {"pad": pad, "adj": adj}
    compare("Deconvolution", {"kernel": kernel, "stride": stride, "dilate": dilate, **place, "num_group": groups,
                              "num_filter": 2 * groups}, [(2, 4, *size), (4, 2, *kernel)], seed=seed, static=static)


@settings(max_examples=3 * EXAMPLES)
@given(kernel=pair(1, 5), stride=pair(1, 4), pad=pair(0, 3), size=pair(3, 12),
       kind=st.sampled_from(["max", "avg", "sum", "lp"]), convention=st.sampled_from(["valid", "full", "same"]),
       include=st.booleans(), seed=SEED, static=st.booleans())
def test_pooling(kernel, stride, pad, size, kind, convention, include, seed, static):
    assume(all(p < k and n + 2 * p >= k for n, p, k in zip(size, pad, kernel)))
    compare("Pooling", {"kernel": kernel, "stride": stride, "pad": pad, "pool_type": kind,
                        "pooling_convention": convention, "count_include_pad": include,
                        "p_value": 2 if kind == "lp" else None}, [(2, 3, *size)], seed=seed, positive=kind == "lp",
            static=static)


@settings(max_examples=2 * EXAMPLES)
@given(size=pair(1, 9), target=pair(1, 12), aligned=st.booleans(), like=st.booleans(), static=st.booleans())
def test_resizing_to_a_size(size, target, aligned, like, static):
    arguments = {"mode": "like"} if like else {"height": target[0], "width": target[1]}
    compare("_contrib_BilinearResize2D", {"align_corners": aligned, **arguments},
            [(2, 3, *size), *[(1, 1, *target)] * like], static=static)


@settings(max_examples=2 * EXAMPLES)
@given(size=pair(1, 9), scales=st.tuples(*[st.sampled_from([0.5, 0.75, 1.0, 1.3, 2.0, 2.5])] * 2),
       aligned=st.booleans(), static=st.booleans(),
       mode=st.sampled_from(["size", "odd_scale", "to_even_down", "to_even_up", "to_odd_down", "to_odd_up"]))
def test_resizing_by_a_mode(size, scales, aligned, mode, static):
    assume(all(n * scale >= 1 for n, scale in zip(size, scales)) and (mode != "to_even_down" or min(size) > 1))
    has_scales = mode in ("size", "odd_scale")
    compare("_contrib_BilinearResize2D", {
        "mode": mode, "align_corners": aligned, "scale_height": scales[0] if has_scales else None,
        "scale_width": scales[1] if has_scales else None}, [(1, 2, *size)], static=static)


@settings(max_examples=EXAMPLES)
@given(size=pair(1, 9), target=pair(1, 9), static=st.booleans())
def test_adaptive_pooling(size, target, static):
    compare("_contrib_AdaptiveAvgPooling2D", {"output_size": target}, [(2, 3, *size)], static=static)


@settings(max_examples=EXAMPLES)
@given(axis=st.integers(-4, 3), shape=st.tuples(*[st.integers(2, 5)] * 4), fixed=st.booleans(), static=st.booleans())
def test_batch_norm(axis, shape, fixed, static):
    compare("BatchNorm", {"axis": axis, "fix_gamma": fixed}, [shape, *[(shape[axis],)] * 4], aux=(3, 4),
            tolerance=1e-4, static=static)


@settings(max_examples=EXAMPLES)
@given(shape=st.lists(st.integers(1, 7), min_size=1, max_size=4), data=st.data(), static=st.booleans())
def test_slice(shape, data, static):
    parts = []
    for n in shape[:data.draw(st.integers(1, len(shape)))]:
        bound = st.one_of(st.none(), st.integers(-n, n))
        part = data.draw(bound), data.draw(bound), data.draw(st.sampled_from([None, 1, 2, -1, -2]))
        parts.append(part if len(range(n)[slice(*part)]) else (None, None, part[2]))
    begin, end, step = (tuple(part) for part in zip(*parts))
    compare("slice", {"begin": begin, "end": end, "step": step}, [tuple(shape)], static=static)
