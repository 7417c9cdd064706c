"""Warping and deformable convolution against MXNet's operators, and their gradients against differences."""
import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd, nd

from mxnetseg.nn.warp import DeformableConv3x3, warp


def normal(seed, *shape, scale=1.0):
    return nd.array(np.random.RandomState(seed).normal(0, scale, shape))


def layer(in_channels, groups, operator, seed=0):
    """Return a layer whose offsets are not the zeros that it starts with."""
    conv = DeformableConv3x3(16, in_channels=in_channels, groups=groups, operator=operator)
    conv.initialize()
    for i, p in enumerate(conv.collect_params().values()):
        p.set_data(normal(seed + i, *p.shape, scale=0.4))
    return conv


@pytest.mark.parametrize("shape", [(2, 3, 6, 8), (1, 1, 2, 2), (1, 2, 9, 3)], ids=str)
def test_warp_equals_the_operators(shape):
    x, flow = normal(0, *shape), normal(1, shape[0], 2, *shape[2:], scale=3)  # also far beyond the border
    wanted = nd.BilinearSampler(x, nd.GridGenerator(flow, transform_type="warp"))
    np.testing.assert_allclose(warp(nd, x, flow).asnumpy(), wanted.asnumpy(), atol=1e-5)


@pytest.mark.parametrize("size", [(1, 1), (1, 6), (6, 1)], ids=str)
def test_warp_of_a_thin_map_is_finite(size):
    x = normal(0, 1, 2, *size)
    assert np.isfinite(warp(nd, x, normal(1, 1, 2, *size)).asnumpy()).all()
    np.testing.assert_allclose(warp(nd, x, nd.zeros((1, 2, *size))).asnumpy(), x.asnumpy(), atol=1e-6)


def test_warp_by_whole_pixels_shifts_and_fills_with_zeros():
    x = nd.arange(1, 13).reshape((1, 1, 3, 4))
    flow = nd.concat(nd.full((1, 1, 3, 4), 1), nd.full((1, 1, 3, 4), -1), dim=1)  # to the right, up
    wanted = [[0, 0, 0, 0], [2, 3, 4, 0], [6, 7, 8, 0]]
    np.testing.assert_allclose(warp(nd, x, flow)[0, 0].asnumpy(), wanted, atol=1e-5)


@pytest.mark.parametrize("shape, groups", [((2, 16, 7, 9), 8), ((1, 8, 1, 5), 2), ((1, 8, 1, 1), 1), ((2, 8, 6, 1), 4)],
                         ids=str)
def test_deformable_convolution_equals_the_operator(shape, groups):
    x = normal(9, *shape)
    wanted = layer(shape[1], groups, operator=True)(x).asnumpy()
    ours = layer(shape[1], groups, operator=False)
    for hybridised in (False, True):
        ours.hybridize(hybridised)
        assert np.abs(ours(x).asnumpy() - wanted).max() <= 1e-5 * np.abs(wanted).max()


def test_deformable_convolution_starts_as_an_ordinary_one():
    conv = DeformableConv3x3(4, in_channels=8, groups=2)
    conv.initialize(mx.init.Normal(0.3))
    x = normal(3, 2, 8, 5, 6)
    wanted = nd.Convolution(x, conv.deformable_conv_weight.data(), no_bias=True, num_filter=4,
                            kernel=(3, 3), pad=(1, 1))
    np.testing.assert_allclose(conv(x).asnumpy(), wanted.asnumpy(), atol=1e-5)


def test_deformable_convolution_has_the_gradient_of_its_values():
    """Compare a directional derivative with a central difference of the values of MXNet's operator.

    The direction spans all parameters and the input. The operator itself has no gradient on a CPU.
    """
    ours, reference = layer(8, 2, operator=False), layer(8, 2, operator=True)
    x, probe = normal(7, 1, 8, 4, 5), normal(8, 1, 16, 4, 5)
    parameters = list(ours.collect_params().values())
    directions = [normal(20 + i, *p.shape) for i, p in enumerate(parameters)]
    x_direction = normal(30, *x.shape)
    x.attach_grad()
    with autograd.record():
        value = nd.sum(ours(x) * probe)
    value.backward()
    slope = sum(nd.sum(p.grad() * d).asscalar() for p, d in zip(parameters, directions)) \
        + nd.sum(x.grad * x_direction).asscalar()

    def value_at(t):
        for p, source, d in zip(reference.collect_params().values(), parameters, directions):
            p.set_data(source.data() + t * d)
        return float(nd.sum(reference(x + t * x_direction) * probe).asscalar())

    step = 2e-4  # so small that few samples cross a pixel's border, where the slope jumps
    assert slope == pytest.approx((value_at(step) - value_at(-step)) / (2 * step), rel=0.02)
