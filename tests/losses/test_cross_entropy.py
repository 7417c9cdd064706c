"""Cross-entropy and focal loss against their formulas in float64: values, gradients, ignored pixels."""
import mxnet as mx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mxnet import nd

from mxnetseg.errors import ConfigError
from mxnetseg.losses import CrossEntropy, Focal, Mining

NCLASS = 4
WEIGHTS = [0.5, 2.0, 0.0, 1.25]
VARIANTS = {
    "plain": {},
    "weighted": {"class_weights": WEIGHTS},
    "smoothed": {"label_smoothing": 0.1},
    "smoothed and weighted": {"label_smoothing": 0.2, "class_weights": WEIGHTS},
    "mined by threshold": {"mining": Mining(thresh=0.4, min_kept=1)},
    "mined by number": {"mining": Mining(thresh=0.01, min_kept=9)},
    "mined, all kept": {"mining": Mining(thresh=0.3, min_kept=10 ** 6)},
    "mined, weighted, smoothed": {"mining": Mining(thresh=0.3, min_kept=12), "class_weights": WEIGHTS,
                                  "label_smoothing": 0.1},
}
variants = pytest.mark.parametrize("options", VARIANTS.values(), ids=VARIANTS)


def reference(logits, label, *, class_weights=None, label_smoothing=0.0, mining=None, ignore=255, counts=None):
    """Return (sum, weight) by the formula in float64. ``counts``: the pixels that count, instead of mining."""
    z = logits.astype("float64").transpose(0, 2, 3, 1).reshape(-1, logits.shape[1])
    y = label.reshape(-1).astype(int)
    if counts is None:
        counts = chosen(z, y, mining, ignore)
    w = np.ones(z.shape[1]) if class_weights is None else np.array(class_weights, dtype="float64")
    z, y = z[counts], y[counts]
    cost = -log_softmax(z)
    total = (1 - label_smoothing) * (w[y] * cost[np.arange(len(y)), y]).sum() \
        + label_smoothing / len(w) * (cost * w).sum()
    return total, w[y].sum()


def log_softmax(z):
    z = z - z.max(axis=1, keepdims=True)
    return z - np.log(np.exp(z).sum(axis=1, keepdims=True))


def chosen(z, y, mining, ignore):
    """Return the indices of the pixels that count. z: (pixels, classes), y: (pixels,)."""
    valid = np.flatnonzero(y != ignore)
    if mining is None or not len(valid):
        return valid
    p = np.exp(log_softmax(z[valid])[np.arange(len(valid)), y[valid]])
    return valid[p < max(mining.thresh, np.sort(p)[min(mining.min_kept, len(valid)) - 1])]


def mined(logits, label, options):
    z = logits.astype("float64").transpose(0, 2, 3, 1).reshape(-1, logits.shape[1])
    return chosen(z, label.reshape(-1).astype(int), options.get("mining"), 255)


def reference_gradient(logits, label, **options):
    """Return d(sum) / d(logits) by central differences in float64, free of the rounding of float32."""
    counts = mined(logits, label, options)  # the selection itself has no gradient
    logits = logits.astype("float64")
    gradient = np.zeros_like(logits)
    for i in np.ndindex(*logits.shape):
        middle, ends = logits[i], []
        for end in (middle + 1e-5, middle - 1e-5):
            logits[i] = end
            ends.append(reference(logits, label, counts=counts, **options)[0])
        logits[i] = middle
        gradient[i] = (ends[0] - ends[1]) / 2e-5
    return gradient


def sample(seed=0, shape=(2, NCLASS, 3, 4), ignored=0.25):
    random = np.random.RandomState(seed)
    logits = random.normal(0, 2, size=shape).astype("float32")
    label = random.randint(0, shape[1], size=(shape[0], *shape[2:])).astype("uint8")
    label[random.uniform(size=label.shape) < ignored] = 255
    return logits, label


def build(options, nclass=NCLASS):
    loss = CrossEntropy(nclass, **options)
    loss.initialize()
    return loss


def run(loss, logits, label, k=1.0):
    """Return (sum, weight, d(k * sum) / d(logits))."""
    logits = nd.array(logits)
    logits.attach_grad()
    with mx.autograd.record():
        total, weight = loss(logits, nd.array(label, dtype=label.dtype))
        scaled = k * total
    scaled.backward()
    return total.asscalar(), weight.asscalar(), logits.grad.asnumpy()


@variants
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("hybrid", [True, False])
def test_value_and_gradient(options, seed, hybrid):
    logits, label = sample(seed)
    loss = build(options)
    loss.hybridize(hybrid)
    total, weight, gradient = run(loss, logits, label)
    wanted_total, wanted_weight = reference(logits, label, **options)
    assert total == pytest.approx(wanted_total, rel=1e-5) and weight == pytest.approx(wanted_weight, rel=1e-6)
    np.testing.assert_allclose(gradient, reference_gradient(logits, label, **options), atol=1e-5)


@variants
def test_gradient_equals_central_differences(options):
    """Along random directions, with a step that is large enough for float32."""
    logits, label = sample(5)
    loss = build(options)
    _, _, gradient = run(loss, logits, label)
    if "mining" in options:  # keep the selection of pixels fixed
        mask = np.full(label.size, 255, "uint8")
        counts = mined(logits, label, options)
        mask[counts] = label.reshape(-1)[counts]
        label = mask.reshape(label.shape)
        loss = build({key: value for key, value in options.items() if key != "mining"})
    for seed in range(3):
        direction = np.random.RandomState(seed).normal(size=logits.shape).astype("float32")
        h = 1e-2
        ends = [run(loss, logits + sign * h * direction, label)[0] for sign in (1, -1)]
        assert (ends[0] - ends[1]) / (2 * h) == pytest.approx((gradient * direction).sum(), abs=5e-3)


@variants
@pytest.mark.parametrize("k", [0.0, 0.2, 3.0, 1024.0])
def test_the_gradient_of_k_times_the_loss_is_k_times_the_gradient(options, k):
    logits, label = sample(1)
    loss = build(options)
    _, _, once = run(loss, logits, label)
    _, _, scaled = run(loss, logits, label, k)
    assert once.any()
    np.testing.assert_allclose(scaled, k * once, rtol=1e-6, atol=1e-7 * k)


@variants
def test_all_ignored_is_zero_with_zero_gradient(options):
    logits, _ = sample()
    total, weight, gradient = run(build(options), logits, np.full((2, 3, 4), 255, "uint8"))
    assert (total, weight) == (0, 0) and not gradient.any()


@variants
def test_an_ignored_pixel_has_no_gradient_and_no_influence(options):
    logits, label = sample(2)
    loss = build(options)
    total, weight, gradient = run(loss, logits, label)
    ignored = np.broadcast_to((label == 255)[:, None], logits.shape)
    assert ignored.any() and not gradient[ignored].any()
    # for any logits there, including an overflow of exp()
    other = np.where(ignored, 80 * np.random.RandomState(0).normal(size=logits.shape), logits).astype("float32")
    again = run(loss, other, label)
    assert again[0] == pytest.approx(total, rel=1e-5) and again[1] == weight
    np.testing.assert_allclose(again[2], gradient, atol=1e-6)


def test_another_ignored_label():
    logits, label = sample(3)
    loss = build({"ignore": 1})
    label[label == 255] = 0
    assert run(loss, logits, label)[:2] == pytest.approx(reference(logits, label, ignore=1), rel=1e-5)


def test_255_is_an_ordinary_class_if_another_label_is_ignored():
    random = np.random.RandomState(0)
    logits = random.normal(size=(1, 256, 2, 2)).astype("float32")
    label = np.array([[[255, 254], [0, 3]]], "uint8")
    total, weight, _ = run(build({"ignore": 3}, nclass=256), logits, label)
    assert (total, weight) == pytest.approx(reference(logits, label, ignore=3), rel=1e-5) and weight == 3


@pytest.mark.parametrize("dtype", ["uint8", "int32", "int64", "float32"])
def test_the_label_may_have_any_type(dtype):
    logits, label = sample(4)
    loss = build({})
    assert run(loss, logits, label.astype(dtype))[:2] == run(loss, logits, label)[:2]


@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_logits_of_another_type_are_converted_to_float32(dtype):
    logits, label = sample(6)
    data = nd.array(logits, dtype=dtype)
    data.attach_grad()
    with mx.autograd.record():
        total, weight = build({})(data, nd.array(label, dtype="uint8"))
    total.backward()
    assert total.dtype == weight.dtype == np.float32 and data.grad.dtype == np.dtype(dtype)
    assert total.asscalar() == pytest.approx(reference(data.asnumpy(), label)[0], rel=1e-5)
    np.testing.assert_allclose(data.grad.asnumpy(), reference_gradient(data.asnumpy(), label), atol=1e-3)


def test_very_large_logits_give_finite_results():
    logits = np.zeros((1, NCLASS, 1, 2), "float32")
    logits[0, 0] = 1e4
    label = np.array([[[0, 1]]], "uint8")
    for options in VARIANTS.values():
        total, weight, gradient = run(build(options), logits, label)
        assert np.isfinite([total, weight]).all() and np.isfinite(gradient).all()
    assert run(build({}), logits, label)[0] == pytest.approx(1e4)


class TestMining:
    """Pixels that mining keeps: those with a gradient."""

    def kept(self, probabilities, thresh, min_kept, ignored=()):
        p = np.array(probabilities)
        logits = np.log(np.stack([p, 1 - p])).reshape(1, 2, 1, -1).astype("float32")
        label = np.zeros((1, 1, len(p)), "uint8")
        label[0, 0, list(ignored)] = 255
        loss = build({"mining": Mining(thresh=thresh, min_kept=min_kept)}, nclass=2)
        _, weight, gradient = run(loss, logits, label)
        chosen = np.flatnonzero(gradient[0, 0, 0])
        assert weight == len(chosen)
        return list(chosen)

    P = [0.9, 0.1, 0.8, 0.3, 0.6, 0.2]

    def test_all_below_the_threshold(self):
        assert self.kept(self.P, 0.5, 1) == [1, 3, 5]
        assert self.kept(self.P, 0.7, 1) == [1, 3, 4, 5]

    def test_below_the_min_kept_th_smallest_where_that_is_larger(self):
        assert self.kept(self.P, 0.05, 4) == [1, 3, 5]  # q = 0.6
        assert self.kept(self.P, 0.5, 5) == [1, 3, 4, 5]  # q = 0.8

    def test_fewer_pixels_than_min_kept(self):
        assert self.kept(self.P, 0.05, 100) == [1, 2, 3, 4, 5]  # q = 0.9

    def test_ignored_pixels_are_not_counted(self):
        assert self.kept(self.P, 0.05, 3, ignored=[1, 5]) == [3, 4]  # q = 0.8
        assert self.kept(self.P, 0.05, 100, ignored=[0, 1]) == [3, 4, 5]  # q = 0.8


class TestFocal:
    def reference(self, logits, label, gamma, class_weights=None):
        z = logits.astype("float64").transpose(0, 2, 3, 1).reshape(-1, NCLASS)
        y = label.reshape(-1).astype(int)
        z, y = z[y != 255], y[y != 255]
        w = np.ones(NCLASS) if class_weights is None else np.array(class_weights)
        log_p = log_softmax(z)[np.arange(len(y)), y]
        return -(w[y] * (1 - np.exp(log_p)) ** gamma * log_p).sum(), w[y].sum()

    def build(self, gamma, class_weights=None):
        loss = Focal(NCLASS, gamma=gamma, class_weights=class_weights)
        loss.initialize()
        return loss

    @pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0, 5.0])
    @pytest.mark.parametrize("class_weights", [None, WEIGHTS])
    @pytest.mark.parametrize("hybrid", [True, False])
    def test_value_and_gradient(self, gamma, class_weights, hybrid):
        logits, label = sample(1)
        loss = self.build(gamma, class_weights)
        loss.hybridize(hybrid)
        total, weight, gradient = run(loss, logits, label)
        assert (total, weight) == pytest.approx(self.reference(logits, label, gamma, class_weights), rel=1e-5)
        z, wanted = logits.astype("float64"), np.zeros(logits.shape)
        for i in np.ndindex(*z.shape):
            middle, ends = z[i], []
            for end in (middle + 1e-5, middle - 1e-5):
                z[i] = end
                ends.append(self.reference(z, label, gamma, class_weights)[0])
            z[i] = middle
            wanted[i] = (ends[0] - ends[1]) / 2e-5
        np.testing.assert_allclose(gradient, wanted, atol=1e-5)

    def test_gamma_0_is_cross_entropy(self):
        logits, label = sample(2)
        focal, ce = run(self.build(0.0, WEIGHTS), logits, label), run(build({"class_weights": WEIGHTS}), logits, label)
        assert focal[:2] == pytest.approx(ce[:2], rel=1e-6)
        np.testing.assert_allclose(focal[2], ce[2], atol=1e-6)

    def test_an_easy_pixel_is_down_weighted(self):
        logits = np.zeros((1, NCLASS, 1, 1), "float32")
        logits[0, 0] = 5
        right, wrong = (np.full((1, 1, 1), c, "uint8") for c in (0, 1))
        ratios = [run(self.build(2.0), logits, y)[0] / run(build({}), logits, y)[0] for y in (right, wrong)]
        assert ratios[0] < 1e-3 and ratios[1] > 0.98

    @pytest.mark.parametrize("k", [0.0, 0.5, 1024.0])
    def test_the_gradient_of_k_times_the_loss(self, k):
        logits, label = sample(3)
        once, scaled = (run(self.build(2.0), logits, label, factor)[2] for factor in (1.0, k))
        np.testing.assert_allclose(scaled, k * once, rtol=1e-6, atol=1e-7 * k)

    @pytest.mark.parametrize("gamma", [0.5, 2.0])
    def test_very_large_logits_and_nothing_labelled(self, gamma):
        logits = np.zeros((1, NCLASS, 1, 2), "float32")
        logits[0, 0] = 1e4
        total, weight, gradient = run(self.build(gamma), logits, np.array([[[0, 1]]], "uint8"))
        assert total == pytest.approx(1e4) and np.isfinite(gradient).all()
        total, weight, gradient = run(self.build(gamma), logits, np.full((1, 1, 2), 255, "uint8"))
        assert (total, weight) == (0, 0) and not gradient.any()

    def test_half_precision_is_converted_to_float32(self):
        logits, label = sample(4)
        total, _, gradient = run(self.build(2.0), logits.astype("float16").astype("float32"), label)
        half = nd.array(logits, dtype="float16")
        half.attach_grad()
        with mx.autograd.record():
            same, _ = self.build(2.0)(half, nd.array(label, dtype="uint8"))
        same.backward()
        assert same.asscalar() == total and half.grad.dtype == np.float16
        np.testing.assert_allclose(half.grad.asnumpy(), gradient, atol=1e-3)


@pytest.mark.parametrize("weights, match", [
    ([1, 2, 3], "4 classes need 4 class weights"), ([1] * 5, "4 classes need 4 class weights"),
    ([1, -1, 1, 1], ">= 0"), ([0, 0, 0, 0], "not all 0"),
])
def test_invalid_class_weights_are_refused(weights, match):
    with pytest.raises(ConfigError, match=match) as caught:
        CrossEntropy(NCLASS, class_weights=weights)
    assert caught.value.where == "loss.class_weights"


@settings(max_examples=40)
@given(seed=st.integers(0, 10 ** 6), n=st.integers(1, 2), c=st.integers(1, 6), h=st.integers(1, 4),
       w=st.integers(1, 4), smoothing=st.sampled_from([0.0, 0.1, 0.9]), weighted=st.booleans(),
       shift=st.floats(-30, 30))
def test_properties(seed, n, c, h, w, smoothing, weighted, shift):
    logits, label = sample(seed, (n, c, h, w), ignored=0.4)
    options = {"label_smoothing": smoothing}
    if weighted:
        options["class_weights"] = list(np.random.RandomState(seed).uniform(0.1, 3, size=c))
    loss = build(options, nclass=c)
    total, weight, gradient = run(loss, logits, label)
    wanted = reference(logits, label, **options)
    np.testing.assert_allclose([total, weight], wanted, rtol=1e-4, atol=1e-4)
    assert total >= -1e-4 and weight >= 0  # log_softmax of a certain class may round to just above 0
    # softmax does not change with a shift of all logits, so the gradients of a pixel add up to 0
    assert run(loss, logits + np.float32(shift), label)[0] == pytest.approx(total, rel=1e-3, abs=1e-3)
    np.testing.assert_allclose(gradient.sum(axis=1), 0, atol=1e-4)
    # the order of the pixels does not matter
    flipped = run(loss, logits[:, :, ::-1].copy(), label[:, ::-1].copy())
    assert flipped[0] == pytest.approx(total, rel=1e-4, abs=1e-4)
