"""The pixels that each mining rule keeps (those with a gradient), against the rules in NumPy and SciPy."""
import mxnet as mx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mxnet import nd
from scipy.ndimage import zoom

from mxnetseg.config.options import describe_fields
from mxnetseg.config.schema import Ohem
from mxnetseg.errors import ConfigError
from mxnetseg.losses import MINING_RULES, Blend, CrossEntropy, Dice, Mining, MixedLoss, Term, global_backward

NCLASS = 3


def sample(seed, n=2, h=9, w=13, ignored=0.2):
    random = np.random.RandomState(seed)
    logits = random.normal(0, 1.5, size=(n, NCLASS, h, w)).astype("float32")
    label = random.randint(0, NCLASS, (n, h, w)).astype("uint8")
    label[random.uniform(size=label.shape) < ignored] = 255
    return logits, label


def probabilities(logits):
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    return p / p.sum(axis=1, keepdims=True)


def probability_of_label(p, label):
    return np.take_along_axis(p, np.where(label == 255, 0, label)[:, None].astype(int), axis=1)[:, 0]


def wanted(rule, logits, label, thresh, min_kept):
    """Return the pixels that the originals keep."""
    maps, valid = probabilities(logits), label != 255
    p = probability_of_label(maps, label)
    ascending = np.sort(p[valid])
    n = len(ascending)
    if not n:
        return valid
    if rule == "flattenet":
        return valid & (p < max(ascending[min(min_kept, n) - 1], thresh))
    if rule == "hrnet":
        return valid & (p < max(ascending[min(min_kept, n - 1)], thresh))
    if rule == "mmseg":
        return valid & (p < max(ascending[min(min_kept * len(label), n - 1)], thresh))
    maps, small = zoom(maps, (1, 1, 1 / 8, 1 / 8), order=1), zoom(label, (1, 1 / 8, 1 / 8), order=0)
    ascending = np.sort(probability_of_label(maps, small)[small != 255])
    least = min_kept // 64
    if least >= len(ascending):
        return valid
    return valid & (p <= (max(thresh, ascending[least - 1]) if least else thresh))


def run(mining, logits, label, **options):
    loss = CrossEntropy(NCLASS, mining=mining, **options)
    loss.initialize()
    loss.hybridize()
    logits = nd.array(logits)
    logits.attach_grad()
    with mx.autograd.record():
        total, divisor = loss(logits, nd.array(label, dtype="uint8"))
    total.backward()
    return total.asscalar(), divisor.asscalar(), logits.grad.asnumpy()


def kept(mining, logits, label):
    return run(mining, logits, label)[2].any(axis=1)


@pytest.mark.parametrize("rule", MINING_RULES)
@pytest.mark.parametrize("thresh, min_kept", [(0.7, 1), (0.3, 70), (0.05, 100), (0.05, 10 ** 6), (0.4, 640)])
def test_the_pixels_that_are_kept(rule, thresh, min_kept):
    logits, label = sample(1, h=40, w=33)
    expected = wanted(rule, logits, label, thresh, min_kept)
    assert expected.any()
    np.testing.assert_array_equal(kept(Mining.of(rule, thresh=thresh, min_kept=min_kept), logits, label), expected)


@pytest.mark.parametrize("rule, divisor", [("flattenet", "weights"), ("hrnet", "pixels"), ("mmseg", "all"),
                                           ("ccnet", "weights")])
def test_the_divisor(rule, divisor):
    logits, label = sample(2)
    weights = [0.5, 2.0, 1.25]
    mining = Mining.of(rule, thresh=0.4, min_kept=30)
    _, got, gradient = run(mining, logits, label, class_weights=weights)
    taken = gradient.any(axis=1)
    assert taken.any() and not taken[label == 255].any()
    sums = {"weights": np.array(weights)[label[taken]].sum(), "pixels": taken.sum(), "all": label.size}
    assert got == pytest.approx(sums[divisor], rel=1e-6)


@settings(max_examples=40)
@given(seed=st.integers(0, 10 ** 6), h=st.integers(12, 80), w=st.integers(12, 80), n=st.integers(1, 2),
       min_kept=st.integers(1, 2000), thresh=st.sampled_from([0.0, 0.1, 0.7]))
def test_the_coarse_grid_equals_scipys(seed, h, w, n, min_kept, thresh):
    logits, label = sample(seed, n, h, w, ignored=0.4)
    mining = Mining.of("ccnet", thresh=thresh, min_kept=min_kept)
    got, expected = kept(mining, logits, label), wanted("ccnet", logits, label, thresh, min_kept)
    assert (got != expected).sum() <= 1  # rounding may affect the pixel that defines the threshold


@settings(max_examples=30)
@given(seed=st.integers(0, 10 ** 6), rule=st.sampled_from(sorted(MINING_RULES)), min_kept=st.integers(1, 300),
       thresh=st.floats(0, 1, width=32), ignored=st.sampled_from([0.0, 0.5, 0.97, 1.0]))
def test_any_batch_gives_a_finite_loss(seed, rule, min_kept, thresh, ignored):
    logits, label = sample(seed, ignored=ignored)
    total, divisor, gradient = run(Mining.of(rule, thresh=thresh, min_kept=min_kept), logits, label)
    assert np.isfinite([total, divisor]).all() and np.isfinite(gradient).all() and total >= 0
    if (label == 255).all():
        assert total == 0 and not gradient.any()


def test_quotas_of_several_devices():
    assert Mining.of("hrnet", thresh=0.9, min_kept=100).with_quota(4).min_kept == 25
    assert Mining.of("hrnet", thresh=0.9, min_kept=2).with_quota(4).min_kept == 1
    assert Mining.of("mmseg", thresh=0.9, min_kept=100).with_quota(4).min_kept == 100


def test_the_configuration_has_the_same_rules():
    assert describe_fields(Ohem)["form"][1].choices == tuple(MINING_RULES)
    with pytest.raises(ConfigError, match="unknown mining rule"):
        Mining.of("paddle", thresh=0.7, min_kept=1)


def test_unmined_is_the_same_loss_over_all_pixels():
    logits, label = sample(3)
    options = {"class_weights": [0.5, 2.0, 1.25], "label_smoothing": 0.1}
    mined = CrossEntropy(NCLASS, mining=Mining(thresh=0.2, min_kept=1), **options)
    plain, same = mined.unmined(), run(None, logits, label, **options)
    plain.initialize()
    total, divisor = plain(nd.array(logits), nd.array(label))
    assert (total.asscalar(), divisor.asscalar()) == pytest.approx(same[:2], rel=1e-6)
    assert plain.unmined() is plain
    dice = Dice(NCLASS)
    assert Blend([(0.5, mined), (2.0, dice)]).unmined().losses[1] == (2.0, dice)


@pytest.mark.parametrize("rule", ["hrnet", "mmseg"])
def test_split_across_devices_with_a_quota_each(rule):
    """With the same images on both devices, both find the threshold of the whole batch."""
    logits, label = sample(4, n=1)
    logits, label = np.concatenate([logits, logits]), np.concatenate([label, label])
    results = []
    for n in (1, 2):
        mining = Mining.of(rule, thresh=0.3, min_kept=40).with_quota(n)
        loss = MixedLoss([Term(0, 1.0, CrossEntropy(NCLASS, mining=mining))])
        loss.initialize(ctx=[mx.cpu(i) for i in range(n)])
        arrays = [nd.array(part, ctx=mx.cpu(i)) for i, part in enumerate(np.split(logits, n))]
        for array in arrays:
            array.attach_grad()
        with mx.autograd.record():
            parts = [loss([array], nd.array(part, ctx=mx.cpu(i)))
                     for i, (array, part) in enumerate(zip(arrays, np.split(label, n)))]
        value = global_backward(parts, loss.weights).asscalar()
        results.append((value, np.concatenate([array.grad.asnumpy() for array in arrays])))
    assert results[0][0] == pytest.approx(results[1][0], rel=1e-6)
    np.testing.assert_allclose(results[0][1], results[1][1], rtol=1e-5, atol=1e-9)
