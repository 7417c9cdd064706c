"""The resize against MXNet's operator and against its definition: many sizes, with and without aligned corners."""
import cv2
import mxnet as mx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mxnet import gluon, nd

from mxnetseg.nn.resize import enlarge, nearest, resize

SIZES = [
    ((1, 1), (1, 1)), ((1, 1), (5, 3)), ((5, 3), (1, 1)), ((1, 7), (4, 1)), ((2, 2), (3, 3)),
    ((4, 6), (4, 6)), ((8, 12), (64, 96)), ((9, 13), (65, 97)), ((65, 97), (9, 13)), ((7, 5), (3, 11)),
    ((3, 5), (128, 64)), ((33, 17), (32, 18)),
]
both_alignments = pytest.mark.parametrize("align_corners", [True, False])
sizes = pytest.mark.parametrize("size, to", SIZES, ids=str)


def axis_weights(n, m, align_corners):
    """Return the matrix (m, n) from the definition of bilinear interpolation, sample by sample, in float64."""
    weights = np.zeros((m, n))
    for i in range(m):
        if align_corners:
            position = i * (n - 1) / (m - 1) if m > 1 else 0.0
        else:
            position = min(max((i + 0.5) * n / m - 0.5, 0.0), n - 1.0)
        low = min(int(np.floor(position)), n - 1)
        fraction = position - low
        weights[i, low] += 1 - fraction
        weights[i, min(low + 1, n - 1)] += fraction
    return weights


def reference(x, to, align_corners):
    rows, columns = (axis_weights(n, m, align_corners) for n, m in zip(x.shape[2:], to))
    return np.einsum("ij,ncjk,lk->ncil", rows, x.astype("float64"), columns)


def reference_gradient(head, size, align_corners):
    rows, columns = (axis_weights(n, m, align_corners) for n, m in zip(size, head.shape[2:]))
    return np.einsum("ij,ncil,lk->ncjk", rows, head.astype("float64"), columns)


def run(function, x, head):
    """Return (output, gradient) of a function of one array."""
    x = nd.array(x)
    x.attach_grad()
    with mx.autograd.record():
        y = function(x)
    y.backward(nd.array(head))
    return y.asnumpy(), x.grad.asnumpy()


class Resize(gluon.HybridBlock):
    def __init__(self, align_corners):
        super().__init__()
        self.align_corners = align_corners

    def hybrid_forward(self, F, x, like):
        return resize(F, x, like, align_corners=self.align_corners)


def arrays(size, to):
    random = np.random.RandomState(sum(size) * 100 + sum(to))
    return tuple(random.normal(size=(2, 3, *shape)).astype("float32") for shape in (size, to))


@both_alignments
@sizes
def test_equals_the_definition(size, to, align_corners):
    x, head = arrays(size, to)
    y, gradient = run(lambda x: resize(nd, x, nd.zeros((1, 1, *to)), align_corners=align_corners), x, head)
    np.testing.assert_allclose(y, reference(x, to, align_corners), atol=2e-5)
    wanted = reference_gradient(head, size, align_corners)
    np.testing.assert_allclose(gradient, wanted, atol=2e-6 * max(10, np.abs(wanted).max()))


@both_alignments
@sizes
def test_equals_the_operator(size, to, align_corners):
    """A single output sample is excluded if corners are not aligned.

    The operator then takes the first input sample, while OpenCV and this resize take the middle.
    """
    if not align_corners:
        to = tuple(max(n, 2) for n in to)
    x, head = arrays(size, to)
    operator = nd.contrib.BilinearResize2D
    ours = run(lambda x: resize(nd, x, nd.zeros((1, 1, *to)), align_corners=align_corners), x, head)
    theirs = run(lambda x: operator(x, height=to[0], width=to[1], align_corners=align_corners), x, head)
    for a, b in zip(ours, theirs):
        np.testing.assert_allclose(a, b, atol=2e-5 * max(1, np.abs(b).max()))


@sizes
def test_without_aligned_corners_it_is_opencvs_bilinear(size, to):
    x, _ = arrays(size, to)
    wanted = np.stack([cv2.resize(channel, to[::-1], interpolation=cv2.INTER_LINEAR) for channel in x[0]])
    got = resize(nd, nd.array(x), nd.zeros((1, 1, *to)), align_corners=False).asnumpy()[0]
    np.testing.assert_allclose(got, wanted, atol=1e-5)


@both_alignments
def test_a_hybridised_block_works_at_changing_sizes(align_corners):
    block = Resize(align_corners)
    block.hybridize()
    for size, to in SIZES + SIZES[:3]:
        x, head = arrays(size, to)
        y, gradient = run(lambda x, to=to: block(x, nd.zeros((1, 2, *to))), x, head)
        np.testing.assert_allclose(y, reference(x, to, align_corners), atol=2e-5)
        wanted = reference_gradient(head, size, align_corners)
        np.testing.assert_allclose(gradient, wanted, atol=2e-6 * max(10, np.abs(wanted).max()))


@both_alignments
@pytest.mark.parametrize("hybrid", [True, False])
@pytest.mark.parametrize("to", [(6, 9), (4, 5)])  # (4, 5) is the size of x itself
def test_the_like_tensor_gets_no_gradient(align_corners, hybrid, to):
    block = Resize(align_corners)
    block.hybridize(hybrid)
    x, like = nd.ones((1, 2, 4, 5)), nd.ones((1, 3, *to))
    x.attach_grad()
    like.attach_grad()
    like.grad[:] = 7
    with mx.autograd.record():
        # like is also used directly: its gradient must come from there only
        y = block(x, like).sum() + 2 * like.sum()
    y.backward()
    assert (like.grad.asnumpy() == 2).all()
    assert x.grad.asnumpy().sum() == pytest.approx(2 * to[0] * to[1], rel=1e-5)


def test_nan_and_infinity_in_the_like_tensor_do_not_matter():
    x = nd.array(arrays((4, 5), (6, 7))[0])
    like = nd.array(np.full((1, 1, 6, 7), np.nan))
    wanted = resize(nd, x, nd.zeros((1, 1, 6, 7)), align_corners=True)
    np.testing.assert_array_equal(resize(nd, x, like, align_corners=True).asnumpy(), wanted.asnumpy())


@both_alignments
def test_in_float64_it_is_exact(align_corners):
    x = arrays((5, 7), (18, 33))[0].astype("float64")
    like = nd.zeros((1, 1, 18, 33), dtype="float64")
    got = resize(nd, nd.array(x, dtype="float64"), like, align_corners=align_corners)
    assert got.dtype == np.float64
    np.testing.assert_allclose(got.asnumpy(), reference(x, (18, 33), align_corners), atol=1e-13)


@both_alignments
def test_large_maps_keep_their_precision(align_corners):
    """A ramp of 2048 samples: positions are computed, not summed up."""
    x = np.tile(np.arange(256, dtype="float32"), (1, 1, 2, 1))
    got = resize(nd, nd.array(x), nd.zeros((1, 1, 2, 2048)), align_corners=align_corners).asnumpy()
    wanted = reference(x, (2, 2048), align_corners)
    np.testing.assert_allclose(got, wanted, atol=2e-4)


side = st.integers(1, 40)


@settings(max_examples=40)
@given(side, side, side, side, st.booleans())
def test_properties(h, w, to_h, to_w, align_corners):
    x = nd.array(np.random.RandomState(h * w).normal(size=(1, 1, h, w)))
    like = nd.zeros((1, 1, to_h, to_w))
    y = resize(nd, x, like, align_corners=align_corners).asnumpy()
    assert y.shape == (1, 1, to_h, to_w)
    # values stay between the extremes, constants stay, and flipping commutes with resizing
    assert y.min() >= x.min().asscalar() - 1e-5 and y.max() <= x.max().asscalar() + 1e-5
    ones = resize(nd, nd.ones_like(x), like, align_corners=align_corners).asnumpy()
    np.testing.assert_allclose(ones, 1, atol=1e-5)
    if to_h > 1 or not align_corners:
        flipped = resize(nd, x.flip(2), like, align_corners=align_corners).asnumpy()
        np.testing.assert_allclose(flipped[:, :, ::-1], y, atol=2e-5)
    if (h, w) == (to_h, to_w):
        np.testing.assert_allclose(y, x.asnumpy(), atol=1e-5)


@both_alignments
@pytest.mark.parametrize("hybrid", [False, True])
def test_enlarge(align_corners, hybrid):
    """The map comes from a convolution, so that gradients flow beyond it; one network at two sizes."""
    class Net(gluon.HybridBlock):
        def __init__(self):
            super().__init__()
            self.conv = gluon.nn.Conv2D(3, 1, use_bias=False, in_channels=3, weight_initializer="zeros")

        def hybrid_forward(self, F, x):
            return enlarge(F, self.conv(x), 2, align_corners=align_corners)

    net = Net()
    net.initialize()
    net.conv.weight.set_data(nd.eye(3).reshape((3, 3, 1, 1)))
    net.hybridize(hybrid)
    for height, width in [(3, 4), (1, 5)]:
        x = np.random.RandomState(0).normal(size=(2, 3, height, width))
        head = np.random.RandomState(1).normal(size=(2, 3, 2 * height, 2 * width))
        got, gradient = run(net, x, head)
        assert np.abs(got - reference(x, head.shape[2:], align_corners)).max() < 1e-5
        assert np.abs(gradient - reference_gradient(head, (height, width), align_corners)).max() < 1e-5


class Enlarge(gluon.HybridBlock):
    def hybrid_forward(self, F, x, like):
        return enlarge(F, x, 4, align_corners=False, then=like)


def test_enlarging_and_resizing_at_once_equals_one_after_the_other():
    block = Enlarge()
    block.hybridize()
    for size, to in (((3, 5), (12, 20)), ((3, 5), (9, 17)), ((1, 2), (3, 7)), ((4, 6), (16, 23))):
        x = np.random.RandomState(sum(size)).normal(size=(2, 3, *size)).astype("float32")
        head = np.random.RandomState(sum(to)).normal(size=(2, 3, *to)).astype("float32")
        got, gradient = run(lambda x, to=to: block(x, nd.zeros((1, 1, *to))), x, head)
        large = tuple(4 * n for n in size)
        wanted = reference(reference(x, large, False), to, False)
        np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-5)
        back = reference_gradient(reference_gradient(head, large, False), size, False)
        np.testing.assert_allclose(gradient, back, rtol=1e-4, atol=1e-5)


class Nearest(gluon.HybridBlock):
    def hybrid_forward(self, F, x, like):
        return nearest(F, x, like)


def test_nearest_copies_rows_and_columns_at_any_size_hybridised():
    block = Nearest()
    block.hybridize()
    for size, to in SIZES:
        x = np.random.RandomState(sum(size)).normal(size=(2, 3, *size)).astype("float32")
        head = np.random.RandomState(sum(to)).normal(size=(2, 3, *to)).astype("float32")
        got, gradient = run(lambda x, to=to: block(x, nd.zeros((1, 1, *to))), x, head)
        rows, columns = (np.arange(m) * n // m for n, m in zip(size, to))
        np.testing.assert_array_equal(got, x[:, :, rows][:, :, :, columns])
        wanted = np.zeros(x.shape)
        np.add.at(wanted, (slice(None), slice(None), rows[:, None], columns[None]), head)
        np.testing.assert_allclose(gradient, wanted, rtol=1e-4, atol=1e-5)
