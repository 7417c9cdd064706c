"""Networks by name: the included one, GluonCV's, and those on the hub, in commands and in Python."""
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from file_server import isolate, served, zipped
from hub_server import hub

from mxnetseg import Predictor, from_pretrained
from mxnetseg.engine import included
from mxnetseg.engine.checkpoint import Checkpoint
from mxnetseg.engine.named import is_name
from mxnetseg.engine.network import open_network
from mxnetseg.errors import CheckpointError, UnknownNameError, UsageError
from mxnetseg.models.weights.gluoncv_zoo import CHECKPOINTS, Published, file_of
from mxnetseg.tools.main import main

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))
import include_network  # noqa: E402


@pytest.fixture(scope="module")
def checkpoint(fit, configure, tmp_path_factory):
    return fit(configure({"train.epochs": 6, "optimizer.lr": 0.2}), tmp_path_factory.mktemp("weights"))[1].last.path


@pytest.fixture(scope="module")
def folder(checkpoint, images_folder, tmp_path_factory):
    """Write the checkpoint as scripts/include_network.py does; return the folder."""
    pytest.importorskip("onnxruntime")
    out = tmp_path_factory.mktemp("package") / "included"
    notes = out.parent / "notes.md"
    notes.write_text("Seed 7. Fails at night.")
    assert include_network.main([str(checkpoint), "--license", "research only", "--images",
                                 str(images_folder / "images"), "--notes", str(notes), "--out", str(out)]) == 0
    return out


@pytest.fixture
def shipped(folder, monkeypatch):
    monkeypatch.setattr(included, "FOLDER", folder)
    return folder


@pytest.fixture
def image(images_folder):
    return images_folder / "images/val1.png"


@pytest.fixture
def empty(tmp_path, monkeypatch, image):
    """A working directory with nothing but ``photo.png``."""
    place = tmp_path / "empty"
    place.mkdir()
    shutil.copy(image, place / "photo.png")
    monkeypatch.chdir(place)
    return place


# ---- the included network -----------------------------------------------------------------------


def test_its_weights_are_in_float16_and_it_computes_in_float32(shipped, checkpoint, image):
    import mxnet as mx

    stored, exact = (mx.nd.load(str(path)) for path in (shipped / "network.params", checkpoint))
    assert {value.dtype for name, value in stored.items() if exact[name].ndim > 1} == {np.float16}
    assert {value.dtype for name, value in stored.items() if exact[name].ndim == 1} == {np.float32}
    predictor = Predictor()
    assert predictor.precision == "float32" and predictor.classes == ("red", "green", "blue")
    np.testing.assert_array_equal(predictor(image).class_map, Predictor(checkpoint)(image).class_map)
    net = from_pretrained("included")
    assert net.model_name == "toy" and {p.dtype for p in net.named_parameters().values()} == {np.float32}


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_backends_without_mxnet_read_its_onnx_form(shipped, checkpoint, image, backend):
    pytest.importorskip(backend)
    network = open_network("included", backend=backend, ctx=["cpu"])
    assert network.path == shipped / "network.onnx" and network.choose_precision(None).precision == "float32"
    np.testing.assert_array_equal(Predictor(network)(image).class_map, Predictor(checkpoint)(image).class_map)


def test_its_card(shipped):
    card = (shipped / "README.md").read_text()
    for wanted in ('Predictor("included")', "research only", "Seed 7. Fails at night.", "| 0 | red |", "`toy`"):
        assert wanted in card
    assert "/tmp" not in card + (shipped / "network.json").read_text()


def test_predict_in_an_empty_folder(shipped, empty, capsys):
    assert main(["predict", "photo.png", "--quiet"]) == 0
    [line] = [line for line in capsys.readouterr().out.splitlines() if line.startswith("checkpoint")]
    for wanted in ("included with mxnetseg", "toy", "3 classes: red, green, blue", "licence: research only"):
        assert wanted in line
    assert (empty / "out/predict/photo_overlay.png").is_file()


def test_a_run_has_precedence_and_eval_needs_one(shipped, empty, checkpoint, capsys):
    assert main(["eval"]) == 1 and "there is no checkpoint yet" in capsys.readouterr().err
    Path("weights").mkdir()
    for ending in (".params", ".json", ".state"):
        shutil.copy(checkpoint.with_suffix(ending), f"weights/toy{ending}")
    assert main(["predict", "photo.png", "--quiet"]) == 0
    assert "checkpoint  weights/toy.params\n" in capsys.readouterr().out
    assert main(["predict", "photo.png", "--quiet", "--checkpoint", "included"]) == 0
    assert "included with mxnetseg" in capsys.readouterr().out


def test_without_mxnet_the_onnx_form_is_used(shipped, empty):
    code = ("import sys\nfrom pathlib import Path\n"
            "class Absent:\n    def find_spec(self, name, path=None, target=None):\n"
            "        if name.split('.')[0] in ('mxnet', 'gluoncv'): raise ModuleNotFoundError(name, name=name)\n"
            "sys.meta_path.insert(0, Absent())\n"
            "from mxnetseg.engine import included\nincluded.FOLDER = Path(sys.argv[1])\n"
            "from mxnetseg.tools.main import main\nsys.exit(main(['predict', 'photo.png', '--quiet']))")
    done = subprocess.run([sys.executable, "-c", code, str(shipped)], capture_output=True, text=True,
                          env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert done.returncode == 0, done.stderr
    assert "included with mxnetseg" in done.stdout and "onnxruntime" in done.stdout
    assert (empty / "out/predict/photo_classes.png").is_file()


def test_a_damaged_file_is_refused(folder, tmp_path, monkeypatch):
    copy = shutil.copytree(folder, tmp_path / "copy")
    data = bytearray((copy / "network.params").read_bytes())
    data[-200] ^= 1
    (copy / "network.params").write_bytes(data)
    monkeypatch.setattr(included, "FOLDER", copy)
    with pytest.raises(CheckpointError, match="changed since"):
        Predictor()


def test_its_absence_names_the_alternatives(empty, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(included, "FOLDER", tmp_path / "nothing")
    with pytest.raises(CheckpointError, match="no network comes with this installation") as caught:
        Predictor()
    for command in ("--checkpoint gluoncv:", "models --pretrained", "mxnetseg demo"):
        assert command in caught.value.fix
    assert main(["predict", "photo.png"]) == 1
    assert "there is no checkpoint yet" in (err := capsys.readouterr().err) and "--checkpoint gluoncv:NAME" in err


def test_too_large_a_network_is_not_written(checkpoint, images_folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(include_network, "MEGABYTES", 0)
    out = tmp_path / "included"
    assert include_network.main([str(checkpoint), "--license", "x", "--images", str(images_folder / "images"),
                                 "--out", str(out)]) == 1
    assert "too large" in capsys.readouterr().err and not out.exists()


def test_weights_that_float16_cannot_hold_stay_float32(checkpoint, tmp_path):
    import mxnet as mx

    from mxnetseg.engine.checkpoint import restore_network

    net, sidecar = restore_network(Checkpoint(checkpoint), [mx.cpu()])
    name, parameter = next((n, p) for n, p in net.named_parameters().items() if len(p.shape) > 1)
    parameter.set_data(parameter.data() * 0 + 1e6)
    Checkpoint(tmp_path / "x.params").write_half(net, {k: v for k, v in sidecar.items() if k != "files"})
    assert mx.nd.load(str(tmp_path / "x.params"))[name].dtype == np.float32
    again, _ = restore_network(Checkpoint(tmp_path / "x.params"), [mx.cpu()])
    assert again.named_parameters()[name].data().asnumpy().max() == 1e6


# ---- GluonCV's ----------------------------------------------------------------------------------


def behind_a_mirror(name, data, tmp_path, monkeypatch):
    """Serve a file as a checkpoint of GluonCV; return the context with the list of requests."""
    isolate(monkeypatch, tmp_path)
    monkeypatch.setitem(CHECKPOINTS, name, Published(hashlib.sha1(data).hexdigest(), 142, 39.5, 79.0))
    file = file_of(name)
    return served({f"/{file.on_server}": zipped(tmp_path, file.member, data, compress=False)})


@pytest.fixture
def small(tmp_path, monkeypatch):
    """A checkpoint of FCN-ResNet18 under GluonCV's names, which GluonCV itself does not have: network, requests."""
    import mxnet as mx

    from mxnetseg.models import get_model

    net = get_model("fcn", backbone="resnet18", nclass=150, aux=True, head_channels=512, norm="bn")
    for parameter in net.named_parameters().values():
        if parameter.name.endswith("running_var"):
            parameter.set_data(parameter.data() * 0 + 0.5)
    names = {}
    for ours in net.named_parameters():
        part, _, rest = ours.partition(".")
        theirs = {"backbone": rest, "head": f"head.block.{rest}", "aux_head": f"auxlayer.block.{rest}"}[part]
        for a, b in ((".conv1.conv.", ".0."), (".conv1.bn.", ".1."), (".conv2.", ".4.")):
            theirs = theirs.replace(f"block{a}", f"block{b}")
        assert net.from_gluoncv(theirs) == ours
        names[theirs] = ours
    path = tmp_path / "theirs.params"
    mx.nd.save(str(path), {theirs: net.named_parameters()[ours].data() for theirs, ours in names.items()})
    with behind_a_mirror("fcn_resnet18_ade", path.read_bytes(), tmp_path, monkeypatch) as (address, asked):
        monkeypatch.setenv("MXNETSEG_MIRROR", address)
        yield net, asked


def test_a_checkpoint_in_gluoncvs_form(small, empty, capsys):
    net, asked = small
    assert main(["models", "--pretrained", "fcn_resnet18"]) == 0
    line = capsys.readouterr().out.splitlines()[1]
    assert line.split() == ["gluoncv:fcn_resnet18_ade", "fcn", "on", "resnet18", "ade20k", "39.5", "79.0", "142", "no"]
    assert main(["fetch", "fcn_resnet18_ade"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("gluoncv:fcn_resnet18_ade: ") and out.rstrip().endswith("MB)") and len(asked) == 1

    network = open_network("gluoncv:fcn_resnet18_ade", ctx=["cpu"])
    assert (network.model_name, network.backbone_name, len(asked)) == ("fcn", "resnet18", 1)
    data = network.sidecar["data"]
    assert data["classes"][:3] == ["wall", "building", "sky"] and data["raw_ids"][:2] == [1, 2]
    again = from_pretrained("gluoncv:fcn_resnet18_ade").named_parameters()
    assert all((again[n].data() == p.data()).asnumpy().all() for n, p in net.named_parameters().items())

    assert main(["predict", "photo.png", "--checkpoint", "gluoncv:fcn_resnet18_ade", "--quiet"]) == 0
    assert "checkpoint  gluoncv:fcn_resnet18_ade: " in capsys.readouterr().out
    assert main(["models", "--pretrained", "fcn_resnet18"]) == 0
    assert str(empty.parent / "home") in capsys.readouterr().out


def test_a_file_of_another_network_is_refused(tmp_path, monkeypatch):
    import mxnet as mx

    mx.nd.save(str(tmp_path / "x"), {"conv1.0.weight": mx.nd.zeros((2, 3, 3, 3))})
    with behind_a_mirror("fcn_resnet50_ade", (tmp_path / "x").read_bytes(), tmp_path, monkeypatch) as (address, _):
        monkeypatch.setenv("MXNETSEG_MIRROR", address)
        with pytest.raises(CheckpointError, match="does not hold the network of its name"):
            open_network("gluoncv:fcn_resnet50_ade")


@pytest.mark.slow
def test_gluoncvs_own_file_predicts_what_gluoncv_predicts(tmp_path, monkeypatch):
    import mxnet as mx
    from gluoncv.model_zoo.fcn import FCN

    mx.random.seed(1)
    net = FCN(150, backbone="resnet50", pretrained_base=False, height=64, width=96)
    net.initialize(mx.init.MSRAPrelu(slope=0.0), force_reinit=True)
    net(mx.nd.zeros((1, 3, 64, 96)))
    net.save_parameters(str(tmp_path / "x"))
    pixels = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)
    with behind_a_mirror("fcn_resnet50_ade", (tmp_path / "x").read_bytes(), tmp_path, monkeypatch) as (address, _):
        monkeypatch.setenv("MXNETSEG_MIRROR", address)
        network = open_network("gluoncv:fcn_resnet50_ade", ctx=["cpu"])
    mean, std = (np.array(network.sidecar["normalisation"][key]) for key in ("mean", "std"))
    logits = net(mx.nd.array(((pixels / 255 - mean) / std).transpose(2, 0, 1)[None]))[0].asnumpy()[0]
    top = np.sort(logits, axis=0)
    decided = top[-1] - top[-2] > 1e-3 * np.abs(logits).max()
    found = Predictor(network)(pixels).class_map
    assert decided.mean() > 0.5 and (found == logits.argmax(0))[decided].all()
    monkeypatch.chdir(tmp_path)
    assert main(["export", "gluoncv:fcn_resnet50_ade", "--format", "mxnet", "fcn-symbol.json"]) == 0
    np.testing.assert_array_equal(Predictor("fcn-symbol.json")(pixels).class_map, found)


def test_wrong_names(empty, capsys):
    with pytest.raises(UnknownNameError, match="fcn_resnet50_ade"):
        Predictor("gluoncv:fcn_resnet50_ad")
    assert main(["predict", "photo.png", "--checkpoint", "gluoncv:icnet_resnet50_citys"]) == 2
    assert "ICNet differs" in capsys.readouterr().err
    for words, message in ((["x:y"], "origin of a network"), (["included"], "comes with mxnetseg"),
                           (["fastscnn_citys"], "FastSCNN differs"), (["hub:name"], "not an id")):
        assert main(["fetch", *words]) == 2 and message in capsys.readouterr().err
    assert main(["models", "--pretrained", "nothing-is-called-so"]) == 1


def test_a_name_that_is_a_path_too(empty):
    (empty / "included").mkdir()
    with pytest.raises(UsageError, match="two ways") as caught:
        is_name("included")
    assert "./included" in caught.value.fix and not is_name("./included") and not is_name(None)


# ---- the hub ------------------------------------------------------------------------------------


def test_the_hub(checkpoint, image, empty, tmp_path):
    """In a process of its own, because huggingface_hub reads its settings when it is imported."""
    for package in ("huggingface_hub", "safetensors", "torch"):
        pytest.importorskip(package)
    assert main(["export", str(checkpoint), "--format", "hub", str(tmp_path / "net")]) == 0
    np.save("wanted.npy", Predictor(checkpoint)(image).class_map)
    code = ("import numpy, mxnetseg\nfrom mxnetseg.tools.main import main\n"
            "predictor = mxnetseg.Predictor('hub:me/net@v1', backend='torch')\n"
            "assert (predictor('photo.png').class_map == numpy.load('wanted.npy')).all()\n"
            "assert main(['fetch', 'hub:me/net@v1']) == 0\n"
            "assert main(['predict', 'photo.png', '--backend', 'torch', '--checkpoint', 'hub:me/net']) == 0\n"
            "assert main(['fetch', 'hub:me/net@v2', 'hub:me/other']) == 1\n")
    with hub(tmp_path / "net", "me/net", ("main", "v1")) as (address, requests):
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={
            **os.environ, "PYTHONPATH": str(ROOT), "HF_ENDPOINT": address, "HF_HOME": str(tmp_path / "home"),
            "HF_HUB_DISABLE_TELEMETRY": "1", "no_proxy": "*"})
    assert done.returncode == 0, done.stderr
    assert any("/revision/v1" in path for path in requests) and "checkpoint  hub:me/net: " in done.stdout
    assert "hub:me/net@v2: not available" in done.stdout and "me/net, revision v2" in done.stderr
    with pytest.raises(UsageError, match="two revisions"):
        from_pretrained("hub:me/net@v1", revision="v2")
