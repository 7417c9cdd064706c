"""Runs on two hosts with a real link between them: the result is that of one process, and all losses end in time."""
import json
import random
import signal
import time

import mxnet as mx
import numpy as np
import pytest
from run_processes import BACKENDS, LOST, Run, arguments, check_checkpoints
from toy_network import paint
from two_hosts import ADDRESSES, NAMES, TwoHosts, why_not

pytest.importorskip("torch")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
LOSS = 0.01  # of the frames


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return paint(tmp_path_factory.mktemp("data") / "fields", train=24, val=4)


@pytest.fixture(params=[None, LOSS], ids=["link", "lossy link"])
def hosts(request):
    reason = why_not(loss=request.param is not None)
    if reason:
        pytest.skip(reason)
    with TwoHosts(request.param) as both:
        yield both
    assert both.dropped > 0 or request.param is None


@pytest.fixture(params=BACKENDS)
def backend(request):
    return request.param


def start(images, tmp_path, backend, hosts, *more, ranks=(0, 1), epochs=500, **variables):
    run = Run(arguments(images, tmp_path / "weights", *more, backend=backend, epochs=epochs), tmp_path / "first",
              len(ranks), **hosts.place(list(ranks)), **variables)
    if epochs == 500:
        run.wait_for("epoch 1/", timeout=200)
    return run


def check_end(run, lost):
    """Check that all processes but one end in time and name the lost one, its host, and their own."""
    codes = run.end_without(lost)
    assert codes == [LOST] * len(codes), run.outputs()
    for rank in {0, 1} - {lost}:
        text = run.output(rank)
        other = f"rank 1 on {NAMES[1]} was lost" if rank == 0 else "rank 0 was lost"
        assert other in text and f"rank {rank} of 2 on {NAMES[rank]}" in text, run.outputs()
        assert rank == 0 or ADDRESSES[0] in text


def check_resumption(images, tmp_path, backend):
    """Check the checkpoints, and that one process alone continues from the last one."""
    epoch = check_checkpoints(tmp_path / "weights")
    assert epoch > 0
    path, = tmp_path.glob("weights/toy/*[0-9].params")
    run = Run(arguments(images, tmp_path / "weights", "--resume", str(path), backend=backend, epochs=epoch + 1)[2:],
              tmp_path / "second", 1)
    assert run.wait(200) == [0], run.outputs()
    assert check_checkpoints(tmp_path / "weights") == epoch + 1


def test_three_processes_on_two_hosts_equal_one(images, tmp_path, backend, hosts):
    """Rank 1 shares the host of rank 0 and reaches it by the link's address, too."""
    results = []
    for name, places in (("one", {}), ("three", hosts.place([0, 0, 1]))):
        run = Run(arguments(images, tmp_path / name, backend=backend, epochs=2), tmp_path / f"{name} output",
                  3 if places else 1, TEST_NO_DROPOUT="1", **places)
        assert run.wait(300) == [0] * len(run.children), run.outputs()
        path, = (tmp_path / name).glob("toy/*[0-9].jsonl")
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        results.append(([row["loss"] for row in rows if row["kind"] == "step"],
                        mx.nd.load(str(path.with_suffix(".params")))))
    (losses, wanted), (ours, got) = results
    assert len(losses) == 8
    np.testing.assert_allclose(ours, losses, rtol=0, atol=1e-5)
    for name, value in wanted.items():
        np.testing.assert_allclose(got[name].asnumpy(), value.asnumpy(), rtol=1e-5, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("lost", [0, 1])
def test_a_killed_process(images, tmp_path, backend, hosts, lost):
    run = start(images, tmp_path, backend, hosts)
    time.sleep(random.Random(lost).uniform(0, 3))
    run.children[lost].kill()
    check_end(run, lost)
    check_resumption(images, tmp_path, backend)


def test_a_cut_link(images, tmp_path, backend, hosts):
    """Nothing closes a connection, so both hosts count the time without a sign of life."""
    run = start(images, tmp_path, backend, hosts)
    hosts.cut()
    check_end(run, None)
    assert all("no sign of life" in run.output(rank) for rank in (0, 1)), run.outputs()
    check_resumption(images, tmp_path, backend)


class TestWithoutLoss:
    """Cases that do not depend on the quality of the link."""

    pytestmark = pytest.mark.parametrize("hosts", [None], indirect=True, ids=["link"])

    def test_a_stopped_process(self, images, tmp_path, backend, hosts):
        run = start(images, tmp_path, backend, hosts)
        run.children[1].send_signal(signal.SIGSTOP)
        check_end(run, 1)
        assert "no sign of life" in run.output(0)

    def test_a_link_that_comes_back(self, images, tmp_path, backend, hosts):
        """Eight seconds without a link are no loss."""
        run = start(images, tmp_path, backend, hosts, TEST_SLOWLY="0.2")
        hosts.cut()
        time.sleep(8)
        before = run.output(0).count("epoch ")
        hosts.join()
        run.wait_for(f"epoch {before + 3}/", timeout=60)
        run.children[1].terminate()
        assert run.wait(60) == [143, 143], run.outputs()

    def test_an_address_that_no_host_has(self, images, tmp_path, backend, hosts):
        place = hosts.place([0, 1])
        place["places"][1]["MASTER_ADDR"] = "10.77.3.9"
        run = Run(arguments(images, tmp_path / "weights", "--set", "train.start_timeout=15", backend=backend), tmp_path,
                  **place)
        assert run.end_without(None) == [LOST, LOST], run.outputs()
        assert f"10.77.3.9, port {run.port + 1}, from rank 1 of 2 on {NAMES[1]}" in run.output(1)
        assert "these ranks are missing: 1" in run.output(0) and f"rank 0 on {NAMES[0]}" in run.output(0)
