"""`mxnetseg export`: the order of its arguments, leftovers of killed processes, and int8 in two programs."""
import os
import signal
import subprocess
import sys
from pathlib import Path

import mxnet as mx
import numpy as np
import pytest
from PIL import Image

from mxnetseg.export import formats, onnx_format
from mxnetseg.export.staging import staged
from mxnetseg.tools.main import main

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The options that name a model of MXNet with two convolutions."""
    block = mx.gluon.nn.HybridSequential(prefix="")
    block.add(mx.gluon.nn.Conv2D(6, 3, 2, 1, prefix="conv0_"), mx.gluon.nn.Activation("relu"),
              mx.gluon.nn.Conv2D(4, 1, prefix="conv1_"))
    mx.random.seed(5)
    block.initialize(mx.init.Uniform(0.5))
    block.hybridize()
    block(mx.nd.zeros((1, 3, 32, 32)))
    prefix = tmp_path_factory.mktemp("model") / "model"
    block.export(str(prefix))
    return ["--symbol", f"{prefix}-symbol.json", "--params", f"{prefix}-0000.params"]


@pytest.fixture(scope="module")
def source(files, tmp_path_factory):
    """An export that is exported again."""
    folder = tmp_path_factory.mktemp("source")
    assert main(["export", *files, str(folder / "net-symbol.json")]) == 0
    return folder / "net-symbol.json"


@pytest.mark.parametrize("words", [
    ("SRC", "DST", "--format", "mxnet"), ("SRC", "--format", "mxnet", "DST"), ("--format", "mxnet", "SRC", "DST"),
    ("SRC", "--format=mxnet", "--tolerance", "0.001", "DST")], ids=" ".join)
def test_options_may_stand_anywhere(source, tmp_path, words, capsys):
    names = {"SRC": str(source), "DST": str(tmp_path / "copy")}
    assert main(["export", *[names.get(word, word) for word in words]]) == 0, capsys.readouterr().err
    assert (tmp_path / "copy-symbol.json").is_file()


def test_too_many_and_too_few(source, tmp_path, capsys):
    assert main(["export", str(source), "--format", "mxnet", str(tmp_path / "a"), "b"]) == 2
    assert "unrecognized arguments: b" in capsys.readouterr().err
    assert main(["export", "--format", "mxnet"]) == 2 and "DST" in capsys.readouterr().err
    assert main(["export", "--formt", "mxnet", str(source), str(tmp_path / "a")]) == 2
    assert "--format" in capsys.readouterr().err


# ---- leftovers ----------------------------------------------------------------------------------

KILLED = """
import os, signal, sys
from pathlib import Path
from mxnetseg.export.staging import staged
with staged(Path(sys.argv[1]), ["net"]) as stage:
    (stage / "net").write_text("half")
    print("ready", flush=True)
    sys.stdin.readline()
"""


def start(folder):
    process = subprocess.Popen([sys.executable, "-c", KILLED, folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                               text=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert process.stdout.readline() == "ready\n"
    return process


def end(process, *, kill):
    process.send_signal(signal.SIGKILL) if kill else process.stdin.write("\n")
    process.communicate()


def test_the_next_export_deletes_what_a_killed_one_left(tmp_path):
    killed = start(tmp_path)
    end(killed, kill=True)
    [leftover] = tmp_path.iterdir()
    mine = tmp_path / ".0123456789abcdef"
    mine.mkdir()
    with staged(tmp_path, ["other"]) as stage:
        assert not leftover.exists() and mine.exists()
        (stage / "other").touch()
    assert {path.name for path in tmp_path.iterdir()} == {"other", mine.name}


def test_a_running_export_keeps_its_folder(tmp_path):
    running = start(tmp_path)
    with staged(tmp_path, ["other"]) as stage:
        (stage / "other").touch()
    assert len(list(tmp_path.iterdir())) == 2  # the other export, and the folder of the running one
    running.stdin.write("\n")
    running.stdin.flush()
    assert running.wait() == 0
    running.stdin.close()
    running.stdout.close()
    assert {path.name for path in tmp_path.iterdir()} == {"net", "other"}


# ---- int8 ---------------------------------------------------------------------------------------


@pytest.fixture
def calibrated(files, tmp_path):
    pytest.importorskip("onnxruntime")
    rng = np.random.default_rng(0)
    for i in range(3):
        Image.fromarray(rng.integers(0, 256, (40, 48, 3), np.uint8)).save(tmp_path / f"{i}.png")
    return [*files, "--mean", "0.5", "0.5", "0.5", "--std", "0.25", "0.25", "0.25", "--precision", "int8",
            "--tolerance", "0.2", "--images", str(tmp_path), "--format", "onnx"]


def test_int8_is_checked_in_openvino_too(calibrated, tmp_path, capsys):
    pytest.importorskip("openvino")
    assert main(["export", *calibrated, str(tmp_path / "net")]) == 0, capsys.readouterr().err
    assert "in ONNX Runtime and OpenVINO" in capsys.readouterr().out


def test_a_difference_in_openvino_is_found(calibrated, tmp_path, monkeypatch, capsys):
    pytest.importorskip("openvino")
    right = onnx_format.openvino_function

    def wrong(path):
        compute = right(path)
        return lambda x: [np.roll(output, 1, axis=1) for output in compute(x)]
    monkeypatch.setattr(onnx_format, "openvino_function", wrong)
    assert main(["export", *calibrated, str(tmp_path / "net")]) == 1
    assert "and OpenVINO; the tolerance" in capsys.readouterr().err and not (tmp_path / "net.onnx").exists()


def test_without_openvino_one_program_checks(calibrated, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(onnx_format, "is_installed", lambda name: False)
    assert main(["export", *calibrated, str(tmp_path / "net")]) == 0
    out = capsys.readouterr().out
    assert "in ONNX Runtime\n" in out and formats.ExportFormat.load_elsewhere(None, tmp_path, "net", None) == {}
