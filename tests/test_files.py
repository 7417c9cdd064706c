"""atomic_write under injected faults: the old file stays unchanged, and no other file is left."""
import errno
import hashlib
import os
import stat

import pytest

from mxnetseg import files
from mxnetseg.errors import EnvironmentProblem, UsageError
from mxnetseg.files import atomic_write, expand, sha256


@pytest.fixture
def target(tmp_path):
    path = tmp_path / "state.bin"
    path.write_bytes(b"old")
    return path


def assert_untouched(target):
    assert target.read_bytes() == b"old"
    assert os.listdir(target.parent) == [target.name]


def fail_with(number):
    def fail(*args, **kwargs):
        raise OSError(number, os.strerror(number))
    return fail


def test_bytes_replace_the_old_file(target):
    with atomic_write(target) as stream:
        stream.write(b"new")
        assert target.read_bytes() == b"old"  # until the block ends
    assert target.read_bytes() == b"new"
    assert os.listdir(target.parent) == [target.name]


def test_text_is_utf8_with_line_ends_as_written(tmp_path):
    path = tmp_path / "classes.txt"
    with atomic_write(path, "w") as stream:
        stream.write("Straße\nroad\r\n")
    assert path.read_bytes() == "Straße\nroad\r\n".encode()


def test_missing_folders_are_created(tmp_path):
    path = tmp_path / "a" / "b" / "c.bin"
    with atomic_write(path) as stream:
        stream.write(b"x")
    assert path.read_bytes() == b"x"


def test_the_longest_possible_name(tmp_path):
    path = tmp_path / ("n" * 255)
    with atomic_write(path) as stream:
        stream.write(b"x")
    assert path.read_bytes() == b"x"


def test_relative_path_in_the_working_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with atomic_write("here.bin") as stream:
        stream.write(b"x")
    assert os.listdir(tmp_path) == ["here.bin"]


def test_a_symbolic_link_is_followed(target):
    link = target.parent / "latest"
    link.symlink_to(target.name)
    with atomic_write(link) as stream:
        stream.write(b"new")
    assert link.is_symlink()
    assert target.read_bytes() == b"new"


def test_permissions_follow_the_umask(tmp_path):
    path = tmp_path / "shared.bin"
    before = os.umask(0o022)
    try:
        with atomic_write(path) as stream:
            stream.write(b"x")
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_exception_in_the_block(target, error):
    with pytest.raises(error):
        with atomic_write(target) as stream:
            stream.write(b"half")
            raise error
    assert_untouched(target)


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_failing_system_call(target, monkeypatch, call):
    monkeypatch.setattr(files.os, call, fail_with(errno.EIO))
    with pytest.raises(OSError) as caught:
        with atomic_write(target) as stream:
            stream.write(b"new")
    assert caught.value.errno == errno.EIO
    assert_untouched(target)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs Linux's /dev/full")
def test_a_disk_that_fills_up(target, monkeypatch):
    real_create = files._create

    def create_full(path, mode):
        real_create(path, mode).close()
        return open("/dev/full", mode)
    monkeypatch.setattr(files, "_create", create_full)
    with pytest.raises(EnvironmentProblem) as caught:
        with atomic_write(target) as stream:
            stream.write(b"x" * 100_000)
    assert caught.value.where == str(target)
    assert_untouched(target)


def test_a_disk_that_is_full_from_the_start(target, monkeypatch):
    monkeypatch.setattr(files, "_create", fail_with(errno.ENOSPC))
    with pytest.raises(EnvironmentProblem, match="disk is full"):
        with atomic_write(target):
            pass
    assert_untouched(target)


@pytest.mark.parametrize("number, tolerated", [(errno.EINVAL, True), (errno.EIO, False)])
def test_a_folder_that_cannot_be_synced(target, monkeypatch, number, tolerated):
    real_fsync = os.fsync

    def fsync(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(number, os.strerror(number))
        real_fsync(descriptor)
    monkeypatch.setattr(files.os, "fsync", fsync)

    def write():
        with atomic_write(target) as stream:
            stream.write(b"new")
    if tolerated:
        write()
    else:
        with pytest.raises(OSError):
            write()
    assert target.read_bytes() == b"new"  # it was already in its place


@pytest.mark.parametrize("mode", ["ab", "r+b", "x"])
def test_other_modes_are_refused(target, mode):
    with pytest.raises(UsageError) as caught:
        with atomic_write(target, mode):
            pass
    assert mode in caught.value.received
    assert_untouched(target)


def test_a_folder_of_that_name(tmp_path):
    with pytest.raises(UsageError, match="folder"):
        with atomic_write(tmp_path):
            pass


def test_a_file_instead_of_the_folder(target):
    with pytest.raises(UsageError) as caught:
        with atomic_write(target / "below" / "x.bin"):
            pass
    assert "below" in str(caught.value.where)
    assert_untouched(target)


@pytest.mark.parametrize("content", [b"", b"abc", bytes(range(256)) * 5000])
def test_sha256(tmp_path, content):
    path = tmp_path / "x"
    path.write_bytes(content)
    assert sha256(path) == hashlib.sha256(content).hexdigest()


def test_a_path_from_the_home_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert expand("~/a") == tmp_path / "a" and expand("a/~/b") == files.Path("a/~/b")
    assert expand("~no-such-user/a") == files.Path("~no-such-user/a")
