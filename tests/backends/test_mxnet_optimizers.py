"""Optimisers: their steps against NumPy, the settings of each parameter, and saving and restoring their state."""
import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd, gluon, nd

from mxnetseg.backends.mxnet_optimizers import get_states, make_trainer, set_states
from mxnetseg.config.schema import Optimizer
from mxnetseg.errors import CheckpointError

NAMES = ("sgd", "nag", "adam", "adamw")
LR, WD, MOMENTUM, BETA1, BETA2 = 0.1, 0.03, 0.8, 0.85, 0.95


class Net(gluon.HybridBlock):
    """Network whose parameters are used directly; the gradient of the sum below is given by the test."""

    def __init__(self):
        super().__init__()
        with self.name_scope():
            self.backbone = gluon.nn.BatchNorm(in_channels=4)
            self.head = gluon.nn.Dense(2, in_units=4)

    def named_parameters(self):
        return self._collect_params_with_prefix()

    def learned(self):
        return {name: p for name, p in self.named_parameters().items() if p.grad_req != "null"}


def contexts(n):
    return [mx.cpu(i) for i in range(n)]


def network(n=1, seed=0):
    net, random = Net(), np.random.RandomState(seed)
    net.initialize(ctx=contexts(n))
    for p in net.learned().values():
        p.set_data(nd.array(random.normal(size=p.shape)))
    return net


def gradients(step, net, seed=5):
    random = np.random.RandomState(seed + step)
    return {name: random.normal(size=p.shape).astype("float32") for name, p in net.learned().items()}


def step(trainer, net, grads, n=1):
    """Make one step whose gradients, summed over all contexts, are ``grads``."""
    for i, context in enumerate(contexts(n)):
        with autograd.record():
            fraction = (i + 1) / (n * (n + 1) / 2)
            total = nd.add_n(*[(p.data(context) * nd.array(grads[name], ctx=context)).sum() * fraction
                               for name, p in net.learned().items()])
        total.backward()
    trainer.step(1)


def values(net, context=None):
    return {name: p.data(context or mx.cpu(0)).asnumpy() for name, p in net.learned().items()}


def options(name, **more):
    return Optimizer(name=name, **{"lr": LR, "weight_decay": WD, "momentum": MOMENTUM, "beta1": BETA1,
                                   "beta2": BETA2, **more})


class Reference:
    """Optimisers in NumPy, float64, from their papers."""

    def __init__(self, name):
        self.name, self.t, self.state = name, 0, {}

    def step(self, weights, grads, lr=lambda n: LR, wd=lambda n: WD):
        self.t += 1
        return {n: self._one(n, w.astype("float64"), grads[n].astype("float64"), lr(n), wd(n))
                for n, w in weights.items()}

    def _one(self, n, w, g, lr, wd):
        m, v = self.state.get(n, (np.zeros_like(w), np.zeros_like(w)))
        if self.name in ("sgd", "nag"):  # Sutskever et al. 2013; the rate is inside the momentum, as in MXNet
            if self.name == "sgd":
                m = MOMENTUM * m - lr * (g + wd * w)
                w = w + m
            else:
                w = w + MOMENTUM ** 2 * m - (1 + MOMENTUM) * lr * (g + wd * w)
                # MXNet's operator works in place: the decay in the momentum is of the new weight
                m = MOMENTUM * m - lr * (g + wd * w)
        else:
            if self.name == "adamw":  # Loshchilov & Hutter 2019, algorithm 2 with the schedule in lr
                w = w - lr * wd * w
            else:
                g = g + wd * w
            m, v = BETA1 * m + (1 - BETA1) * g, BETA2 * v + (1 - BETA2) * g * g
            w = w - lr * (m / (1 - BETA1 ** self.t)) / (np.sqrt(v / (1 - BETA2 ** self.t)) + 1e-8)
        self.state[n] = m, v
        return w


def compare(got, wanted, rtol=2e-5):
    for name, value in wanted.items():
        np.testing.assert_allclose(got[name], value, rtol=rtol, atol=1e-6, err_msg=name)


class TestSteps:
    @pytest.mark.parametrize("n", [1, 2])
    @pytest.mark.parametrize("name", NAMES)
    def test_against_numpy(self, name, n):
        net, reference = network(n), Reference(name)
        trainer, wanted = make_trainer(net, options(name)), values(net)
        for k in range(5):
            grads = gradients(k, net)
            step(trainer, net, grads, n)
            wanted = reference.step(wanted, grads)
            for context in contexts(n):
                compare(values(net, context), wanted)

    @pytest.mark.parametrize("name", NAMES)
    def test_a_changing_rate(self, name):
        net, reference = network(), Reference(name)
        trainer, wanted = make_trainer(net, options(name)), values(net)
        for k, rate in enumerate((0.1, 0.02, 0.3)):
            trainer.set_learning_rate(rate)
            grads = gradients(k, net)
            step(trainer, net, grads)
            wanted = reference.step(wanted, grads, lr=lambda n, rate=rate: rate)
            compare(values(net), wanted)

    @pytest.mark.parametrize("name", NAMES)
    def test_the_head_learns_faster(self, name):
        net, reference = network(), Reference(name)
        trainer, wanted = make_trainer(net, options(name, head_lr_mult=7.0)), values(net)
        for k in range(3):
            grads = gradients(k, net)
            step(trainer, net, grads)
            wanted = reference.step(wanted, grads, lr=lambda n: LR * (1 if n.startswith("backbone.") else 7))
            compare(values(net), wanted)

    @pytest.mark.parametrize("name", NAMES)
    def test_no_decay_on_norms_and_biases(self, name):
        net, reference = network(), Reference(name)
        trainer, wanted = make_trainer(net, options(name, decay_norm_and_bias=False)), values(net)
        decayed = {n: WD if n == "head.weight" else 0.0 for n in wanted}
        assert len(decayed) == 4
        for k in range(3):
            grads = gradients(k, net)
            step(trainer, net, grads)
            wanted = reference.step(wanted, grads, wd=decayed.get)
            compare(values(net), wanted)

    @pytest.mark.parametrize("name", ["sgd", "nag"])
    def test_without_momentum(self, name):
        net = network()
        trainer, before = make_trainer(net, options(name, momentum=0.0)), values(net)
        grads = gradients(0, net)
        step(trainer, net, grads)
        compare(values(net), {n: w - LR * (grads[n] + WD * w) for n, w in before.items()})

    def test_running_statistics_are_left_alone(self):
        net = network()
        trainer = make_trainer(net, options("adamw", weight_decay=0.9))
        step(trainer, net, gradients(0, net))
        assert (net.backbone.running_var.data().asnumpy() == 1).all()


class TestState:
    @pytest.mark.parametrize("n", [1, 2])
    @pytest.mark.parametrize("name", NAMES)
    def test_a_restored_state_continues_bit_for_bit(self, name, n, tmp_path):
        net = network(n)
        trainer = make_trainer(net, options(name))
        for k in range(3):
            step(trainer, net, gradients(k, net), n)
        np.savez(tmp_path / "state.npz", **get_states(trainer, net))
        saved, state = values(net), dict(np.load(tmp_path / "state.npz"))

        other = network(n, seed=1)
        for p_name, p in other.learned().items():
            p.set_data(nd.array(saved[p_name]))
        resumed = make_trainer(other, options(name))
        set_states(resumed, other, state, contexts(n), where="state")
        for k in range(3, 6):
            step(trainer, net, gradients(k, net), n)
            step(resumed, other, gradients(k, other), n)
        for context in contexts(n):
            for p_name, value in values(net, context).items():
                assert (values(other, context)[p_name] == value).all(), p_name
        first, second = get_states(trainer, net), get_states(resumed, other)
        assert first.keys() == second.keys()
        assert all((first[k] == second[k]).all() for k in first)

    def test_from_one_context_to_two(self):
        one, two = network(1), network(2)
        first, second = (make_trainer(net, options("adam")) for net in (one, two))
        step(first, one, gradients(0, one))
        step(second, two, gradients(9, two), 2)
        for name, p in two.learned().items():
            p.set_data(nd.array(values(one)[name]))
        set_states(second, two, get_states(first, one), contexts(2), where="state")
        step(first, one, gradients(1, one))
        step(second, two, gradients(1, two), 2)
        for context in contexts(2):
            compare(values(two, context), values(one), rtol=1e-6)

    def test_names_are_the_parameters(self):
        net = network()
        trainer = make_trainer(net, options("adam"))
        step(trainer, net, gradients(0, net))
        step(trainer, net, gradients(1, net))
        state = get_states(trainer, net)
        assert set(state) == {f"{name}:{k}" for name in net.learned() for k in (0, 1)} | {"#updates"}
        assert state["#updates"] == 2

    @pytest.mark.parametrize("saved, here", [("adam", "sgd"), ("sgd", "adamw")])
    def test_the_state_of_another_optimiser_is_refused(self, saved, here):
        net = network()
        trainer = make_trainer(net, options(saved))
        step(trainer, net, gradients(0, net))
        with pytest.raises(CheckpointError, match="does not fit") as error:
            set_states(make_trainer(net, options(here)), net, get_states(trainer, net), contexts(1), where="a.state")
        assert "a.state" in str(error.value) and "backbone.beta: " in str(error.value)

    def test_the_state_of_another_network_is_refused(self):
        net = network()
        trainer = make_trainer(net, options("sgd"))
        step(trainer, net, gradients(0, net))
        state = get_states(trainer, net)
        state["head.weight:0"] = np.zeros((3, 4))
        with pytest.raises(CheckpointError, match="does not fit") as error:
            set_states(make_trainer(net, options("sgd")), net, state, contexts(1), where="a.state")
        assert "head.weight: [(3, 4)] in the file, [(2, 4)] here" in str(error.value)

    def test_unknown_tensors_are_refused(self):
        net = network()
        trainer = make_trainer(net, options("sgd"))
        step(trainer, net, gradients(0, net))
        state = get_states(trainer, net)
        state["neck.weight:0"] = np.zeros((3, 4))
        with pytest.raises(CheckpointError, match="does not fit") as error:
            set_states(make_trainer(net, options("sgd")), net, state, contexts(1), where="a.state")
        assert "neck.weight" in str(error.value)
