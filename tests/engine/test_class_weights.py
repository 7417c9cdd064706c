"""Class weights that follow from the training masks: counted once, recorded, and used."""
import mxnet as mx
import numpy as np
import pytest

from mxnetseg.data import get_dataset
from mxnetseg.engine import setup
from mxnetseg.engine.checkpoint import Checkpoint
from mxnetseg.engine.trainer import Trainer


@pytest.fixture
def wanted(images_folder):
    """Function that returns the weights by the formula: ``wanted(c)``."""
    masks = np.concatenate([sample.mask.ravel() for sample in get_dataset(str(images_folder), split="train")])
    fraction = np.bincount(masks[masks != 255], minlength=3) / (masks != 255).sum()
    return lambda c: 1 / np.log(c + fraction)


def in_the_loss(trainer):
    """Return the class weights in the loss of a trainer."""
    found, = (p.data().asnumpy() for name, p in trainer.backend._step.collect_params().items()
              if name.endswith("class_weights"))
    return found


@pytest.mark.parametrize("c", [1.02, 1.1])
def test_they_are_in_the_loss_and_in_the_sidecar(fit, configure, tmp_path, wanted, c, caplog):
    caplog.set_level("INFO")
    trainer, result = fit(configure({"train.epochs": 1, "loss.class_weights_log": c}), tmp_path, validate=False)
    np.testing.assert_allclose(in_the_loss(trainer), wanted(c), rtol=1e-6)
    np.testing.assert_allclose(result.last.read_sidecar()["class_weights"], wanted(c), rtol=1e-12)
    assert f"red {wanted(c)[0]:.4g}, green" in caplog.text


def test_given_weights_are_recorded_too(fit, configure, tmp_path):
    trainer, result = fit(configure({"train.epochs": 1, "loss.class_weights": [1, 2, 3]}), tmp_path, validate=False)
    assert in_the_loss(trainer).tolist() == result.last.read_sidecar()["class_weights"] == [1, 2, 3]


def test_a_resumed_run_does_not_count_again(fit, configure, tmp_path, monkeypatch, wanted):
    config = configure({"loss.class_weights_log": 1.1})
    _, result = fit(config, tmp_path, stop_at=2)
    monkeypatch.setattr(setup, "class_frequency", lambda *_, **__: pytest.fail("the masks are counted again"))
    trainer, _ = fit(config, tmp_path, resume=Checkpoint(result.last.path))
    np.testing.assert_allclose(in_the_loss(trainer), wanted(1.1), rtol=1e-6)


def test_a_resumed_run_with_another_number_counts_again(fit, configure, tmp_path, wanted):
    _, result = fit(configure({"loss.class_weights_log": 1.1}), tmp_path, stop_at=2)
    trainer = Trainer(configure({"loss.class_weights_log": 1.02}), [mx.cpu()], folder=tmp_path, validate=False,
                      quiet=True, resume=Checkpoint(result.last.path))
    np.testing.assert_allclose(in_the_loss(trainer), wanted(1.02), rtol=1e-6)
    trainer.close()
