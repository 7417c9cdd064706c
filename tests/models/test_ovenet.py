"""OVeNet's confidence term against a loop over the pixels; its options."""
import mxnet as mx
import numpy as np
import pytest

from mxnetseg.errors import ConfigError
from mxnetseg.losses import MixedLoss, Term, global_backward
from mxnetseg.models import build_model
from mxnetseg.models.ovenet import OffsetConfidence


def sample(seed=0, n=4, h=5, w=7):
    random = np.random.RandomState(seed)
    offset = random.uniform(-0.6, 0.6, (n, 2, h, w)).astype("float32")
    confidence = random.uniform(0.05, 0.95, (n, 1, h, w)).astype("float32")
    label = random.randint(0, 3, (n, h, w)).astype("uint8")
    label[random.uniform(size=label.shape) < 0.3] = 255
    label[0] = 255
    return offset, confidence, label


def reference(offset, confidence, label, mean):
    """(sum, count): pixel after pixel."""
    n, _, h, w = offset.shape
    total = count = 0.0
    for i, y, x in np.ndindex(n, h, w):
        right, down = offset[i, :, y, x].astype("float64") * (w - 1, h - 1) / 2
        there = (i, int(np.clip(np.round(y + down), 0, h - 1)), int(np.clip(np.round(x + right), 0, w - 1)))
        labelled = label[i, y, x] != 255 and label[there] != 255
        if mean and not labelled:
            continue
        own, other = (0 if label[place] == 255 else label[place] for place in ((i, y, x), there))
        f = confidence[i, 0, y, x]
        total -= np.log((f if own == other else 1 - f) + 1e-7)
        count += 1
    return (total, count) if mean else (total / (h * w), 0)


@pytest.mark.parametrize("mean", [True, False])
@pytest.mark.parametrize("hybrid", [True, False])
def test_confidence_term(mean, hybrid):
    offset, confidence, label = sample()
    loss = OffsetConfidence(mean=mean)
    loss.hybridize(hybrid)
    arrays = [mx.nd.array(offset), mx.nd.array(confidence)]
    for array in arrays:
        array.attach_grad()
    with mx.autograd.record():
        total, count = loss(*arrays, mx.nd.array(label, dtype="uint8"))
    total.backward()
    wanted = reference(offset, confidence, label, mean)
    assert (total.asscalar(), count.asscalar()) == pytest.approx(wanted, rel=1e-5)
    assert not arrays[0].grad.asnumpy().any()
    gradient = arrays[1].grad.asnumpy()
    for place in [(1, 0, 2, 3), (2, 0, 4, 6), (3, 0, 0, 0), (0, 0, 1, 1)]:
        ends = []
        for step in (1e-4, -1e-4):
            moved = confidence.astype("float64")
            moved[place] += step
            ends.append(reference(offset, moved, label, mean)[0])
        assert gradient[place] == pytest.approx((ends[0] - ends[1]) / 2e-4, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("mean", [True, False])
def test_it_is_the_same_on_several_devices(mean):
    offset, confidence, label = sample(1)
    values = []
    for contexts in (1, 2):
        loss = MixedLoss([Term((0, 1), 1.5, OffsetConfidence(mean=mean))])
        shares = [np.split(array, contexts) for array in (offset, confidence, label)]
        with mx.autograd.record():
            parts = []
            for i, (o, f, y) in enumerate(zip(*shares)):
                o, f, y = (mx.nd.array(array, ctx=mx.cpu(i)) for array in (o, f, y))
                f.attach_grad()
                parts.append(loss([o, f], y))
        values.append(global_backward(parts, loss.weights).asscalar())
    assert values[0] == pytest.approx(values[1], rel=1e-6)
    assert values[0] == pytest.approx(1.5 * reference(offset, confidence, label, mean)[0]
                                      / (reference(offset, confidence, label, mean)[1] or 1), rel=1e-5)


def test_no_offset_is_always_right():
    _, confidence, label = sample(2, h=33, w=65)
    total, _ = OffsetConfidence()(mx.nd.zeros((4, 2, 33, 65)), mx.nd.array(confidence), mx.nd.array(label))
    assert total.asscalar() == pytest.approx(-np.log(confidence + 1e-7).sum() / (33 * 65), rel=1e-5)


def test_the_declared_loss():
    net = build_model("ovenet", nclass=3, width=18, confidence_weight=2, confidence_mean=True)
    assert net.loss(aux_weight=0.5).weights == (1.0, 0.5, 0.5, 2.0)
    with pytest.raises(ConfigError, match="0 or more"):
        build_model("ovenet", nclass=3, width=18, confidence_weight=-1)
