"""Runs in PyTorch: they learn, resume bit for bit, and continue runs of MXNet and the other way round."""
import json
import logging

import mxnet as mx
import numpy as np
import pytest
from mxnet import gluon
from toy_network import stopped_at

torch = pytest.importorskip("torch")

from mxnetseg.backends.group import Group  # noqa: E402
from mxnetseg.backends.mxnet_runtime import MXNetRuntime  # noqa: E402
from mxnetseg.config import load_config  # noqa: E402
from mxnetseg.engine import contexts, training_choice  # noqa: E402
from mxnetseg.engine.checkpoint import Checkpoint, restore_network  # noqa: E402
from mxnetseg.engine.inference import Segmenter  # noqa: E402
from mxnetseg.engine.processes import Processes  # noqa: E402
from mxnetseg.engine.protocol import Protocol  # noqa: E402
from mxnetseg.engine.trainer import Trainer  # noqa: E402
from mxnetseg.engine.training_choice import choose_training  # noqa: E402
from mxnetseg.errors import ConfigError, DeviceError, UnknownNameError  # noqa: E402

STEPS = 3  # of an epoch
DEVICES = {"mxnet": [mx.cpu()], "torch": [torch.device("cpu")]}


def run(config, folder, backend="torch", *, stop_at=None, **options):
    """Run a trainer; with ``stop_at`` it receives SIGTERM during that step, counted from 1 in this run."""
    trainer = Trainer(config, DEVICES[backend], backend=backend, folder=folder, quiet=True, **options)
    return trainer, stopped_at(trainer, stop_at).fit()


def losses(trainer):
    rows = map(json.loads, trainer.run_log.path.read_text().splitlines())
    return [row["loss"] for row in rows if row["kind"] == "step"]


@pytest.fixture
def without_dropout(monkeypatch):
    monkeypatch.setattr(gluon.nn.Dropout, "hybrid_forward", lambda self, F, x: F.identity(x))


def compare(got, wanted, rtol=1e-3):
    for name, value in wanted.items():
        np.testing.assert_allclose(got[name], value, rtol=rtol, atol=1e-5 + rtol * np.abs(value).max(), err_msg=name)


def tensors(path):
    return {name: value.asnumpy() for name, value in mx.nd.load(str(path)).items()}


VARIANTS = {
    "sgd": {}, "adamw": {"optimizer.name": "adamw", "optimizer.lr": 1e-3}, "nag": {"optimizer.name": "nag"},
    "micro-batches": {"train.accumulate": 2, "optimizer.head_lr_mult": 10.0, "loss.class_weights": [1, 2, 3]},
    "auxiliary": {"model.aux": True, "loss.ce": 0.5, "loss.focal": 1.0, "loss.label_smoothing": 0.1},
    **{f"mining as {form}": {"loss.ohem": {"form": form, "thresh": 0.3, "min_kept": 150}, "train.accumulate": parts}
       for form, parts in (("flattenet", 1), ("hrnet", 1), ("mmseg", 2), ("ccnet", 2))},
    "Dice and Lovász": {"loss.ce": 0.2, "loss.dice": 0.5, "loss.lovasz": 0.5},
    "group norm": {"model.norm": "gn"}, "frozen norm": {"model.norm": "frozen"}, "average": {"train.ema": 0.5}}


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_run_equals_one_in_mxnet(configure, tmp_path, without_dropout, variant):
    config = configure({"train.epochs": 2, **VARIANTS[variant]})
    (first, one), (second, other) = (run(config, tmp_path / backend, backend) for backend in ("mxnet", "torch"))
    np.testing.assert_allclose(losses(second), losses(first), rtol=0, atol=1e-4)
    assert len(losses(first)) == 2 * STEPS
    compare(tensors(other.last.path), tensors(one.last.path))
    compare(tensors(other.last.path.with_suffix(".state")), tensors(one.last.path.with_suffix(".state")), rtol=5e-3)
    assert other.scores.miou == pytest.approx(one.scores.miou, abs=0.01)


def test_it_learns_with_dropout(configure, tmp_path):
    trainer, result = run(configure({"train.epochs": 8, "optimizer.lr": 0.2}), tmp_path)
    assert result.scores.miou > 0.9
    values = losses(trainer)
    assert np.mean(values[-STEPS:]) < 0.6 * np.mean(values[:STEPS])


@pytest.mark.parametrize("variant", ["sgd", "adamw", "micro-batches", "average"])
def test_a_resumed_run_is_bit_identical(configure, tmp_path, written, variant):
    config = configure(VARIANTS[variant])
    _, result = run(config, tmp_path / "whole")
    wanted, resume = written(result), None
    for stop in (2, STEPS, 1, None):
        _, result = run(config, tmp_path / "parts", stop_at=stop, resume=resume)
        resume = Checkpoint(result.last.path)
    got = written(result)
    for what in vars(wanted):
        assert getattr(got, what) == getattr(wanted, what), what


@pytest.mark.parametrize("variant", ["sgd", "adamw", "average"])
def test_a_run_moves_between_the_backends(configure, tmp_path, without_dropout, variant):
    config = configure({"train.epochs": 4, **VARIANTS[variant]})
    _, whole = run(config, tmp_path / "whole", "mxnet")
    resume = None
    for backend, stop in (("mxnet", STEPS), ("torch", STEPS + 1), ("mxnet", 2), ("torch", None)):
        _, result = run(config, tmp_path / "parts", backend, stop_at=stop, resume=resume)
        resume = Checkpoint(result.last.path)
    compare(tensors(result.last.path), tensors(whole.last.path))
    epochs = [(entry["backend"], entry["first_epoch"], entry["last_epoch"])
              for entry in result.last.read_sidecar()["backends"]]
    assert epochs == [("mxnet", 1, 1), ("torch", 2, 3), ("mxnet", 3, 3), ("torch", 4, 4)]
    net, _ = restore_network(result.best, [mx.cpu()])
    assert all(np.isfinite(p.data().asnumpy()).all() for p in net.named_parameters().values())


def test_bfloat16_is_close_to_float32(configure, tmp_path, without_dropout):
    trainers = [run(configure({"train.precision": precision}), tmp_path / precision)[0]
                for precision in ("float32", "bfloat16")]
    exact, half = map(losses, trainers)
    assert exact != half
    np.testing.assert_allclose(half, exact, rtol=0.02)


def test_loss_scaling_skips_infinite_gradients(configure, tmp_path):
    trainer = Trainer(configure(), DEVICES["torch"], backend="torch", folder=tmp_path, validate=False, quiet=True)
    backend, batch = trainer.backend, next(trainer.loader.epoch(0))
    backend.backward(backend.send(batch.images, batch.masks), seed=0, loss_scale=2.0 ** 10)
    before = {name: p.detach().clone() for name, p in backend.updates.parameters.items()}
    gradient = next(iter(backend.updates.parameters.values())).grad
    kept = gradient.clone()
    gradient[(0,) * gradient.dim()] = float("inf")
    assert not backend.update(0.1, loss_scale=2.0 ** 10)
    assert all(torch.equal(p, before[name]) for name, p in backend.updates.parameters.items())

    gradient.copy_(kept)
    assert backend.update(0.1, loss_scale=2.0 ** 10)
    scaled = {name: p.detach().clone() for name, p in backend.updates.parameters.items()}
    assert any(not torch.equal(p, before[name]) for name, p in scaled.items())
    for name, p in backend.updates.parameters.items():
        p.data.copy_(before[name])
    backend.updates._fill(0, {})
    backend.backward(backend.send(batch.images, batch.masks), seed=0)
    backend.update(0.1)
    assert all(torch.equal(p, scaled[name]) for name, p in backend.updates.parameters.items())
    trainer.close()


@pytest.mark.parametrize("backend", DEVICES)
def test_the_backend_that_trains_validates(configure, tmp_path, backend):
    trainer, result = run(configure({"train.epochs": 1}), tmp_path, backend)
    assert trainer.backend.runtime().name == backend
    segmenter = Segmenter(trainer.backend.runtime(), Protocol.of(trainer.config))
    wanted = Segmenter(MXNetRuntime(restore_network(result.last, [mx.cpu()])[0]), Protocol.of(trainer.config))
    image = trainer.val_set[0].image
    np.testing.assert_allclose(segmenter.probabilities(image), wanted.probabilities(image), atol=1e-5)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_demo_ends_within_one_point_of_mxnets(tmp_path):
    config = load_config("demo")
    scores = [run(config, tmp_path / backend, backend)[1].scores for backend in DEVICES]
    assert scores[1].miou == pytest.approx(scores[0].miou, abs=0.01)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")  # inductor's own
def test_a_compiled_step_equals_an_eager_one(configure, tmp_path, without_dropout):
    eager, compiled = (run(configure({"train.compile": value}), tmp_path / str(value)) for value in (False, True))
    np.testing.assert_allclose(losses(compiled[0]), losses(eager[0]), rtol=0, atol=1e-5)
    compare(tensors(compiled[1].last.path), tensors(eager[1].last.path))


class TestChoice:
    def test_the_cpu_means_mxnet(self):
        assert choose_training("auto", ["cpu"]) == ("mxnet", [mx.cpu()], 1)
        assert choose_training("torch", ["cpu"]) == ("torch", [torch.device("cpu")], 1)

    def test_a_gpu_that_only_pytorch_computes_on_means_pytorch(self, monkeypatch, caplog):
        caplog.set_level(logging.INFO)
        monkeypatch.setattr(training_choice, "_may_have_gpu", lambda: True)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
        assert choose_training("auto", None) == ("torch", [torch.device("cuda:0")], 1)
        assert "finds no GPU here: training in PyTorch on cuda:0" in caplog.text
        assert choose_training("auto", ["1"]) == ("torch", [torch.device("cuda:1")], 1)
        assert choose_training("auto", ["cpu"])[0] == "mxnet"
        with pytest.raises(DeviceError, match="this GPU is not there"):
            choose_training("torch", ["2"])

    @pytest.mark.parametrize("ctx", [["0"], ["0", "1", "2", "3"]])
    def test_without_a_gpu_the_cpu_computes_the_whole_batch(self, monkeypatch, caplog, ctx):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
        assert choose_training("torch", ctx) == ("torch", [torch.device("cpu")], 1)
        assert f"--ctx {' '.join(ctx)} runs on the CPU" in caplog.text

    def test_bad_names_are_refused(self):
        for ctx in (["tpu"], ["cpu", "cpu0"], ["0", "cpu"], ["0", "gpu0"], ["mps"]):
            with pytest.raises(DeviceError):
                choose_training("torch", ctx)
        with pytest.raises(UnknownNameError):
            choose_training("jax", ["cpu"])


class TestSeveralProcesses:
    """Devices of the processes of one host."""

    @pytest.fixture(autouse=True)
    def gpus(self, monkeypatch):
        """Function that makes a host with GPUs: ``gpus(2)``."""
        monkeypatch.setattr(contexts, "compute_capability", lambda index: (8, 6))
        monkeypatch.setattr(training_choice, "_may_have_gpu", lambda: True)

        def make(count):
            monkeypatch.setattr(mx.context, "num_gpus", lambda: count)
            monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
            monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
        return make

    @staticmethod
    def devices(requested, ctx, count):
        return [choose_training(requested, ctx, Processes(rank=8 + rank, size=16, local_rank=rank)).devices
                for rank in range(count)]

    @pytest.mark.parametrize("requested", ["auto", "mxnet", "torch"])
    def test_each_takes_the_gpu_of_its_number(self, gpus, requested):
        gpus(4)
        device = mx.gpu if requested != "torch" else lambda index: torch.device("cuda", index)
        assert self.devices(requested, None, 4) == [[device(i)] for i in range(4)]
        assert self.devices(requested, ["3", "1"], 2) == [[device(3)], [device(1)]]
        for ctx, count in ((None, 5), (["0", "1"], 3)):
            with pytest.raises(DeviceError, match="more processes on this host than devices"):
                self.devices(requested, ctx, count)

    @pytest.mark.parametrize("requested, cpu", [("auto", mx.cpu()), ("mxnet", mx.cpu()),
                                                ("torch", torch.device("cpu"))])
    def test_without_a_gpu_all_take_the_cpu(self, gpus, requested, cpu):
        gpus(0)
        assert self.devices(requested, None, 3) == self.devices(requested, ["cpu"], 3) == [[cpu]] * 3

    def test_mxnet_skips_a_gpu_that_it_has_no_code_for(self, gpus, monkeypatch):
        gpus(3)
        monkeypatch.setattr(contexts, "compute_capability", {0: (8, 0), 1: (9, 0), 2: (8, 0)}.__getitem__)
        assert self.devices("mxnet", None, 2) == [[mx.gpu(0)], [mx.gpu(2)]]
        with pytest.raises(DeviceError, match="more processes on this host than devices"):
            self.devices("mxnet", None, 3)

    @pytest.mark.parametrize("uuids, shared", [((1, 2, 3), None), ((1, 2, 1), "ranks 0 and 2"), ((0, 0, 0), None)])
    def test_processes_that_see_one_gpu_each_must_not_see_the_same(self, gpus, monkeypatch, uuids, shared):
        gpus(1)
        choice = choose_training("mxnet", None, Processes(rank=1, size=3, local_rank=1))
        assert choice.devices == [mx.gpu(0)] and training_choice.device_kind(choice) == "GPU"
        monkeypatch.setattr(training_choice, "gpu_uuid", lambda index: bytes([uuids[1]] * 16) if uuids[1] else None)
        group = Group()
        group.rank, group.size = 1, 3

        def sum_arrays(arrays):
            (own,) = arrays
            assert (own[1] == uuids[1]).all() and not own[[0, 2]].any()
            return [np.array(uuids, np.uint8)[:, None].repeat(16, 1)]
        group.sum_arrays = sum_arrays
        if shared is None:
            training_choice.refuse_shared_gpu(choice, group)
        else:
            with pytest.raises(DeviceError, match="must not share a GPU") as error:
                training_choice.refuse_shared_gpu(choice, group)
            assert shared in str(error.value)


@pytest.mark.parametrize("backend, changes, message", [
    ("torch", {"train.precision": "float16"}, "float16 needs a GPU"),
    ("mxnet", {"train.compile": True}, "MXNet compiles every training graph itself")])
def test_settings_that_a_backend_does_not_have_are_refused(configure, tmp_path, backend, changes, message):
    with pytest.raises(ConfigError, match=message):
        Trainer(configure(changes), DEVICES[backend], backend=backend, folder=tmp_path)
