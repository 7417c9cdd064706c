"""A training that saves all the time, and readers that read all the time: neither disturbs the other."""
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import mxnet as mx
import numpy as np
import pytest
from sidecars import sections

from mxnetseg.engine.checkpoint import Checkpoint
from mxnetseg.engine.runs import newest
from mxnetseg.errors import CheckpointError

ROOT = Path(__file__).parents[2]
NAME = "fcn_resnet18_sample_20260101_120000.params"

# saves generation after generation, each number of which says which one it is; ends when its stdin does
WRITER = """
import json, select, sys
import mxnetseg
import mxnet as mx
from mxnetseg.engine.checkpoint import Checkpoint

class Net:
    def __init__(self, value):
        self.parameters = {}
        for name in ("weight", "bias"):
            parameter = mx.gluon.Parameter(name, shape=(300, 200))
            parameter.initialize(mx.init.Constant(value), ctx=mx.cpu())
            self.parameters[name] = parameter
    def named_parameters(self):
        return self.parameters

generation = 0
while not select.select([sys.stdin], [], [], 0)[0]:
    generation += 1
    record = {**json.loads(sys.argv[2]), "generation": generation}
    Checkpoint(sys.argv[1]).write(Net(generation), record, {"momentum": mx.nd.full((90000,), generation)})
    if generation == 1:
        print("begun", flush=True)
print(generation, flush=True)
"""

# reads sets until the time is over; prints how many, and how many different ones
READER = """
import sys, time
sys.path[:0] = sys.argv[3:]
import mxnetseg
from test_concurrent_readers import read_once
end, seen = time.time() + float(sys.argv[2]), []
while time.time() < end:
    seen.append(read_once(sys.argv[1]))
assert seen == sorted(seen)
print(len(seen), len(set(seen)))
"""


def read_once(path, *, with_state=True):
    """Which generation is there; all of it must be of this one."""
    sidecar, params, state = Checkpoint(path).read(state=with_state)
    for tensor in (*params.values(), *(state or {}).values()):
        assert (tensor.asnumpy() == sidecar["generation"]).all()
    return sidecar["generation"]


def start(code, *arguments):
    return subprocess.Popen([sys.executable, "-c", code, *map(str, arguments)], text=True, cwd=ROOT,
                            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                            env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"})


@pytest.fixture
def writer(tmp_path):
    process = start(WRITER, tmp_path / NAME, json.dumps(sections()))
    assert process.stdout.readline() == "begun\n", process.communicate()[1]
    yield process
    process.kill()
    process.wait()


def stop(writer):
    """End it; how many generations it has written."""
    out, err = writer.communicate("\n", timeout=60)
    assert writer.returncode == 0, err
    return int(out)


def test_three_readers_for_some_seconds(writer, tmp_path):
    end, problems, seen = time.time() + 4, [], [[], [], []]

    def read(mine):
        try:
            while time.time() < end:
                mine.append(read_once(tmp_path / NAME))
                assert Checkpoint(tmp_path / NAME).read_sidecar()["generation"] >= mine[-1]
                assert newest(tmp_path, resumable=True).path.name == NAME
        except BaseException as error:
            problems.append(error)
    threads = [threading.Thread(target=read, args=(mine,)) for mine in seen]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not problems
    written = stop(writer)
    for mine in seen:
        assert mine == sorted(mine) and mine[-1] <= written
        assert len(set(mine)) > 2  # the files were replaced while it read


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_three_processes_that_read_for_two_minutes(writer, tmp_path):
    readers = [start(READER, tmp_path / NAME, 120, Path(__file__).parent, ROOT / "tests/helpers") for _ in range(3)]
    for reader in readers:
        out, err = reader.communicate(timeout=400)
        assert reader.returncode == 0, err
        reads, different = map(int, out.split())
        assert reads > 50 and different > 20
    assert stop(writer) > 50


class TestReaders:
    """Without a second process: what a reader finds between two steps of a writer."""

    @staticmethod
    def write(folder, value, *, with_state=True):
        class Net:
            @staticmethod
            def named_parameters():
                parameter = mx.gluon.Parameter("weight", shape=(5,))
                parameter.initialize(mx.init.Constant(value), ctx=mx.cpu())
                return {"weight": parameter}
        record = sections(generation=value)
        state = {"momentum": mx.nd.full((5,), value)} if with_state else None  # a best checkpoint has none
        Checkpoint(folder / NAME).write(Net, record, state)

    def test_contents_that_were_not_moved_yet_are_read_where_they_are(self, tmp_path):
        self.write(tmp_path, 1)
        self.write(tmp_path, 2)
        for suffix in (".params", ".state"):  # as a kill before the last step leaves them
            file = (tmp_path / NAME).with_suffix(suffix)
            file.rename(f"{file}.new")
            file.write_bytes(b"the old content")
        before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
        assert read_once(tmp_path / NAME) == 2
        assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before

    @pytest.mark.parametrize("with_state", [True, False])
    def test_tensors_are_those_of_the_sidecar_although_the_set_is_replaced_in_between(self, tmp_path, monkeypatch,
                                                                                      with_state):
        from mxnetseg.engine import checkpoint as module
        self.write(tmp_path, 1, with_state=with_state)
        plain, left = module.read_params, [2, 3]

        def overtaken(path):
            if left:
                self.write(tmp_path, left.pop(0), with_state=with_state)
            return plain(path)
        monkeypatch.setattr(module, "read_params", overtaken)
        assert read_once(tmp_path / NAME, with_state=with_state) == 3 and not left

    def test_one_that_is_replaced_for_ever_is_given_up(self, tmp_path, monkeypatch):
        from mxnetseg.engine import checkpoint as module
        monkeypatch.setattr(module, "_ATTEMPTS", 6)
        self.write(tmp_path, 1)
        plain, values = module.read_params, iter(range(2, 100))

        def overtaken(path):
            self.write(tmp_path, next(values))
            return plain(path)
        monkeypatch.setattr(module, "read_params", overtaken)
        with pytest.raises(CheckpointError, match="replaced again and again"):
            read_once(tmp_path / NAME)

    def test_damage_that_stays_is_reported_within_a_second(self, tmp_path):
        self.write(tmp_path, 1)
        data = np.fromfile(tmp_path / NAME, np.uint8)
        data[-20] ^= 1
        data.tofile(tmp_path / NAME)
        began = time.time()
        with pytest.raises(CheckpointError, match="SHA-256"):
            read_once(tmp_path / NAME)
        assert time.time() - began < 1
