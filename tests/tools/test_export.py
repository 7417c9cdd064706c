"""`mxnetseg export`: every format computes what the network computes, and a failure leaves nothing."""
import errno
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import mxnet as mx
import numpy as np
import pytest
from hub_server import hub
from PIL import Image
from sidecars import sections

from mxnetseg import from_pretrained, to_torch
from mxnetseg.backends.package import NetworkRecord, read_package
from mxnetseg.engine.checkpoint import Checkpoint
from mxnetseg.errors import CheckpointError, UsageError
from mxnetseg.export import formats, onnx_format
from mxnetseg.export.staging import staged
from mxnetseg.graph.params_file import read_arrays, write_arrays
from mxnetseg.models import get_model
from mxnetseg.tools import export as command
from mxnetseg.tools.main import main

ROOT = Path(__file__).resolve().parents[2]
MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
SHAPES = [(1, 3, 64, 96), (2, 3, 71, 83)]


@pytest.fixture(scope="module")
def net():
    mx.random.seed(3)
    net = get_model("fastscnn", nclass=2, aux=True)
    net.mean, net.std = MEAN, STD
    return net


@pytest.fixture(scope="module")
def checkpoint(net, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "net.params"
    Checkpoint(path).write(net, sections(
        model={"name": "fastscnn", "nclass": 2, "aux": True}, normalisation={"mean": list(MEAN), "std": list(STD)},
        config={"data": {"name": "folder:/home/me/images", "root": "/home/me"}},
        metrics={"miou": 0.75, "classes": [{"name": "a", "iou": 0.5}, {"name": "b", "iou": 1.0}]}))
    return path


@pytest.fixture(scope="module")
def foreign(tmp_path_factory):
    """A model of MXNet that is not ours: path of its files without the endings."""
    block = mx.gluon.nn.HybridSequential(prefix="")
    block.add(mx.gluon.nn.Conv2D(6, 3, 2, 1, prefix="conv0_"), mx.gluon.nn.BatchNorm(prefix="bn0_"),
              mx.gluon.nn.Activation("relu"), mx.gluon.nn.Conv2D(4, 1, prefix="conv1_"))
    mx.random.seed(5)
    block.initialize(mx.init.Uniform(0.5))
    block.hybridize()
    block(mx.nd.zeros((1, 3, 32, 32)))
    prefix = tmp_path_factory.mktemp("foreign") / "foreign"
    block.export(str(prefix))
    return prefix


@pytest.fixture
def export(capsys, tmp_path):
    """``export(word, ...)``: exit code, output, errors. Each word is a path, a number or a text."""
    def run(*words):
        code = main(["export", *map(str, words)])
        return (code, *capsys.readouterr())
    return run


@pytest.fixture
def of_files(export, foreign):
    """``of_files(word, ...)``: export the foreign model."""
    def run(*words, symbol=f"{foreign}-symbol.json", params=f"{foreign}-0000.params"):
        return export("--symbol", symbol, "--params", params, *words)
    return run


def left(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def normal(shape):
    return np.random.default_rng(7).standard_normal(shape).astype(np.float32)


def assert_close(found, expected, bound=1e-4):
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= bound * np.abs(expected).max()


def onnx_outputs(path, x):
    return onnx_format.onnx_function(path)(x)


# ---- formats --------------------------------------------------------------------------------


def test_onnx(export, checkpoint, net, tmp_path):
    onnx = pytest.importorskip("onnx")
    code, out, err = export(checkpoint, tmp_path / "out" / "net.onnx")
    assert (code, err) == (0, "") and out.count("checked") == 3 and "MXNet 1.9.1" in out and "0.0001" in out
    assert left(tmp_path) == ["out", "out/net.onnx"]
    metadata = {entry.key: entry.value for entry in onnx.load(tmp_path / "out" / "net.onnx").metadata_props}
    record = NetworkRecord.parse(metadata["mxnetseg"], "net.onnx")
    assert record.classes == ("a", "b") and record.mean == MEAN and json.loads(metadata["std"]) == list(STD)
    assert "training data sample" in metadata["license"]
    for shape in SHAPES:
        x = normal(shape)
        assert_close(onnx_outputs(tmp_path / "out" / "net.onnx", x)[0], net(mx.nd.array(x))[0].asnumpy())


def test_onnx_of_images(export, checkpoint, net, tmp_path):
    pytest.importorskip("onnx")
    code, out, _ = export(checkpoint, tmp_path / "net.onnx", "--input", "uint8")
    assert code == 0 and "class maps" in out
    images = np.random.default_rng(0).integers(0, 256, (2, 70, 90, 3), np.uint8)
    x = ((images / 255 - MEAN) / STD).transpose(0, 3, 1, 2).astype(np.float32)
    expected = net(mx.nd.array(x))[0].asnumpy().argmax(1)
    found, = onnx_outputs(tmp_path / "net.onnx", images)
    assert found.dtype == np.uint8 and (found == expected).mean() > 0.9999


def test_openvino(export, checkpoint, net, tmp_path):
    openvino = pytest.importorskip("openvino")
    code, out, err = export(checkpoint, tmp_path / "net.xml")
    assert (code, err) == (0, "") and left(tmp_path) == ["net.bin", "net.xml"]
    model = openvino.Core().read_model(str(tmp_path / "net.xml"))
    assert NetworkRecord.parse(model.get_rt_info(["mxnetseg", "mxnetseg"]).astype(str), "net.xml").mean == MEAN
    x = normal(SHAPES[1])
    compiled = openvino.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    assert_close(compiled([x])[0], net(mx.nd.array(x))[0].asnumpy(), 1e-3)


def test_mxnet_loads_its_own_files(export, checkpoint, net, tmp_path):
    code, _, err = export(checkpoint, tmp_path / "net", "--format", "mxnet")
    assert (code, err) == (0, "")
    assert left(tmp_path) == ["net-0000.params", "net-mxnetseg.json", "net-symbol.json"]
    block = mx.gluon.SymbolBlock.imports(str(tmp_path / "net-symbol.json"), ["data"], str(tmp_path / "net-0000.params"))
    _, arguments, auxiliaries = mx.model.load_checkpoint(str(tmp_path / "net"), 0)
    assert all(name.endswith(("running_mean", "running_var")) for name in auxiliaries) and len(auxiliaries) > 20
    assert not [name for name in arguments if "running" in name or name.startswith("aux")]
    for shape in SHAPES:
        x = mx.nd.array(normal(shape))
        assert_close(block(x).asnumpy(), net(x)[0].asnumpy(), 1e-6)


@pytest.fixture(scope="module")
def hub_folder(checkpoint, tmp_path_factory):
    pytest.importorskip("safetensors")
    folder = tmp_path_factory.mktemp("hub") / "street-net"
    assert main(["export", str(checkpoint), str(folder), "--format", "hub"]) == 0
    return folder


class TestHub:
    def test_the_network_comes_back(self, hub_folder, net):
        again = from_pretrained(hub_folder)
        assert type(again) is type(net) and (tuple(again.mean), tuple(again.std)) == (MEAN, STD)
        x = mx.nd.array(normal(SHAPES[0]))
        outputs = again(x)
        assert len(outputs) > 1  # with those that only the loss uses
        assert all(np.array_equal(a.asnumpy(), b.asnumpy()) for a, b in zip(outputs, net(x)))

    def test_its_files_describe_it(self, hub_folder):
        assert left(hub_folder) == ["README.md", "config.json", "model.safetensors", "preprocessor_config.json",
                                    "symbol.json"]
        config = json.loads((hub_folder / "config.json").read_text())
        assert config["id2label"] == {"0": "a", "1": "b"} and config["label2id"] == {"a": 0, "b": 1}
        assert "/home/me" not in "".join(file.read_text() for file in hub_folder.glob("*.*") if
                                         file.suffix in (".json", ".md"))
        assert json.loads((hub_folder / "preprocessor_config.json").read_text())["image_mean"] == list(MEAN)
        assert not [name for name in read_package(hub_folder).arrays if name.startswith("aux")]

    def test_the_card(self, hub_folder):
        huggingface_hub = pytest.importorskip("huggingface_hub")
        card = huggingface_hub.ModelCard.load(hub_folder / "README.md")
        assert card.data.library_name == "mxnetseg" and card.data.pipeline_tag == "image-segmentation"
        [result] = card.data.eval_results
        assert result.metric_value == 0.75 and result.dataset_name == "sample"
        for text in ("75.00 %", "| 0 | a | #000000 | 50.00 % |", "whole images", "split `train`, 9 images",
                     "## Licence"):
            assert text in card.text, text

    def test_an_id_is_downloaded(self, hub_folder, net, tmp_path):
        pytest.importorskip("huggingface_hub")
        x = normal(SHAPES[0])
        np.save(tmp_path / "x.npy", x)
        script = ("import sys, mxnetseg, mxnet as mx\n"
                  "net = mxnetseg.from_pretrained('me/street-net', revision='v1')\n"
                  "x = mx.nd.array(__import__('numpy').load(sys.argv[1]))\n"
                  "__import__('numpy').save(sys.argv[1], net(x)[0].asnumpy())\n"
                  "for name, revision in (('me/street-net', 'v2'), ('me/other-net', None)):\n"
                  "    try: mxnetseg.from_pretrained(name, revision=revision)\n"
                  "    except mxnetseg.MXNetSegError as error: print(error)")
        with hub(hub_folder, "me/street-net", ("main", "v1")) as (address, requests):
            done = subprocess.run([sys.executable, "-c", script, tmp_path / "x.npy"], capture_output=True, text=True,
                                  env={**os.environ, "PYTHONPATH": str(ROOT), "HF_ENDPOINT": address,
                                       "HF_HOME": str(tmp_path / "home"), "HF_HUB_DISABLE_TELEMETRY": "1"})
        assert done.returncode == 0, done.stderr
        assert any("/revision/v1" in path for path in requests)
        assert done.stdout.count("cannot be downloaded") == 2 and "me/street-net, revision v2" in done.stdout
        assert np.array_equal(np.load(tmp_path / "x.npy"), net(mx.nd.array(x))[0].asnumpy())

    def test_other_sources_are_refused(self, hub_folder, tmp_path):
        for source in ("", "a/b/c", tmp_path / "nothing", "name"):
            with pytest.raises(UsageError, match="neither a folder nor an id"):
                from_pretrained(source)
        with pytest.raises(UsageError, match="no revisions"):
            from_pretrained(hub_folder, revision="main")

    def test_a_record_of_another_network_is_refused(self, hub_folder, tmp_path):
        folder = shutil.copytree(hub_folder, tmp_path / "copy")
        config = json.loads((folder / "config.json").read_text())
        for change, message in (({"model": {"name": "fastscnn", "nclass": 2}}, "do not fit"),
                                ({"model": {"name": "fastscnnn", "nclass": 2}}, "cannot be built"),
                                ({"model": {"name": "fastscnn", "nclass": 3}}, "model.nclass")):
            (folder / "config.json").write_text(json.dumps({**config, "mxnetseg": {**config["mxnetseg"], **change}}))
            with pytest.raises(CheckpointError, match=message):
                from_pretrained(folder)

    def test_swapped_weights_are_refused(self, hub_folder, tmp_path):
        folder = shutil.copytree(hub_folder, tmp_path / "copy")
        data = bytearray((folder / "model.safetensors").read_bytes())
        data[-1] ^= 1
        (folder / "model.safetensors").write_bytes(data)
        with pytest.raises(CheckpointError, match="changed since"):
            from_pretrained(folder)

    def test_it_is_converted_without_mxnet(self, hub_folder, net):
        torch = pytest.importorskip("torch")
        x = normal(SHAPES[0])
        with torch.no_grad():
            found = to_torch(str(hub_folder))(torch.from_numpy(x))
        assert_close(found.numpy(), net(mx.nd.array(x))[0].asnumpy(), 1e-5)
        with pytest.raises(UsageError, match="its own parameters"):
            to_torch(hub_folder, {})

    def test_it_is_exported_further(self, hub_folder, export, net, tmp_path):
        pytest.importorskip("onnx")
        code, _, err = export(hub_folder, tmp_path / "net.onnx")
        assert (code, err) == (0, "")
        x = normal(SHAPES[0])
        assert_close(onnx_outputs(tmp_path / "net.onnx", x)[0], net(mx.nd.array(x))[0].asnumpy())


def triton_config():
    """Return Triton's message ModelConfig. Its package imports grpc, so that one file of it is loaded alone."""
    spec = importlib.util.find_spec("tritonclient")
    if spec is None:
        pytest.skip("tritonclient is not installed")
    path = Path(spec.origin).parent / "grpc" / "model_config_pb2.py"
    module = importlib.util.module_from_spec(importlib.util.spec_from_file_location("model_config_pb2", path))
    module.__spec__.loader.exec_module(module)
    return module.ModelConfig()


@pytest.mark.parametrize("options, names, shapes", [
    ((), ("image", "class_map"), ([-1, -1, 3], [-1, -1])),
    (("--input", "float32", "--size", 64, 96), ("data", "logits"), ([3, 64, 96], [2, 64, 96]))])
def test_repository(export, checkpoint, net, tmp_path, options, names, shapes):
    onnxruntime = pytest.importorskip("onnxruntime")
    code, _, err = export(checkpoint, tmp_path / "models" / "street", "--format", "repository", *options)
    assert (code, err) == (0, "")
    folder = tmp_path / "models" / "street"
    assert left(folder) == ["1", "1/model.onnx", "config.pbtxt", "labels.txt"]
    assert (folder / "labels.txt").read_text() == "a\nb\n"
    session = onnxruntime.InferenceSession(str(folder / "1" / "model.onnx"), providers=["CPUExecutionProvider"])
    assert (session.get_inputs()[0].name, session.get_outputs()[0].name) == names

    from google.protobuf import text_format
    config = text_format.Parse((folder / "config.pbtxt").read_text(), triton_config())
    assert config.name == "street" and config.backend == "onnxruntime" and config.max_batch_size == 8
    for declared, value, dims in ((config.input[0], session.get_inputs()[0], shapes[0]),
                                  (config.output[0], session.get_outputs()[0], shapes[1])):
        assert declared.name == value.name and list(declared.dims) == dims
        kinds = {"tensor(uint8)": "TYPE_UINT8", "tensor(float)": "TYPE_FP32"}
        types = type(declared).DESCRIPTOR.fields_by_name["data_type"].enum_type.values_by_number
        assert types[declared.data_type].name == kinds[value.type]
    assert config.output[0].label_filename == "labels.txt" and config.HasField("dynamic_batching")
    assert json.loads(config.parameters["palette"].string_value) == [[0, 0, 0], [9, 9, 9]]


def test_a_name_that_no_address_can_hold_is_refused(of_files, tmp_path):
    code, _, err = of_files(tmp_path / "my model", "--format", "repository")
    assert code == 2 and "my model" in err and left(tmp_path) == []


class TestTorch:
    def test_any_size_and_without_mxnetseg(self, of_files, foreign, tmp_path):
        pytest.importorskip("torch")
        code, out, err = of_files(tmp_path / "net.pt2", "--mean", *MEAN, "--std", *STD)
        assert (code, err) == (0, "") and "classes" in out
        block = mx.gluon.SymbolBlock.imports(f"{foreign}-symbol.json", ["data"], f"{foreign}-0000.params")
        inputs = [normal(shape) for shape in SHAPES]
        np.savez(tmp_path / "x.npz", *inputs)
        script = ("import numpy, sys, torch; extra = {'mean': ''}\n"
                  "module = torch.export.load('net.pt2', extra_files=extra).module()\n"
                  "numpy.savez('y.npz', *[module(torch.from_numpy(x)).detach().numpy()\n"
                  "                       for x in numpy.load('x.npz').values()])\n"
                  "print(extra['mean'], 'mxnetseg' in sys.modules)")
        done = subprocess.run([sys.executable, "-W", "ignore", "-c", script], capture_output=True, text=True,
                              cwd=tmp_path, env={k: v for k, v in os.environ.items() if k != "PYTHONPATH"})
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip() == f"{list(MEAN)} False"
        for x, y in zip(inputs, np.load(tmp_path / "y.npz").values()):
            assert_close(y, block(mx.nd.array(x)).asnumpy(), 1e-5)

    def test_images_of_one_size(self, of_files, tmp_path):
        torch = pytest.importorskip("torch")
        code, _, err = of_files(tmp_path / "net.pt2", "--input", "uint8", "--mean", *MEAN, "--std", *STD,
                                "--size", 40, 56)
        assert (code, err) == (0, "")
        module = torch.export.load(str(tmp_path / "net.pt2")).module()
        assert module(torch.zeros(3, 40, 56, 3, dtype=torch.uint8)).dtype is torch.uint8
        with pytest.raises((AssertionError, RuntimeError)):
            module(torch.zeros(3, 41, 56, 3, dtype=torch.uint8))

    @pytest.mark.slow
    def test_a_network_of_this_library(self, export, checkpoint, net, tmp_path):
        torch = pytest.importorskip("torch")
        code, _, err = export(checkpoint, tmp_path / "net.pt2")
        assert (code, err) == (0, "")
        module = torch.export.load(str(tmp_path / "net.pt2")).module()
        x = normal((3, 3, 65, 257))
        assert_close(module(torch.from_numpy(x)).detach().numpy(), net(mx.nd.array(x))[0].asnumpy(), 1e-5)


# ---- any MXNet model ------------------------------------------------------------------------


def test_a_model_of_two_files(of_files, foreign, tmp_path):
    onnx = pytest.importorskip("onnx")
    classes = tmp_path / "classes.txt"
    classes.write_text("sky\n\nroad\ncar\nman\n")
    code, out, err = of_files(tmp_path / "net.onnx", "--classes", classes, "--license", "CC0")
    assert (code, err) == (0, "") and "mean and deviation are not recorded" in out
    metadata = {entry.key: entry.value for entry in onnx.load(tmp_path / "net.onnx").metadata_props}
    assert json.loads(metadata["classes"]) == ["sky", "road", "car", "man"] and metadata["license"] == "CC0"
    assert metadata["mean"] == "not recorded"
    block = mx.gluon.SymbolBlock.imports(f"{foreign}-symbol.json", ["data"], f"{foreign}-0000.params")
    x = normal(SHAPES[1])
    assert_close(onnx_outputs(tmp_path / "net.onnx", x)[0], block(mx.nd.array(x)).asnumpy())


def test_a_model_with_a_loss(of_files, foreign, tmp_path):
    """The label is an input of MXNet's graph, and of no exported network."""
    pytest.importorskip("onnx")
    logits = mx.sym.load(f"{foreign}-symbol.json")
    mx.sym.SoftmaxOutput(logits, name="softmax", multi_output=True).save(str(tmp_path / "loss.json"))
    for name in ("net.onnx", "net-symbol.json"):
        code, _, err = of_files(tmp_path / name, symbol=tmp_path / "loss.json")
        assert (code, err) == (0, ""), err
    block = mx.gluon.SymbolBlock.imports(f"{foreign}-symbol.json", ["data"], f"{foreign}-0000.params")
    x = normal(SHAPES[1])
    assert_close(onnx_outputs(tmp_path / "net.onnx", x)[0], mx.nd.softmax(block(mx.nd.array(x)), axis=1).asnumpy())
    assert read_package(tmp_path / "net").inputs == ("data",)


WITHOUT_MXNET = ("import sys; sys.modules['mxnet'] = None; from mxnetseg.tools.main import main; "
                 "sys.exit(main(sys.argv[1:]))")


def test_without_mxnet(foreign, tmp_path):
    for package in ("torch", "onnx", "openvino", "safetensors"):
        pytest.importorskip(package)
    source = ["export", "--symbol", f"{foreign}-symbol.json", "--params", f"{foreign}-0000.params"]
    targets = (["net.onnx"], ["net-symbol.json"], ["net", "--format", "hub"], ["net.xml"])
    runs = "; ".join(f"assert main({[*source, str(tmp_path / name), *more]}) == 0" for name, *more in targets)
    done = subprocess.run([sys.executable, "-c", WITHOUT_MXNET.replace("sys.exit(main(sys.argv[1:]))", runs)],
                          text=True, capture_output=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("PyTorch (MXNet is not installed)") == 4 and done.stdout.count("checked") == 12


def test_what_needs_mxnet_says_so(checkpoint, hub_folder, tmp_path):
    code = (WITHOUT_MXNET.replace("sys.exit(main(sys.argv[1:]))", "main(sys.argv[1:])") + "\nimport mxnetseg\n"
            f"try: mxnetseg.from_pretrained({str(hub_folder)!r})\nexcept mxnetseg.MXNetSegError as error: print(error)")
    done = subprocess.run([sys.executable, "-c", code, "export", checkpoint, tmp_path / "net.onnx"],
                          capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert "where MXNet is installed" in done.stderr and "as hub" in done.stderr
    assert "to_torch" in done.stdout and "Predictor" in done.stdout
    assert left(tmp_path) == []


# ---- precisions -----------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["net.onnx", "net.xml"])
def test_float16(of_files, foreign, tmp_path, target):
    pytest.importorskip("onnx")
    pytest.importorskip("openvino")
    code, out, err = of_files(tmp_path / target, "--precision", "float16")
    assert (code, err) == (0, "") and "float16" in out


# ---- failures -------------------------------------------------------------------------------


@pytest.fixture(params=["net.onnx", "deep/er/net.onnx"])
def target(request, tmp_path):
    return tmp_path / request.param


def test_a_network_that_differs_is_not_kept(of_files, tmp_path, target):
    code, _, err = of_files(target, "--tolerance", "1e-15")
    assert code == 1 and "computes something else" in err and "1e-15" in err and left(tmp_path) == []


@pytest.mark.parametrize("wrong", [lambda x: x * 1.01, lambda x: x * np.nan, lambda x: np.where(x == x.max(), 0, x)])
def test_every_difference_is_found(of_files, tmp_path, monkeypatch, wrong):
    original = onnx_format.onnx_function
    monkeypatch.setattr(onnx_format, "onnx_function",
                        lambda path: lambda x: [wrong(y).astype(np.float32) for y in original(path)(x)])
    code, _, err = of_files(tmp_path / "net.onnx")
    assert code == 1 and "computes something else" in err and left(tmp_path) == []


def test_other_classes_are_found(of_files, tmp_path, monkeypatch):
    original = onnx_format.onnx_function
    monkeypatch.setattr(onnx_format, "onnx_function", lambda path: lambda x: [np.flip(original(path)(x)[0], 1).copy()])
    code, _, err = of_files(tmp_path / "net.onnx", "--input", "uint8", "--mean", *MEAN, "--std", *STD)
    assert code == 1 and "computes something else" in err and left(tmp_path) == []


def test_an_interrupt_leaves_nothing(of_files, tmp_path, target, monkeypatch):
    def interrupted(path):
        assert path.exists()
        raise KeyboardInterrupt
    monkeypatch.setattr(onnx_format, "onnx_function", interrupted)
    code, _, err = of_files(target)
    assert code == 130 and left(tmp_path) == []


def test_a_full_disk_leaves_nothing(of_files, tmp_path, target, monkeypatch):
    def full(*arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    monkeypatch.setattr("mxnetseg.export.onnx_format.atomic_write", full)
    code, _, err = of_files(target)
    assert code == 1 and "disk is full" in err and left(tmp_path) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", ["onnx", "torch", "openvino", "mxnet", "hub", "repository"])
def test_a_disk_that_really_is_full(export, checkpoint, tmp_path, name):
    disk = tmp_path / "disk"
    disk.mkdir()
    if shutil.which("mount") is None or subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk], capture_output=True).returncode:
        pytest.skip("no tmpfs can be mounted here")
    try:
        code, _, err = export(checkpoint, disk / "net", "--format", name)
        assert code == 1 and "full" in err and left(disk) == []
    finally:
        subprocess.run(["umount", "-l", disk], check=True)


def test_nothing_is_overwritten(of_files, tmp_path):
    for name, words in (("net.onnx", ()), ("net-0000.params", ("--format", "mxnet"))):
        (tmp_path / name).write_text("mine")
        code, _, err = of_files(tmp_path / name.replace("-0000.params", ""), *words)
        assert code == 2 and "exists already" in err and (tmp_path / name).read_text() == "mine"
    assert left(tmp_path) == ["net-0000.params", "net.onnx"]


def test_another_process_writes_the_same(tmp_path):
    with pytest.raises(UsageError, match="exists already"), staged(tmp_path, ["a", "b"]) as stage:
        for name in ("a", "b"):
            (stage / name).write_text("ours")
        (tmp_path / "b").write_text("theirs")
    assert left(tmp_path) == ["b"]


def test_a_folder_that_cannot_be_written(of_files, tmp_path):
    (tmp_path / "file").write_text("")
    code, _, err = of_files(tmp_path / "file" / "net.onnx")
    assert code == 2 and "no file can be written there" in err and left(tmp_path) == ["file"]


@pytest.mark.parametrize("words, message", [
    (("net.tflite",), "the format of the export is not known"),
    (("net.onnx", "--format", "onxx"), "did you mean 'onnx'"),
    (("net.onnx", "--format", "torch"), "ending of another format"),
    (("net.onnx", "--input", "uint8"), "cannot be normalised"),
    (("net.onnx", "--mean", 0, 0, 0), "give both"),
    (("net.onnx", "--mean", 0, 0, 0, "--std", 1, 0, 1), "0.0 is no deviation"),
    (("net.onnx", "--precision", "int8"), "cannot be normalised"),
    (("net.onnx", "--precision", "int8", "--mean", *MEAN, "--std", *STD), "--images"),
    (("net.onnx", "--images", "."), "calibrates int8 only"),
    (("net-symbol.json", "--size", 32, 32), "holds a network for all sizes"),
    (("net", "--format", "hub", "--precision", "float16"), "does not offer this"),
    (("net.onnx", "--inputs", "image"), "1 missing: 'data'"),
    (("net.onnx", "--size", 0, 32), "at least 1")])
def test_options_that_do_not_fit(of_files, tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    code, _, err = of_files(*words)
    assert code in (1, 2) and message in err and left(tmp_path) == []


@pytest.mark.parametrize("words, message", [
    (("a.onnx",), "a source is missing"),
    (("--symbol", "x", "a.onnx"), "two files"),
    (("c.params", "a.onnx", "--symbol", "x", "--params", "y"), "two sources"),
    (("c.params", "a.onnx", "--mean", 0, 0, 0, "--std", 1, 1, 1), "a checkpoint records it"),
    (("nothing.params", "a.onnx"), "nothing.params")])
def test_sources_that_do_not_fit(export, tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    code, _, err = export(*words)
    assert code in (1, 2) and message in err and left(tmp_path) == []


def test_a_size_below_that_of_the_network(export, hub_folder, tmp_path):
    folder = shutil.copytree(hub_folder, tmp_path / "hub")
    config = json.loads((folder / "config.json").read_text())
    config["mxnetseg"]["smallest_side"] = 29
    (folder / "config.json").write_text(json.dumps(config))
    code, _, err = export(folder, tmp_path / "net.onnx", "--size", 28, 64)
    assert code == 2 and "at least 29 pixels" in err and not (tmp_path / "net.onnx").exists()


def test_a_checkpoint_without_its_sidecar(export, checkpoint, tmp_path):
    shutil.copy(checkpoint, tmp_path / "net.params")
    code, _, err = export(tmp_path / "net.params", tmp_path / "net.onnx")
    assert code == 1 and "no sidecar" in err and left(tmp_path) == ["net.params"]


@pytest.fixture
def files(foreign, tmp_path):
    symbol, params = tmp_path / "s.json", tmp_path / "p.params"
    shutil.copy(f"{foreign}-symbol.json", symbol)
    shutil.copy(f"{foreign}-0000.params", params)
    return symbol, params


def swapped(symbol, params):
    os.rename(symbol, symbol.with_suffix(".x"))
    os.rename(params, symbol)
    os.rename(symbol.with_suffix(".x"), params)


def without_a_parameter(symbol, params):
    arrays = read_arrays(params)
    arrays.pop("arg:conv1_weight")
    write_arrays(params, arrays)


def with_a_wrong_shape(symbol, params):
    arrays = read_arrays(params)
    write_arrays(params, {**arrays, "arg:conv1_weight": np.ones((5, 6, 1, 1), np.float32)})


def with_unknown_operators(symbol, params):
    symbol.write_text(symbol.read_text().replace('"Activation"', '"MyActivation"').replace('"BatchNorm"', '"MyNorm"'))


def with_zeros(symbol, params):
    write_arrays(params, {name: np.zeros_like(array) for name, array in read_arrays(params).items()})


def with_nan(symbol, params):
    write_arrays(params, {name: array * np.nan for name, array in read_arrays(params).items()})


@pytest.mark.parametrize("damage, message", [
    (with_zeros, "zero everywhere"), (with_nan, "no numbers (NaN)"),
    (lambda symbol, params: params.write_bytes(params.read_bytes()[:-5]), "p.params"),
    (lambda symbol, params: symbol.write_text(symbol.read_text()[:-50]), "s.json"),
    (lambda symbol, params: params.unlink(), "p.params"),
    (swapped, "s.json"), (without_a_parameter, "conv1_weight"), (with_a_wrong_shape, "conv1_weight"),
    (with_unknown_operators, "MyNorm")])
@pytest.mark.parametrize("name", ["onnx", "mxnet"])
def test_damaged_files_are_refused_by_name(of_files, files, damage, message, name):
    symbol, params = files
    damage(symbol, params)
    before = left(symbol.parent)
    code, _, err = of_files(symbol.parent / "net", "--format", name, symbol=symbol, params=params)
    assert code == 1 and message in err and left(symbol.parent) == before


# ---- the command ----------------------------------------------------------------------------


def test_the_command_offers_what_the_exports_offer():
    assert list(command.FORMATS) == formats.EXPORT_FORMATS.names()
    assert command.PRECISIONS == formats.EXPORT_PRECISIONS
    for name in command.FORMATS:
        export_format = formats.EXPORT_FORMATS.get(name)
        assert export_format.name == name and set(export_format.precisions) <= export_format.tolerances.keys()


def test_scores_are_recorded(export, checkpoint, tmp_path):
    scores = {"miou": 0.25, "split": "test", "protocol": "windows", "classes": [{"name": "a", "iou": 0.5},
                                                                               {"name": "b", "iou": 0.0}]}
    (tmp_path / "scores.json").write_text(json.dumps(scores))
    code, _, _ = export(checkpoint, tmp_path / "net", "--format", "hub", "--scores", tmp_path / "scores.json")
    card = (tmp_path / "net" / "README.md").read_text()
    assert code == 0 and "25.00 %" in card and "Split `test`, windows." in card
    for text, message in (("{}", "no scores"), (json.dumps({**scores, "classes": [{"name": "c"}]}), "another network")):
        (tmp_path / "scores.json").write_text(text)
        code, _, err = export(checkpoint, tmp_path / "net2", "--format", "hub", "--scores", tmp_path / "scores.json")
        assert code == 2 and message in err


def test_images_to_calibrate_on_are_read(tmp_path):
    for i in range(3):
        Image.fromarray(np.full((8, 9, 3), i, np.uint8)).save(tmp_path / f"{i}.png")
    (tmp_path / "note.txt").write_text("")
    parsed = command.Namespace(images=[tmp_path], precision="int8")
    assert [image[0, 0, 0] for image in command._images(parsed)] == [0, 1, 2]
