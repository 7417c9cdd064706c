"""Backbones: what their taps promise, stride traded for dilation, and where ImageNet weights come from."""
import hashlib
import http.server
import re
import threading
import zipfile
from contextlib import contextmanager
from fnmatch import fnmatch
from importlib import import_module
from types import SimpleNamespace

import mxnet as mx
import numpy as np
import pytest

from mxnetseg.errors import CheckpointError, ConfigError, EnvironmentProblem, UnknownNameError
from mxnetseg.models import get_model
from mxnetseg.models.backbones import BACKBONES, get_backbone, list_backbones, pretrained
from mxnetseg.models.weights import load_pretrained_base

# deep, or another size of one that the quick suite has
SLOW = ("resnet34", "resnet101*", "resnet152*", "resnet50_v1*", "mobilenet_v2_0_5", "mobilenet_v2_0_75",
        "xception65*", "densenet161", "densenet169", "densenet201", "vit_base_16", "resnest26", "resnest50",
        "resnest101")
# too large for a test at all; a smaller one is the same code
HUGE = ("vit_large_16", "vit_huge_16", "resnest200", "resnest269")
OWN = ("ecaresnet50", "ecaresnet101")  # the sizes of its maps are others: test_ecaresnet.py
FIXED = {"densenet": 32, "eprnet": 8, "vit": 16}  # kinds whose stride cannot be traded


def fixed_stride(name):
    return FIXED.get(re.split(r"[\d_]", name)[0])


def parametrize(strides, *, fixed=True, without=()):
    """Every backbone with those of the strides that it has; ``fixed`` tells whether those with one only are in."""
    return pytest.mark.parametrize("name, output_stride", [
        pytest.param(name, stride, marks=pytest.mark.slow if any(fnmatch(name, kind) for kind in SLOW) else ())
        for name in list_backbones() if name not in (*HUGE, *OWN, *without) for stride in strides
        if (fixed and stride == fixed_stride(name)) or not fixed_stride(name)])


def build(name, **arguments):
    backbone = get_backbone(name, **arguments)
    backbone.initialize(mx.init.MSRAPrelu(factor_type="out", slope=0.0))
    return backbone


def picture(*size):
    return mx.nd.array(np.random.RandomState(sum(size)).normal(size=(1, 3, *size)))


def features(backbone, x):
    return [feature.asnumpy() for feature in backbone(x)]


def copy_parameters(source, target):
    values = source._collect_params_with_prefix()
    for name, p in target._collect_params_with_prefix().items():
        p.set_data(values[name].data())


def assert_close(got, wanted, relative=1e-5):
    assert got.shape == wanted.shape
    assert np.abs(got - wanted).max() <= relative * np.abs(wanted).max()


# ecaresnet's pooling rounds up, see its own tests
@parametrize([8, 16, 32], without=[n for n in list_backbones() if n.startswith("ecaresnet")])
def test_taps_are_what_comes_out(name, output_stride):
    backbone = build(name, output_stride=output_stride)
    reductions = [tap.reduction for tap in backbone.taps]
    assert reductions == sorted(reductions) and reductions[-1] == output_stride
    assert set(reductions) <= {4, 8, 16, 32}
    backbone.hybridize()
    for size in [(64, 32), (33, 50), (97, 65)]:
        got = features(backbone, picture(*size))
        assert len(got) == len(backbone.taps)
        for feature, tap in zip(got, backbone.taps):
            assert feature.shape == (1, tap.channels, *(-(-n // tap.reduction) for n in size))
            assert np.isfinite(feature).all() and feature.any()


ATTENTIVE = ("resnest", "mobilenet_v3", "ecaresnet")  # the mean over the map, which changes, scales channels


@parametrize([8, 16], fixed=False, without=[n for n in list_backbones() if n.startswith(ATTENTIVE)])
def test_dilation_computes_the_same_and_more(name, output_stride):
    """Every weight sees the input pixels it saw before, so the coarse map is a part of the fine one."""
    coarse = build(name, output_stride=32)
    fine = build(name, output_stride=output_stride)
    pooled_shortcuts = re.search("v1[de]", name)
    x = picture(64, 96) if pooled_shortcuts else picture(70, 65)  # at the border of odd maps they differ
    features(coarse, x), features(fine, x)  # settle the shapes
    copy_parameters(coarse, fine)
    taps = list(zip(features(coarse, x), features(fine, x), coarse.taps, fine.taps))
    if pooled_shortcuts and output_stride == 8:
        taps.pop()  # the pooling of the last shortcut knows no dilation
    for one, other, tap, dilated in taps:
        step = tap.reduction // dilated.reduction
        assert_close(other[:, :, ::step, ::step], one)


@pytest.mark.parametrize("name, output_stride", [
    ("resnet18", 8), ("resnet18", 32), ("resnet50", 8),
    pytest.param("resnet50", 32, marks=pytest.mark.slow), pytest.param("resnet101", 8, marks=pytest.mark.slow),
])
def test_resnets_are_gluoncvs_with_the_same_weights(name, output_stride, tmp_path):
    ours = build(name, output_stride=output_stride)
    x = picture(65, 49)
    ours(x)  # settles the shapes
    theirs = getattr(import_module("gluoncv.model_zoo.resnetv1b"), ours.gluoncv_name)(
        pretrained=False, dilated=output_stride == 8)
    theirs.initialize(mx.init.MSRAPrelu(factor_type="out", slope=0.0))
    theirs(x)
    file = tmp_path / "classifier.params"
    theirs.save_parameters(str(file))
    load_pretrained_base(SimpleNamespace(backbone=ours), file)
    file.unlink()
    wanted = theirs.maxpool(theirs.relu(theirs.bn1(theirs.conv1(x))))
    for stage, got in zip((theirs.layer1, theirs.layer2, theirs.layer3, theirs.layer4), features(ours, x)):
        wanted = stage(wanted)
        assert_close(got, wanted.asnumpy())


def test_unknown_backbones_and_strides():
    with pytest.raises(UnknownNameError, match="'mobilenet_v2_1_0'"):
        get_backbone("mobilenet")
    for name in list_backbones():
        only = fixed_stride(name)
        for stride in (4, 12, 64) + tuple(s for s in (8, 16, 32) if only and s != only):
            strides = only or "(8, 16 or )?32"
            with pytest.raises(ConfigError, match=f"(?i){name.split('_')[0]}.* at output stride {strides}"):
                get_backbone(name, output_stride=stride)


@pytest.mark.parametrize("alias", sorted(BACKBONES.aliases))
def test_aliases_resolve(alias):
    assert BACKBONES.resolve(alias) in list_backbones()


# ImageNet weights. The smallest backbone stands for all; its "published" checksum is that of a file made here.
NAME, GLUONCV_NAME = "mobilenet_v2_0_25", "mobilenetv2_0.25"


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    """GluonCV's classifier with known weights, its file and its features on an input."""
    net = import_module("gluoncv.model_zoo.mobilenet").get_mobilenet_v2(0.25)
    net.initialize(mx.init.Xavier())
    x = picture(64, 64)
    net(x)
    file = tmp_path_factory.mktemp("imagenet") / "classifier.params"
    net.save_parameters(str(file))
    data = file.read_bytes()
    return SimpleNamespace(net=net, data=data, sha1=hashlib.sha1(data).hexdigest(), x=x)


@pytest.fixture
def store(classifier, tmp_path, monkeypatch):
    """A world of its own: a home, GluonCV's cache, the published checksum, and no internet."""
    monkeypatch.setenv("MXNETSEG_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("MXNET_HOME", str(tmp_path / "mxnet"))
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setitem(import_module("gluoncv.model_zoo.model_store")._model_sha1, GLUONCV_NAME, classifier.sha1)
    monkeypatch.setattr(pretrained, "_STORE", "http://127.0.0.1:9/")  # the discard port: nobody answers
    return SimpleNamespace(file=f"{GLUONCV_NAME}-{classifier.sha1[:8]}", ours=tmp_path / "home" / "models",
                           gluoncvs=tmp_path / "mxnet" / "models")


@contextmanager
def served(answers):
    """A server on this machine: path -> bytes, or (bytes, promised length). Yields (address, paths asked)."""
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            answer = answers.get(self.path)
            if answer is None:
                return self.send_error(404)
            data, length = answer if isinstance(answer, tuple) else (answer, len(answer))
            self.send_response(200)
            self.send_header("Content-Length", str(length))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def zipped(folder, member, data):
    archive = folder / "archive.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as writer:
        writer.writestr(member, data)
    return archive.read_bytes()


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
        assert pretrained.find_weights(GLUONCV_NAME).parent == store.ours
    (store.ours / f"{store.file}.params").unlink()
    store.gluoncvs.mkdir(parents=True)
    (store.gluoncvs / f"{store.file}.params").write_bytes(classifier.data)
    assert pretrained.find_weights(GLUONCV_NAME).parent == store.gluoncvs


def test_a_damaged_file_in_the_cache_is_replaced(store, classifier, tmp_path, monkeypatch):
    store.ours.mkdir(parents=True)
    (store.ours / f"{store.file}.params").write_bytes(classifier.data[:-1] + b"?")
    path = f"/gluon/models/{store.file}.zip"
    with served({path: zipped(tmp_path, f"{store.file}.params", classifier.data)}) as (address, asked):
        monkeypatch.setenv("MXNETSEG_MIRROR", address)
        assert pretrained.find_weights(GLUONCV_NAME).read_bytes() == classifier.data
        assert asked == [path]


def flawed(kind, store, classifier, folder):
    """What a broken server may send."""
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
        return good[:len(good) // 2], len(good)
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
    assert not store.ours.exists() or not list(store.ours.iterdir())  # nothing half is kept


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


def test_a_backbone_without_published_weights_says_so():
    with pytest.raises(EnvironmentProblem, match="has published no weights of resnet18_v9"):
        pretrained.find_weights("resnet18_v9")
