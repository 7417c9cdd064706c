"""A failure at any moment of writing a checkpoint leaves the old set or the new one complete.

Three kinds of misfortune are put to every step of the writing in turn: an error, after which the process
goes on; a kill, after which nothing more is done; and a power cut, which also takes the bytes that were
not yet flushed to the disk.
"""
import errno
import os
import resource
import shutil
from pathlib import Path

import mxnet as mx
import pytest
from sidecars import sections

from mxnetseg.engine.checkpoint import Checkpoint
from mxnetseg.engine.runs import newest
from mxnetseg.errors import CheckpointError, EnvironmentProblem

NAME = "fcn_resnet18_sample_20260101_120000.params"
SECTIONS = sections()


class Net:
    """As much of a network as a checkpoint needs; every number in it is ``value``."""

    def __init__(self, value):
        self.parameters = {}
        for name in ("weight", "bias"):
            parameter = mx.gluon.Parameter(name, shape=(40, 30))
            parameter.initialize(mx.init.Constant(value), ctx=mx.cpu())
            self.parameters[name] = parameter

    def named_parameters(self):
        return self.parameters


def write(folder, generation):
    Checkpoint(folder / NAME).write(Net(generation), {**SECTIONS, "generation": generation},
                                    {"momentum": mx.nd.full((50,), generation)})


def generation(folder):
    """Which set is there; reading it checks that it is whole, and that its three files belong together."""
    sidecar, params, state = Checkpoint(folder / NAME).read(state=True)
    said = sidecar["generation"]
    assert all((tensor.asnumpy() == said).all() for tensor in (*params.values(), *state.values()))
    assert params.keys() == Net(0).parameters.keys() and state.keys() == {"momentum"}
    return said


class Steps:
    """Stands in the place of everything that touches the disk, and sees every step coming."""

    def __init__(self, patch, before=lambda: None):
        self.count, self.before, self.synced = 0, before, set()
        self.replace, self.save = os.replace, mx.nd.save
        patch.setattr(os, "fsync", self._fsync)
        patch.setattr(os, "replace", self._replace)
        patch.setattr(mx.nd, "save", self._save)

    def _step(self):
        self.count += 1
        self.before()

    def _fsync(self, descriptor):  # not done in earnest: it takes its time, and no test can pull the plug
        self._step()
        self.synced.add(os.fstat(descriptor).st_ino)

    def _replace(self, source, target):
        self._step()
        self.replace(source, target)

    def _save(self, path, tensors):
        self._step()
        self.save(path, tensors)
        whole = Path(path).read_bytes()
        Path(path).write_bytes(whole[:len(whole) // 2])
        self._step()  # half of it is there
        Path(path).write_bytes(whole)


def count_steps(tmp_path):
    with pytest.MonkeyPatch.context() as patch:
        steps = Steps(patch)
        write(tmp_path / "count", 1)
        return steps.count


def fail_at(patch, step, error=errno.EIO):
    def before():
        if steps.count == step:
            raise OSError(error, os.strerror(error))
    steps = Steps(patch, before)


@pytest.fixture(scope="module")
def steps(tmp_path_factory):
    count = count_steps(tmp_path_factory.mktemp("count"))
    assert count >= 9  # two files saved and flushed, the sidecar flushed and renamed, two files renamed
    return range(1, count + 1)


class TestAnError:
    def test_leaves_the_old_set_or_the_new_one(self, steps, tmp_path):
        seen = []
        for step in steps:
            folder = tmp_path / str(step)
            write(folder, 1)
            with pytest.MonkeyPatch.context() as patch, pytest.raises((OSError, EnvironmentProblem)):
                fail_at(patch, step)
                write(folder, 2)
            assert newest(folder, resumable=True).path.name == NAME
            seen.append(generation(folder))
            write(folder, 3)  # a later save is not hindered
            assert generation(folder) == 3
            assert not list(folder.glob("*.new")) and not list(folder.glob("*.tmp"))
        assert set(seen) == {1, 2} and seen == sorted(seen)

    def test_in_the_first_set_leaves_none_or_a_whole_one(self, steps, tmp_path):
        seen = []
        for step in steps:
            folder = tmp_path / str(step)
            with pytest.MonkeyPatch.context() as patch, pytest.raises((OSError, EnvironmentProblem)):
                fail_at(patch, step)
                write(folder, 1)
            if newest(folder) is None:
                with pytest.raises(CheckpointError):
                    generation(folder)
                seen.append(0)
            else:
                seen.append(generation(folder))
        assert set(seen) == {0, 1} and seen == sorted(seen)

    def test_and_another_one_in_the_next_save(self, steps, tmp_path):
        """The first leaves files that were not settled, the second comes while they are overwritten."""
        for first in steps:
            for second in steps:
                folder = tmp_path / f"{first} {second}"
                write(folder, 1)
                for value, step in ((2, first), (3, second)):
                    with pytest.MonkeyPatch.context() as patch:
                        fail_at(patch, step)
                        try:
                            write(folder, value)
                        except (OSError, EnvironmentProblem):
                            pass
                assert generation(folder) in (1, 2, 3), (first, second)
                shutil.rmtree(folder)


class TestAKill:
    """A copy of the folder at the moment before each step is what a killed process leaves."""

    def snapshots(self, tmp_path, *, power_cut):
        folder, copies = tmp_path / "run", []
        write(folder, 1)
        old = {p.stat().st_ino for p in folder.iterdir()}

        def copy():
            target = tmp_path / f"copy{len(copies)}"
            shutil.copytree(folder, target)
            if power_cut:
                for path in folder.iterdir():
                    if path.stat().st_ino not in old | steps.synced:
                        os.truncate(target / path.name, path.stat().st_size // 3)
            copies.append(target)
        with pytest.MonkeyPatch.context() as patch:
            steps = Steps(patch, copy)
            write(folder, 2)
        copies.append(folder)
        return copies

    @pytest.mark.parametrize("power_cut", [False, True])
    def test_leaves_the_old_set_or_the_new_one(self, tmp_path, power_cut):
        copies = self.snapshots(tmp_path, power_cut=power_cut)
        seen = []
        for copy in copies:
            assert newest(copy, resumable=True).path.name == NAME
            seen.append(generation(copy))
            write(copy, 3)
            assert generation(copy) == 3
        assert seen == sorted(seen) and set(seen) == {1, 2}

    def test_and_another_one_before_anybody_has_read_it(self, tmp_path):
        for n, copy in enumerate(self.snapshots(tmp_path, power_cut=True)):
            again = tmp_path / f"again{n}"
            copies = []

            def note(copy=copy, again=again, copies=copies):
                copies.append(again / str(len(copies)))
                shutil.copytree(copy, copies[-1])
            with pytest.MonkeyPatch.context() as patch:
                Steps(patch, note)
                write(copy, 3)
            assert {generation(c) for c in copies} <= {1, 2, 3}


class TestAFullDisk:
    @pytest.mark.parametrize("missing", [1, 20, 100, 5000])
    def test_is_said_and_the_old_set_stays(self, tmp_path, missing):
        """A real one as far as the system calls go: a limit on the size of files, which the last bytes exceed."""
        write(tmp_path, 1)
        size = (tmp_path / NAME).stat().st_size
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size - missing, before[1]))
        try:
            with pytest.raises(EnvironmentProblem, match="could not be written") as error:
                write(tmp_path, 2)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert NAME in str(error.value) and "disk" in error.value.fix
        assert generation(tmp_path) == 1

    def test_of_the_sidecar(self, tmp_path):
        write(tmp_path, 1)
        with pytest.MonkeyPatch.context() as patch, pytest.raises(EnvironmentProblem, match="disk is full"):
            steps = Steps(patch, lambda: None)

            def full():
                if steps.count == 7:  # save and flush of two files, three steps each, come before
                    raise OSError(errno.ENOSPC, "No space left on device")
            steps.before = full
            write(tmp_path, 2)
        assert generation(tmp_path) == 1
