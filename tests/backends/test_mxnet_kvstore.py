"""Several processes that train in MXNet: they equal one process, and end together when anything is lost."""
import json
import os
import random
import shutil
import signal
import sys
import time
from functools import partial
from pathlib import Path

import mxnet as mx
import numpy as np
import pytest
from run_processes import Run, train_in_two_parts, training_of_toy
from toy_network import paint

from mxnetseg.engine.checkpoint import Checkpoint

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the wheel for Linux has the KVStore")
command = partial(training_of_toy, "mxnet")
SECONDS = 60  # in which all processes end
# batch norm alone depends on the other images of a process
VARIANTS = {
    "frozen norm, auxiliary head": {"model.norm": "frozen", "model.aux": True, "loss.class_weights": "[1,2,3]"},
    "group norm, adamw, micro-batches": {"model.norm": "gn", "optimizer.name": "adamw", "train.accumulate": 2},
    "mining": {"model.norm": "frozen", "loss.ohem.thresh": 1.0, "loss.ohem.min_kept": 10**6, "train.accumulate": 2},
    "average of the weights, dice": {"model.norm": "gn", "train.ema": 0.9, "loss.dice": 1}}


@pytest.fixture(scope="module")
def images_folder(tmp_path_factory):
    return paint(tmp_path_factory.mktemp("data") / "fields", train=24, val=3)


def outcome(weights):
    """Return the losses of a run, its parameters and its optimiser's state."""
    path, = weights.glob("toy/*[0-9].jsonl")
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    arrays = [mx.nd.load(str(path.with_suffix(suffix))) for suffix in (".params", ".state")]
    return [row["loss"] for row in rows if row["kind"] == "step"], *arrays


def run(folder, tmp_path, size, changes=(), **more):
    group = Run(command(folder, tmp_path / "weights", changes), tmp_path, size, TEST_NO_DROPOUT="1", **more)
    codes = group.wait(300)
    assert codes == [0] * size, "\n".join(group.output(rank) for rank in range(size))
    return outcome(tmp_path / "weights"), group


def compare(got, wanted):
    np.testing.assert_allclose(got[0], wanted[0], rtol=0, atol=1e-5)
    for ours, theirs in zip(got[1:], wanted[1:]):
        assert set(ours) == set(theirs)
        for name, value in theirs.items():
            np.testing.assert_allclose(ours[name].asnumpy(), value.asnumpy(), rtol=1e-5, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("variant", [
    pytest.param(name, marks=() if "frozen" in name else pytest.mark.slow) for name in VARIANTS])
def test_two_processes_with_half_the_batch_equal_one(images_folder, tmp_path, variant):
    (one, _), (two, _) = (run(images_folder, tmp_path / str(size), size, VARIANTS[variant]) for size in (1, 2))
    assert len(one[0]) == 6
    compare(two, one)


@pytest.fixture(scope="module")
def whole_run(images_folder, tmp_path_factory):
    """Settings of a run of four epochs, and its outcome in one process."""
    changes = {"model.norm": "gn", "train.batch_size": 6, "train.epochs": 4}
    return changes, run(images_folder, tmp_path_factory.mktemp("whole"), 1, changes)[0]


@pytest.mark.slow
@pytest.mark.parametrize("sizes", [(3, 2), (1, 3), (2, 1)])
def test_a_run_is_resumed_with_another_number_of_processes(images_folder, tmp_path, whole_run, sizes):
    changes, wanted = whole_run
    train_in_two_parts(command(images_folder, tmp_path / "parts", changes), tmp_path, sizes)
    compare(outcome(tmp_path / "parts"), wanted)


@pytest.mark.slow
def test_a_backbone_that_thaws(images_folder, tmp_path):
    """The backend is closed and made anew, with servers of its own; clipping sees the summed gradients."""
    run(images_folder, tmp_path / "start", 1, {"model.norm": "frozen", "train.epochs": 1})
    start, = (tmp_path / "start/weights/toy").glob("*[0-9].params")
    changes = {"model.norm": "frozen", "train.init_from": start, "train.freeze_backbone_epochs": 1,
               "optimizer.clip_norm": 0.1}
    (one, _), (two, _) = (run(images_folder, tmp_path / str(size), size, changes) for size in (1, 2))
    compare(two, one)


@pytest.mark.slow
def test_a_process_whose_labels_are_all_ignored(images_folder, tmp_path):
    """Its divisor is 0, and the loss is that of the other half of the batch."""
    changes = {"model.norm": "frozen", "train.epochs": 1}
    (half, _), (whole, _) = (run(images_folder, tmp_path / name, 2, changes, **more)
                             for name, more in (("ignored", {"TEST_IGNORED": "1"}), ("all", {})))
    assert np.isfinite(half[0]).all() and half[0] != whole[0]
    assert all(np.isfinite(value.asnumpy()).all() for value in half[1].values())


@pytest.mark.slow
def test_batch_norm_belongs_to_each_process(images_folder, tmp_path):
    """Running statistics are averaged, so that both processes validate the same network, and one warning says so."""
    (one, _), (two, group) = (run(images_folder, tmp_path / str(size), size) for size in (1, 2))
    assert np.abs(np.subtract(two[0], one[0])).max() > 1e-4
    assert "over 4 images at once" in group.output(0) and "warning" not in group.output(1)
    mean = next(name for name in one[1] if name.endswith("running_mean"))
    # a mean of means is the mean, while variances differ by the variance between the processes
    np.testing.assert_allclose(two[1][mean].asnumpy(), one[1][mean].asnumpy(), rtol=0.05, atol=0.01)

    refused = Run(command(images_folder, tmp_path / "weights", {"model.norm": "syncbn"}), tmp_path / "refused")
    assert refused.wait() == [2, 2]
    assert "MXNet does not synchronise batch norm between processes" in refused.output(0)


# ---- losses -----------------------------------------------------------------------------------


def children_of(process):
    """Return the ids of a process's children by their role in the KVStore."""
    found = {}
    for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split():
        variables = dict(line.partition("=")[::2] for line in
                         Path(f"/proc/{pid}/environ").read_text().split("\0") if "=" in line)
        found[variables.get("DMLC_ROLE", "?")] = int(pid)
    return found


def start_and_lose(folder, tmp_path, *, rank, role, number, wait=0.0):
    """Start two processes; after the first epoch send a signal to one of them or of their children.

    Returns:
        the run, and the ids of all its processes.
    """
    changes = {"train.epochs": 1000, "train.step_timeout": 30, "model.norm": "frozen"}
    group = Run(command(folder, tmp_path / "weights", changes, "--no-val"), tmp_path / "first", TEST_SLOWLY="0.05")
    try:
        group.wait_for("epoch 1/1000")
        time.sleep(wait)
        ids = [{"worker": child.pid, **children_of(child)} for child in group.children]
        assert [sorted(roles) for roles in ids] == [["scheduler", "server", "worker"], ["server", "worker"]]
        os.kill(ids[rank][role], number)
        for other, child in enumerate(group.children):
            if (other, "worker") != (rank, role):
                child.wait(SECONDS)
    finally:
        group.kill()
    return group, [pid for roles in ids for pid in roles.values()]


def is_running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def check_the_end(group, ids, tmp_path, folder, *, rank, role, number):
    """Check that all processes ended and named what was lost, and that the run can be resumed with one fewer."""
    names = {"worker": f"rank {rank} on "}.get(role, f"the {role} of MXNet's KVStore was lost")
    for other, child in enumerate(group.children):
        if (other, "worker") != (rank, role):
            assert child.returncode == 75, group.output(other)
            assert names in group.output(other) or rank == 0 and "rank 0 was lost" in group.output(other)
    deadline = time.monotonic() + 5
    while any(map(is_running, ids)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not list(filter(is_running, ids))

    path, = (tmp_path / "weights/toy").glob("*[0-9].params")
    epoch = Checkpoint(path).read(state=True).sidecar["progress"]["epoch"]
    assert epoch >= 1
    changes = {"train.epochs": epoch + 1, "train.step_timeout": 30, "model.norm": "frozen"}
    arguments = command(folder, tmp_path / "weights", changes, "--no-val", "--resume", str(path))
    resumed = Run(arguments, tmp_path / "second", 1)
    assert resumed.wait(200) == [0], resumed.output(0)


@pytest.mark.slow
def test_an_error_of_one_process_ends_all(images_folder, tmp_path):
    """The failing process does not wait for sums to which it does not contribute any more."""
    data = shutil.copytree(images_folder, tmp_path / "data")
    changes = {"train.epochs": 1000, "model.norm": "frozen"}
    group = Run(command(data, tmp_path / "weights", changes, "--no-val"), tmp_path / "first", TEST_SLOWLY="0.05")
    group.wait_for("epoch 1/1000")
    (data / "images/train1.png").write_bytes(b"no image")
    assert group.wait(SECONDS) == [1, 1]
    assert all("an image cannot be decoded" in group.output(rank) for rank in (0, 1))


LOSSES = [(1, "server", signal.SIGKILL), (0, "scheduler", signal.SIGKILL), (0, "server", signal.SIGSTOP),
          (1, "worker", signal.SIGKILL), (0, "worker", signal.SIGKILL), (1, "worker", signal.SIGSTOP)]


@pytest.mark.parametrize("rank, role, number", [
    pytest.param(*loss, marks=() if not place else pytest.mark.slow) for place, loss in enumerate(LOSSES)])
def test_the_loss_of_a_process_ends_all(images_folder, tmp_path, rank, role, number):
    lost = {"rank": rank, "role": role, "number": number}
    check_the_end(*start_and_lose(images_folder, tmp_path, **lost), tmp_path, images_folder, **lost)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(12))  # ten more in tests/faults/test_lost_processes.py
def test_kills_at_random_moments(images_folder, tmp_path, seed):
    draw = random.Random(seed)
    rank, role = draw.choice([(0, "worker"), (1, "worker"), (0, "server"), (1, "server"), (0, "scheduler")])
    lost = {"rank": rank, "role": role, "number": signal.SIGKILL}
    wait = 3 * draw.random()
    check_the_end(*start_and_lose(images_folder, tmp_path, wait=wait, **lost), tmp_path, images_folder, **lost)
