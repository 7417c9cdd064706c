"""PIDNet's boundary losses: the boundary pixels, their weights, and the pixels of the boundary-aware loss."""
import mxnet as mx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mxnetseg.losses import BoundaryAware, BoundaryLoss, CrossEntropy
from mxnetseg.losses.boundary import balanced_logistic, boundaries


def by_hand(label, ignore=255):
    """Return the labelled pixels with a labelled pixel of another class at most two rows and columns away."""
    edge = np.zeros(label.shape, bool)
    for n, y, x in np.argwhere(label != ignore):
        around = label[n, max(y - 2, 0):y + 3, max(x - 2, 0):x + 3]
        edge[n, y, x] = len(set(around[around != ignore].tolist())) > 1
    return edge


@given(seed=st.integers(0, 10 ** 6), height=st.integers(1, 12), width=st.integers(1, 12),
       ignored=st.sampled_from([0.0, 0.3, 1.0]))
def test_boundaries_follow_their_definition(seed, height, width, ignored):
    rng = np.random.RandomState(seed)
    label = rng.choice([0, 3, 254], size=(2, height, width)).repeat(3, 1).repeat(3, 2).astype("uint8")
    label[rng.rand(*label.shape) < ignored] = 255
    for dtype in ("uint8", "float32"):
        found = boundaries(mx.nd, mx.nd.array(label, dtype=dtype)).asnumpy()
        np.testing.assert_array_equal(found[:, 0], by_hand(label))


def test_the_border_of_a_padded_crop_is_not_a_boundary():
    label = np.full((1, 20, 20), 255, "uint8")
    label[:, :12, :9] = 4
    assert not boundaries(mx.nd, mx.nd.array(label)).asnumpy().any()
    label[:, :, :] = 4
    assert not boundaries(mx.nd, mx.nd.array(label)).asnumpy().any()
    label[:, :, 10:] = 5
    assert boundaries(mx.nd, mx.nd.array(label)).asnumpy().sum() == 20 * 4  # the original's width


@pytest.mark.parametrize("edge", [0.0, 0.1, 1.0])
def test_balanced_logistic(edge):
    rng = np.random.RandomState(0)
    z, y = rng.normal(0, 30, (2, 1, 5, 7)), (rng.rand(2, 1, 5, 7) < edge).astype("float64")
    total, count = balanced_logistic(mx.nd, mx.nd.array(z), mx.nd.array(y))
    weight = np.where(y == 1, (y == 0).mean(), (y == 1).mean())
    wanted = (weight * np.where(y == 1, np.logaddexp(0, -z), np.logaddexp(0, z))).sum()
    assert count.asscalar() == 70 and total.asscalar() == pytest.approx(wanted, rel=1e-4, abs=1e-6)
    assert np.isfinite(total.asscalar())


def test_gradient_by_finite_differences():
    rng = np.random.RandomState(1)
    z = mx.nd.array(rng.normal(size=(1, 1, 4, 5)), dtype="float64")
    label = mx.nd.array(rng.randint(0, 3, (1, 4, 5)))
    loss = BoundaryLoss()
    z.attach_grad()
    with mx.autograd.record():
        total, _ = loss(z.astype("float32"), label)
    total.backward()
    for place in ((0, 0, 0, 0), (0, 0, 3, 2)):
        step = np.zeros(z.shape)
        step[place] = 1e-2
        ends = [loss(mx.nd.array(z.asnumpy() + sign * step), label)[0].asscalar() for sign in (1, -1)]
        assert z.grad.asnumpy()[place] == pytest.approx((ends[0] - ends[1]) / 2e-2, rel=1e-2, abs=1e-4)


def test_the_aware_loss_covers_predicted_boundaries_only_and_gives_them_no_gradient():
    rng = np.random.RandomState(2)
    logits, label = mx.nd.array(rng.normal(size=(2, 5, 6, 8))), rng.randint(0, 5, (2, 6, 8)).astype("float32")
    boundary = mx.nd.array(rng.normal(0, 3, (2, 1, 6, 8)))
    near = 1 / (1 + np.exp(-boundary.asnumpy()[:, 0])) > 0.8
    assert 0 < near.sum() < near.size
    plain = CrossEntropy(5)
    wanted = plain(logits, mx.nd.array(np.where(near, label, 255)))
    aware = BoundaryAware(plain)
    for array in (logits, boundary):
        array.attach_grad()
    for hybrid in (False, True):
        aware.hybridize(hybrid)
        with mx.autograd.record():
            total, count = aware(logits, boundary, mx.nd.array(label))
        total.backward()
        assert (total.asscalar(), count.asscalar()) == pytest.approx((wanted[0].asscalar(), near.sum()), rel=1e-6)
        assert not boundary.grad.asnumpy().any()
        assert (logits.grad.asnumpy().any(axis=1) == near).all()


def test_without_a_predicted_boundary_there_is_no_loss():
    total, count = BoundaryAware(CrossEntropy(3))(mx.nd.ones((1, 3, 4, 4)), mx.nd.zeros((1, 1, 4, 4)),
                                                  mx.nd.zeros((1, 4, 4)))
    assert (total.asscalar(), count.asscalar()) == (0, 0)
