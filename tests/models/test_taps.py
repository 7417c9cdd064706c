"""Weights that crops of one size never train, against the gradients that they get."""
import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd

from mxnetseg.models import get_model
from mxnetseg.models._taps import _all_meet, untrained_taps

NETWORKS = [("canet", (128, 160), {"backbone": "resnet18"}), ("deeplabv3", (128, 160), {"backbone": "resnet18"}),
            ("sfnet", (128, 96), {"backbone": "resnet18"}), ("fcn", (96, 64), {"backbone": "resnet18"})]


def without_gradient(net, crop):
    """Return the names of the convolutions that have a tap whose gradient is 0 in all channels."""
    mx.random.seed(0)
    x = mx.nd.random.normal(shape=(2, 3, *crop))
    with autograd.record():
        y = net(x)[0]
    y.backward(mx.nd.random.normal(shape=y.shape))
    gradients = {name: p.grad().asnumpy() for name, p in net._collect_params_with_prefix().items()
                 if p.grad_req != "null" and len(p.shape) == 4}
    return {name for name, gradient in gradients.items() if not np.abs(gradient).max(axis=(0, 1)).all()}


@pytest.mark.parametrize("name, crop, options", NETWORKS)
def test_they_get_no_gradient(name, crop, options):
    net = get_model(name, nclass=3, **options)
    found = untrained_taps(net, crop)
    assert set(found) == without_gradient(net, crop)
    assert bool(found) == (name != "fcn")


@pytest.mark.parametrize("name, crop, options", NETWORKS[:3])
def test_crops_of_the_returned_size_train_them_all(name, crop, options):
    net = get_model(name, nclass=3, **options)
    enough = tuple(max(sides) for sides in zip(*untrained_taps(net, crop).values()))
    assert not untrained_taps(net, enough) and not without_gradient(net, enough)


@pytest.mark.parametrize("side, kernel, stride, dilation, padding, expected", [
    (1, 3, 1, 1, 1, False), (2, 3, 1, 1, 1, True), (2, 3, 2, 1, 1, False), (3, 3, 2, 1, 1, True),
    (24, 3, 1, 24, 24, False), (25, 3, 1, 24, 24, True), (7, 7, 1, 1, 0, True), (1, 1, 1, 1, 0, True)])
def test_taps_of_one_axis(side, kernel, stride, dilation, padding, expected):
    assert _all_meet(side, kernel, stride, dilation, padding) == expected
    weight, x = mx.nd.ones((1, 1, 1, kernel)), mx.nd.ones((1, 1, 1, side))
    weight.attach_grad()
    with autograd.record():
        y = mx.nd.Convolution(x, weight, no_bias=True, num_filter=1, kernel=(1, kernel), stride=(1, stride),
                              dilate=(1, dilation), pad=(0, padding))
    y.backward()
    assert bool((weight.grad.asnumpy() != 0).all()) == expected
