"""A frozen backbone: nothing in it changes, in either backend, and from the given epoch on it is trained."""
from types import SimpleNamespace

import mxnet as mx
import numpy as np
import pytest
from toy_network import stopped_at

torch = pytest.importorskip("torch")

from mxnetseg.engine.checkpoint import Checkpoint  # noqa: E402
from mxnetseg.engine.freezing import FrozenBackbone  # noqa: E402
from mxnetseg.engine.trainer import Trainer  # noqa: E402
from mxnetseg.errors import CheckpointError, ConfigError  # noqa: E402

STEPS = 3  # of an epoch
DEVICES = {"mxnet": [mx.cpu()], "two contexts": [mx.cpu(0), mx.cpu(1)], "torch": [torch.device("cpu")]}


@pytest.fixture(scope="module")
def source(fit, configure, tmp_path_factory):
    """Checkpoint of a run whose weights the others start from."""
    _, result = fit(configure({"train.epochs": 1}), tmp_path_factory.mktemp("source"), validate=False)
    return str(result.last.path)


@pytest.fixture
def run(configure, source, tmp_path):
    """Function that trains: ``run(backend, frozen epochs, changes, stop_at, resume)``."""
    def train(kind, epochs, changes=(), *, stop_at=None, resume=None, folder="weights"):
        config = configure({"train.init_from": source, "train.freeze_backbone_epochs": epochs, "train.epochs": 4,
                            "optimizer.lr": 0.2, **dict(changes)})
        trainer = Trainer(config, DEVICES[kind], backend="torch" if kind == "torch" else "mxnet", quiet=True,
                          folder=tmp_path / folder, resume=resume)
        return stopped_at(trainer, stop_at).fit()
    return train


def arrays(path):
    return {name: value.asnumpy() for name, value in mx.nd.load(str(path)).items()}


@pytest.mark.parametrize("kind", DEVICES)
def test_nothing_in_the_backbone_changes(run, source, kind):
    result = run(kind, 4)
    before, after = arrays(source), arrays(result.last.path)
    backbone = [name for name in before if name.startswith("backbone.")]
    assert any("running" in name for name in backbone) and any("gamma" in name for name in backbone)
    for name in backbone:
        np.testing.assert_array_equal(after[name], before[name], err_msg=name)
    assert all((after[name] != before[name]).any() for name in before if name not in backbone)
    assert not any(name.startswith("backbone.") for name in arrays(result.last.path.with_suffix(".state")))


@pytest.mark.parametrize("kind", DEVICES)
def test_from_the_given_epoch_on_it_is_trained(run, source, kind):
    frozen = run(kind, 2, stop_at=2 * STEPS)
    before = arrays(source)
    backbone = [name for name in before if name.startswith("backbone.")]
    assert all((arrays(frozen.last.path)[name] == before[name]).all() for name in backbone)
    result = run(kind, 2, resume=Checkpoint(frozen.last.path))
    after = arrays(result.last.path)
    assert all((after[name] != before[name]).any() for name in backbone)
    assert arrays(result.last.path.with_suffix(".state"))["#updates"].tolist() == [2 * STEPS]


@pytest.mark.parametrize("changes", [{}, {"train.ema": 0.5, "optimizer.name": "adamw", "optimizer.lr": 0.01}],
                         ids=["sgd", "average"])
@pytest.mark.parametrize("kind", DEVICES)
def test_a_resumed_run_is_bit_identical(run, written, kind, changes):
    wanted = written(run(kind, 2, changes, folder="whole"))
    resume = None
    for stop in (STEPS - 1, STEPS + 1, 1, None):  # the second stop is at the end of the last frozen epoch
        result = run(kind, 2, changes, stop_at=stop, resume=resume)
        resume = Checkpoint(result.last.path)
    got = written(result)
    for what in ("params", "state", "best", "log"):
        assert getattr(got, what) == getattr(wanted, what), what


def test_a_frozen_network_learns_like_one_in_the_other_backend(run, monkeypatch):
    from mxnet import gluon

    monkeypatch.setattr(gluon.nn.Dropout, "hybrid_forward", lambda self, F, x: F.identity(x))
    one, other = (arrays(run(kind, 2, folder=kind).last.path) for kind in ("mxnet", "torch"))
    for name, value in one.items():
        np.testing.assert_allclose(other[name], value, rtol=5e-3, atol=5e-3 * np.abs(value).max(), err_msg=name)


def test_another_number_of_frozen_epochs_is_refused(run):
    result = run("mxnet", 2, stop_at=1)
    with pytest.raises(CheckpointError, match="does not fit") as error:
        run("mxnet", 0, resume=Checkpoint(result.last.path))
    assert "train.freeze_backbone_epochs that the run was started with" in str(error.value)


def test_a_network_without_a_backbone_is_refused():
    net = SimpleNamespace(model_name="flat", named_parameters=dict, backbone=None)
    with pytest.raises(ConfigError, match="no backbone"):
        FrozenBackbone(net, 1)
