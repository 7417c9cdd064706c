"""Full disks: once there is room again, the run resumes bit for bit, whenever the disk was full."""
import errno
import os
import shutil
import subprocess
from functools import cache

import mxnet as mx
import pytest

from mxnetseg.engine import loggers
from mxnetseg.engine.runs import newest
from mxnetseg.errors import MXNetSegError

CHANGES = {"train.epochs": 2, "optimizer.lr": 0.2}


class Moments:
    """Counter of the operations that touch the disk; it calls ``then`` before the operation of number ``at``."""

    def __init__(self, patch, at=None, then=lambda: None):
        self.count, self.at, self.then = 0, at, then
        for module, name in ((os, "fsync"), (os, "replace"), (mx.nd, "save"), (loggers.RunLog, "_write"),
                             (loggers, "curves")):
            patch.setattr(module, name, self._counted(getattr(module, name)))

    def _counted(self, original):
        def operation(*arguments):
            self.count += 1
            if self.count == self.at:
                self.then()
            return original(*arguments)
        return operation


@pytest.fixture(scope="module")
def whole(fit, written, configure, tmp_path_factory):
    """Files of the run on a disk with room, and the number of its operations."""
    with pytest.MonkeyPatch.context() as patch:
        moments = Moments(patch)
        _, result = fit(configure(CHANGES), tmp_path_factory.mktemp("whole"))
    return written(result), moments.count


def train_and_resume(config, folder, fit, written, at, fill, free):
    """Run a training that meets a full disk at operation ``at``, and resume it with room.

    Returns:
        the files of the resumed run, and whether the first run ended with an error.
    """
    failed = False
    with pytest.MonkeyPatch.context() as patch:
        Moments(patch, at, lambda: fill(patch))
        try:
            fit(config, folder)
        except (MXNetSegError, OSError) as error:
            assert isinstance(error, MXNetSegError) or error.errno == errno.ENOSPC
            failed = True
    free()
    assert not list(folder.glob("**/*.new")) and not list(folder.glob("**/.*.tmp"))
    last = newest(folder / "toy", resumable=True)
    _, result = fit(config, folder, resume=last)
    return written(result), failed


def check_moments(whole, run, count):
    """Try ``count`` moments, evenly spread."""
    wanted, operations = whole
    assert operations > count
    failures = []
    for k in range(count):
        got, failed = run(1 + round(k * (operations - 1) / (count - 1)))
        failures.append(failed)
        for what in vars(wanted):
            assert getattr(got, what) == getattr(wanted, what), (k, what)
    assert any(failures)


@cache
def can_mount(folder):
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder], capture_output=True)
    if mounted.returncode == 0:
        subprocess.run(["umount", folder], check=True)
    return mounted.returncode == 0


@pytest.fixture
def small_disk(tmp_path):
    """Disk of one megabyte, a real file system."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if shutil.which("mount") is None or not can_mount(str(folder)):
        pytest.skip("no tmpfs can be mounted here")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], check=True)
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def fill_up(path):
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError as error:
            assert error.errno == errno.ENOSPC


@pytest.mark.slow
def test_a_real_disk_that_is_full_at_twenty_moments(whole, fit, written, configure, small_disk):
    filler = small_disk / "filler"

    def run(at):
        result = train_and_resume(configure(CHANGES), small_disk / str(at), fit, written, at,
                                  lambda patch: fill_up(filler), lambda: filler.unlink(missing_ok=True))
        shutil.rmtree(small_disk / str(at))
        return result
    check_moments(whole, run, 20)


def test_system_calls_that_fail_at_six_moments(whole, fit, written, configure, tmp_path):
    def full(*arguments, **options):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def fill(patch):
        patch.setattr("mxnetseg.files._create", full)
        patch.setattr(mx.nd, "save", full)
        patch.setattr(loggers.RunLog, "_write", full)
        patch.setattr(loggers, "curves", full)

    def run(at):
        return train_and_resume(configure(CHANGES), tmp_path / str(at), fit, written, at, fill, lambda: None)
    check_moments(whole, run, 6)


class TestLogs:
    @pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), ValueError("no such font")])
    def test_curves_that_cannot_be_drawn_do_not_stop_the_run(self, fit, written, configure, tmp_path, whole,
                                                             monkeypatch, caplog, error):
        def curves(rows, path, title):
            if len(rows) == 1:
                raise error
            path.touch()
        monkeypatch.setattr(loggers, "curves", curves)
        _, result = fit(configure(CHANGES), tmp_path)
        assert vars(written(result)) == vars(whole[0])
        texts = [r.getMessage() for r in caplog.records]
        assert len([t for t in texts if "the curves cannot be written" in t and str(error) in t]) == 1
        assert len([t for t in texts if "the curves can be written again" in t]) == 1

    def test_a_log_that_cannot_be_written_for_a_while_is_complete_in_the_end(self, fit, written, configure, tmp_path,
                                                                             whole, monkeypatch, caplog):
        original, count = loggers.RunLog._write, iter(range(100))

        def write(log):
            if 2 <= next(count) < 6:
                raise OSError(errno.ENOSPC, "No space left on device")
            original(log)
        monkeypatch.setattr(loggers.RunLog, "_write", write)
        _, result = fit(configure(CHANGES), tmp_path)
        assert vars(written(result)) == vars(whole[0])
        texts = [r.getMessage() for r in caplog.records]
        assert len([t for t in texts if "the log cannot be written" in t]) == 1
        assert len([t for t in texts if "the log can be written again" in t]) == 1
