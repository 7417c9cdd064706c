"""A network as plain data: it gives the network's prediction, and damaged files are refused by name."""
import json
import shutil
import sys

import mxnet as mx
import numpy as np
import pytest
from sidecars import sections

from mxnetseg.backends import package as packages
from mxnetseg.backends.package import NetworkPackage, NetworkRecord, read_package
from mxnetseg.errors import CheckpointError, EnvironmentProblem, UsageError
from mxnetseg.graph.params_file import read_arrays, write_arrays
from mxnetseg.graph.symbol_file import symbol_text, write_symbol
from mxnetseg.models import build_model, get_model


@pytest.fixture(scope="module")
def network():
    mx.random.seed(1)
    return get_model("fcn", backbone="resnet18", nclass=2, aux=True)


@pytest.fixture(scope="module")
def package(network):
    return NetworkPackage.of_network(network, {**sections(), "format": 1, "files": {".params": {}}, "wandb": "x"})


@pytest.fixture(scope="module")
def written(package, tmp_path_factory):
    """The three files of the format `mxnet`."""
    folder = tmp_path_factory.mktemp("written")
    symbol, params = folder / "net-symbol.json", folder / "net-0000.params"
    write_symbol(symbol, package.graph)
    write_arrays(params, package.arrays)
    record = package.record.to_json({"-symbol.json": symbol, "-0000.params": params})
    (folder / "net-mxnetseg.json").write_text(json.dumps(record))
    return folder


@pytest.fixture
def folder(written, tmp_path):
    return shutil.copytree(written, tmp_path / "copy")


def test_the_package_has_the_prediction_and_nothing_of_the_training(network, package):
    assert not [name for name in package.arrays if name.startswith("aux_head")]
    assert "backbone.conv1.weight" in package.arrays and set(package.graph.variables) == {*package.arrays, "data"}
    assert package.sidecar["data"]["classes"] == ["a", "b"]
    assert not {"files", "wandb", "progress", "steps_per_epoch", "loss_scale"} & package.sidecar.keys()

    block = mx.gluon.SymbolBlock(mx.sym.load_json(symbol_text(package.graph)), mx.sym.var("data"))
    for name, parameter in block.collect_params().items():
        parameter._load_init(mx.nd.array(package.arrays[name]), mx.cpu())
    x = mx.nd.random.normal(shape=(2, 3, 65, 97))
    assert np.array_equal(block(x).asnumpy(), network(x)[0].asnumpy())


def test_two_networks_of_one_process_give_the_same_graph(package):
    other = NetworkPackage.of_network(get_model("fcn", backbone="resnet18", nclass=2, aux=True), {})
    assert symbol_text(other.graph) == symbol_text(package.graph) and list(other.arrays) == list(package.arrays)


def test_a_parameter_without_a_value_is_refused():
    with pytest.raises(CheckpointError, match="no value"):
        NetworkPackage.of_network(build_model("fcn", backbone="resnet18", nclass=2), {})


@pytest.mark.parametrize("name", ["net", "net-symbol.json", "net-0000.params", "net-mxnetseg.json"])
def test_reading_gives_what_was_written(package, folder, name):
    found = read_package(folder / name)
    assert symbol_text(found.graph) == symbol_text(package.graph)
    assert all(np.array_equal(found.arrays[key], value) for key, value in package.arrays.items())
    assert found.sidecar == package.sidecar and found.smallest_side == package.smallest_side


def test_the_metadata_names_what_is_known_and_what_is_not(package):
    metadata = package.record.metadata()
    assert json.loads(metadata["classes"]) == ["a", "b"] and json.loads(metadata["std"]) == [1.0, 1.0, 1.0]
    assert NetworkRecord.parse(metadata["mxnetseg"], "x").sidecar == package.sidecar
    bare = NetworkRecord().metadata()
    assert bare["classes"] == bare["mean"] == bare["palette"] == bare["license"] == "not recorded"
    assert NetworkRecord.parse(bare["mxnetseg"], "x").classes is None


def cut(path):
    path.write_bytes(path.read_bytes()[:-7])


def flip_bit(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


@pytest.mark.parametrize("name, damage", [
    *((name, damage) for name in ("net-symbol.json", "net-0000.params", "net-mxnetseg.json")
      for damage in (cut, lambda path: path.unlink(), lambda path: path.write_bytes(b""))),
    ("net-symbol.json", flip_bit), ("net-0000.params", flip_bit)])  # a record may be edited: it has no checksum
def test_damage_is_refused_with_the_name_of_the_file(folder, name, damage):
    damage(folder / name)
    with pytest.raises(CheckpointError) as error:
        read_package(folder / "net")
    assert name in str(error.value.where)


def test_weights_of_another_network_of_the_same_size_are_refused(folder):
    arrays = read_arrays(folder / "net-0000.params")
    arrays["backbone.conv1.weight"] = -arrays["backbone.conv1.weight"]
    write_arrays(folder / "net-0000.params", arrays)
    with pytest.raises(CheckpointError, match="changed since it was written") as error:
        read_package(folder / "net")
    assert "net-0000.params" in str(error.value.where)


@pytest.mark.parametrize("key, value, place", [
    ("smallest_side", 0, "smallest_side"), ("smallest_side", None, "smallest_side"), ("inputs", [], "inputs"),
    ("data", {"name": "x", "classes": ["a", "a"]}, r"data.classes\[1\]"), ("normalisation", {"mean": [0]}, "mean"),
    ("files", {}, "files.-symbol.json"), ("files", None, "files"), ("config", [], "config")])
def test_a_wrong_element_of_the_record_is_refused_with_its_place(folder, key, value, place):
    record = json.loads((folder / "net-mxnetseg.json").read_text())
    (folder / "net-mxnetseg.json").write_text(json.dumps({**record, key: value}))
    with pytest.raises(CheckpointError, match=place):
        read_package(folder / "net")


def test_other_paths_are_refused(tmp_path):
    with pytest.raises(UsageError, match="no exported network"):
        read_package(tmp_path / "nothing")
    with pytest.raises(CheckpointError, match="configuration"):
        read_package(tmp_path)


def test_two_arrays_of_one_name_are_refused():
    with pytest.raises(CheckpointError, match="one name"):
        packages.plain_names({"arg:a": np.ones(1), "aux:a": np.ones(1)})


def test_without_safetensors_the_message_names_the_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors.numpy", None)
    with pytest.raises(EnvironmentProblem, match="safetensors"):
        packages.require_safetensors()
