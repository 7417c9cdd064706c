"""The choice of a backend: by format, by what is installed, by name."""
from __future__ import annotations

import pytest

from mxnetseg._precisions import BACKEND_NAMES
from mxnetseg.backends import choice
from mxnetseg.backends.choice import BACKENDS, choose_backend, format_of
from mxnetseg.errors import EnvironmentProblem, UnknownNameError, UsageError

ALL = {"mxnet", "gluoncv", "torch", "onnx", "onnxruntime", "openvino"}


@pytest.fixture
def installed(monkeypatch):
    """Return a function that sets which packages are installed, on a machine without GPU."""
    monkeypatch.setattr(choice, "compute_capability", lambda index: None)

    def install(*packages):
        monkeypatch.setattr(choice, "is_installed", lambda module: module in packages)
    return install


def test_help_lists_the_registered_backends():
    assert sorted(BACKEND_NAMES) == BACKENDS.names()


@pytest.mark.parametrize("packages, network_format, wanted", [
    (ALL, "checkpoint", "mxnet"), (ALL, "package", "mxnet"), (ALL, "onnx", "onnxruntime"),
    (ALL, "openvino", "openvino"), (ALL - {"onnxruntime"}, "onnx", "openvino"), ({"openvino", "onnx"}, "package", "openvino"),
    ({"onnxruntime", "onnx", "torch"}, "package", "onnxruntime"), ({"torch"}, "package", "torch"),
    ({"mxnet", "torch"}, "package", "torch")])
def test_auto(installed, packages, network_format, wanted):
    installed(*packages)
    backend, reason = choose_backend("auto", network_format)
    assert backend == wanted and reason
    assert choose_backend(wanted, network_format).reason == "asked for"


@pytest.mark.parametrize("requested, packages, network_format, words, fix", [
    ("auto", {"onnx", "onnxruntime"}, "checkpoint", "needs MXNet", "mxnetseg export"),
    ("torch", {"torch"}, "checkpoint", "needs MXNet", "mxnetseg export"),
    ("auto", {"onnx"}, "onnx", "onnxruntime is not installed", "pip install 'mxnetseg[onnx]'"),
    ("auto", {"onnxruntime"}, "onnx", "onnxruntime is not installed", "pip install 'mxnetseg[onnx]'"),
    ("auto", ALL - {"openvino"}, "openvino", "openvino is not installed", "pip install 'mxnetseg[openvino]'"),
    ("torch", ALL - {"torch"}, "package", "torch is not installed", "pip install 'mxnetseg[torch]'"),
    ("auto", set(), "package", "mxnet is not installed", "pip install mxnetseg")])
def test_what_is_missing_is_named(installed, requested, packages, network_format, words, fix):
    installed(*packages)
    with pytest.raises(EnvironmentProblem, match=words) as error:
        choose_backend(requested, network_format)
    assert fix in error.value.fix


@pytest.mark.parametrize("backend, network_format", [
    ("torch", "onnx"), ("mxnet", "onnx"), ("torch", "openvino"), ("mxnet", "openvino"), ("onnxruntime", "openvino")])
def test_a_format_that_a_backend_does_not_read(installed, backend, network_format):
    installed(*ALL)
    with pytest.raises(UsageError, match=f"{backend} does not read") as error:
        choose_backend(backend, network_format)
    assert "openvino" in error.value.fix


def test_unknown_names_and_other_spellings(installed):
    installed(*ALL)
    with pytest.raises(UnknownNameError, match="backend"):
        choose_backend("tensorrt", "onnx")
    assert choose_backend("PyTorch", "checkpoint").backend == "torch"


@pytest.mark.parametrize("capability, ctx, has_cuda, wanted", [
    ((9, 0), None, True, "torch"), ((9, 0), ["0"], True, "torch"), ((9, 0), ["cpu"], True, "mxnet"),
    ((9, 0), None, False, "mxnet"), ((8, 6), None, True, "mxnet"), (None, None, True, "mxnet")])
def test_a_gpu_that_mxnet_has_no_code_for(installed, monkeypatch, capability, ctx, has_cuda, wanted):
    torch = pytest.importorskip("torch")
    installed(*ALL)
    monkeypatch.setattr(choice, "compute_capability", lambda index: capability)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: has_cuda)
    assert choose_backend("auto", "checkpoint", ctx).backend == wanted


def test_formats(tmp_path):
    (tmp_path / "hub").mkdir()
    (tmp_path / "hub" / "config.json").touch()
    for name in ("a-symbol.json", "a-0000.params", "a-mxnetseg.json"):
        (tmp_path / name).touch()
    for name, wanted in (("x.onnx", "onnx"), ("x.xml", "openvino"), ("x.params", "checkpoint"), ("x", "checkpoint"),
                         ("hub", "package"), ("a-symbol.json", "package"), ("a-0000.params", "package"),
                         ("b-0000.params", "checkpoint")):
        assert format_of(tmp_path / name) == wanted, name


def test_what_no_backend_reads(tmp_path):
    (tmp_path / "repository" / "net" / "1").mkdir(parents=True)
    (tmp_path / "repository" / "net" / "config.pbtxt").touch()
    (tmp_path / "repository" / "net" / "1" / "model.onnx").touch()
    with pytest.raises(UsageError, match="read by a server") as error:
        format_of(tmp_path / "repository")
    assert str(tmp_path / "repository/net/1/model.onnx") in error.value.fix
    with pytest.raises(UsageError, match="holds no network"):
        format_of(tmp_path)
    with pytest.raises(UsageError, match="pt2"):
        format_of(tmp_path / "x.pt2")
