"""Norms: several contexts equal one context with the joined batch, and group norm equals the paper's."""
import mxnet as mx
import numpy as np
import pytest
from mxnet import gluon, nd

from mxnetseg.backends.mxnet_parallel import forward, needs_lockstep
from mxnetseg.errors import ConfigError, MXNetSegError
from mxnetseg.nn.norm import NORMS, CrossContextBatchNorm, GroupNorm32, choose_norm

CHANNELS = 3


def contexts(n):
    return [mx.cpu(i) for i in range(n)]


def network(norm_layer, ctx, **norm_kwargs):
    """Return a network of two norms with a nonlinearity between them, so that the second depends on the first."""
    net = gluon.nn.HybridSequential()
    net.add(gluon.nn.Conv2D(CHANNELS, 3, padding=1, in_channels=2),
            norm_layer(in_channels=CHANNELS, **norm_kwargs),
            gluon.nn.Activation("sigmoid"),
            gluon.nn.Conv2D(CHANNELS, 1, in_channels=CHANNELS),
            norm_layer(in_channels=CHANNELS, **norm_kwargs))
    random = np.random.RandomState(3)
    net.initialize(ctx=ctx)
    for p in net.collect_params().values():
        if "running" not in p.name:
            p.set_data(nd.array(random.normal(size=p.shape)))
    return net


def whole(values):
    return np.concatenate([value.asnumpy() for value in values])


def step(net, xs, heads):
    """Run one recorded pass with given head gradients; return (outputs, input gradients), joined over contexts."""
    for x in xs:
        x.attach_grad()
    with mx.autograd.record():
        ys = forward(net, xs, in_step=needs_lockstep(net))
    mx.autograd.backward(ys, heads)
    return whole(ys), whole([x.grad for x in xs])


def split(array, ctx):
    return gluon.utils.split_and_load(nd.array(array), ctx)


def by_structure(net):
    return net._collect_params_with_prefix()


@pytest.mark.parametrize("n", [2, 4])
class TestCrossContextBatchNorm:
    def test_equals_batch_norm_on_the_joined_batch_step_after_step(self, n):
        options = {"momentum": 0.7, "epsilon": 1e-3}
        many = network(CrossContextBatchNorm, contexts(n), **options)
        one = network(gluon.nn.BatchNorm, mx.cpu(), **options)
        trainers = [gluon.Trainer(net.collect_params(), "sgd", {"learning_rate": 0.05, "momentum": 0.9})
                    for net in (many, one)]
        random = np.random.RandomState(0)
        for _ in range(4):
            # an offset per sample, so that each context's statistics differ a lot from the joint ones
            x = random.normal(size=(8, 2, 5, 7)) + 3 * np.arange(8).reshape(8, 1, 1, 1)
            head = random.normal(size=(8, CHANNELS, 5, 7))
            got = step(many, split(x, contexts(n)), split(head, contexts(n)))
            wanted = step(one, split(x, [mx.cpu()]), split(head, [mx.cpu()]))
            for a, b in zip(got, wanted):
                np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4 * np.abs(b).max())
            for name, p in by_structure(one).items():
                theirs = by_structure(many)[name]
                if p.grad_req != "null":
                    gradient = sum(g.asnumpy() for g in theirs.list_grad())
                    # the gradient of a convolution's bias before a norm is only rounding error
                    np.testing.assert_allclose(gradient, p.grad().asnumpy(), rtol=1e-3, atol=2e-3)
            for trainer in trainers:
                trainer.step(8)
        for name, p in by_structure(one).items():
            for value in by_structure(many)[name].list_data():
                np.testing.assert_allclose(value.asnumpy(), p.data().asnumpy(), rtol=2e-4, atol=2e-4,
                                           err_msg=name)
        moved = by_structure(one)["1.running_mean"].data().asnumpy()
        assert np.abs(moved).min() > 0.1  # the statistics did change

    def test_in_inference_each_context_is_independent(self, n):
        net = network(CrossContextBatchNorm, contexts(n))
        xs = split(np.random.RandomState(1).normal(size=(n, 2, 4, 4)), contexts(n))
        wanted = whole(net(x) for x in xs)
        net.hybridize()
        np.testing.assert_allclose(whole(net(x) for x in xs), wanted, rtol=1e-5, atol=1e-6)

    def test_in_training_without_lockstep_the_error_says_what_to_do(self, n):
        net = network(CrossContextBatchNorm, contexts(n))
        with mx.autograd.record(), pytest.raises(MXNetSegError, match="parallel.forward"):
            net(nd.zeros((1, 2, 4, 4), ctx=mx.cpu(0)))


def test_a_sum_of_large_values_does_not_cancel():
    ctx = contexts(2)
    norm = CrossContextBatchNorm(in_channels=1)
    norm.initialize(ctx=ctx)
    x = 1000 + np.random.RandomState(0).normal(size=(4, 1, 16, 16)).astype("float32")
    with mx.autograd.record():
        y = whole(forward(norm, split(x, ctx), in_step=True))
    exact = (x.astype("float64") - x.mean(dtype="float64")) / np.sqrt(x.var(dtype="float64") + 1e-5)
    np.testing.assert_allclose(y, exact, atol=2e-3)


def test_checkpoints_move_between_the_norms(tmp_path):
    norms = [gluon.nn.BatchNorm, CrossContextBatchNorm, gluon.contrib.nn.SyncBatchNorm]
    nets = [network(norm, mx.cpu()) for norm in norms]
    names = [set(by_structure(net)) for net in nets]
    assert names[0] == names[1] == names[2]
    nets[0].save_parameters(str(tmp_path / "bn.params"))
    for net in nets[1:]:
        net.load_parameters(str(tmp_path / "bn.params"))


class TestChooseNorm:
    def test_one_context(self):
        for name in ("auto", "bn", "syncbn"):
            assert choose_norm(name, contexts(1)) == (gluon.nn.BatchNorm, {})

    def test_several_contexts(self):
        assert choose_norm("bn", contexts(2)) == (gluon.nn.BatchNorm, {})
        for name in ("auto", "syncbn"):
            assert choose_norm(name, contexts(2)) == (CrossContextBatchNorm, {})
            assert choose_norm(name, [mx.gpu(0), mx.gpu(1)]) == \
                (gluon.contrib.nn.SyncBatchNorm, {"num_devices": 2})
        for n in (1, 2):
            assert choose_norm("gn", contexts(n)) == (GroupNorm32, {})
            assert choose_norm("frozen", contexts(n)) == (gluon.nn.BatchNorm, {"use_global_stats": True})

    def test_an_unknown_name_is_refused_with_the_known_ones(self):
        with pytest.raises(ConfigError, match=", ".join(NORMS)):
            choose_norm("batch", contexts(1))


def group_norm(x, gamma, beta, groups, epsilon):
    """Compute the paper's equations 1 and 7 in float64."""
    n, c = x.shape[:2]
    grouped = x.astype("float64").reshape(n, groups, -1)
    normal = (grouped - grouped.mean(2, keepdims=True)) / np.sqrt(grouped.var(2, keepdims=True) + epsilon)
    return normal.reshape(x.shape) * gamma.reshape(1, c, 1, 1) + beta.reshape(1, c, 1, 1)


@pytest.mark.parametrize("channels, groups", [(64, 32), (32, 32), (48, 16), (24, 8), (12, 4), (6, 2), (7, 1)])
@pytest.mark.parametrize("known", [True, False])
def test_group_norm_equals_the_paper(channels, groups, known):
    norm = GroupNorm32(in_channels=channels) if known else GroupNorm32()
    norm.initialize()
    random = np.random.RandomState(channels)
    x = random.normal(2.0, 3.0, size=(2, channels, 3, 5)).astype("float32")
    norm(nd.array(x))
    gamma, beta = random.normal(size=(2, channels))
    norm.gamma.set_data(nd.array(gamma))
    norm.beta.set_data(nd.array(beta))
    wanted = group_norm(x, gamma, beta, groups, 1e-5)
    np.testing.assert_allclose(norm(nd.array(x)).asnumpy(), wanted, atol=2e-5)
    norm.hybridize()
    np.testing.assert_allclose(norm(nd.array(x)).asnumpy(), wanted, atol=2e-5)


def test_gradients_of_group_norm():
    norm = GroupNorm32(in_channels=6)
    norm.initialize()
    random = np.random.RandomState(0)
    x, head = random.normal(size=(2, 2, 6, 4, 3)).astype("float32")
    gamma, beta = random.normal(size=(2, 6))
    norm.gamma.set_data(nd.array(gamma))
    norm.beta.set_data(nd.array(beta))
    data = nd.array(x)
    data.attach_grad()
    with mx.autograd.record():
        y = norm(data)
    y.backward(nd.array(head))

    point = [x.astype("float64"), gamma, beta]
    h = 1e-5
    for array, gradient in zip(point, (data.grad, norm.gamma.grad(), norm.beta.grad())):
        numeric = np.zeros_like(array)
        for i in np.ndindex(*array.shape):
            ends = []
            middle = array[i]
            for end in (middle + h, middle - h):
                array[i] = end
                ends.append((group_norm(*point, groups=2, epsilon=1e-5) * head).sum())
            array[i] = middle
            numeric[i] = (ends[0] - ends[1]) / (2 * h)
        np.testing.assert_allclose(gradient.asnumpy(), numeric, atol=1e-4)


def test_group_norm_hybridised_too_early_is_refused():
    norm = GroupNorm32()
    norm.initialize()
    norm.hybridize()
    with pytest.raises(MXNetSegError, match="before it knew its channels"):
        norm(nd.zeros((1, 4, 2, 2)))
