"""Edited sidecars: each wrong element is refused with its place, before it is used."""
import copy
import json
import re

import mxnet as mx
import pytest
from sidecars import Net, sections

from mxnetseg import _description
from mxnetseg.data import DATASETS, get_dataset_class
from mxnetseg.engine.checkpoint import Checkpoint, restore_network
from mxnetseg.engine.runs import newest
from mxnetseg.errors import CheckpointError, ConfigError, EnvironmentProblem
from mxnetseg.models import build_model


@pytest.fixture
def write(tmp_path):
    """Function that writes a checkpoint with an edited sidecar, without its checksum: ``write(change)``."""
    def make(change=lambda s: None, *, text=None):
        checkpoint = Checkpoint(tmp_path / "run.params")
        checkpoint.write(Net, sections(), {"momentum": mx.nd.ones((2,))})
        content = json.loads(checkpoint.sidecar_path.read_text())
        del content["sha256"]
        change(content)
        checkpoint.sidecar_path.write_text(json.dumps(content) if text is None else text)
        return checkpoint
    return make


def test_unknown_elements_are_kept(write):
    assert write(lambda s: s.update(later={"a": [1]})).read_sidecar()["later"] == {"a": [1]}


def put(*path, value):
    def change(content):
        for step in path[:-1]:
            content = content[step]
        content[path[-1]] = copy.deepcopy(value)
    return change


WRONG = [
    (("format",), True, "format: expected an integer 1 to 1"),
    (("format",), 0, "format: expected"),
    (("files", ".params", "bytes"), -1, "files..params.bytes"),
    (("files", ".params", "sha256"), 7, "files..params.sha256"),
    (("data", "classes"), "ab", "data.classes: expected a list"),
    (("data", "classes"), [], "data.classes: expected 1 to 255 names"),
    (("data", "classes", 1), "a", "data.classes[1]: expected a name other than data.classes[0]"),
    (("data", "classes", 1), " ", "data.classes[1]: expected the name of a class"),
    (("data", "classes", 1), None, "data.classes[1]"),
    (("data", "palette"), [[0, 0, 0]], "data.palette: expected a list of 2"),
    (("data", "palette", 1), 3, "data.palette[1]: expected a list of 3"),
    (("data", "palette", 1, 2), 256, "data.palette[1][2]: expected an integer 0..255"),
    (("data", "palette", 1, 2), True, "data.palette[1][2]"),
    (("data", "palette", 1, 2), 1.5, "data.palette[1][2]"),
    (("data", "ignore"), "255", "data.ignore"),
    (("data", "raw_ids"), [1], "data.raw_ids: expected a list of 2"),
    (("data", "raw_ids"), [1, "2"], "data.raw_ids[1]"),
    (("data", "name"), ["sample"], "data.name: expected a text"),
    (("normalisation", "mean"), [0, 0], "normalisation.mean: expected a list of 3"),
    (("normalisation", "std"), [1, 0, 1], "normalisation.std[1]: expected a number > 0"),
    (("normalisation", "mean", 1), "0", "normalisation.mean[1]"),
    (("protocol",), None, "protocol: expected an object"),
    (("protocol", "splits"), [], "protocol.splits"),
    (("protocol", "splits", "val"), 3, "protocol.splits.val"),
    (("metrics",), [1], "metrics: expected an object"),
    (("class_weights",), [1.0], "class_weights: expected a list of 2"),
    (("class_weights",), [1.0, -1], "class_weights[1]: expected a number >= 0"),
    (("contents",), [1], "contents: expected an object"),
    (("contents", "val"), "val", "contents.val: expected an object or null"),
    (("contents", "train", "images"), "9", "contents.train.images: expected an integer"),
    (("contents", "train", "images"), -1, "contents.train.images: expected an integer"),
    (("contents", "train", "names"), None, "contents.train.names: expected a text"),
    (("contents", "train"), {"images": 1, "names": "a"}, "contents.train.split: expected a text"),
    (("wandb",), 3, "wandb: expected a text"),
    (("progress",), None, "progress: expected an object"),
    (("progress", "epoch"), "1", "progress.epoch"),
    (("progress", "batch"), 11, "progress.batch: expected an integer up to steps_per_epoch"),
    (("progress", "best"), "high", "progress.best"),
    (("progress", "best_epoch"), -1, "progress.best_epoch"),
    (("progress", "loss_sum"), None, "progress.loss_sum"),
    (("progress", "other"), 1, "progress.other: expected only epoch"),
    (("steps_per_epoch",), 0, "steps_per_epoch"),
    (("loss_scale",), {"value": 0, "good_steps": 1}, "loss_scale.value: expected a number > 0"),
    (("loss_scale",), {"value": 1, "good_steps": 1, "x": 2}, "loss_scale.x"),
    (("model", "name"), {"a": 1}, "model.name: expected a text"),
    (("model", "nclass"), 3, "model.nclass: expected the number of data.classes"),
    (("model", "channels"), 10 ** 9, "model.channels: expected a number up to"),
    (("model", "channels"), [[[[[1]]]]], "model.channels[0][0][0]"),
    (("model", "pretrained_base"), True, "model.pretrained_base"),
    (("model", "root"), "/etc/passwd", "model.root"),
    (("model", "pretrained_path"), "/etc/passwd", "model.pretrained_path: expected an argument that describes"),
    (("model", "nonsense"), 1, "model: unknown argument of model 'fcn': 'nonsense'"),
    (("model", "name"), "no_such_network", "model: unknown model 'no_such_network'"),
    (("model", "ctx"), "cpu", "model.ctx"),
    (("model", "norm_kwargs"), {}, "model.norm_kwargs"),
    (("config",), [], "config: expected an object"),
    (("config", "train"), {"epochs": "many"}, "config: "),
    (("config", "nonsense"), {}, "config: "),
]


@pytest.mark.parametrize("path, value, words", WRONG, ids=[f"{'.'.join(map(str, p))}-{i}" for i, (p, *_) in
                                                           enumerate(WRONG)])
def test_a_wrong_element_is_refused_with_its_place(write, path, value, words):
    checkpoint = write(put(*path, value=value))
    with pytest.raises(CheckpointError, match=re.escape(words)) as error:
        restore_network(checkpoint, [mx.cpu()])
    assert error.value.where == checkpoint.sidecar_path and len(str(error.value)) < 1000


@pytest.mark.parametrize("section", [key for key in sections() if key not in ("loss_scale", "metrics", "contents")])
def test_a_missing_section_is_refused(write, section):
    with pytest.raises(CheckpointError, match=f"damaged: {section}: "):
        write(lambda s: s.pop(section)).read_sidecar()


@pytest.mark.parametrize("text", ["", "[]", "3", "null", "{", "\0", '{"a": NaN}', '{"a": 1e999}', '{"a": "\\ud800"}',
                                  '{"a": ' + "9" * 5000 + "}", '{"a": ' + "[" * 300 + "]" * 300 + "}",
                                  "[" * 100_000, '{"a": ' * 100_000])
def test_other_text_is_refused(write, text):
    with pytest.raises(CheckpointError, match="sidecar is damaged"):
        write(text=text).read_sidecar()


@pytest.mark.parametrize("text", ['{"a": 1, "a": 2}', '{"model": {"name": "fcn", "nclass": 2, "name": "psp"}}'])
def test_an_element_given_twice_is_refused(write, text):
    with pytest.raises(CheckpointError, match="sidecar is damaged") as error:
        write(text=text).read_sidecar()
    assert "is given twice" in error.value.received


def test_a_checkpoint_older_than_the_record_of_its_images_is_read(write):
    assert "contents" not in write(lambda s: s.pop("contents")).read_sidecar()


def test_only_the_first_bytes_of_a_huge_file_are_read(write, monkeypatch):
    checkpoint = write()
    monkeypatch.setattr(_description, "MOST_BYTES", 100)
    with pytest.raises(CheckpointError, match="damaged") as error:
        checkpoint.read_sidecar()
    assert "more than 100 bytes" in error.value.received


def test_a_converted_checkpoint_has_no_position_in_a_training(write):
    def change(content):
        del content["files"][".state"], content["progress"], content["steps_per_epoch"], content["loss_scale"]
        content["metrics"] = {}
        content["contents"] = None
    assert "progress" not in write(change).read_sidecar()


def test_the_search_for_the_newest_skips_it(write, tmp_path, caplog):
    write(put("progress", "epoch", value="x"))
    assert newest(tmp_path) is None and "damaged" in caplog.text


def test_a_network_far_larger_than_its_file_is_not_allocated(write, monkeypatch):
    monkeypatch.setattr("mxnetseg.engine.checkpoint._SMALL", 1000)
    monkeypatch.setattr("mxnetseg.engine.checkpoint.initialize", lambda *a: pytest.fail("it was allocated"))
    with pytest.raises(CheckpointError, match="do not fit") as error:
        restore_network(write(), [mx.cpu()])
    assert "the file holds 2" in error.value.received


@pytest.mark.parametrize("arguments", [{"backbone": "resnet18", "aux": []}, {"output_stride": "x"},
                                       {"output_stride": [8]}, {"backbone": []}])
def test_wrong_arguments_of_a_network_raise_an_error_of_the_library(arguments):
    from mxnetseg.errors import MXNetSegError
    for name in ("deeplabv3plus", "fcn", "hrnet", "pspnet"):
        try:
            build_model(name, nclass=2, **arguments)
        except MXNetSegError:
            pass
    with pytest.raises(ConfigError, match="cannot be built"):
        build_model("fcn", nclass="many")


@pytest.mark.parametrize("name", DATASETS.names())
def test_the_record_of_each_data_set_is_accepted(name):
    dataset_class = get_dataset_class(name)
    if not dataset_class.classes:
        pytest.skip("its folder defines the classes")
    dataset = object.__new__(dataset_class)  # without files
    info = json.loads(json.dumps(dataset.info()))
    assert _description.check_data(info) == len(dataset_class.classes)


@pytest.mark.parametrize("broken", ["replace", "fsync"])
def test_a_folder_that_became_read_only_leaves_the_old_set(write, monkeypatch, broken):
    checkpoint = write()
    before = checkpoint.sidecar_path.read_bytes()

    def refuse(*args, **kwargs):
        raise OSError(30, "Read-only file system", "x")
    with monkeypatch.context() as patch:
        patch.setattr(f"os.{broken}", refuse)
        with pytest.raises(EnvironmentProblem, match="could not be written"):
            checkpoint.write(Net, sections(), {"momentum": mx.nd.ones((2,))})
    assert checkpoint.sidecar_path.read_bytes() == before and checkpoint.read(state=True)
