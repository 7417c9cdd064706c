"""Dice and Lovász-softmax against their definitions in float64: values, gradients, ignored pixels, devices."""
import mxnet as mx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mxnet import nd

from mxnetseg.losses import Dice, LovaszSoftmax, MixedLoss, Term, global_backward

NCLASS = 4
LOSSES = {"dice": Dice, "lovasz": LovaszSoftmax}
losses = pytest.mark.parametrize("name", LOSSES)
variants = pytest.mark.parametrize("options", [{}, {"per_image": False}, {"classes": "all"},
                                               {"per_image": False, "classes": "all"}], ids=str)


def softmax(z):
    z = np.exp(z - z.max(axis=0))
    return z / z.sum(axis=0)


def jaccard_loss(wrong, truth):
    """Return the Jaccard loss of a class with pixels ``truth`` if the pixels ``wrong`` are mistaken; both boolean."""
    intersection, union = (truth & ~wrong).sum(), (truth | wrong).sum()
    return 1 - intersection / union if union else 0.0


def lovasz(p, truth):
    """Return the Lovász extension by its definition, over the sets of the k largest errors for increasing k."""
    errors = np.abs(truth - p)
    order = np.argsort(-errors, kind="stable")
    wrong, before, total = np.zeros(len(p), bool), 0.0, 0.0
    for i in order:
        wrong[i] = True
        now = jaccard_loss(wrong, truth.astype(bool))
        total += errors[i] * (now - before)
        before = now
    return total


def dice(p, truth):
    return 1 - 2 * (p * truth).sum() / ((p ** 2).sum() + truth.sum())


def reference(name, logits, label, *, per_image=True, classes="present", ignore=255):
    """Return (sum, count) in float64."""
    score = {"dice": dice, "lovasz": lovasz}[name]
    z = logits.astype("float64")
    images = [(z[n].reshape(z.shape[1], -1), label[n].reshape(-1)) for n in range(len(z))]
    if not per_image:
        images = [(np.concatenate([z for z, _ in images], axis=1), np.concatenate([y for _, y in images]))]
    total = count = 0
    for z, y in images:
        z, y = z[:, y != ignore], y[y != ignore]
        if not len(y):
            continue
        p = softmax(z)
        over = [c for c in range(len(z)) if classes == "all" or (y == c).any()]
        total += np.mean([score(p[c], (y == c).astype(float)) for c in over])
        count += 1
    return total, count


def sample(seed=0, shape=(3, NCLASS, 3, 4), ignored=0.25):
    random = np.random.RandomState(seed)
    logits = random.normal(0, 2, size=shape).astype("float32")
    label = random.randint(0, shape[1] - 1, size=(shape[0], *shape[2:])).astype("uint8")  # without the last class
    label[random.uniform(size=label.shape) < ignored] = 255
    return logits, label


def run(loss, logits, label, k=1.0):
    """Return (sum, count, d(k * sum) / d(logits))."""
    logits = nd.array(logits, dtype=logits.dtype)
    logits.attach_grad()
    with mx.autograd.record():
        total, count = loss(logits, nd.array(label, dtype=label.dtype))
        scaled = k * total
    scaled.backward()
    return total.asscalar(), count.asscalar(), logits.grad.asnumpy()


def reference_gradient(name, logits, label, **options):
    """Return the gradient by central differences in float64, with a small step because of the kinks of Lovász."""
    logits = logits.astype("float64")
    gradient = np.zeros_like(logits)
    for i in np.ndindex(*logits.shape):
        middle, ends = logits[i], []
        for end in (middle + 1e-7, middle - 1e-7):
            logits[i] = end
            ends.append(reference(name, logits, label, **options)[0])
        logits[i] = middle
        gradient[i] = (ends[0] - ends[1]) / 2e-7
    return gradient


@losses
@variants
@pytest.mark.parametrize("hybrid", [True, False])
def test_value_and_gradient(name, options, hybrid):
    logits, label = sample(1)
    loss = LOSSES[name](NCLASS, **options)
    loss.hybridize(hybrid)
    total, count, gradient = run(loss, logits, label)
    assert (total, count) == pytest.approx(reference(name, logits, label, **options), rel=1e-5)
    np.testing.assert_allclose(gradient, reference_gradient(name, logits, label, **options), atol=1e-6)


@losses
@variants
@pytest.mark.parametrize("k", [0.0, 0.5, 3.0, 1024.0])
def test_the_gradient_of_k_times_the_loss_is_k_times_the_gradient(name, options, k):
    logits, label = sample(2)
    loss = LOSSES[name](NCLASS, **options)
    once, scaled = run(loss, logits, label)[2], run(loss, logits, label, k)[2]
    assert once.any()
    np.testing.assert_allclose(scaled, k * once, rtol=1e-6, atol=1e-7 * k)


@losses
@variants
def test_all_ignored_is_zero_with_zero_gradient(name, options):
    logits, _ = sample()
    total, count, gradient = run(LOSSES[name](NCLASS, **options), logits, np.full((3, 3, 4), 255, "uint8"))
    assert (total, count) == (0, 0) and not gradient.any()


@losses
def test_an_image_without_labels_does_not_count(name):
    logits, label = sample(3)
    label[1] = 255
    total, count, gradient = run(LOSSES[name](NCLASS), logits, label)
    assert count == 2 and not gradient[1].any()
    others = run(LOSSES[name](NCLASS), logits[[0, 2]], label[[0, 2]])
    assert total == pytest.approx(others[0], rel=1e-6)


@losses
@variants
def test_the_logits_of_an_ignored_pixel_do_not_matter(name, options):
    logits, label = sample(4)
    loss = LOSSES[name](NCLASS, **options)
    total, _, gradient = run(loss, logits, label)
    ignored = np.broadcast_to((label == 255)[:, None], logits.shape)
    assert ignored.any() and not gradient[ignored].any()
    other = np.where(ignored, 50 * np.random.RandomState(0).normal(size=logits.shape), logits).astype("float32")
    again = run(loss, other, label)
    assert again[0] == pytest.approx(total, rel=1e-6)
    np.testing.assert_allclose(again[2], gradient, atol=1e-7)


@losses
@pytest.mark.parametrize("sign, wanted", [(1, 0), (-1, 1)])
def test_a_perfect_prediction_gives_0_and_a_wrong_one_1(name, sign, wanted):
    _, label = sample(5, ignored=0)
    one_hot = (np.arange(NCLASS)[None, :, None, None] == label[:, None])
    total, count, gradient = run(LOSSES[name](NCLASS), (sign * 60.0 * one_hot).astype("float32"), label)
    assert count == 3 and total / count == pytest.approx(wanted, abs=1e-6) and np.isfinite(gradient).all()


@losses
def test_half_precision_is_converted_to_float32(name):
    logits, label = sample(6)
    half = logits.astype("float16")
    total, _, gradient = run(LOSSES[name](NCLASS), half, label)
    assert gradient.dtype == np.float16 and gradient.any()
    assert total == pytest.approx(reference(name, half, label)[0], rel=1e-5)


def test_lovasz_of_a_certain_prediction_is_the_jaccard_loss():
    """The extension equals the extended function at the corners of the cube."""
    random = np.random.RandomState(7)
    _, label = sample(7, shape=(1, NCLASS, 6, 7), ignored=0.1)
    said = np.where(random.uniform(size=label.shape) < 0.5, label % NCLASS, random.randint(0, NCLASS, label.shape))
    logits = 60.0 * (np.arange(NCLASS)[None, :, None, None] == said[:, None]).astype("float32")
    valid = label != 255
    wanted = [jaccard_loss((said != label)[valid] & ((said == c) | (label == c))[valid], (label == c)[valid])
              for c in range(NCLASS) if (label == c).any()]
    total, _, _ = run(LovaszSoftmax(NCLASS), logits, label)
    assert 0 < total == pytest.approx(np.mean(wanted), rel=1e-5)


def test_lovasz_weights_are_exact_on_large_images():
    """With 100 000 pixels, differences of Jaccard losses in float32 would have an error of 1 %."""
    random = np.random.RandomState(8)
    logits = random.normal(size=(1, 2, 250, 400)).astype("float32")
    label = (random.uniform(size=(1, 250, 400)) < 0.9).astype("uint8")
    _, _, gradient = run(LovaszSoftmax(2), logits, label)
    p, y = softmax(logits[0].astype("float64")).reshape(2, -1), label.reshape(-1)
    wanted = np.zeros_like(p)
    for c in range(2):
        truth = y == c
        order = np.argsort(-np.abs(truth - p[c]), kind="stable")
        inside = truth[order]
        losses_of = 1 - (truth.sum() - np.cumsum(inside)) / (truth.sum() + np.cumsum(~inside))
        wanted[c, order] = np.diff([0, *losses_of]) * np.where(inside, -1, 1) / 2
    wanted = p * (wanted - (wanted * p).sum(axis=0))
    large = np.abs(wanted) > 0.1 * np.abs(wanted).max()
    error = np.abs(gradient.reshape(2, -1) - wanted)[large] / np.abs(wanted)[large]
    # two pixels whose errors are equal in float32 may be sorted in another order
    assert np.quantile(error, 0.99) < 1e-4


@losses
@pytest.mark.parametrize("contexts", [2, 3])
def test_the_result_does_not_depend_on_the_number_of_devices(name, contexts):
    logits, label = sample(9, shape=(6, NCLASS, 3, 4))
    label[0] = 255  # the devices have different numbers of labelled images
    results = []
    for n in (1, contexts):
        loss = MixedLoss([Term(0, 0.7, LOSSES[name](NCLASS))])
        splits = np.array_split(np.arange(6), n)
        arrays = [nd.array(logits[split], ctx=mx.cpu(i)) for i, split in enumerate(splits)]
        for array in arrays:
            array.attach_grad()
        with mx.autograd.record():
            parts = [loss([array], nd.array(label[split], ctx=mx.cpu(i), dtype="uint8"))
                     for i, (array, split) in enumerate(zip(arrays, splits))]
        value = global_backward(parts, loss.weights).asscalar()
        results.append((value, np.concatenate([array.grad.asnumpy() for array in arrays])))
    assert results[0][0] == pytest.approx(results[1][0], rel=1e-6)
    np.testing.assert_allclose(results[0][1], results[1][1], rtol=1e-5, atol=1e-8)


@settings(max_examples=30)
@given(seed=st.integers(0, 10 ** 6), n=st.integers(1, 3), c=st.integers(2, 5), h=st.integers(1, 4),
       w=st.integers(1, 4), name=st.sampled_from(sorted(LOSSES)), per_image=st.booleans(),
       classes=st.sampled_from(["present", "all"]))
def test_properties(seed, n, c, h, w, name, per_image, classes):
    logits, label = sample(seed, (n, c, h, w), ignored=0.4)
    options = {"per_image": per_image, "classes": classes}
    loss = LOSSES[name](c, **options)
    total, count, gradient = run(loss, logits, label)
    assert (total, count) == pytest.approx(reference(name, logits, label, **options), rel=1e-4, abs=1e-6)
    assert -1e-6 <= total <= count * (1 + 1e-6)
    # softmax does not change with a shift of all logits, so the gradients of a pixel add up to 0
    np.testing.assert_allclose(gradient.sum(axis=1), 0, atol=1e-6)
    # the order of the pixels does not matter
    flipped = run(loss, logits[:, :, ::-1].copy(), label[:, ::-1].copy())
    assert flipped[0] == pytest.approx(total, rel=1e-5, abs=1e-6)
