"""``mxnetseg check-data``: the report, the exit codes, and the configuration that it writes."""
import json

import numpy as np
import pytest
from PIL import Image

from mxnetseg.config import Config, load_config
from mxnetseg.data import get_dataset
from mxnetseg.tools.check_data import suggest_training
from mxnetseg.tools.main import main

SIZE = 70, 100  # height, width


@pytest.fixture
def pets(tmp_path):
    """Folder data with 8 training pairs, 3 validation pairs and two classes."""
    rng = np.random.default_rng(3)
    root = tmp_path / "my pets"
    for split, count in (("train", 8), ("val", 3)):
        for folder, shape, top, suffix in (("images", (*SIZE, 3), 256, "jpg"), ("masks", SIZE, 2, "png")):
            (root / folder / split).mkdir(parents=True)
            for i in range(count):
                array = rng.integers(0, top, shape, dtype=np.uint8)
                Image.fromarray(array).save(root / folder / split / f"{i}.{suffix}")
    (root / "classes.txt").write_text("ground\ncat\n")
    return root


def test_valid_data(pets, capsys):
    assert main(["check-data", str(pets)]) == 0
    out = capsys.readouterr().out
    assert "my pets: 2 classes" in out and "train    8 images, 100.0% of the pixels labelled" in out
    assert "100x70; image JPEG RGB, mask PNG L" in out and "test     not found" in out
    assert any(line.split()[:2] == ["1", "cat"] for line in out.splitlines()) and out.endswith("\npassed\n")


def test_damage_is_reported_with_file_value_and_fix(pets, capsys):
    for i, value in ((0, 5), (1, 9)):
        Image.fromarray(np.full(SIZE, value, np.uint8)).save(pets / "masks" / "train" / f"{i}.png")
    (pets / "images" / "val" / "1.jpg").write_bytes(b"not an image")
    assert main(["check-data", str(pets)]) == 1
    out = capsys.readouterr().out
    assert "problem: labels outside the classes: 2" in out and "5 (7000 pixels); known ids are 0..1" in out
    assert out.count("add the missing classes to classes.txt") == 1  # the fix once, then each file
    assert str(pets / "masks" / "train" / "1.png") in out and str(pets / "images" / "val" / "1.jpg") in out
    assert out.endswith("\nfailed: 3 problems to fix\n")


def test_consequences_are_counted_below_their_cause(pets, capsys):
    for path in (pets / "masks").rglob("*.png"):
        mask = np.zeros(SIZE, np.uint8)
        mask[:9] = 255
        Image.fromarray(mask).save(path)
    assert main(["check-data", str(pets)]) == 1
    out = capsys.readouterr().out
    cause = out[out.index("problem: masks of 0 and 255"):]
    assert "likely a consequence (--json lists them): masks of a single class: 11, classes without a pixel: 1" in cause
    assert "warning: masks of a single class" not in out and "a mask holds a single class" not in out
    main(["check-data", str(pets), "--json"])
    assert json.loads(capsys.readouterr().out)["counts"] == {"binary": 1, "flat": 11, "absent": 1}


def test_without_a_cause_they_are_listed(pets, capsys):
    for path in (pets / "masks").rglob("*.png"):
        Image.fromarray(np.zeros(SIZE, np.uint8)).save(path)
    assert main(["check-data", str(pets)]) == 0
    out = capsys.readouterr().out
    assert "warning: masks of a single class: 11" in out and "warning: classes without a pixel: 1" in out
    assert "consequence" not in out


def test_problems_come_before_warnings(pets, capsys):
    (pets / "masks" / "train" / "x.png").write_bytes((pets / "masks" / "train" / "0.png").read_bytes())
    (pets / "masks" / "train" / "0.png").unlink()
    assert main(["check-data", str(pets)]) == 1
    out = capsys.readouterr().out
    assert out.index("problem: missing files: 1") < out.index("warning: masks without an image: 1")
    assert out.endswith("failed: 1 problem to fix, 1 warning\n")


def test_json(pets, capsys):
    (pets / "masks" / "train" / "0.png").unlink()
    assert main(["check-data", str(pets), "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert report["counts"] == {"missing": 1} and report["splits"]["val"]["images"] == 3
    assert report["findings"][0]["where"].endswith("0.png") and len(report["class_weights"]["ENet"]) == 2


def test_allow(pets):
    (pets / "images" / "val" / "0.jpg").write_bytes((pets / "images" / "train" / "0.jpg").read_bytes())
    assert main(["check-data", str(pets)]) == 1
    assert main(["check-data", str(pets), "--allow", "leak"]) == 0


@pytest.mark.parametrize("arguments, words", [
    (["--allow", "leek"], "did you mean 'leak'"),
    (["--split", "trian"], "did you mean 'train'"),
    (["--write-config", "mine.txt"], "mine.yaml"),
    (["--workers", "0"], "at least 1"),
    (["--splits", "train"], "did you mean --split"),
])
def test_wrong_use(pets, arguments, words, capsys):
    assert main(["check-data", str(pets), *arguments]) == 2
    assert words in capsys.readouterr().err


def test_missing_data(tmp_path, capsys):
    assert main(["check-data", str(tmp_path / "none")]) == 2
    assert "layout expected" in capsys.readouterr().err
    assert main(["check-data", "cityscapes", "--data-root", str(tmp_path)]) == 2
    assert "leftImg8bit" in capsys.readouterr().err


def test_written_configuration_opens_the_data(pets, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(pets.parent)
    assert main(["check-data", "my pets", "--write-config", "made/pets.yaml"]) == 0
    assert "mxnetseg train --config made/pets.yaml" in capsys.readouterr().out
    monkeypatch.chdir("/")  # the path of the data is absolute
    config = load_config(pets.parent / "made" / "pets.yaml")
    assert config.data.base_size == 100 and config.data.crop_size == (64, 96)
    assert config.train.batch_size == 8
    dataset = get_dataset(config.data.name, split=config.data.train_split, root=config.data.root)
    assert len(dataset) == 8 and dataset.classes == ("ground", "cat")
    text = (pets.parent / "made" / "pets.yaml").read_text()
    assert text.count("class_weights: [") == 2
    weighted = text.replace("# loss:", "loss:").replace("#   class_weights", "  class_weights", 1)
    (pets.parent / "weighted.yaml").write_text(weighted)  # its comments can be uncommented
    assert len(load_config(pets.parent / "weighted.yaml").loss.class_weights) == 2


def test_very_unequal_classes_get_a_suggestion_with_its_reason(pets, tmp_path):
    def written():
        assert main(["check-data", str(pets), "--write-config", str(tmp_path / "c.yaml")]) == 0
        return (tmp_path / "c.yaml").read_text()

    assert "class_weights_log" not in written()  # half and half
    for path in (pets / "masks").rglob("*.png"):
        mask = np.zeros(SIZE, np.uint8)
        mask[:2] = 1
        Image.fromarray(mask).save(path)
    text = written()
    assert "very unequal: 97.1% of the labelled training pixels are ground, 2.86% cat" in text
    weighted = text.replace("# loss: {class_weights_log", "loss: {class_weights_log")
    (tmp_path / "weighted.yaml").write_text(weighted)
    assert load_config(tmp_path / "weighted.yaml").loss.class_weights_log == 1.02


@pytest.mark.parametrize("images, epochs, batch_size, every", [
    (1, 500, 1, 10), (3, 500, 3, 10), (12, 500, 8, 10), (90, 182, 8, 4), (367, 45, 8, 1), (20000, 30, 8, 1)])
def test_few_images_need_many_epochs(images, epochs, batch_size, every):
    assert suggest_training(images) == {"epochs": epochs, "batch_size": batch_size, "val_every": every,
                                        "save_every": every}
    Config().replace({f"train.{key}": value for key, value in suggest_training(images).items()})


def test_large_photos_are_scaled_down_in_training_and_evaluation(pets, tmp_path):
    for path in [*(pets / "images").rglob("*.jpg"), *(pets / "masks").rglob("*.png")]:
        with Image.open(path) as image:
            image.resize((1600, 1200), Image.NEAREST).save(path)
    assert main(["check-data", str(pets), "--write-config", str(tmp_path / "c.yaml")]) == 0
    config = load_config(tmp_path / "c.yaml")
    assert config.data.base_size == config.eval.base_size == 1024 and config.data.crop_size == (512, 512)
    text = (tmp_path / "c.yaml").read_text()
    assert "long side is 1600" in text and "pretrained_base: true" in text


def test_no_configuration_for_data_that_failed(pets, tmp_path):
    (pets / "masks" / "train" / "0.png").unlink()
    assert main(["check-data", str(pets), "--write-config", str(tmp_path / "c.yaml")]) == 1
    assert not (tmp_path / "c.yaml").exists()


def test_configuration_of_a_data_set_with_a_name(pets, tmp_path, monkeypatch, capsys):
    camvid = tmp_path / "data" / "CamVid"
    (pets / "images").rename(camvid.parent.with_name("images"))
    for split in ("train", "val"):
        camvid.mkdir(parents=True, exist_ok=True)
        (tmp_path / "images" / split).rename(camvid / split)
        for image in (camvid / split).iterdir():
            Image.open(image).save(image.with_suffix(".png"))
            image.unlink()
        (pets / "masks" / split).rename(camvid / f"{split}annot")
    made = tmp_path / "c.yaml"
    monkeypatch.setenv("MXNETSEG_DATA", str(tmp_path / "data"))
    assert main(["check-data", "camvid", "--write-config", str(made)]) == 0
    assert "9 of 11 classes have no pixel" in capsys.readouterr().out
    assert (load_config(made).data.name, load_config(made).data.root) == ("camvid", None)
    monkeypatch.delenv("MXNETSEG_DATA")
    assert main(["check-data", "camvid", "--root", str(tmp_path / "data"), "--write-config", str(made)]) == 0
    assert load_config(made).data.root == str(camvid)


def test_configuration_for_another_training_split(pets, tmp_path):
    lists = tmp_path / "lists"
    lists.mkdir()
    for split, count in (("train", 8), ("val", 3)):
        lines = [f"{pets}/images/{split}/{i}.jpg\t{pets}/masks/{split}/{i}.png\n" for i in range(count)]
        (lists / f"{split}.txt").write_text("".join(lines))
    (lists / "classes.txt").write_text("ground\ncat\n")
    made = tmp_path / "c.yaml"
    assert main(["check-data", f"list:{lists}", "--split", "trainval", "--write-config", str(made)]) == 0
    config = load_config(made)
    assert (config.data.name, config.data.train_split) == (f"list:{lists}", "trainval")
    assert len(get_dataset(config.data.name, split=config.data.train_split)) == 11


@pytest.mark.slow
def test_the_written_configuration_trains(pets, tmp_path, capsys):
    assert main(["check-data", str(pets), "--write-config", str(tmp_path / "c.yaml")]) == 0
    assert main(["train", "--config", str(tmp_path / "c.yaml"), "--backbone", "resnet18", "--epochs", "1", "--ctx",
                 "cpu", "--batch-size", "4", "--weights", str(tmp_path / "weights"), "--quiet"]) == 0
    assert "ground" in capsys.readouterr().out
