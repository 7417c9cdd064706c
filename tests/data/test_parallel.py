"""Work in threads: order, bounds, time-outs, and an end without delay."""
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from mxnetseg.config import Config
from mxnetseg.data.parallel import TIMEOUT, in_parallel
from mxnetseg.errors import DataError
from mxnetseg.tools.common import add_timeout_argument
from mxnetseg.tools.main import Parser


@given(count=st.integers(0, 30), workers=st.integers(0, 5), ahead=st.none() | st.integers(1, 7),
       seed=st.integers(0, 99))
def test_results_come_in_order_and_not_too_early(count, workers, ahead, seed):
    rng, begun = np.random.default_rng(seed), []
    delays = rng.random(count) / 2000

    def work(i):
        begun.append(i)
        time.sleep(delays[i])
        return -i
    taken = 0
    for i, result in enumerate(in_parallel(work, iter(range(count)), workers=workers, ahead=ahead)):
        taken += 1
        assert result == -i and len(begun) <= taken + max(ahead or 2 * workers, 1)
    assert taken == count and sorted(begun) == list(range(count))


def test_an_exception_is_raised_at_the_place_of_its_item():
    found = []
    with pytest.raises(ZeroDivisionError):
        for result in in_parallel(lambda i: 1 // (3 - i), range(9), workers=2):
            found.append(result)
    assert found == [0, 0, 1]


def test_a_hang_is_reported_with_a_fix_and_without_delay():
    release = threading.Event()
    began = time.monotonic()
    try:
        with pytest.raises(DataError) as error:
            list(in_parallel(lambda i: i == 3 and release.wait(60), range(9), workers=2, timeout=0.2,
                             where=lambda i: f"{i}.png"))
        assert error.value.where == "3.png" and "0.2 seconds" in error.value.what
        assert "--timeout" in error.value.fix and "data.timeout" in error.value.fix
        assert time.monotonic() - began < 30
    finally:
        release.set()


def test_the_defaults_agree_and_the_option_of_the_fix_exists():
    parser = Parser(prog="p")
    add_timeout_argument(parser)
    assert Config().data.timeout == TIMEOUT == parser.parse_args([]).timeout
    assert parser.parse_args(["--timeout", "0.5"]).timeout == 0.5
    for wrong in ("0", "-1", "nan", "inf", "soon"):
        with pytest.raises(SystemExit):
            parser.parse_args(["--timeout", wrong])


# ---- separate processes

def start(code, *arguments, **options):
    return subprocess.Popen([sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)], text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                            env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}, **options)


def test_ctrl_c_does_not_wait_for_a_hanging_reader():
    process = start("""
        import signal, threading
        from mxnetseg.data.parallel import in_parallel
        signal.signal(signal.SIGINT, signal.default_int_handler)  # background jobs of a shell ignore it
        def work(i):
            print("reading", flush=True)
            threading.Event().wait(600)
        list(in_parallel(work, range(4), workers=1, timeout=600))
        """)
    assert process.stdout.readline() == "reading\n"
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode != 0 and "KeyboardInterrupt" in err


@pytest.mark.parametrize("stopped, ended", [(4.0, "done"), (0.0, "hangs")])
def test_a_stopped_process_waits_for_the_whole_time_out_again(stopped, ended):
    """The item takes five seconds with a time-out of two: too long, unless the process was stopped meanwhile."""
    process = start("""
        import sys, time
        from mxnetseg.data.parallel import in_parallel
        from mxnetseg.errors import DataError
        def work(i):
            end = time.monotonic() + 5
            print("reading", flush=True)
            while time.monotonic() < end:
                time.sleep(0.05)
            return i
        try:
            print("done" if list(in_parallel(work, [7], workers=1, timeout=2.0)) == [7] else "wrong")
        except DataError:
            print("hangs")
        """)
    assert process.stdout.readline() == "reading\n"
    if stopped:
        process.send_signal(signal.SIGSTOP)
        time.sleep(stopped)
        process.send_signal(signal.SIGCONT)
    out, err = process.communicate(timeout=60)
    assert out == f"{ended}\n", err


@pytest.fixture
def folder(tmp_path):
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
    for i in range(12):
        Image.new("RGB", (40, 30), (i, i, i)).save(tmp_path / "images" / f"{i}.png")
        Image.fromarray(np.arange(1200, dtype=np.uint8).reshape(30, 40) % 2).save(tmp_path / "masks" / f"{i}.png")
    (tmp_path / "classes.txt").write_text("a\nb\n")
    return tmp_path


@pytest.mark.parametrize("name", ["images/3.png", "masks/3.png"])
@pytest.mark.parametrize("command", [("check-data", "folder:{}"), ("train", "--data", "folder:{}", "--ctx", "cpu"),
                                     ("browse", "folder:{}")])
def test_a_pipe_among_the_files_is_refused_at_once(folder, name, command):
    (folder / name).unlink()
    os.mkfifo(folder / name)
    process = start("import sys; from mxnetseg.tools.main import main; sys.exit(main(sys.argv[1:]))",
                    *(word.format(folder) for word in command), cwd=folder)
    out, err = process.communicate(timeout=100)  # not only after two minutes
    assert process.returncode in (1, 2) and name in out + err and "not a regular file" in out + err


@pytest.mark.parametrize("text", ["classes.txt", "train.txt"])
def test_a_pipe_in_the_place_of_a_list_is_refused_at_once(folder, text):
    (folder / text).unlink(missing_ok=True)
    os.mkfifo(folder / text)
    process = start("import sys; from mxnetseg.tools.main import main; sys.exit(main(sys.argv[1:]))",
                    "check-data", f"folder:{folder}")
    out, err = process.communicate(timeout=100)
    assert process.returncode in (1, 2) and text in out + err and "not a regular file" in out + err


@pytest.mark.parametrize("preparation, name", [("labelme", "a.json"), ("coco-json", "_annotations.coco.json")])
def test_a_pipe_in_the_place_of_annotations_is_refused_at_once(tmp_path, preparation, name):
    (tmp_path / "src").mkdir()
    os.mkfifo(tmp_path / "src" / name)
    process = start("import sys; from mxnetseg.tools.main import main; sys.exit(main(sys.argv[1:]))",
                    "prepare", preparation, tmp_path / "src", tmp_path / "dst")
    out, err = process.communicate(timeout=100)
    assert process.returncode in (1, 2) and name in out + err and "not a regular file" in out + err


@pytest.mark.parametrize("command", [
    ("check-data", "folder:{}", "--timeout", "0.5"), ("pack", "folder:{}", "packs", "--timeout", "0.5"),
    ("browse", "folder:{}", "--count", "10", "--set", "data.timeout=0.5"),
    ("train", "--data", "folder:{}", "--ctx", "cpu", "--set", "data.timeout=0.5")])
def test_a_stalled_share_is_reported_with_a_fix_that_works(folder, command):
    """Reading every mask except the first one waits for ever; every command reads at least ten of the twelve."""
    process = start("""
        import sys, threading
        from mxnetseg.data import base
        from mxnetseg.tools.main import main
        plain = base.SegDataset.load_raw_mask
        def stalled(self, i):
            if i > 0:
                threading.Event().wait(600)
            return plain(self, i)
        base.SegDataset.load_raw_mask = stalled
        sys.exit(main(sys.argv[1:]))
        """, *(word.format(folder) for word in command), cwd=folder)
    out, err = process.communicate(timeout=100)
    assert process.returncode == 1 and "nothing came within 0.5 seconds" in err and "data.timeout" in err
