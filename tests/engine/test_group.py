"""The control plane: processes join, exchange values, stop together, and all end with a reason if one is lost."""
import json
import random
import signal
import socket
import time
from pathlib import Path

import numpy as np
import pytest
from run_processes import Run, free_port

from mxnetseg.backends.group import Group
from mxnetseg.engine.links import Link, pack_arrays, unpack_arrays

MEMBER = str(Path(__file__).parents[1] / "helpers/group_member.py")
LOST = 75


def start(folder, size=3, *, places=None, env=(), **plan):
    return Run([json.dumps({"steps": 3, **plan})], folder, size, program=[MEMBER], places=places, **dict(env))


def outputs(run):
    return [run.output(rank) for rank in range(len(run.logs))]


def test_one_process_alone_exchanges_with_itself():
    group = Group()
    assert group.is_main and group.proceeds() and group.broadcast([1]) == [1]
    array, = group.sum_arrays([np.arange(3)])
    assert array.tolist() == [0, 1, 2]
    group.barrier()
    group.agree(lambda: pytest.fail("nothing to compare"))
    group.request_stop(15)
    assert not group.proceeds() and group.stop_signal == 15


@pytest.mark.parametrize("array", [np.arange(6).reshape(2, 3), np.zeros((0, 2), np.float32), np.array(1.5)])
def test_arrays_travel(array):
    got, = unpack_arrays(json.loads(json.dumps(pack_arrays([array]))))
    assert got.dtype == array.dtype and got.shape == array.shape and (got == array).all()


def test_a_line_that_is_no_message_is_refused():
    for line in (b"[1]\n", b"{}\n", b"GET / HTTP/1.1\r\n\r\n", b"\xff\n"):
        here, there = socket.socketpair()
        there.sendall(line)
        with pytest.raises(ValueError):
            Link(here).receive()
        there.close()
        here.close()


def test_processes_exchange_values_and_leave(tmp_path):
    run = start(tmp_path)
    assert run.wait() == [0, 0, 0]
    for text in outputs(run):
        assert 'joined [{"from": 0}, [3, 6, 9]] 127.0.0.1' in text and "done 3 None" in text


@pytest.mark.parametrize("rank", [0, 2])
def test_a_signal_stops_all_after_the_same_step(tmp_path, rank):
    run = start(tmp_path, steps=10**6)
    run.wait_for("step 2", rank)
    run.children[rank].send_signal(signal.SIGTERM)
    assert run.wait() == [0, 0, 0]
    last = {text.splitlines()[-1] for text in outputs(run)}
    assert len(last) == 1 and last.pop().endswith(" 15")


@pytest.mark.parametrize("rank", [0, 1])
def test_a_killed_process_ends_the_others_and_is_named(tmp_path, rank):
    run = start(tmp_path, steps=10**6)
    run.wait_for("step 2", rank)
    run.children[rank].kill()
    began = time.monotonic()
    codes = run.wait()
    assert codes == [-9 if r == rank else LOST for r in range(3)] and time.monotonic() - began < 30
    for other in {0, 1, 2} - {rank}:
        assert f"rank {rank}" in run.output(other) and "was lost" in run.output(other)
        assert "--resume auto" in run.output(other)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(20))
def test_a_kill_at_a_random_moment(tmp_path, seed):
    choose = random.Random(seed)
    size, steps = choose.choice([2, 3, 4]), 40
    run, rank = start(tmp_path, size, steps=steps, seconds=0.02, start=30.0), choose.randrange(size)
    if choose.random() < 0.7:
        run.wait_for("joined", rank)
    time.sleep(choose.uniform(0, 1.2))
    run.children[rank].kill()
    codes = run.wait(60)
    # a process that is killed after its last step is no loss
    assert all(code == (-9 if r == rank else LOST) for r, code in enumerate(codes)) or \
        f"step {steps}\n" in run.output(rank), [codes, outputs(run)]
    for other in {*range(size)} - {rank}:
        text = run.output(other)
        named = any(words in text for words in (f"rank {rank}", "missing", "cannot be reached"))
        assert codes[other] == 0 or named, text


@pytest.mark.parametrize("rank", [0, 1])
def test_a_stopped_process_is_named(tmp_path, rank):
    run = start(tmp_path, 2, steps=10**6, silence=6.0)
    run.wait_for("step 2", rank)
    run.children[rank].send_signal(signal.SIGSTOP)
    assert run.children[1 - rank].wait(30) == LOST
    assert "no sign of life for 6 s" in run.output(1 - rank) and f"rank {rank}" in run.output(1 - rank)
    run.children[rank].send_signal(signal.SIGCONT)  # it finds that the others are gone
    assert run.wait()[rank] == LOST


def test_a_process_that_hangs_is_named(tmp_path):
    run = start(tmp_path, steps=10**6, hang=[1, 2], step=6.0)
    assert run.wait() == [LOST] * 3
    for text in outputs(run):
        assert "makes no progress" in text and "rank 1 on" in text and "train.step_timeout" in text


def test_the_error_of_a_process_ends_the_others_with_its_exit_code(tmp_path):
    run = start(tmp_path, fail=[1, 1])
    assert run.wait() == [1, 1, 1]
    for text in outputs(run):
        assert "an image is damaged" in text and "image7.png" in text
    assert "rank 1 on" in run.output(0) and "failed" in run.output(2)


class TestTheStart:
    def test_other_facts_are_refused(self, tmp_path):
        facts = [{"train.seed": 1, "version": "2"}, {"train.seed": 1, "version": "2"}, {"train.seed": 3, "more": None}]
        run = start(tmp_path, facts=facts)
        assert run.wait() == [2, 2, 2]
        for text in outputs(run):
            assert "train.seed: 1 at rank 0 on" in text and "3 at rank 2 on" in text and "version" in text

    def test_facts_that_differ_later_are_refused(self, tmp_path):
        run = start(tmp_path, disagree=True)
        assert run.wait() == [2, 2, 2]
        assert all("data: 'of 0' at rank 0" in text and "'of 1' at rank 1" in text for text in outputs(run))

    def test_a_rank_that_is_given_twice(self, tmp_path):
        run = start(tmp_path, places={2: {"RANK": "1"}})
        assert run.wait() == [2, 2, 2]
        assert all("two processes have the same rank" in text for text in outputs(run))

    def test_another_number_of_processes(self, tmp_path):
        run = start(tmp_path, 2, places={1: {"WORLD_SIZE": "3"}})
        assert run.wait() == [2, 2]
        assert all("disagree about their number" in text for text in outputs(run))

    def test_a_process_that_never_starts(self, tmp_path):
        run = start(tmp_path, 2, start=20.0, env={"WORLD_SIZE": "3"})
        assert run.wait() == [LOST, LOST]
        assert all("these ranks are missing: 2" in text for text in outputs(run))

    def test_a_wrong_address(self, tmp_path):
        run = start(tmp_path, 2, start=1.5, places={1: {"MASTER_ADDR": "no-such-host.invalid"}})
        assert run.wait() == [LOST, LOST]
        assert "no-such-host.invalid" in run.output(1) and "rank 0 cannot be reached" in run.output(1)
        assert "these ranks are missing: 1" in run.output(0)

    def test_a_port_that_is_taken(self, tmp_path):
        with socket.create_server(("127.0.0.1", 0)) as other:
            port = str(other.getsockname()[1])
            run = start(tmp_path, 2, start=3.0, silence=0.5, env={"MXNETSEG_CONTROL_PORT": port})
            codes = run.wait()
        assert codes == [2, LOST]
        assert f"port {port} on" in run.output(0) and "Address already in use" in run.output(0)
        assert port in run.output(1) and "rank 0 does not answer" in run.output(1)

    def test_strangers_are_ignored(self, tmp_path):
        port = free_port()
        run = start(tmp_path, 2, env={"MXNETSEG_CONTROL_PORT": str(port)}, places={1: {"MXNETSEG_CONTROL_PORT": "1"}},
                    start=2.0)
        run.wait_for_port(port)
        for line in (b"GET / HTTP/1.1\r\n\r\n", b'{"kind": "hello"}\n', b'{"kind": "hello", "rank": [], "host": 1}\n'):
            with socket.create_connection(("127.0.0.1", port)) as stranger:
                stranger.sendall(line)
                stranger.settimeout(10)
                assert stranger.recv(100) == b""
        assert run.wait() == [LOST, LOST] and "missing: 1" in run.output(0)

    def test_a_process_that_dies_before_all_are_there(self, tmp_path):
        run = start(tmp_path, 2, env={"WORLD_SIZE": "3"}, start=60.0)
        run.wait_for("has arrived, 2 of 3")
        run.children[1].kill()
        assert run.wait() == [LOST, -9]
        assert "rank 1" in run.output(0) and "was lost" in run.output(0)
