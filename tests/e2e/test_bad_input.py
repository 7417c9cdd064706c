"""Wrong options and damaged files: each ends with its exit code and a message with place, value and fix."""
import json

import mxnet as mx
import numpy as np
import pytest
from PIL import Image


def check(result, code, *words):
    """Assert the exit code, every word on stderr, and that there is no traceback."""
    assert result.code == code, result.err
    for word in words:
        assert word in result.err, f"{word!r} is not in\n{result.err}"
    assert "Traceback" not in result.err


@pytest.mark.parametrize("arguments, words", [
    (["--model", "fnc"], ["unknown model 'fnc'", "did you mean 'fcn'"]),
    (["--backbone", "resnet81"], ["unknown backbone 'resnet81'", "'resnet18'"]),
    (["--set", "optimizer.lrr=3"], ["'optimizer.lrr'", "optimizer.lr", "--set optimizer.lrr=3"]),
    (["--set", "optimizers.lr=3"], ["optimizers", "optimizer"]),
    (["--set", "optimizer.lr=fast"], ["optimizer.lr", "fast", "number"]),
    (["--lr", "-1"], ["optimizer.lr", "-1"]),
    (["--set", "optimizer.name=sdg"], ["optimizer.name", "sdg", "sgd"]),
    (["--set", "lr"], ["KEY=VALUE", "received: lr", "--set optimizer.lr=0.01"]),
    (["--set", "model.options={widht: 3}"], ["'widht'", "fcn"]),
    (["--set", "model.output_stride=12"], ["model.output_stride", "12", "8, 16"]),
    (["--set", "loss.class_weights=[1, 2]"], ["3 classes need 3 class weights", "2 numbers"]),
    (["--epochs", "0"], ["train.epochs", "0"]),
    (["--epochs", "many"], ["--epochs", "many"]),
    (["--epoch", "3"], ["--epochs"]),
    (["--config", "fcnn"], ["unknown configuration 'fcnn'", "did you mean 'fcn'"]),
    (["--config", "nowhere.yaml"], ["no such configuration file", "nowhere.yaml"]),
    (["--ctx", "banana"], ["not a device", "banana", "0 1 2 3"]),
    (["--ctx", "0", "0"], ["named twice", "0 0"]),
    (["--ctx", "0", "cpu"], ["cannot share", "0 cpu"]),
    (["--batch-size", "7"], ["fewer images than one batch", "7 with 6 images", "at most 6"]),
    (["--batch-size", "3", "--ctx", "cpu", "cpu"], ["3 images, 2 devices", "--batch-size 4"]),
])
def test_options_of_train(command, options, data, tmp_path, arguments, words):
    check(command("train", *options, "--data", data, "--weights", tmp_path / "w", *arguments), 2, *words)
    assert not list(tmp_path.glob("w/**/*.params"))


@pytest.mark.parametrize("name, words", [
    ("camvit", ["unknown data set 'camvit'", "did you mean 'camvid'"]),
    ("folder:{tmp}/nowhere", ["was not found", "{tmp}/nowhere", "no such folder", "classes.txt", "masks/NAME.png"]),
    ("{tmp}/nowhere", ["was not found", "{tmp}/nowhere"]),
    ("cityscapes", ["was not found", "{tmp}/dataset/", "leftImg8bit", "MXNETSEG_DATA"]),
    ("camvid", ["was not found", "{tmp}/dataset/", "trainannot"]),
    ("voc", ["was not found", "{tmp}/dataset/", "JPEGImages"]),
])
def test_missing_data(command, options, tmp_path, monkeypatch, name, words):
    monkeypatch.chdir(tmp_path)
    result = command("train", *options, "--data", name.format(tmp=tmp_path), "--weights", tmp_path / "w")
    check(result, 2, *(word.format(tmp=tmp_path) for word in words))


def corrupt(root, name):
    path = root / "images" / f"{name}.png"
    path.write_bytes(path.read_bytes()[:60])


def rgb(root, name):
    Image.fromarray(np.full((48, 64, 3), (9, 8, 7), np.uint8)).save(root / "masks" / f"{name}.png")


def sixteen_bit(root, name):
    Image.fromarray(np.full((48, 64), 3000, np.uint16)).save(root / "masks" / f"{name}.png")


def small_mask(root, name):
    Image.fromarray(np.zeros((24, 64), np.uint8)).save(root / "masks" / f"{name}.png")


def unknown_id(root, name):
    mask = np.zeros((48, 64), np.uint8)
    mask[:2, :5] = 17
    Image.fromarray(mask).save(root / "masks" / f"{name}.png")


def half_a_mask(root, name):
    path = root / "masks" / f"{name}.png"
    path.write_bytes(path.read_bytes()[:path.stat().st_size // 2])


DAMAGE = [
    (corrupt, ["images/{name}.png", "cannot be decoded", "bytes"]),
    (half_a_mask, ["masks/{name}.png", "cannot be decoded"]),
    (rgb, ["masks/{name}.png", "#090807", "classes.txt"]),
    (sixteen_bit, ["masks/{name}.png", "more than 8 bits", "3000", "uint8"]),
    (small_mask, ["masks/{name}.png", "images/{name}.png", "image 64 x 48, mask 64 x 24", "nearest"]),
    (unknown_id, ["masks/{name}.png", "17 (10 pixels)", "known ids are 0..2, ignore is 255", "classes.txt"]),
]


@pytest.mark.parametrize("damage, words", DAMAGE)
def test_damaged_data_in_training(command, options, own_data, tmp_path, damage, words):
    damage(own_data, "train4")
    result = command("train", *options, "--data", own_data, "--epochs", "1", "--no-val", "--weights", tmp_path / "w")
    check(result, 1, "fix:", *(word.format(name="train4") for word in words))


@pytest.mark.parametrize("damage, words", DAMAGE)
def test_damaged_data_in_evaluation(command, trained, own_data, tmp_path, damage, words):
    damage(own_data, "val1")
    result = command("eval", "--data", own_data, "--weights", trained.weights, "--save-dir", tmp_path / "out")
    check(result, 1, "fix:", *(word.format(name="val1") for word in words))
    assert not list(tmp_path.glob("out/**/*.json"))


@pytest.mark.parametrize("damage, code, words", [
    (lambda root: (root / "train.txt").write_text(""), 1, ["train.txt", "empty"]),
    (lambda root: (root / "train.txt").write_text("train0\nelsewhere\n"), 2, ["train.txt", "elsewhere"]),
    (lambda root: (root / "masks" / "train2.png").unlink(), 2, ["train2.png", "have no mask"]),
    (lambda root: (root / "images" / "val2.png").unlink(), 2, ["val.txt", "val2"]),
    (lambda root: (root / "classes.txt").unlink(), 2, ["classes.txt"]),
    (lambda root: (root / "classes.txt").write_text("red\nred\nblue\n"), 1, ["classes.txt", "red", "twice"]),
])
def test_splits_that_cannot_be_opened(command, options, own_data, tmp_path, damage, code, words):
    damage(own_data)
    check(command("train", *options, "--data", own_data, "--weights", tmp_path / "w"), code, "fix:", *words)
    assert not (tmp_path / "w").exists()


def replace(path, data):
    """Write a new file instead of changing the old one, to which other tests have hard links."""
    path.unlink()
    path.write_bytes(data)


def flip_bit(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    replace(path, data)


def cut(path):
    replace(path, path.read_bytes()[:-1000])


def empty(path):
    replace(path, b"")


def remove(path):
    path.unlink()


class TestCheckpoints:
    @pytest.mark.parametrize("damage, words", [
        (cut, ["truncated", "bytes; ", "were written", "copy it again"]), (flip_bit, ["has changed", "SHA-256"]),
        (remove, ["missing"]), (empty, ["truncated", "0 bytes"])])
    @pytest.mark.parametrize("name", ["eval", "predict"])
    def test_damaged_files_are_refused(self, command, own_weights, data, tmp_path, name, damage, words):
        damage(own_weights.best)
        arguments = [data / "images" / "val0.png"] if name == "predict" else []
        result = command(name, *arguments, "--checkpoint", own_weights.best, "--weights", own_weights.weights)
        check(result, 1, str(own_weights.best), *words)

    def test_a_missing_sidecar(self, command, own_weights):
        own_weights.best.with_suffix(".json").unlink()
        check(command("eval", "--checkpoint", own_weights.best), 1, "no sidecar", ".json")

    def test_a_file_that_is_not_a_checkpoint(self, command, own_weights, tmp_path):
        mx.nd.save(str(own_weights.weights / "foreign.params"), {"w": mx.nd.ones((2,))})
        check(command("eval", "--checkpoint", "foreign.params", "--weights", own_weights.weights), 1, "no sidecar",
              "foreign.json")

    def test_a_newer_format(self, command, own_weights):
        path = own_weights.best.with_suffix(".json")
        sidecar = json.loads(path.read_text())
        sidecar.pop("sha256", None)
        replace(path, json.dumps({**sidecar, "format": 2}).encode())
        check(command("eval", "--checkpoint", own_weights.best), 1, "newer mxnetseg", "format 2", "update")

    @pytest.mark.parametrize("name", ["eval", "predict"])
    def test_no_checkpoint_at_all(self, command, data, tmp_path, name):
        arguments = [data / "images" / "val0.png"] if name == "predict" else []
        check(command(name, *arguments, "--weights", tmp_path / "w"), 1, "no checkpoint yet", str(tmp_path / "w"),
              "mxnetseg demo", "mxnetseg train --model fcn")

    def test_a_misspelt_name(self, command, trained):
        best, = trained.weights.glob("fcn/*_best.params")
        result = command("eval", "--checkpoint", best.name.replace("resnet", "renset"), "--weights", trained.weights)
        check(result, 1, "no such checkpoint", f"did you mean {best.name}")

    @pytest.mark.parametrize("arguments, words", [
        (["--model", "pspnet"], ["does not match --model", "pspnet; the checkpoint holds fcn"]),
        (["--backbone", "resnet50"], ["does not match --backbone", "resnet50; the checkpoint holds resnet18"])])
    def test_another_network(self, command, trained, arguments, words):
        best, = trained.weights.glob("fcn/*_best.params")
        check(command("eval", "--checkpoint", best, *arguments), 1, str(best), *words)

    @pytest.mark.parametrize("arguments, words", [
        (["--model", "fnc"], ["unknown model", "'fcn'"]), (["--backbone", "resnet81"], ["unknown backbone"]),
        (["--data", "camvit"], ["unknown data set"]), (["--split", "vall"], ["vall", "'val'"]),
        (["--mode", "score"], ["score", "testval"]), (["--ctx", "x"], ["not a device"])])
    def test_options_of_eval(self, command, trained, arguments, words):
        check(command("eval", "--weights", trained.weights, *arguments), 2, *words)

    def test_another_number_of_classes(self, command, trained, own_data):
        (own_data / "classes.txt").write_text("red\ngreen\nblue\nblack\n")
        best, = trained.weights.glob("fcn/*_best.params")
        result = command("eval", "--checkpoint", best, "--data", own_data)
        check(result, 1, "other classes", "3 classes, the data set tiles has 4", str(best), "init_from")


class TestResuming:
    def resume(self, command, path, tmp_path, *arguments):
        return command("train", "--resume", path, "--weights", tmp_path / "weights", "--epochs", "3", *arguments)

    @pytest.mark.parametrize("suffix, damage, words", [
        (".params", cut, ["truncated"]), (".params", flip_bit, ["has changed"]), (".state", cut, ["truncated"]),
        (".state", flip_bit, ["has changed"]), (".state", remove, ["missing"]),
        (".json", empty, ["sidecar is damaged"]), (".json", remove, ["no sidecar"])])
    def test_damaged_files_are_refused(self, command, own_weights, tmp_path, suffix, damage, words):
        damage(own_weights.last.with_suffix(suffix))
        check(self.resume(command, own_weights.last, tmp_path), 1, str(own_weights.last.with_suffix(suffix)), *words)

    def test_the_best_checkpoint_has_no_state(self, command, own_weights, tmp_path):
        check(self.resume(command, own_weights.best, tmp_path), 1, "without _best", "train.init_from")

    def test_an_unknown_name(self, command, own_weights, tmp_path):
        result = self.resume(command, own_weights.last.name.replace("fcn", "fnc"), tmp_path)
        check(result, 1, "no such checkpoint", f"did you mean {own_weights.last.name}")

    @pytest.mark.parametrize("arguments, code, words", [
        (["--model", "pspnet"], 2, ["pspnet", "fcn"]), (["--config", "fcn"], 2, ["--config"]),
        (["--backbone", "resnet34"], 1, ["do not fit this network"]),
        (["--batch-size", "3"], 2, ["3 then, 2 now"]),
        (["--set", "optimizer.name=adam"], 1, ["training state does not fit", "optimiser"])])
    def test_another_run(self, command, own_weights, tmp_path, arguments, code, words):
        check(self.resume(command, own_weights.last, tmp_path, *arguments), code, str(own_weights.last), *words)

    def test_auto_without_anything_to_resume_starts_a_new_run(self, command, options, data, tmp_path):
        result = command("train", *options, "--data", data, "--epochs", "1", "--no-val", "--resume", "auto",
                         "--weights", tmp_path / "w")
        assert result.code == 0 and "no run to resume" in result.err and "starting a new one" in result.err


class TestImages:
    @pytest.mark.parametrize("arguments, code, words", [
        (["{tmp}/none.png"], 2, ["no such file or folder", "{tmp}/none.png"]),
        (["{tmp}/empty"], 2, ["holds no image", "{tmp}/empty", ".png"]),
        (["{tmp}/text.png"], 1, ["cannot be decoded", "{tmp}/text.png"]),
        (["{tmp}/a/x.png", "{tmp}/b/a/x.png"], 2, ["have one name", "a/x.png", "b/a/x.png", "--out"])])
    def test_that_cannot_be_segmented(self, command, trained, data, tmp_path, arguments, code, words):
        (tmp_path / "empty").mkdir()
        (tmp_path / "text.png").write_text("text")
        for name in ("a/x.png", "b/a/x.png"):
            (tmp_path / name).parent.mkdir(parents=True)
            Image.open(data / "images" / "val0.png").save(tmp_path / name)
        result = command("predict", *(a.format(tmp=tmp_path) for a in arguments), "--weights", trained.weights,
                         "--out", tmp_path / "out")
        check(result, code, *(word.format(tmp=tmp_path) for word in words))


def test_a_folder_that_cannot_be_written_to(command, options, data, trained, tmp_path):
    (tmp_path / "file").write_text("")
    check(command("train", *options, "--data", data, "--weights", tmp_path / "file"), 2, str(tmp_path / "file"),
          "--weights")
    check(command("eval", "--weights", trained.weights, "--save-dir", tmp_path / "file"), 2, str(tmp_path / "file"))


def test_a_learning_rate_at_which_training_diverges(command, options, data, tmp_path):
    result = command("train", *options, "--data", data, "--set", "optimizer.lr=1e30", "--epochs", "9",
                     "--weights", tmp_path / "w")
    check(result, 1, "training diverged", "no checkpoint was written yet", "lower optimizer.lr")
