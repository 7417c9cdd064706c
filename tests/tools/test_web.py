"""`mxnetseg web`: the networks it offers, the limits, and its messages. The page itself: tests/report/test_web.py."""
import os
import socket
import sys
from argparse import ArgumentParser

import mxnet as mx
import numpy as np
import pytest
from exported import CLASSES, write_onnx
from PIL import Image
from sidecars import Net, sections

from mxnetseg.engine.checkpoint import Checkpoint
from mxnetseg.errors import DataError, UsageError
from mxnetseg.tools.main import main
from mxnetseg.tools.web import _find_checkpoints, _listen, _Networks, add_arguments


@pytest.fixture(autouse=True)
def included(monkeypatch):
    """Return a function that decides whether a network comes with the package; at first, none does."""
    def decide(is_there):
        monkeypatch.setattr("mxnetseg.engine.included.has_included", lambda: is_there)
    decide(False)
    return decide


def parse(*arguments):
    parser = ArgumentParser()
    add_arguments(parser)
    return parser.parse_args(list(map(str, arguments)))


@pytest.fixture
def weights(tmp_path):
    """Write an older run with a best checkpoint, a newer one without, and a damaged sidecar."""
    for age, (name, miou) in enumerate([("fcn/new", None), ("fcn/old_best", 0.4321), ("fcn/old", 0.4)]):
        checkpoint = Checkpoint(tmp_path / f"{name}.params")
        checkpoint.write(Net, sections(metrics={"miou": miou}), {"momentum": mx.nd.ones((2,))})
        os.utime(checkpoint.sidecar_path, (1e9 - age, 1e9 - age))
    (tmp_path / "fcn/broken.json").write_text("{")
    (tmp_path / "fcn/broken.params").write_text("")
    return tmp_path


def test_the_best_checkpoint_of_each_run_is_offered_newest_first(weights):
    assert _find_checkpoints(weights) == [("new", str(weights / "fcn/new.params")),
                                          ("old_best (mIoU 43.2 %)", str(weights / "fcn/old_best.params"))]


def test_given_networks_come_first_and_once(weights, tmp_path, monkeypatch):
    monkeypatch.chdir(weights)
    networks = _Networks(parse("fcn/old_best.params", "--weights", weights))
    assert networks.list_networks() == [("old_best.params", "fcn/old_best.params"),
                                        ("new", str(weights / "fcn/new.params"))]


def test_the_included_network_comes_last_and_once(weights, included):
    included(True)
    assert _Networks(parse("--weights", weights)).list_networks()[-1] == ("included", "included")
    networks = _Networks(parse("included", "--weights", weights))
    assert [label for label, _ in networks.list_networks()] == ["included", "new", "old_best (mIoU 43.2 %)"]
    assert {"auto", "mxnet"} <= set(networks.list_backends("included"))
    assert "mxnet" in networks.list_backends("gluoncv:fcn_resnet50_ade")


def test_backends_are_those_that_read_the_network(weights):
    pytest.importorskip("onnxruntime")
    networks = _Networks(parse("--weights", weights))
    assert "mxnet" in networks.list_backends(str(weights / "fcn/new.params"))
    exported = networks.list_backends("some.onnx")
    assert exported[0] == "auto" and "onnxruntime" in exported and "mxnet" not in exported


@pytest.fixture
def networks(tmp_path):
    pytest.importorskip("onnxruntime")
    return _Networks(parse(write_onnx(tmp_path / "small.onnx"), "--max-megapixels", 1, "--weights", tmp_path))


def test_a_small_image_is_segmented_as_it_is(networks, tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8)
    Image.fromarray(image).save(tmp_path / "a b.png")
    shown = networks.segment(tmp_path / "a b.png", networks.list_networks()[0][1], "auto")
    assert (shown.prediction.image == image).all() and shown.prediction.name == "a b" and not shown.notes
    assert shown.prediction.classes == tuple(CLASSES) and "40 × 30 pixels" in shown.about


@pytest.mark.parametrize("size, expected", [((1500, 2000), (866, 1154)), ((20, 60_000), (18, 54_772))])
def test_a_large_image_is_scaled_down_with_a_note(networks, tmp_path, size, expected):
    Image.new("RGB", size[::-1]).save(tmp_path / "large.png")
    shown = networks.segment(tmp_path / "large.png", networks.list_networks()[0][1], "auto")
    assert shown.prediction.class_map.shape == shown.prediction.image.shape[:2] == expected
    assert f"{size[1]} × {size[0]}" in shown.notes[0] and "mxnetseg predict large.png" in shown.notes[0]


def test_errors_keep_their_kind_through_the_worker(networks, tmp_path):
    (tmp_path / "text.png").write_text("text")
    with pytest.raises(DataError, match="image") as error:
        networks.segment(tmp_path / "text.png", networks.list_networks()[0][1], "auto")
    assert ".png, .jpg" in error.value.fix
    with pytest.raises(UsageError, match="does not read"):
        networks.segment(tmp_path / "text.png", networks.list_networks()[0][1], "torch")


def test_few_networks_stay_in_memory(networks, tmp_path):
    Image.new("RGB", (32, 32)).save(tmp_path / "a.png")
    for i in range(3):
        networks.segment(tmp_path / "a.png", str(write_onnx(tmp_path / f"{i}.onnx")), "auto")
    assert [os.path.basename(name) for name, _ in networks._loaded] == ["1.onnx", "2.onnx"]


# ---- the command

@pytest.mark.parametrize("arguments, words", [
    (["--port", "70000"], "0 to 65535"), (["--host", "no such host"], "--host 127.0.0.1"),
    (["--host", "203.0.113.7"], "--host 127.0.0.1"), (["--max-megapixels", "0"], "1 to 1000")])
def test_wrong_addresses_and_limits(arguments, words, capsys):
    assert main(["web", "--no-browser", *arguments]) == 2
    assert words in capsys.readouterr().err


def test_a_taken_port(capsys):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        assert main(["web", "--no-browser", "--port", str(port)]) == 2
    error = capsys.readouterr().err
    assert "the port is taken" in error and str(port) in error and "--port 0" in error
    with _listen("127.0.0.1", 0) as listening:  # the fix
        assert listening.getsockname()[1] > 0


def test_no_network_at_all(tmp_path, capsys):
    pytest.importorskip("gradio")
    assert main(["web", "--port", "0", "--weights", str(tmp_path / "none")]) == 1
    assert "there is no checkpoint yet" in capsys.readouterr().err


@pytest.mark.parametrize("named", ["none.params", "none.onnx"])
@pytest.mark.parametrize("is_first", [True, False])
def test_a_given_network_that_does_not_exist(tmp_path, named, is_first, capsys):
    pytest.importorskip("gradio")
    pytest.importorskip("onnxruntime")
    given = [str(tmp_path / named), str(write_onnx(tmp_path / "small.onnx"))]
    assert main(["web", *given[::1 if is_first else -1], "--port", "0", "--no-browser", "--weights",
                 str(tmp_path)]) == 1
    assert named in capsys.readouterr().err


def test_without_gradio(weights, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "gradio", None)
    assert main(["web", "--port", "0", "--weights", str(weights)]) == 1
    assert "pip install 'mxnetseg[web]'" in capsys.readouterr().err


def test_with_an_old_python(weights, monkeypatch, capsys):
    monkeypatch.setattr("mxnetseg.report.web._PYTHON", (4, 0))
    assert main(["web", "--port", "0", "--weights", str(weights)]) == 1
    assert "Python 3.10 or later" in capsys.readouterr().err
