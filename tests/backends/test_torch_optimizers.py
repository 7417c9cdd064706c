"""PyTorch's optimisers with MXNet's updates: each step and each state against MXNet's own."""
import mxnet as mx
import numpy as np
import pytest

from tests.backends.test_mxnet_optimizers import LR, NAMES, gradients, network, options, step, values

torch = pytest.importorskip("torch")

from mxnetseg.backends.mxnet_optimizers import get_states, make_trainer, set_states  # noqa: E402
from mxnetseg.backends.torch_optimizers import Updates  # noqa: E402
from mxnetseg.backends.training import multipliers  # noqa: E402
from mxnetseg.errors import CheckpointError  # noqa: E402

RATES = (LR, 0.02, 0.0, 1e-6, 0.3)


def updates(net, config):
    """Return the updates of a copy of the network's trained parameters."""
    parameters = {name: torch.nn.Parameter(torch.from_numpy(p.data().asnumpy())) for name, p in net.learned().items()}
    return Updates(parameters, multipliers(net, config), config)


def torch_step(ours, grads, rate):
    for name, parameter in ours.parameters.items():
        parameter.grad = torch.from_numpy(grads[name].copy())
    ours.step(rate)


def compare(ours, net, trainer):
    for name, value in values(net).items():
        np.testing.assert_allclose(ours.parameters[name].detach().numpy(), value, rtol=2e-5, atol=1e-6, err_msg=name)
    wanted, got = get_states(trainer, net), ours.get_state()
    assert got.keys() == wanted.keys()
    for key, value in wanted.items():
        assert got[key].dtype == value.dtype
        np.testing.assert_allclose(got[key], value, rtol=2e-5, atol=1e-6 * np.abs(value).max(), err_msg=key)


VARIANTS = [{}, {"momentum": 0.0}, {"head_lr_mult": 7.0, "decay_norm_and_bias": False}]


@pytest.mark.parametrize("more", VARIANTS, ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_steps_and_states_are_those_of_mxnet(name, more):
    net, config = network(), options(name, **more)
    trainer, ours = make_trainer(net, config), updates(net, config)
    for k, rate in enumerate(RATES):
        grads = gradients(k, net)
        trainer.set_learning_rate(rate)
        step(trainer, net, grads)
        torch_step(ours, grads, rate)
        compare(ours, net, trainer)


@pytest.mark.parametrize("name", NAMES)
def test_a_state_moves_between_the_backends(name):
    net, config = network(), options(name, head_lr_mult=3.0)
    trainer, ours = make_trainer(net, config), updates(net, config)
    for k in range(2):
        step(trainer, net, gradients(k, net))
    for parameter, value in zip(ours.parameters.values(), values(net).values()):
        parameter.data.copy_(torch.from_numpy(value))
    ours.set_state(get_states(trainer, net), where="state")
    for k in range(2, 4):
        step(trainer, net, gradients(k, net))
        torch_step(ours, gradients(k, net), LR)
        compare(ours, net, trainer)

    back = network(seed=1)
    for parameter_name, parameter in back.learned().items():
        parameter.set_data(mx.nd.array(ours.parameters[parameter_name].detach().numpy()))
    resumed = make_trainer(back, config)
    set_states(resumed, back, ours.get_state(), [mx.cpu()], where="state")
    step(resumed, back, gradients(4, back))
    torch_step(ours, gradients(4, net), LR)
    compare(ours, back, resumed)


@pytest.mark.parametrize("name", NAMES)
def test_a_restored_state_continues_bit_for_bit(name):
    net, config = network(), options(name)
    whole, resumed = updates(net, config), updates(net, config)
    for k, rate in enumerate(RATES):
        torch_step(whole, gradients(k, net), rate)
        if k == 2:
            for to, parameter in zip(resumed.parameters.values(), whole.parameters.values()):
                to.data.copy_(parameter.data)
            resumed.set_state(whole.get_state(), where="state")
        if k > 2:
            torch_step(resumed, gradients(k, net), rate)
    for one, other in zip(whole.parameters.values(), resumed.parameters.values()):
        assert torch.equal(one, other)
    first, second = whole.get_state(), resumed.get_state()
    assert all((first[key] == second[key]).all() for key in first)


def test_the_state_of_another_optimiser_is_refused():
    net = network()
    ours = updates(net, options("adam"))
    torch_step(ours, gradients(0, net), LR)
    with pytest.raises(CheckpointError, match="does not fit") as error:
        updates(net, options("sgd")).set_state(ours.get_state(), where="a.state")
    assert "a.state" in str(error.value)
