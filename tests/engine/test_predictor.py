"""Prediction of an image's classes in three lines."""
import threading
from concurrent.futures import ThreadPoolExecutor

import mxnet as mx
import numpy as np
import pytest
from PIL import Image

from mxnetseg.backends.mxnet_runtime import MXNetRuntime
from mxnetseg.engine.inference import Segmenter
from mxnetseg.engine.predictor import Prediction, Predictor
from mxnetseg.errors import CheckpointError, DataError, DataNotFoundError, UnknownNameError, UsageError


@pytest.fixture(scope="module")
def trained(fit, configure, tmp_path_factory):
    return fit(configure({"train.epochs": 6, "optimizer.lr": 0.2}), tmp_path_factory.mktemp("weights"))


@pytest.fixture(scope="module")
def predictor(trained):
    return Predictor(trained[1].last.path)


def test_a_file_and_an_array(trained, predictor, images_folder):
    path = images_folder / "images" / "val0.png"
    image, mask = (np.array(Image.open(images_folder / f / "val0.png")) for f in ("images", "masks"))
    prediction = predictor(path)
    assert prediction.name == "val0" and prediction.classes == ("red", "green", "blue")
    np.testing.assert_array_equal(prediction.image, image)
    wanted = Segmenter(MXNetRuntime(trained[0].net))(image)
    for other in (prediction, predictor(str(path)), predictor(image)):
        np.testing.assert_array_equal(other.class_map, wanted)
    valid = mask != 255
    assert (wanted == mask)[valid].mean() > 0.9  # the network has learned its task
    assert predictor(image).name == "image"


def test_shares_are_fractions_of_all_pixels_with_the_largest_first(predictor, images_folder):
    prediction = predictor(images_folder / "images" / "val1.png")
    shares = prediction.shares()
    assert sum(shares.values()) == pytest.approx(1) and list(shares.values()) == sorted(shares.values(), reverse=True)
    for name, share in shares.items():
        assert share == pytest.approx((prediction.class_map == prediction.classes.index(name)).mean())


def test_the_saved_images(predictor, images_folder, tmp_path):
    prediction = predictor(images_folder / "images" / "val0.png")
    np.testing.assert_array_equal(prediction.color, prediction.palette[prediction.class_map])
    classes, overlay = prediction.save(tmp_path / "new folder")
    assert (classes.name, overlay.name) == ("val0_classes.png", "val0_overlay.png")
    with Image.open(classes) as file:
        np.testing.assert_array_equal(np.array(file), prediction.class_map)
        np.testing.assert_array_equal(np.array(file.convert("RGB")), prediction.color)
    with Image.open(overlay) as file:
        np.testing.assert_array_equal(np.array(file), prediction.overlay)
        assert file.size[1] > prediction.image.shape[0]  # it has a legend


def test_names_opacity_and_hidden_classes(predictor, images_folder):
    prediction = predictor(images_folder / "images" / "val0.png")
    height, width = prediction.class_map.shape
    present = list(prediction.shares())
    drawn = prediction.draw(hidden=[present[0]], alpha=1)
    left = (drawn.shape[1] - width) // 2  # the legend may be wider
    hidden = prediction.class_map == prediction.classes.index(present[0])
    shown = drawn[:height, left:left + width]
    assert (shown[hidden] == prediction.image[hidden]).all() and (shown[~hidden] == prediction.color[~hidden]).all()
    large = Prediction(*(np.repeat(np.repeat(a, 8, 0), 8, 1) for a in (prediction.image, prediction.class_map)),
                       prediction.classes, prediction.palette)
    assert (large.draw(names=True) != large.overlay).any()
    with pytest.raises(UnknownNameError, match="unknown class 'gren'") as error:
        prediction.draw(hidden=["gren"])
    assert "green" in error.value.fix


def test_repr(predictor, images_folder):
    assert repr(predictor).startswith(f"Predictor({predictor.name!r}, 3 classes, float32 in mxnet, whole images")
    assert repr(predictor(images_folder / "images" / "val0.png")).startswith("Prediction('val0', 24 x 32, ")


def test_multi_scale_is_another_protocol(trained, images_folder):
    several = Predictor(trained[1].last, ms=True)
    protocol = several.segmenter.protocol
    assert protocol.flip and len(protocol.scales) == 6
    assert several(images_folder / "images" / "val0.png").class_map.shape == (24, 32)


@pytest.mark.parametrize("size", [(1, 1), (9, 31), (64, 20)])
def test_any_size(predictor, size):
    assert predictor(np.zeros((*size, 3), np.uint8)).class_map.shape == size


@pytest.mark.parametrize("array", [np.zeros((8, 8), np.uint8), np.zeros((8, 8, 4), np.uint8),
                                   np.zeros((8, 8, 3), np.float32), np.zeros((2, 8, 8, 3), np.uint8)])
def test_an_array_that_is_no_image(predictor, array):
    with pytest.raises(UsageError, match="uint8 array") as error:
        predictor(array)
    assert str(array.shape) in str(error.value) and str(array.dtype) in str(error.value)


def test_files_that_are_no_images(predictor, tmp_path):
    with pytest.raises(DataNotFoundError) as error:
        predictor(tmp_path / "none.png")
    assert "none.png" in str(error.value)
    (tmp_path / "text.png").write_text("text")
    with pytest.raises(DataError) as error:
        predictor(tmp_path / "text.png")
    assert "text.png" in str(error.value)


def test_a_missing_checkpoint(tmp_path):
    with pytest.raises(CheckpointError, match="not there"):
        Predictor(tmp_path / "none.params")


def predictions_in_threads(predictor, images, threads=8):
    """Predict every image in several threads at once, each in its own order, and return the class maps of each."""
    found = [[None] * len(images) for _ in range(threads)]
    start = threading.Barrier(threads)

    def work(number):
        order = np.random.RandomState(number // 2).permutation(len(images))  # pairs have one order
        start.wait()
        for i in order:
            found[number][i] = predictor(images[i]).class_map
    with ThreadPoolExecutor(threads) as pool:
        for job in [pool.submit(work, n) for n in range(threads)]:
            job.result()
    return found


@pytest.mark.parametrize("options", [
    {}, {"precision": "plain"}, {"precision": "int8"}, {"ms": True},
    pytest.param({"precision": "bfloat16"}, marks=pytest.mark.bfloat16)], ids=str)
def test_eight_threads_and_many_new_sizes(trained, images_folder, options):
    pixels = np.array(Image.open(images_folder / "images" / "val0.png"))
    sizes = [(16 + 3 * i % 23, 20 + 7 * i % 31) for i in range(12)]
    images = [np.ascontiguousarray(np.resize(pixels, (*size, 3))) for size in sizes] * 2  # each size recurs
    if options.get("precision") == "int8":
        options = {**options, "calibration": [pixels]}
    alone = Predictor(trained[1].last, **options)
    wanted = [alone(image).class_map for image in images]
    for found in predictions_in_threads(Predictor(trained[1].last, **options), images):
        for got, one in zip(found, wanted):
            assert got.shape == one.shape
            assert (got != one).mean() <= 0.01  # the graph for one size rounds differently from the graph for any


def test_predictors_of_one_network_in_several_threads(trained, images_folder):
    """Segmenters that share a network trace its blocks as well."""
    image = np.array(Image.open(images_folder / "images" / "val1.png"))
    wanted = Segmenter(MXNetRuntime(trained[0].net))(image)
    segmenters = [Segmenter(MXNetRuntime(trained[0].net)) for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        for got in pool.map(lambda segmenter: segmenter(image), segmenters):
            np.testing.assert_array_equal(got, wanted)


def test_predictors_made_in_several_threads(trained, images_folder):
    image = np.array(Image.open(images_folder / "images" / "val1.png"))
    wanted = Predictor(trained[1].last)(image).class_map
    with ThreadPoolExecutor(8) as pool:
        for got in pool.map(lambda _: Predictor(trained[1].last)(image).class_map, range(16)):
            np.testing.assert_array_equal(got, wanted)


def test_the_package_exports_it():
    import mxnetseg
    assert mxnetseg.Predictor is Predictor


def test_every_type_of_image_gives_the_same(predictor, images_folder):
    path = images_folder / "images" / "val0.png"
    image = np.array(Image.open(path))
    wanted = predictor(path).class_map
    for same in (str(path), image, Image.open(path), mx.nd.array(image, dtype="uint8"), image[:, ::-1][:, ::-1]):
        np.testing.assert_array_equal(predictor(same).class_map, wanted)
    several = predictor([path, image, Image.open(path)])
    assert [p.name for p in several] == ["val0", "image", "image"] and predictor([]) == []
    for prediction in several:
        np.testing.assert_array_equal(prediction.class_map, wanted)
    grey = Image.open(path).convert("L")
    np.testing.assert_array_equal(predictor(grey).image, np.array(grey)[..., None].repeat(3, 2))


@pytest.mark.parametrize("unusable, word", [
    (Image.new("RGBA", (64, 48)), "RGBA"), (Image.new("I;16", (64, 48)), "I;16"), (Image.new("F", (64, 48)), "mode F"),
    (mx.nd.zeros((48, 64, 3)), "float32"), (np.zeros((3, 48, 64), np.uint8), "(3, 48, 64)"), (None, "NoneType"),
    ([[0, 0], [1, 1]], "int"), (b"bytes", "bytes")])
def test_an_image_that_would_lose_information_is_refused(predictor, unusable, word):
    with pytest.raises(UsageError) as error:
        predictor(unusable)
    assert word in str(error.value) and error.value.fix
