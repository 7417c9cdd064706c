"""Moving average of the weights: its values, what is saved and validated, and runs that switch it on or off."""
import mxnet as mx
import numpy as np
import pytest
from mxnet import gluon

torch = pytest.importorskip("torch")

from mxnetseg.backends.group import Group  # noqa: E402
from mxnetseg.backends.training import TRAINED, average_decay  # noqa: E402
from mxnetseg.engine.checkpoint import Checkpoint, restore_network  # noqa: E402
from mxnetseg.engine.trainer import Trainer  # noqa: E402
from mxnetseg.engine.validation import validate  # noqa: E402
from mxnetseg.errors import CheckpointError  # noqa: E402

DEVICES = {"mxnet": [mx.cpu(0), mx.cpu(1)], "torch": [torch.device("cpu")]}


@pytest.fixture
def make(configure, tmp_path):
    """Function that returns a trainer with an average: ``make(backend, ema)``."""
    def trainer(backend, ema, changes=(), **options):
        return Trainer(configure({"train.ema": ema, "train.batch_size": 4, "optimizer.lr": 0.5, **dict(changes)}),
                       DEVICES[backend], backend=backend, folder=tmp_path, quiet=True, validate=False, **options)
    return trainer


def network(trainer):
    return {name: p.list_data()[-1].asnumpy() for name, p in trainer.net.named_parameters().items()}


def trained(trainer):
    state = trainer.backend.get_state()
    return {name[len(TRAINED):]: np.array(value) for name, value in state.items() if name.startswith(TRAINED)}


def steps(trainer, count):
    """Make some steps; return the trained weights after each of them."""
    batches, found = list(trainer.loader.epoch(0)), []
    for number in range(count):
        trainer._backward(trainer._to_devices(batches[number % len(batches)]))
        trainer._update()
        found.append(trained(trainer))
    return found


def test_the_decay_rises_to_its_final_value():
    assert [average_decay(0.9, n) for n in (1, 2, 8)] == [2 / 11, 3 / 12, 0.5]
    assert average_decay(0.9, 81) == average_decay(0.9, 10 ** 6) == 0.9


@pytest.mark.parametrize("ema", [0.3, 0.999])
@pytest.mark.parametrize("backend", DEVICES)
def test_the_network_holds_the_averages_after_an_epoch(make, backend, ema):
    trainer = make(backend, ema)
    wanted = {name: value.astype("float64") for name, value in network(trainer).items() if "running" not in name}
    for number, weights in enumerate(steps(trainer, 6), 1):
        decay = average_decay(ema, number)
        assert weights.keys() == wanted.keys()
        wanted = {name: decay * value + (1 - decay) * weights[name] for name, value in wanted.items()}
    trainer.backend.synchronise()

    found = network(trainer)
    for name, value in wanted.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-5, atol=1e-6, err_msg=name)
        assert np.abs(found[name] - weights[name]).max() > 1e-3 * np.abs(weights[name]).max(), name
    trainer.close()


@pytest.mark.parametrize("backend", DEVICES)
def test_training_continues_from_the_trained_weights(make, backend, monkeypatch):
    monkeypatch.setattr(gluon.nn.Dropout, "hybrid_forward", lambda self, F, x: F.identity(x))
    plain, interrupted = make(backend, 0.9), make(backend, 0.9)
    steps(plain, 2)
    steps(interrupted, 2)
    interrupted.backend.synchronise()
    interrupted.backend.synchronise()  # a second time changes nothing
    one, other = steps(plain, 1)[0], steps(interrupted, 1)[0]
    for name, value in one.items():
        np.testing.assert_array_equal(other[name], value, err_msg=name)
    for trainer in (plain, interrupted):
        trainer.backend.synchronise()
    first, second = network(plain), network(interrupted)
    assert all((first[name] == second[name]).all() for name in first)
    plain.close(), interrupted.close()


def test_without_an_average_the_weights_are_the_same(make):
    averaged, plain = make("mxnet", 0.9), make("mxnet", 0.0)
    one = steps(averaged, 3)[-1]
    steps(plain, 3)
    assert not trained(plain)
    plain.backend.synchronise()
    found = network(plain)
    assert all((found[name] == value).all() for name, value in one.items())
    averaged.close(), plain.close()


def test_both_checkpoints_hold_what_was_validated(fit, configure, tmp_path):
    trainer, result = fit(configure({"train.ema": 0.9, "optimizer.lr": 0.5, "train.epochs": 2}), tmp_path)
    net, _ = restore_network(result.last, [mx.cpu()])
    saved, state = net.named_parameters(), mx.nd.load(str(result.last.path.with_suffix(".state")))
    for name, value in network(trainer).items():
        np.testing.assert_array_equal(saved[name].data().asnumpy(), value)
        assert "running" in name or (state[TRAINED + name].asnumpy() != value).any()

    again = validate(trainer.backend.runtime(), trainer.config, trainer.val_set, Group(), hide_bar=True)
    assert again.miou == result.scores.miou


@pytest.mark.parametrize("backend", DEVICES)
def test_a_resumed_run_may_switch_it_on_or_off(make, backend):
    first = make(backend, 0.0)
    assert first._train_epoch()
    first._save_last()
    first.close()
    on = make(backend, 0.9, resume=Checkpoint(first.last.path))
    before = network(on)
    assert all((before[name] == value).all() for name, value in trained(on).items())
    steps(on, 2)
    on.backend.synchronise()
    on._save_last()
    weights = trained(on)
    on.close()

    off = make(backend, 0.0, resume=Checkpoint(on.last.path))
    off.backend.synchronise()
    found = network(off)
    assert all((found[name] == value).all() for name, value in weights.items())
    off.close()


def test_trained_weights_of_another_network_are_refused(make):
    trainer = make("mxnet", 0.9)
    steps(trainer, 1)
    state = trainer.backend.get_state()
    name = next(name for name in state if name.startswith(TRAINED))
    with pytest.raises(CheckpointError, match="does not fit this network"):
        trainer.backend.set_state({**state, name: np.zeros(3, "float32")}, where="here")
    trainer.close()
