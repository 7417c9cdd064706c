"""Training, evaluation and prediction give exactly the same on 16-bit images as on the same images in 8 bits."""
import json
import shutil

import image_files
import mxnet as mx
import numpy as np
import pytest
from PIL import Image

from mxnetseg.data.decoding import Decoding
from mxnetseg.engine.predictor import Predictor
from mxnetseg.errors import ConfigError, DataError
from mxnetseg.tools.main import run_command

KEYS = {"data.scale_to_8bit": [0, 3060]}


@pytest.fixture(scope="module")
def deep(images_folder, tmp_path_factory):
    """Folder data with the images as uint16 TIFF files, each value times 12: 0..3060."""
    root = tmp_path_factory.mktemp("deep") / "fields"
    shutil.copytree(images_folder, root)
    for path in (root / "images").iterdir():
        values = np.array(Image.open(path)).astype(np.uint16) * 12
        path.with_suffix(".tif").write_bytes(image_files.tiff(values))
        path.unlink()
    return root


@pytest.fixture(scope="module")
def runs(fit, configure, deep, tmp_path_factory):
    """Folder of the checkpoints, and the results of training on 8 bits and on 16."""
    folder = tmp_path_factory.mktemp("weights")
    return folder, fit(configure(), folder / "8")[1], fit(configure(KEYS, data=deep), folder / "16")[1]


def arrays(result):
    return {name: value.asnumpy().tobytes() for name, value in mx.nd.load(str(result.last.path)).items()}


def test_training_is_refused_without_a_scale(fit, configure, deep, tmp_path):
    with pytest.raises(DataError, match="not 8-bit grey or RGB") as error:
        fit(configure(data=deep), tmp_path)
    assert "data.scale_to_8bit: [" in error.value.fix and "--set" in error.value.fix
    with pytest.raises(DataError, match="has 8 bits already"):
        fit(configure(KEYS), tmp_path)


def test_training_is_the_same(runs):
    assert arrays(runs[1]) == arrays(runs[2])
    assert runs[2].last.read_sidecar()["config"]["data"]["scale_to_8bit"] == [0, 3060]


def test_a_predictor_decodes_as_in_training(runs, images_folder, deep):
    wanted = Predictor(runs[1].last)(images_folder / "images" / "val0.png")
    found = Predictor(runs[2].last, calibration=[deep / "images" / "val1.tif"])(deep / "images" / "val0.tif")
    np.testing.assert_array_equal(found.image, wanted.image)
    np.testing.assert_array_equal(found.class_map, wanted.class_map)
    shallow = Predictor(runs[1].last)
    with pytest.raises(DataError, match="not 8-bit grey or RGB"):
        shallow(deep / "images" / "val0.tif")
    with pytest.raises(DataError, match="not 8-bit grey or RGB"):
        Predictor(runs[1].last, calibration=[deep / "images" / "val1.tif"])
    other = Predictor(runs[1].last, decoding=Decoding(scale_to_8bit=(0, 3060)))
    np.testing.assert_array_equal(other(deep / "images" / "val0.tif").class_map, wanted.class_map)


def test_predict_and_eval_from_the_command_line(runs, images_folder, deep, tmp_path, capsys):
    folder, eight, sixteen = runs
    tif = str(deep / "images" / "val0.tif")

    def predict(result, file, *more):
        out = tmp_path / f"out{len(list(tmp_path.iterdir()))}"
        done = run_command("predict", [str(file), "--checkpoint", str(result.last.path), "--out", str(out), "--ctx",
                                       "cpu", "--precision", "float32", "--quiet", *more])
        return capsys.readouterr().err if done else np.array(Image.open(out / "val0_classes.png"))

    wanted = predict(eight, images_folder / "images" / "val0.png")
    np.testing.assert_array_equal(predict(sixteen, tif), wanted)
    np.testing.assert_array_equal(predict(eight, tif, "--scale-to-8bit", "0", "3060"), wanted)
    assert "not 8-bit grey or RGB" in predict(eight, tif)
    assert "8 bits already" in predict(sixteen, images_folder / "images" / "val0.png")
    fixed = predict(sixteen, images_folder / "images" / "val0.png", "--scale-to-8bit", "0", "255")  # the shown fix
    np.testing.assert_array_equal(fixed, wanted)
    assert predict(sixteen, tif, "--scale-percentiles", "2", "98").shape == wanted.shape  # replaces the scale
    assert "runs from 9 to 3" in predict(sixteen, tif, "--scale-to-8bit", "9", "3")

    scores = []
    for result in (eight, sixteen):
        assert run_command("eval", ["--checkpoint", str(result.last.path), "--ctx", "cpu", "--quiet",
                                    "--save-dir", str(tmp_path / "scores")]) == 0
        scores.append(json.loads((tmp_path / "scores" / result.last.stem / "val" / "scores.json").read_text())["miou"])
    assert scores[0] == scores[1]


@pytest.mark.parametrize("keys, message", [
    ({"data.scale_to_8bit": [5, 5]}, "runs from 5 to 5"),
    ({"data.scale_percentiles": [98, 2]}, "runs from 98 to 2"),
    ({"data.scale_percentiles": [2, 101]}, "<= 100"),
    ({"data.scale_to_8bit": [0, 9], "data.scale_percentiles": [2, 98]}, "both given"),
    ({"data.bands": [0, 1, 2]}, ">= 1"),
    ({"data.bands": [1, 2]}, "a list of 3 whole numbers"),
])
def test_meaningless_keys_are_refused(configure, keys, message):
    with pytest.raises(ConfigError, match=message):
        configure(keys)
