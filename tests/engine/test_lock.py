"""Lock of a run: one holder, which others see by name; the lock is free when the holder has ended in any way."""
import errno
import os
import platform
import signal
import subprocess
import sys
import time
from pathlib import Path

import mxnet as mx
import pytest

from mxnetseg.engine import lock as module
from mxnetseg.engine.checkpoint import Checkpoint
from mxnetseg.engine.lock import RunLock, active_error, holder
from mxnetseg.engine.trainer import Trainer
from mxnetseg.errors import ConfigError, UsageError

ROOT = Path(__file__).parents[2]
HOLDER = """
import sys
from pathlib import Path
from mxnetseg.engine.lock import RunLock
lock = RunLock(Path(sys.argv[1]))
print("locked", flush=True)
sys.stdin.read()
lock.release()
"""


class Other:
    """Process that holds the lock of a run."""

    def __init__(self, checkpoint):
        self.process = subprocess.Popen([sys.executable, "-c", HOLDER, str(checkpoint)], text=True, cwd=ROOT,
                                        env={**os.environ, "PYTHONPATH": str(ROOT)}, stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.pid = self.process.pid
        assert self.process.stdout.readline() == "locked\n", self.process.communicate()[1]

    def kill(self):
        self.process.kill()
        self.process.communicate()

    def end(self):
        out, err = self.process.communicate("")
        assert self.process.returncode == 0, err


@pytest.fixture
def other():
    """Function that starts a process which holds the lock of a run: ``other(checkpoint)``."""
    started = []

    def start(checkpoint):
        started.append(Other(checkpoint))
        return started[-1]
    yield start
    for process in started:
        process.kill()


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(module, "_PAUSE", 0.001)


@pytest.fixture
def run(tmp_path):
    return tmp_path / "toy_resnet18_fields_20260101_120000.params"


class TestTheLock:
    def test_the_error_names_the_process_the_host_and_the_fix(self, other, run):
        process = other(run)
        with pytest.raises(UsageError, match="being trained by another process") as error:
            RunLock(run)
        for word in (f"process {process.pid}", platform.node(), str(run), f"kill {process.pid}", "--resume"):
            assert word in str(error.value)
        assert holder(run.with_suffix(".lock")).pid == process.pid

    def test_it_is_free_after_a_sigkill_although_the_file_stays(self, other, run):
        other(run).kill()
        assert run.with_suffix(".lock").exists() and holder(run.with_suffix(".lock")) is None
        lock = RunLock(run)
        assert holder(run.with_suffix(".lock")).pid == os.getpid()
        lock.release()

    def test_a_release_leaves_no_file(self, other, run):
        other(run).end()
        lock = RunLock(run)
        lock.release()
        lock.release()
        assert not list(run.parent.iterdir())

    def test_it_is_not_taken_on_a_file_that_its_holder_has_just_deleted(self, run, monkeypatch):
        """Otherwise the next process would lock a new file of that name, and there would be two holders."""
        original, calls = module.fcntl.flock, []

        def flock(descriptor, how):
            calls.append(how)
            if len(calls) == 1:
                run.with_suffix(".lock").unlink()
            original(descriptor, how)
        monkeypatch.setattr(module.fcntl, "flock", flock)
        lock = RunLock(run)
        assert len(calls) == 2 and os.path.samestat(os.fstat(lock._descriptor), run.with_suffix(".lock").stat())
        lock.release()

    def test_it_holds_within_one_process_too(self, run):
        lock = RunLock(run)
        with pytest.raises(UsageError, match=str(os.getpid())):
            RunLock(run)
        lock.release()

    @pytest.mark.parametrize("how", ["fork", "spawn"])
    def test_children_do_not_keep_it(self, run, how):
        lock = RunLock(run)
        if how == "fork":
            child = os.fork()
            if not child:
                signal.pause()
        else:
            process = subprocess.Popen(["sleep", "60"], close_fds=False)
            child = process.pid
        try:
            if how == "fork":  # so that it has run its handlers
                time.sleep(0.3)
            os.close(lock._descriptor)  # as if this process had been killed
            lock._descriptor = None
            RunLock(run).release()
        finally:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)

    def test_a_file_system_without_locks_causes_a_warning(self, run, monkeypatch, caplog):
        def flock(descriptor, how):
            raise OSError(errno.ENOLCK, "No locks available")
        monkeypatch.setattr(module.fcntl, "flock", flock)
        RunLock(run).release()
        assert "No locks available" in caplog.text and "no other process" in caplog.text
        assert not list(run.parent.iterdir())

    def test_a_system_without_locks_causes_a_warning(self, run, monkeypatch, caplog):
        monkeypatch.setattr(module, "fcntl", None)
        RunLock(run).release()
        assert "no file locks" in caplog.text and holder(run.with_suffix(".lock")) is None

    @pytest.mark.parametrize("content", [b"", b"[]", b"{}", b"{", b'{"pid": 1}', b"\xff"])
    def test_a_lock_file_without_a_description(self, run, content):
        lock = RunLock(run)
        os.ftruncate(lock._descriptor, 0)
        os.pwrite(lock._descriptor, content, 0)
        assert "unknown" in str(active_error(run, holder(run.with_suffix(".lock"))))
        lock.release()

    def test_a_missing_folder(self, tmp_path):
        with pytest.raises(UsageError, match="no file can be written there"):
            RunLock(tmp_path / "none" / "a.params")


class TestTheTrainer:
    def test_a_run_is_locked_while_it_trains(self, configure, tmp_path):
        trainer = Trainer(configure({"train.epochs": 1}), [mx.cpu()], folder=tmp_path, validate=False, quiet=True)
        path = trainer.last.path.with_suffix(".lock")
        assert holder(path).pid == os.getpid()
        trainer.fit()
        assert not path.exists()

    def test_an_active_run_is_not_resumed(self, fit, configure, tmp_path, other):
        _, result = fit(configure({"train.epochs": 1}), tmp_path, validate=False)
        process = other(result.last.path)
        before = {p.name: p.read_bytes() for p in result.last.path.parent.iterdir()}
        with pytest.raises(UsageError, match=str(process.pid)):
            fit(configure(), tmp_path, validate=False, resume=Checkpoint(result.last.path))
        assert {p.name: p.read_bytes() for p in result.last.path.parent.iterdir()} == before
        process.kill()
        fit(configure(), tmp_path, validate=False, resume=Checkpoint(result.last.path))

    def test_an_error_of_the_set_up_frees_the_lock(self, fit, configure, tmp_path):
        _, result = fit(configure({"train.epochs": 1}), tmp_path, validate=False)
        with pytest.raises(ConfigError) as error:
            fit(configure({"train.batch_size": 3}), tmp_path, resume=Checkpoint(result.last.path))
        assert error.value.__traceback__ is not None  # it refers to the trainer
        assert not list(tmp_path.glob("**/*.lock"))

    def test_an_error_of_the_training_frees_the_lock(self, configure, tmp_path):
        trainer = Trainer(configure(), [mx.cpu()], folder=tmp_path, validate=False, quiet=True)
        trainer._backward = None
        with pytest.raises(TypeError):
            trainer.fit()
        assert not list(tmp_path.glob("**/*.lock"))
