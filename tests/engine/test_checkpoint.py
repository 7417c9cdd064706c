"""Checkpoints: what is written can be read; damaged, foreign and too new files are refused."""
import hashlib
import json
import os
import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

import mxnet as mx
import numpy as np
import pytest

from mxnetseg.config import Config
from mxnetseg.data import get_dataset
from mxnetseg.engine.checkpoint import Checkpoint, all_finite, model_record, restore_network
from mxnetseg.engine.runs import find_checkpoint, new_stem, newest
from mxnetseg.errors import CheckpointError, UsageError
from mxnetseg.models import get_model
from mxnetseg.models.weights.loading import assign


class Bag:
    """Network as far as :func:`all_finite` needs one: ``count`` parameters of one number."""

    def __init__(self, count):
        self.parameters = {}
        for i in range(count):
            parameter = mx.gluon.Parameter(f"p{i}", shape=(1,), init="ones")
            parameter.initialize(ctx=mx.cpu())
            self.parameters[f"p{i}"] = parameter

    def named_parameters(self):
        return self.parameters


@pytest.mark.parametrize("count", [1, 200, 201, 450])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_every_parameter_is_checked_for_infinite_numbers(count, value):
    net = Bag(count)  # a ResNet-50 has more parameters than the 200 that MXNet's operator takes in one call
    assert all_finite(net)
    net.parameters[f"p{count - 1}"].set_data(mx.nd.array([value]))
    assert not all_finite(net)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "weights" / "toy"


@pytest.fixture(scope="module")
def trained(fit, configure, tmp_path_factory):
    """Finished run of one epoch. Do not write to it; use :func:`copy`."""
    return fit(configure({"train.epochs": 1, "model.aux": True}), tmp_path_factory.mktemp("trained"))[1]


@pytest.fixture
def copy(trained, folder):
    """Function that copies the run's files to a new folder and returns the last checkpoint there."""
    def make(to=folder, stem=None):
        to.mkdir(parents=True, exist_ok=True)
        for path in trained.last.path.parent.iterdir():
            shutil.copy2(path, to / path.name.replace(trained.last.stem, stem or trained.last.stem))
        return Checkpoint(to / f"{stem or trained.last.stem}.params")
    return make


def damage(path, how):
    data = path.read_bytes()
    if how == "truncated":
        path.write_bytes(data[:-100])
    elif how == "flipped":
        path.write_bytes(data[:len(data) // 2] + bytes([data[len(data) // 2] ^ 1]) + data[len(data) // 2 + 1:])
    elif how == "missing":
        path.unlink()
    elif how == "empty":
        path.write_bytes(b"")


def edit(checkpoint, change):
    """Change the sidecar as a user with an editor would, without its checksum, which would be refused first."""
    sidecar = json.loads(checkpoint.sidecar_path.read_text())
    sidecar.pop("sha256", None)
    change(sidecar)
    checkpoint.sidecar_path.write_text(json.dumps(sidecar))


class TestRoundTrip:
    def test_the_network_is_restored(self, trained, copy):
        net, sidecar = restore_network(copy(), [mx.cpu(0), mx.cpu(1)])
        wanted = mx.nd.load(str(trained.last.path))
        assert net.model_name == "toy" and sidecar["model"]["nclass"] == 3
        for name, parameter in net.named_parameters().items():
            for context in (mx.cpu(0), mx.cpu(1)):
                np.testing.assert_array_equal(parameter.data(context).asnumpy(), wanted[name].asnumpy(), err_msg=name)

    def test_the_sidecar_describes_the_run(self, trained, images_folder):
        for checkpoint, suffixes in ((trained.last, {".params", ".state"}), (trained.best, {".params"})):
            sidecar = checkpoint.read_sidecar()
            assert sidecar["model"] == {"name": "toy", "nclass": 3, "aux": True}
            assert sidecar["data"] == get_dataset(str(images_folder)).info()
            assert sidecar["normalisation"] == {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
            assert sidecar["protocol"]["splits"] == {"train": "train", "val": "val"}
            assert sidecar["contents"] == {split: {
                "split": split, "images": count, "names": get_dataset(str(images_folder), split=split).names_digest}
                for split, count in (("train", 6), ("val", 3))}
            assert sidecar["metrics"]["miou"] == trained.scores.miou
            assert [c["name"] for c in sidecar["metrics"]["classes"]] == ["red", "green", "blue"]
            assert Config.from_dict(sidecar["config"]).model.name == "toy"
            assert sidecar["format"] == 1 and sidecar["mxnet"] == mx.__version__ and sidecar["mxnetseg"]
            assert set(sidecar["files"]) == suffixes
            for suffix, file in sidecar["files"].items():
                data = checkpoint.path.with_suffix(suffix).read_bytes()
                assert file == {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}

    def test_only_the_given_options_of_the_network_are_recorded(self):
        record = model_record(Config().replace({"model.backbone": "resnet18", "model.output_stride": 16,
                                                "model.aux": False, "model.options": {"width": 3}}).model, 19)
        assert record == {"name": "fcn", "nclass": 19, "backbone": "resnet18", "output_stride": 16, "width": 3}

    def test_a_record_that_json_cannot_hold_leaves_the_old_set(self, copy):
        checkpoint = copy()
        net, before = restore_network(checkpoint, [mx.cpu()])
        with pytest.raises(ValueError):
            checkpoint.write(net, {**before, "metrics": float("nan")})
        assert checkpoint.read_sidecar() == before


class TestDamage:
    @pytest.mark.parametrize("suffix", [".params", ".state"])
    @pytest.mark.parametrize("how, words", [("truncated", "truncated"), ("flipped", "SHA-256"), ("missing", "missing"),
                                            ("empty", "truncated")])
    def test_a_file_is_refused_before_use(self, copy, suffix, how, words):
        checkpoint = copy()
        damage(checkpoint.path.with_suffix(suffix), how)
        with pytest.raises(CheckpointError, match=words) as error:
            checkpoint.read_sidecar()
        assert str(checkpoint.path.with_suffix(suffix)) in str(error.value) and error.value.fix
        assert error.value.exit_code == 1

    @pytest.mark.parametrize("how", ["truncated", "empty", "flipped"])
    def test_a_sidecar_is_refused(self, copy, how):
        checkpoint = copy()
        damage(checkpoint.sidecar_path, how)
        with pytest.raises(CheckpointError, match="sidecar") as error:
            checkpoint.read_sidecar()
        assert str(checkpoint.sidecar_path) in str(error.value) and error.value.fix

    def test_a_flipped_bit_of_a_sidecar_is_refused_or_changes_nothing(self, copy):
        checkpoint = copy()
        before, text = checkpoint.read_sidecar(), checkpoint.sidecar_path.read_bytes()
        rng = np.random.default_rng(0)
        refused = 0
        for place in rng.choice(len(text), 150, replace=False):
            flipped = bytearray(text)
            flipped[place] ^= 1 << rng.integers(8)
            checkpoint.sidecar_path.write_bytes(bytes(flipped))
            try:
                after = checkpoint.read_sidecar()
                assert {k: v for k, v in after.items() if k in before} == {k: before[k] for k in before if k in after}
                assert len(before.keys() - after.keys()) == 0 or "sha256" not in after
            except CheckpointError:
                refused += 1
        assert refused > 75

    @pytest.mark.parametrize("change", [
        lambda s: s.pop("files"), lambda s: s.pop("format"), lambda s: s["files"].pop(".params"),
        lambda s: s["files"].update({"/../../.params": s["files"][".params"]}),
        lambda s: s["files"][".params"].update(bytes="many"), lambda s: s["files"].update({".params": 3}),
        lambda s: s.update(files=[]), lambda s: s.update(format="one"), lambda s: s.pop("model"),
        lambda s: s.pop("normalisation"), lambda s: s.pop("config"), lambda s: s.pop("data")])
    def test_an_incomplete_sidecar_is_refused(self, copy, change):
        checkpoint = copy()
        edit(checkpoint, change)
        with pytest.raises(CheckpointError, match="sidecar is damaged") as error:
            checkpoint.read_sidecar()
        assert str(checkpoint.sidecar_path) in str(error.value)

    @pytest.mark.parametrize("text", ["[]", "3", "null", '"format"', "{}", "\ufffd"])
    def test_other_json_is_refused(self, copy, text):
        checkpoint = copy()
        checkpoint.sidecar_path.write_text(text, encoding="utf-8")
        with pytest.raises(CheckpointError, match="damaged"):
            checkpoint.read_sidecar()

    def test_parameters_without_a_sidecar_are_refused(self, copy):
        checkpoint = copy()
        checkpoint.sidecar_path.unlink()
        with pytest.raises(CheckpointError, match="has no sidecar") as error:
            checkpoint.read_sidecar()
        assert ".json" in error.value.fix

    def test_a_newer_format_is_named(self, copy):
        checkpoint = copy()
        edit(checkpoint, lambda s: s.update(format=99))
        with pytest.raises(CheckpointError, match="newer mxnetseg") as error:
            checkpoint.read_sidecar()
        assert "format 99" in str(error.value) and "update" in error.value.fix

    def test_the_parameters_of_another_network_are_refused(self, copy):
        """The checksums are right, but the tensors belong to another network."""
        checkpoint = copy()
        mx.nd.save(str(checkpoint.path), {"conv.weight": mx.nd.ones((3,))})
        data = checkpoint.path.read_bytes()
        edit(checkpoint, lambda s: s["files"].update({".params": {
            "sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}}))
        with pytest.raises(CheckpointError, match="do not fit this network") as error:
            restore_network(checkpoint, [mx.cpu()])
        assert "head.weight: missing" in str(error.value)

    def test_another_number_of_classes_is_refused(self, copy):
        checkpoint = copy()
        edit(checkpoint, lambda s: s["model"].update(nclass=7))
        with pytest.raises(CheckpointError, match="model.nclass: expected the number of data.classes"):
            restore_network(checkpoint, [mx.cpu()])
        edit(checkpoint, lambda s: (s["data"].update(classes=list("abcdefg"), palette=[[0, 0, 0]] * 7)))
        with pytest.raises(CheckpointError, match="do not fit") as error:
            restore_network(checkpoint, [mx.cpu()])
        assert "(3, 6, 1, 1) in the file, (7, 6, 1, 1) in this network" in str(error.value)

    def test_tensors_of_another_shape_can_be_skipped(self, copy):
        checkpoint = copy()
        net = get_model("toy", nclass=5)
        skipped = assign(net, checkpoint.read().params, where=checkpoint.path, skip=True)
        assert {s.name for s in skipped} == {"head.weight", "head.bias", "aux_head.weight", "aux_head.bias"}


class TestFinding:
    def test_by_path_with_or_without_its_ending(self, copy, folder):
        checkpoint = copy()
        for text in (checkpoint.path, str(checkpoint.path)[:-len(".params")]):
            assert find_checkpoint(text, folder).path == checkpoint.path

    def test_by_path_from_the_home_folder(self, copy, folder, monkeypatch):
        checkpoint = copy()
        monkeypatch.setenv("HOME", str(checkpoint.path.parent))
        assert find_checkpoint(f"~/{checkpoint.path.name}", folder).path == checkpoint.path

    def test_by_name_below_the_folder(self, copy, folder):
        checkpoint = copy()
        assert find_checkpoint(checkpoint.path.name, folder.parent).path == checkpoint.path
        assert find_checkpoint(checkpoint.stem + "_best", folder.parent).path.name == checkpoint.stem + "_best.params"

    def test_a_misspelt_name_is_answered_with_the_nearest(self, copy, folder):
        copy(stem="toy_resnet18_fields_20260101_120000")
        with pytest.raises(CheckpointError, match="no such checkpoint") as error:
            find_checkpoint("toy_resnet18_field_20260101_120000.params", folder.parent)
        message = str(error.value)
        assert "did you mean toy_resnet18_fields_20260101_120000.params" in message and str(folder.parent) in message

    @pytest.mark.parametrize("text", ["", ".", "/", "..", "nothing", "no/such/file.params"])
    def test_no_checkpoint(self, tmp_path, text):
        with pytest.raises(CheckpointError, match="no such checkpoint") as error:
            find_checkpoint(text, tmp_path)
        assert "train first" in str(error.value)

    def test_a_missing_file_is_answered_with_its_neighbours(self, copy):
        checkpoint = copy(stem="toy_resnet18_fields_20260101_120000")
        gone = Checkpoint(checkpoint.path.with_name("toy_resnet18_fields_20260101_120001.params"))
        with pytest.raises(CheckpointError, match="not there") as error:
            gone.read_sidecar()
        assert checkpoint.path.name in str(error.value)


class TestNewest:
    @staticmethod
    def written(checkpoint, seconds):
        os.utime(checkpoint.sidecar_path, (seconds, seconds))
        return checkpoint

    def test_none(self, tmp_path):
        assert newest(tmp_path) is None and newest(tmp_path / "no folder") is None

    def test_the_best_of_the_newest_run(self, copy, folder):
        self.written(copy(stem="b"), 300)
        self.written(Checkpoint(folder / "b_best.params"), 200)
        self.written(copy(folder.parent / "other", stem="a"), 500)
        self.written(Checkpoint(folder.parent / "other" / "a_best.params"), 100)
        assert newest(folder.parent).path == folder.parent / "other" / "a_best.params"
        assert newest(folder.parent, resumable=True).path == folder.parent / "other" / "a.params"
        assert newest(folder).path == folder / "b_best.params"

    def test_a_run_without_validation(self, copy, folder):
        checkpoint = copy(stem="b")
        for path in folder.glob("b_best*"):
            path.unlink()
        assert newest(folder).path == newest(folder, resumable=True).path == checkpoint.path

    def test_a_run_that_has_only_its_best(self, copy, folder):
        copy(stem="b")
        for path in folder.glob("b.*"):
            path.unlink()
        assert newest(folder).path == folder / "b_best.params" and newest(folder, resumable=True) is None

    def test_only_what_matches(self, copy, folder):
        copy(stem="b")
        assert newest(folder, matches=lambda sidecar: sidecar["data"]["name"] == "other") is None
        assert newest(folder, matches=lambda sidecar: sidecar["data"]["name"] == "fields") is not None

    def test_a_damaged_one_is_skipped_with_a_warning(self, copy, folder, caplog):
        old = self.written(copy(stem="a"), 100)
        new = self.written(copy(stem="b"), 200)
        new.sidecar_path.write_text("{")
        assert newest(folder, resumable=True).path == old.path
        assert "skipped" in caplog.text and str(new.sidecar_path) in caplog.text

    def test_other_json_files_are_ignored(self, copy, folder, caplog):
        """wandb writes such files below the folder of the run."""
        checkpoint = copy(stem="a")
        other = folder / "wandb" / "run-1" / "files" / "wandb-summary.json"
        other.parent.mkdir(parents=True)
        other.write_text("{}")
        assert newest(folder, resumable=True).path == checkpoint.path and not caplog.records


class TestNames:
    def test_model_backbone_data_and_time(self, tmp_path):
        stem = new_stem(tmp_path / "fcn", "fcn", "resnet18", "sample")
        assert re.fullmatch(r"fcn_resnet18_sample_\d{8}_\d{6}", stem)
        assert (tmp_path / "fcn" / f"{stem}.yaml").exists()  # taken

    def test_two_runs_in_the_same_second(self, tmp_path, monkeypatch):
        class Clock(datetime):
            @classmethod
            def now(cls, tz=None):
                return cls(2026, 1, 1, 12, 59, 59)
        monkeypatch.setattr("mxnetseg.engine.runs.datetime", Clock)
        stems = [new_stem(tmp_path, "fcn", "resnet18", "sample") for _ in range(3)]
        assert stems == ["fcn_resnet18_sample_20260101_" + t for t in ("125959", "130000", "130001")]

    def test_many_runs_at_once(self, tmp_path):
        with ThreadPoolExecutor(8) as pool:
            stems = list(pool.map(lambda _: new_stem(tmp_path, "fcn", "resnet18", "sample"), range(24)))
        assert len(set(stems)) == 24

    def test_a_file_instead_of_the_folder(self, tmp_path):
        (tmp_path / "weights").write_text("a file")
        with pytest.raises(UsageError) as error:
            new_stem(tmp_path / "weights" / "fcn", "fcn", "resnet18", "sample")
        assert str(tmp_path / "weights") in str(error.value) and "--weights" in error.value.fix
