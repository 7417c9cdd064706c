"""Evaluations are found, and damaged or different ones are refused with what is wrong."""
import json

import numpy as np
import pytest
from evaluations import evaluation
from mutations import dump, mutate_bytes, mutate_json

from mxnetseg.errors import DataError, MXNetSegError, UsageError
from mxnetseg.files import sha256
from mxnetseg.report.page import make_page
from mxnetseg.report.record import check_comparable, find_folder, read_record


class TestFinding:
    @pytest.fixture
    def folder(self, tmp_path):
        return evaluation(tmp_path / "out/one_best/val")

    @pytest.mark.parametrize("given", ["", "..", "details", "scores.json", "images.csv"])
    def test_by_its_folder_or_a_file_in_it(self, folder, given):
        (folder / "scores.json").touch()
        assert find_folder(folder / given if given != ".." else folder.parent, folder).samefile(folder)

    def test_by_its_checkpoint(self, folder, tmp_path):
        checkpoint = tmp_path / "one_best.params"
        checkpoint.write_bytes(b"weights")
        with pytest.raises(UsageError, match="changed after it was evaluated") as error:
            find_folder(checkpoint, tmp_path / "out")
        assert f"mxnetseg eval --checkpoint {checkpoint} --out {tmp_path / 'out'}" in error.value.fix
        evaluation(folder, sha256=sha256(checkpoint))
        assert find_folder(checkpoint, tmp_path / "out") == folder

    def test_by_an_exported_file_in_another_folder(self, folder, tmp_path):
        (tmp_path / "one_best.onnx").write_bytes(b"graph")
        with pytest.raises(UsageError, match="changed after it was evaluated"):  # the other file was evaluated
            find_folder(tmp_path / "one_best.onnx", tmp_path / "out")
        evaluation(folder, sha256=sha256(tmp_path / "one_best.onnx"))
        assert find_folder(tmp_path / "one_best.onnx", tmp_path / "out") == folder

    @pytest.mark.parametrize("name, words", [
        ("two_best.params", "was not evaluated yet"), ("three.params", "checkpoint is not there"),
        ("nowhere", "evaluation is not there"), ("empty", "holds no evaluation"), ("old", "has scores only"),
        ("several", "several evaluations")])
    def test_others_are_refused(self, folder, tmp_path, name, words):
        (tmp_path / "two_best.params").write_bytes(b"weights")
        for path in ("empty", "old", "several/val/details", "several/test/details"):
            (tmp_path / path).mkdir(parents=True)
        (tmp_path / "old/scores.json").touch()
        with pytest.raises(UsageError, match=words):
            find_folder(tmp_path / name, tmp_path / "out")


class TestDamage:
    @pytest.fixture
    def folder(self, tmp_path):
        return evaluation(tmp_path / "val", count=2)

    def test_an_interrupted_evaluation(self, folder):
        (folder / "details/record.json").unlink()
        with pytest.raises(UsageError, match="incomplete") as error:
            read_record(folder)
        assert "--scores-only" in error.value.received

    def test_a_newer_format(self, folder):
        self.change(folder, format=2)
        with pytest.raises(UsageError, match="newer mxnetseg"):
            read_record(folder)

    @staticmethod
    def change(folder, **changes):
        path = folder / "details/record.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    @pytest.mark.parametrize("changes", [
        {"classes": []}, {"classes": ["a", "b"]}, {"names": ["x"]}, {"palette": [[0, 0, 300]] * 3}, {"speed": {}},
        {"config": []}, {"epochs": [1]}, {"devices": "cpu"}, {"absent_as": "nan"}, {"size_limits": []},
        {"trimap_widths": ["a"]}, {"parameters": "many"}, {"protocol": None}])
    def test_a_wrong_element(self, folder, changes):
        self.change(folder, **changes)
        with pytest.raises(DataError, match="damaged"):
            read_record(folder)

    def test_a_missing_element(self, folder):
        path = folder / "details/record.json"
        sound = json.loads(path.read_text())
        for key in sound.keys() - {"mxnetseg", "sha256"}:
            path.write_text(json.dumps({k: v for k, v in sound.items() if k != key}))
            with pytest.raises(DataError, match="damaged"):
                read_record(folder)

    @pytest.mark.parametrize("name", ["regions", "confusion", "sizes", "objects", "bin_correct", "bin_confidence"])
    def test_counts_that_do_not_fit(self, folder, name):
        path = folder / "details/counts.npz"
        with np.load(path) as arrays:
            sound = dict(arrays)
        for wrong in (sound[name][:-1], -sound[name] - 1, sound[name].astype("U8"), np.array(3)):
            np.savez(path, **{**sound, name: wrong})
            with pytest.raises(DataError, match="counts of the evaluation are damaged"):
                read_record(folder)
        np.savez(path, **{key: value for key, value in sound.items() if key != name})
        with pytest.raises(DataError, match="damaged"):
            read_record(folder)

    def test_counts_of_other_images_than_the_confusion_matrix(self, folder):
        path = folder / "details/counts.npz"
        with np.load(path) as arrays:
            sound = dict(arrays)
        np.savez(path, **{**sound, "regions": sound["regions"] + 1})
        with pytest.raises(DataError, match="damaged"):
            read_record(folder)

    @pytest.mark.parametrize("file", ["record.json", "counts.npz", "images/00000.jpg", "images/00001_truth.png"])
    def test_no_damage_raises_another_error(self, folder, file):
        path = folder / "details" / file
        sound = path.read_bytes()
        outcomes = set()
        for seed in range(20 if file.startswith("images") else 90):
            damaged = mutate_bytes(sound, seed)
            if file == "record.json" and seed % 3:
                damaged = dump(mutate_json(json.loads(sound), seed))
            path.write_bytes(damaged)
            try:
                make_page([read_record(folder)], samples=5)
                outcomes.add("read")
            except MXNetSegError:
                outcomes.add("refused")
        assert "refused" in outcomes

    def test_a_missing_copy_of_an_image(self, folder):
        (folder / "details/images/00001_prediction.png").unlink()
        with pytest.raises(DataError, match="small copy") as error:
            make_page([read_record(folder)])
        assert "00001_prediction.png" in str(error.value) and "mxnetseg eval" in error.value.fix


class TestComparison:
    def refused(self, tmp_path, **other):
        records = [read_record(evaluation(tmp_path / "one")), read_record(evaluation(tmp_path / "other", **other))]
        with pytest.raises(UsageError) as error:
            check_comparable(records)
        assert str(tmp_path / "one") in error.value.where and str(tmp_path / "other") in error.value.where
        return error.value

    def test_of_the_same_images_with_other_predictions(self, tmp_path):
        check_comparable([read_record(evaluation(tmp_path / "one")),
                          read_record(evaluation(tmp_path / "other", worse=20))])

    def test_of_other_classes(self, tmp_path):
        error = self.refused(tmp_path, classes=("road", "car", "tree"))
        assert "other classes" in error.what and "tree" in error.received and "sky" in error.received

    @pytest.mark.parametrize("key", ["split", "data"])
    def test_of_another_split_or_data_set(self, tmp_path, key):
        error = self.refused(tmp_path, **{key: "another"})
        assert "another" in error.received and ("val" if key == "split" else "made") in error.received

    def test_of_other_images(self, tmp_path):
        assert "7 and 8 images" in self.refused(tmp_path / "a", count=7).received.replace("8 and 7", "7 and 8")
        names = [f"val/{i}" for i in (1, 0, *range(2, 8))]
        assert "in another order" in self.refused(tmp_path / "b", names=names).received

    def test_of_other_masks(self, tmp_path):
        records = [read_record(evaluation(tmp_path / name)) for name in ("one", "other")]
        records[1].regions[3, 1, 0] += 1
        with pytest.raises(UsageError, match="masks changed") as error:
            check_comparable(records)
        assert "val/3" in error.value.received
