"""Two processes in PyTorch: batch norm, divisors, micro-batches and half precision equal those of one process."""
import json
import socket
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from run_processes import Run, train_in_two_parts, training_of_toy
from toy_network import paint

torch = pytest.importorskip("torch")

import mxnet as mx  # noqa: E402

WORKER = """
import sys
import torch, torch.distributed as dist
from mxnetseg.backends.torch_distributed import normalise_over_processes
from mxnetseg.backends.torch_layers import normalise_batch
rank, size, file = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
dist.init_process_group("gloo", init_method="file://" + file, rank=rank, world_size=size)
torch.manual_seed(0)
for shape, kind in (((6, 4, 5, 3), torch.float64), ((6, 3), torch.float64), ((6, 4, 8, 8), torch.bfloat16)):
    for cuts in {2: ([0, 3, 6], [0, 4, 6]), 3: ([0, 2, 4, 6], [0, 3, 5, 6])}[size]:  # parts of the processes
        x = (torch.randn(shape, dtype=torch.float64) * 3 + 5).to(kind)
        weight, bias = torch.randn(2, shape[1], dtype=torch.float64 if kind == torch.float64 else torch.float32)
        for own_weight in (weight, None):
            whole, part = x.clone().requires_grad_(), x[cuts[rank]:cuts[rank + 1]].clone().requires_grad_()
            leaves = [t.clone().requires_grad_() for t in ((weight, bias) if own_weight is not None else (bias,))]
            copies = [t.detach().clone().requires_grad_() for t in leaves]
            y, mean, var = normalise_batch(whole, leaves[0] if own_weight is not None else None, leaves[-1], 1e-3)
            got, own_mean, own_var = normalise_over_processes(
                part, copies[0] if own_weight is not None else None, copies[-1], 1e-3, size=size)
            upstream = torch.randn(shape, dtype=torch.float64).to(kind)
            y.backward(upstream)
            got.backward(upstream[cuts[rank]:cuts[rank + 1]])
            for copy in copies:
                dist.all_reduce(copy.grad)
            tolerance = 1e-9 if kind == torch.float64 else 0.06
            for ours, wanted in [(own_mean, mean), (own_var, var), (got, y[cuts[rank]:cuts[rank + 1]]),
                                 (part.grad, whole.grad[cuts[rank]:cuts[rank + 1]]),
                                 *((copy.grad, leaf.grad) for copy, leaf in zip(copies, leaves))]:
                assert ours.dtype == wanted.dtype
                difference = (ours.double() - wanted.double()).abs().max()
                assert difference <= tolerance * max(1, wanted.double().abs().max()), (shape, kind, difference)
print("equal")
"""


@pytest.mark.parametrize("size", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_batch_norm_over_processes_is_that_of_the_joined_batch(tmp_path, size):
    children = [subprocess.Popen([sys.executable, "-c", WORKER, str(rank), str(size), str(tmp_path / "store")],
                                 stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                 cwd=Path(__file__).parents[2]) for rank in range(size)]
    for child in children:
        out, err = child.communicate(timeout=200)
        assert child.returncode == 0 and out == "equal\n", err


@pytest.fixture(scope="module")
def images_folder(tmp_path_factory):
    return paint(tmp_path_factory.mktemp("data") / "fields", train=24, val=3)


command = partial(training_of_toy, "torch")


class Outcome:
    """Losses, scores and tensors of a finished run."""

    def __init__(self, weights):
        path, = weights.glob("toy/*[0-9].jsonl")
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        self.losses = [row["loss"] for row in rows if row["kind"] == "step"]
        self.scores = [row["val_miou"] for row in rows if "val_miou" in row]
        self.params, self.state = (
            {name: value.asnumpy() for name, value in mx.nd.load(str(path.with_suffix(suffix))).items()}
            for suffix in (".params", ".state"))


def run(folder, tmp_path, size, changes=(), **more):
    group = Run(command(folder, tmp_path / "weights", changes), tmp_path, size, TEST_NO_DROPOUT="1", **more)
    codes = group.wait(300)
    assert codes == [0] * size, "\n".join(group.output(rank) for rank in range(size))
    return Outcome(tmp_path / "weights")


def compare(got, wanted, tolerance=1e-5):
    np.testing.assert_allclose(got.losses, wanted.losses, rtol=0, atol=tolerance)
    for ours, theirs in ((got.params, wanted.params), (got.state, wanted.state)):
        assert set(ours) == set(theirs)
        for name, value in theirs.items():
            np.testing.assert_allclose(ours[name], value, rtol=tolerance, atol=tolerance, err_msg=name)
    np.testing.assert_allclose(got.scores, wanted.scores, atol=1e-3)


VARIANTS = {
    "sgd, auxiliary head": {"model.aux": True},
    "adamw, micro-batches": {"optimizer.name": "adamw", "optimizer.lr": 1e-4, "train.accumulate": 2,
                             "loss.class_weights": "[1,2,3]"},
    "focal, dice": {"loss.focal": 1, "loss.dice": 1},
    "mining": {"loss.ohem.thresh": 1.0, "loss.ohem.min_kept": 10**6, "train.accumulate": 2},  # keeps every pixel
    "group norm": {"model.norm": "gn"}}


@pytest.mark.parametrize("variant", [
    pytest.param(name, marks=() if "sgd" in name else pytest.mark.slow) for name in VARIANTS])
def test_two_processes_with_half_the_batch_equal_one(images_folder, tmp_path, variant):
    one, two = (run(images_folder, tmp_path / str(size), size, VARIANTS[variant]) for size in (1, 2))
    assert len(one.losses) == 6
    compare(two, one)


@pytest.mark.slow
def test_a_process_whose_labels_are_all_ignored(images_folder, tmp_path):
    """Its divisor is 0, and the loss is that of the other half of the batch."""
    half, one = (run(images_folder, tmp_path / name, 2, {"model.norm": "gn", "train.epochs": 1}, **more)
                 for name, more in (("ignored", {"TEST_IGNORED": "1"}), ("all", {})))
    assert np.isfinite(half.losses).all() and half.losses != one.losses
    assert all(np.isfinite(value).all() for value in half.params.values())


@pytest.mark.slow
@pytest.mark.parametrize("norm", ["auto", "bn"])
def test_three_processes(images_folder, tmp_path, norm):
    changes = {"train.batch_size": 6, "model.norm": norm}
    one, three = (run(images_folder, tmp_path / str(size), size, changes) for size in (1, 3))
    if norm == "auto":
        compare(three, one)
    else:  # each process normalises its own images
        assert np.abs(np.subtract(three.losses, one.losses)).max() > 1e-4


@pytest.mark.slow
def test_a_backbone_that_thaws(images_folder, tmp_path):
    """The backend is closed and made anew, with more trained parameters; a run is resumed before and after that."""
    run(images_folder, tmp_path / "start", 1, {"train.epochs": 1})
    start, = (tmp_path / "start/weights/toy").glob("*[0-9].params")
    changes = {"train.init_from": start, "train.freeze_backbone_epochs": 1, "optimizer.clip_norm": 0.1,
               "train.epochs": 3}
    one, two = (run(images_folder, tmp_path / str(size), size, changes) for size in (1, 2))
    compare(two, one)
    begun = {name: value.asnumpy() for name, value in mx.nd.load(str(start)).items()}
    assert all((two.params[name] != value).any() for name, value in begun.items())

    for stop in ("epoch 1/3", "epoch 2/3", None):
        part = Run(command(images_folder, tmp_path / "parts", changes, "--resume", "auto"), tmp_path / f"until {stop}",
                   TEST_NO_DROPOUT="1", TEST_SLOWLY="0.5" if stop else "0")
        if stop:
            part.wait_for(stop, timeout=200)
            part.children[1].terminate()
        assert part.wait(200) == [143 if stop else 0] * 2, part.output(0)
    compare(Outcome(tmp_path / "parts"), one)


@pytest.mark.slow
def test_bfloat16_and_a_compiled_step(images_folder, tmp_path):
    exact, half, compiled = (run(images_folder, tmp_path / name, 2, changes) for name, changes in (
        ("a", {}), ("b", {"train.precision": "bfloat16"}), ("c", {"train.compile": "true"})))
    np.testing.assert_allclose(half.losses, exact.losses, rtol=0.03)
    compare(compiled, exact, 1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("sizes", [(3, 2), (1, 3), (2, 1)])
def test_a_run_is_resumed_with_another_number_of_processes(images_folder, tmp_path, sizes):
    changes = {"train.batch_size": 6, "train.epochs": 4}
    whole = run(images_folder, tmp_path / "whole", 1, changes)
    train_in_two_parts(command(images_folder, tmp_path / "parts", changes), tmp_path, sizes)
    compare(Outcome(tmp_path / "parts"), whole)


def test_free_interfaces_have_names():
    from mxnetseg.backends.torch_distributed import _interface_of

    assert _interface_of("127.0.0.1") in {name for _, name in socket.if_nameindex()} | {None}
    assert _interface_of("192.0.2.1") is None
