"""Losses on several outputs over several devices: one mean over all pixels, exact weights."""
import mxnet as mx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mxnet import nd

from mxnetseg.losses import Blend, CrossEntropy, Dice, MixedLoss, Term, global_backward, global_value

NCLASS = 4


def sample(seed, n=4, outputs=2):
    random = np.random.RandomState(seed)
    logits = [random.normal(size=(n, NCLASS, 3, 5)).astype("float32") for _ in range(outputs)]
    label = random.randint(0, NCLASS, size=(n, 3, 5)).astype("uint8")
    # the first images have almost no valid pixels, so the devices' numbers of valid pixels differ a lot
    label[0] = 255
    label[1, :, 1:] = 255
    return logits, label


def mixed(aux_weight=0.4, **options):
    loss = MixedLoss([Term(0, 1.0, CrossEntropy(NCLASS, **options)), Term(1, aux_weight, CrossEntropy(NCLASS))])
    loss.initialize(ctx=[mx.cpu(i) for i in range(4)])
    return loss


def run(loss, logits, label, contexts, *, scale=1.0):
    """Return (value, gradients of each output) with the batch split across the contexts."""
    splits = np.array_split(np.arange(len(label)), contexts)
    outputs = [[nd.array(array[split], ctx=mx.cpu(i)) for array in logits] for i, split in enumerate(splits)]
    for output in sum(outputs, []):
        output.attach_grad()
    with mx.autograd.record():
        parts = [loss(output, nd.array(label[split], ctx=mx.cpu(i), dtype="uint8"))
                 for i, (output, split) in enumerate(zip(outputs, splits))]
    value = global_backward(parts, loss.weights, scale=scale)
    assert value.shape == (1,)
    gradients = [np.concatenate([output[i].grad.asnumpy() for output in outputs]) for i in range(len(logits))]
    return value.asscalar(), gradients


def mean_cross_entropy(logits, label):
    """Return the mean over the valid pixels and its gradient by the formula in float64."""
    z = logits.astype("float64")
    p = np.exp(z - z.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    valid = label != 255
    one_hot = (np.arange(NCLASS).reshape(1, -1, 1, 1) == label[:, None])
    count = max(valid.sum(), 1)
    value = -(np.log(p) * one_hot).sum() / count
    return value, (p - one_hot) * valid[:, None] / count


@pytest.mark.parametrize("contexts", [1, 2, 3, 4])
def test_value_and_gradients_equal_the_formula(contexts):
    logits, label = sample(0)
    value, gradients = run(mixed(0.4), logits, label, contexts)
    wanted = [mean_cross_entropy(array, label) for array in logits]
    assert value == pytest.approx(wanted[0][0] + 0.4 * wanted[1][0], rel=1e-5)
    np.testing.assert_allclose(gradients[0], wanted[0][1], atol=1e-6)
    np.testing.assert_allclose(gradients[1], 0.4 * wanted[1][1], atol=1e-6)


@pytest.mark.parametrize("options", [{}, {"class_weights": [0.5, 3.0, 0.0, 1.0], "label_smoothing": 0.1}])
def test_two_contexts_with_unequal_valid_pixels_equal_the_joined_batch(options):
    logits, label = sample(1)
    loss = mixed(**options)
    value, gradients = run(loss, logits, label, 1)
    again, split = run(loss, logits, label, 2)
    assert again == pytest.approx(value, rel=1e-6)
    for one, other in zip(split, gradients):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-8)
    # the mean of the two contexts' means differs, so this test detects it
    halves = [run(loss, [array[part] for array in logits], label[part], 1)[0]
              for part in (slice(0, 2), slice(2, 4))]
    assert np.mean(halves) != pytest.approx(value, rel=1e-3)


def test_a_context_without_a_valid_pixel_has_no_influence():
    logits, label = sample(2)
    label[:2] = 255
    value, gradients = run(mixed(), logits, label, 2)
    assert not gradients[0][:2].any() and gradients[0][2:].any()
    alone, others = run(mixed(), [array[2:] for array in logits], label[2:], 1)
    assert value == pytest.approx(alone, rel=1e-6)
    np.testing.assert_allclose(gradients[0][2:], others[0], rtol=1e-5)


@pytest.mark.parametrize("contexts", [1, 2])
def test_all_ignored_is_zero_with_zero_gradients(contexts):
    logits, label = sample(3)
    value, gradients = run(mixed(), logits, np.full_like(label, 255), contexts)
    assert value == 0 and not any(gradient.any() for gradient in gradients)


@pytest.mark.parametrize("weight", [0.0, 0.25, 1.0, 4.0, 1024.0])
def test_the_aux_weight_scales_the_aux_gradient_exactly(weight):
    """Weights are powers of two, so the results must be equal bit by bit."""
    logits, label = sample(4)
    _, (main, aux) = run(mixed(1.0), logits, label, 2)
    value, (same, scaled) = run(mixed(weight), logits, label, 2)
    np.testing.assert_array_equal(same, main)
    np.testing.assert_array_equal(scaled, np.float32(weight) * aux)
    assert aux.any() and np.isfinite(value)


@pytest.mark.parametrize("scale", [0.5, 8.0, 65536.0])
def test_loss_scaling_scales_the_gradients_and_not_the_value(scale):
    logits, label = sample(5)
    value, gradients = run(mixed(), logits, label, 2)
    same, scaled = run(mixed(), logits, label, 2, scale=scale)
    assert same == value
    for one, other in zip(scaled, gradients):
        np.testing.assert_array_equal(one, np.float32(scale) * other)


def test_global_value_equals_the_result_of_global_backward():
    logits, label = sample(6)
    loss = mixed(label_smoothing=0.1)
    with mx.autograd.pause():
        parts = [loss([nd.array(array[part], ctx=mx.cpu(i)) for array in logits],
                      nd.array(label[part], ctx=mx.cpu(i))) for i, part in enumerate((slice(0, 1), slice(1, 4)))]
        value = global_value(parts, loss.weights).asscalar()
    assert value == pytest.approx(run(loss, logits, label, 4)[0], rel=1e-6)


def test_terms_may_share_an_output_and_leave_others_out():
    logits, label = sample(7, outputs=3)
    loss = MixedLoss([Term(2, 0.5, CrossEntropy(NCLASS)), Term(2, 1.5, CrossEntropy(NCLASS))])
    loss.initialize()
    value, gradients = run(loss, logits, label, 1)
    wanted, gradient = mean_cross_entropy(logits[2], label)
    assert value == pytest.approx(2 * wanted, rel=1e-5)
    assert not gradients[0].any() and not gradients[1].any()
    np.testing.assert_allclose(gradients[2], 2 * gradient, atol=1e-6)


class Distance(mx.gluon.HybridBlock):
    """Squared distance of two outputs at the labelled pixels: a mean over the batch, or a sum, whose count is 0."""

    def __init__(self, mean):
        super().__init__()
        self._mean = mean

    def hybrid_forward(self, F, one, other, label):
        valid = F.cast(F.expand_dims(label != 255, 1), "float32")
        total, count = F.sum(F.broadcast_mul(F.square(one - other), valid)), F.sum(valid)
        return total, (count if self._mean else F.zeros_like(count))


@pytest.mark.parametrize("contexts", [1, 2, 3])
@pytest.mark.parametrize("mean", [True, False])
def test_a_loss_may_read_several_outputs_and_be_a_sum(contexts, mean):
    logits, label = sample(9)
    loss = MixedLoss([Term(0, 1.0, CrossEntropy(NCLASS)), Term((1, 0), 0.3, Distance(mean))])
    value, gradients = run(loss, logits, label, contexts)
    valid = (label != 255)[:, None]
    difference = (logits[1] - logits[0]).astype("float64") * valid
    factor = 0.3 / (valid.sum() if mean else 1)
    alone, gradient = mean_cross_entropy(logits[0], label)
    assert value == pytest.approx(alone + factor * (difference ** 2).sum(), rel=1e-5)
    np.testing.assert_allclose(gradients[1], 2 * factor * difference, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(gradients[0], gradient - 2 * factor * difference, rtol=1e-4, atol=1e-6)


def test_a_blend_counts_as_one_term_per_loss():
    logits, label = sample(10)
    ce, dice = CrossEntropy(NCLASS), Dice(NCLASS)
    loss = MixedLoss([Term(0, 1.0, Blend([(2.0, ce), (0.5, dice)])), Term(1, 0.4, Blend([(2.0, ce), (0.5, dice)]))])
    flat = MixedLoss([Term(0, 2.0, ce), Term(0, 0.5, dice), Term(1, 0.8, ce), Term(1, 0.2, dice)])
    assert loss.weights == flat.weights == (2.0, 0.5, 0.8, 0.2)
    value, gradients = run(loss, logits, label, 2)
    same, others = run(flat, logits, label, 2)
    assert value == same and all(np.array_equal(one, other) for one, other in zip(gradients, others))


def test_there_is_one_loss_sum_per_term_in_order():
    logits, label = sample(8)
    loss = mixed()
    parts = loss([nd.array(array) for array in logits], nd.array(label))
    assert loss.weights == (1.0, 0.4)
    for part, array in zip(parts, logits):
        wanted, _ = mean_cross_entropy(array, label)
        assert (part.total / part.count).asscalar() == pytest.approx(wanted, rel=1e-5)
        assert part.count.asscalar() == (label != 255).sum()


@settings(max_examples=20)
@given(seed=st.integers(0, 10 ** 6), contexts=st.integers(1, 4), weight=st.floats(0, 10, allow_subnormal=False))
def test_the_result_does_not_depend_on_the_split(seed, contexts, weight):
    logits, label = sample(seed)
    loss = mixed(weight)
    value, gradients = run(loss, logits, label, 1)
    again, split = run(loss, logits, label, contexts)
    assert again == pytest.approx(value, rel=1e-5)
    for one, other in zip(split, gradients):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)
