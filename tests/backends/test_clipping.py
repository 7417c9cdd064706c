"""Clipping of gradients by their global norm: the update is that of the scaled gradients, in both backends."""
import mxnet as mx
import numpy as np
import pytest
from mxnet import gluon

torch = pytest.importorskip("torch")

from mxnetseg.backends.group import Group  # noqa: E402
from mxnetseg.backends.mxnet_training import MXNetTraining  # noqa: E402
from mxnetseg.backends.torch_training import TorchTraining  # noqa: E402
from mxnetseg.config import Config  # noqa: E402
from mxnetseg.engine import setup  # noqa: E402
from mxnetseg.models import get_model  # noqa: E402

KINDS = {"mxnet": (MXNetTraining, [mx.cpu()]), "two contexts": (MXNetTraining, [mx.cpu(0), mx.cpu(1)]),
         "torch": (TorchTraining, [torch.device("cpu")])}


@pytest.fixture(autouse=True)
def without_dropout(monkeypatch):
    monkeypatch.setattr(gluon.nn.Dropout, "hybrid_forward", lambda self, F, x: F.identity(x))


def update(kind, clip, scale=None):
    """Make one step of plain SGD at a rate of 1; return the negative change of each trained parameter."""
    make, devices = KINDS[kind]
    config = Config().replace({"optimizer.clip_norm": clip, "optimizer.momentum": 0, "optimizer.weight_decay": 0})
    contexts = devices if make.trains_in_place else [mx.cpu()]
    mx.random.seed(0)
    net = get_model("fastscnn", nclass=3, norm="gn", ctx=contexts)
    backend = make(setup.make_step(config, net, contexts, len(devices)), config, devices, "float32", Group())
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)
    labels = np.zeros((2, 64, 64), np.uint8)

    before = {name: p.list_data()[-1].asnumpy() for name, p in net.named_parameters().items()}
    backend.backward(backend.send(images, labels), seed=0, loss_scale=scale or 1.0)
    assert backend.update(1.0, loss_scale=scale)
    backend.synchronise()
    return {name: before[name] - p.list_data()[-1].asnumpy() for name, p in net.named_parameters().items()}


def norm(change):
    return np.sqrt(sum(np.square(value, dtype="float64").sum() for value in change.values()))


@pytest.mark.parametrize("kind", KINDS)
def test_a_larger_gradient_is_scaled_down_to_the_norm(kind):
    plain = update(kind, None)
    length = norm(plain)
    assert length > 0.1
    clipped = update(kind, length / 4)
    for name, value in plain.items():
        np.testing.assert_allclose(clipped[name], value / 4, rtol=1e-3, atol=1e-5, err_msg=name)
    for clip in (1.01 * length, 1e6):
        same = update(kind, clip)
        assert all(np.abs(same[name] - value).max() <= 1e-7 for name, value in plain.items())


@pytest.mark.parametrize("kind", KINDS)
def test_the_loss_scale_does_not_count(kind):
    wanted = update(kind, 0.05)
    assert norm(wanted) == pytest.approx(0.05, rel=1e-3)
    scaled = update(kind, 0.05, scale=256.0)
    for name, value in wanted.items():
        np.testing.assert_allclose(scaled[name], value, rtol=1e-3, atol=1e-6, err_msg=name)
