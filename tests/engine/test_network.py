"""One checkpoint, and the graph exported from it, in every backend: the same class maps and scores."""
from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image

from mxnetseg.backends.package import NetworkPackage
from mxnetseg.engine.checkpoint import Checkpoint, restore_network
from mxnetseg.engine.inference import Segmenter
from mxnetseg.engine.network import open_network
from mxnetseg.engine.predictor import Predictor
from mxnetseg.engine.protocol import Protocol
from mxnetseg.engine.tiles import Tiling
from mxnetseg.errors import CheckpointError, ConfigError, DeviceError
from mxnetseg.graph.params_file import write_arrays
from mxnetseg.graph.symbol_file import write_symbol

BACKENDS = ("torch", "onnxruntime", "openvino")


@pytest.fixture(scope="module")
def checkpoint(fit, configure, tmp_path_factory):
    return fit(configure({"train.epochs": 6, "optimizer.lr": 0.2}), tmp_path_factory.mktemp("weights"))[1].last


@pytest.fixture(scope="module")
def exported(checkpoint, tmp_path_factory):
    """Write the network as an export in the format ``mxnet``; return the path of its symbol."""
    import json

    import mxnet as mx

    net, sidecar = restore_network(Checkpoint(checkpoint.path), [mx.cpu()])
    package, stem = NetworkPackage.of_network(net, sidecar), tmp_path_factory.mktemp("exported") / "net"
    files = {ending: stem.with_name(f"net{ending}") for ending in ("-symbol.json", "-0000.params")}
    write_symbol(files["-symbol.json"], package.graph)
    write_arrays(files["-0000.params"], package.arrays)
    stem.with_name("net-mxnetseg.json").write_text(json.dumps(package.record.to_json(files)))
    return files["-symbol.json"]


@pytest.fixture
def image(images_folder):
    with Image.open(images_folder / "images" / "val1.png") as file:
        return np.array(file)


@pytest.fixture(params=BACKENDS)
def backend(request):
    pytest.importorskip(request.param)
    pytest.importorskip("onnx")
    return request.param


def segmenter(network, backend, protocol=None, precision=None, ctx=("cpu",)):
    opened = open_network(network, backend=backend, ctx=ctx)
    assert opened.choice.backend == backend and opened.model_name == "toy"
    return Segmenter(opened.load(opened.choose_precision(precision).precision), protocol)


@pytest.mark.parametrize("protocol", [
    Protocol(), Protocol(mode="slide", crop_size=(16, 20), scales=(0.75, 1.5), flip=True, batch=3),
    Protocol(mode="gluoncv", crop_size=(16, 16), base_size=40, scales=(0.5, 1.0), flip=True)], ids=str)
def test_probabilities_and_class_maps(checkpoint, backend, image, protocol):
    one, other = segmenter(checkpoint, "mxnet", protocol), segmenter(checkpoint, backend, protocol)
    wanted = one.probabilities(image)
    assert_allclose(other.probabilities(image), wanted, atol=1e-4)
    top = np.sort(wanted, axis=0)
    decided = top[-1] - top[-2] > 1e-3
    assert decided.mean() > 0.9
    assert_array_equal(other(image)[decided], one(image)[decided])


def test_large_images_in_tiles(checkpoint, backend, image):
    one, large = segmenter(checkpoint, backend), np.tile(image, (8, 9, 1))
    tiled, whole = Segmenter(one.runtime, tiling=Tiling.of(64)), one.probabilities(large)
    assert len(tiled.tiles(large.shape[:2])) > 9
    top = np.sort(whole, axis=0)
    decided = top[-1] - top[-2] > 1e-3
    assert_array_equal(tiled(large)[decided], whole.argmax(0)[decided])


@pytest.mark.parametrize("name", ["mxnet", *BACKENDS])
def test_an_exported_graph(checkpoint, exported, image, name):
    pytest.importorskip(name)
    wanted, got = segmenter(checkpoint, "mxnet"), segmenter(exported, name)
    assert_allclose(got.probabilities(image), wanted.probabilities(image), atol=1e-4)


@pytest.mark.parametrize("name", ["torch", pytest.param("openvino", marks=pytest.mark.bfloat16)])
def test_bfloat16_differs_a_little(checkpoint, image, name):
    pytest.importorskip(name)
    exact, half = (segmenter(checkpoint, name, precision=p).probabilities(image) for p in ("float32", "bfloat16"))
    assert 1e-6 < np.abs(half - exact).max() < 0.1


def test_a_predictor_names_its_backend(checkpoint, backend, image):
    predictor = Predictor(checkpoint.path, backend=backend)
    assert predictor.backend == (backend, "asked for") and predictor.precision == "float32"
    assert predictor(image).classes == Predictor(checkpoint)(image).classes
    assert Predictor(checkpoint).backend.backend == "mxnet"


def test_what_a_backend_does_not_offer(checkpoint, backend):
    with pytest.raises(ConfigError, match="int8"):
        Predictor(checkpoint, backend=backend, precision="int8")
    with pytest.raises(DeviceError):
        Predictor(checkpoint, backend=backend, ctx="tpu")


def test_a_record_without_classes(exported, tmp_path):
    import json

    for file in exported.parent.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    record = tmp_path / "net-mxnetseg.json"
    content = json.loads(record.read_text())
    del content["data"]
    record.write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match="does not record the classes"):
        open_network(tmp_path / "net-symbol.json", backend="mxnet")
