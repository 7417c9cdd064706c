"""Training steps in PyTorch against those of MXNet: the same start and the same batches."""
import mxnet as mx
import numpy as np
import pytest
from mxnet import gluon
from small_networks import SMALL

torch = pytest.importorskip("torch")

from mxnetseg.backends.group import Group  # noqa: E402
from mxnetseg.backends.mxnet_training import MXNetTraining  # noqa: E402
from mxnetseg.backends.torch_training import TorchTraining  # noqa: E402
from mxnetseg.config import Config  # noqa: E402
from mxnetseg.engine import setup  # noqa: E402
from mxnetseg.models import get_model  # noqa: E402

NCLASS = 5
STEPS, BATCH = 20, 4
# Training from random weights is chaotic: at a learning rate of 0.01, a change of MXNet's own start by 1e-7 changes its
# losses by 0.01 within 20 steps. These rates are low enough that rounding does not grow.
RATES = {"sgd": 1e-5, "adamw": 1e-6}
# At these rates too, OCRNet's losses move by 0.006 within 6 steps if MXNet's own start is changed by 1e-7.
RATES_OF_OCRNET = {"sgd": 1e-7, "adamw": 1e-7}
R18 = {"backbone": "resnet18"}
NETWORKS = {"fastscnn": ({}, 64), "segformer": ({}, 64), "fcn": (R18, 64), "bisenet": (R18, 128), "ddrnet": ({}, 192),
            "pspnet": (R18, 96), "danet": (R18, 64), "ocrnet": (SMALL["ocrnet"], 64)}
QUICK = ("fastscnn", "segformer")


def batches(count, size):
    """Yield images whose blocks show their class, with an unlabelled border."""
    random = np.random.RandomState(0)
    for _ in range(count):
        labels = random.randint(0, NCLASS, (BATCH, size // 8, size // 8)).repeat(8, 1).repeat(8, 2).astype(np.uint8)
        images = labels[..., None] * 40 + random.randint(0, 60, (*labels.shape, 3))
        labels[:, :2] = 255
        yield images.astype(np.uint8), labels


def parameters(net):
    return {name: p.data().asnumpy() for name, p in net.named_parameters().items()}


def train(kind, name, config, size, steps=STEPS):
    """Return the parameters at the start, the losses, and the parameters at the end."""
    mx.random.seed(0)
    net = get_model(name, nclass=NCLASS, **NETWORKS[name][0])
    step = setup.make_step(config, net, [mx.cpu()], 1)
    backend = MXNetTraining(step, config, [mx.cpu()], "float32", Group()) if kind == "mxnet" else \
        TorchTraining(step, config, [torch.device("cpu")], "float32", Group())
    start, losses = parameters(net), []
    for number, (images, labels) in enumerate(batches(steps, size)):
        losses.append(backend.backward(backend.send(images, labels), seed=number))
        assert backend.update(config.optimizer.lr * (1 - number / steps) ** 0.9)
    losses = [backend.read(loss) for loss in losses]
    backend.synchronise()
    return start, losses, parameters(net)


def distance(one, other, names):
    """Return the norm of the difference of some parameters."""
    return np.sqrt(sum(np.square(one[name] - other[name], dtype="float64").sum() for name in names))


@pytest.mark.parametrize("optimizer", list(RATES))
@pytest.mark.parametrize("name", [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow)
                                  for name in NETWORKS])
def test_twenty_steps_equal_those_of_mxnet(monkeypatch, name, optimizer):
    monkeypatch.setattr(gluon.nn.Dropout, "hybrid_forward", lambda self, F, x: F.identity(x))
    rates = RATES_OF_OCRNET if name == "ocrnet" else RATES
    config = Config().replace({"optimizer.name": optimizer, "optimizer.lr": rates[optimizer]})
    start, losses, wanted = train("mxnet", name, config, NETWORKS[name][1])
    same, torch_losses, got = train("torch", name, config, NETWORKS[name][1])
    assert all((start[key] == same[key]).all() for key in start)

    np.testing.assert_allclose(torch_losses, losses, rtol=0, atol=1e-4)
    statistics = [key for key in wanted if "running" in key]
    weights = [key for key in wanted if "running" not in key]
    zeros = {key: np.zeros_like(value) for key, value in wanted.items()}
    for names in filter(None, (weights, statistics)):
        assert distance(got, wanted, names) < 1e-3 * distance(wanted, zeros, names)
        assert distance(got, wanted, names) < 0.05 * distance(wanted, start, names)  # of the way
    for key, value in wanted.items():
        np.testing.assert_allclose(got[key], value, rtol=1e-3, atol=1e-5 + 1e-3 * np.abs(value).max(), err_msg=key)


def test_mxnets_gradient_arrays_are_freed_and_parameters_stay():
    config = Config().replace({"optimizer.name": "sgd", "optimizer.lr": 0.01})
    net = get_model("fastscnn", nclass=NCLASS)
    before, trained = parameters(net), {name for name, p in net.named_parameters().items() if p.grad_req != "null"}
    step = setup.make_step(config, net, [mx.cpu()], 1)
    backend = TorchTraining(step, config, [torch.device("cpu")], "float32", Group())
    assert all(p.data().grad is None for p in net.collect_params().values())
    assert all((before[name] == value).all() for name, value in parameters(net).items())
    assert set(backend.updates.parameters) == trained

    images, labels = next(batches(1, 64))
    backend.backward(backend.send(images, labels), seed=0)
    backend.update(0.01)
    backend.synchronise()
    assert all((before[name] != parameters(net)[name]).any() for name in trained if name.endswith("weight"))
