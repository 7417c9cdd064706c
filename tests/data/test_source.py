"""Sources: files give the same crops as arrays, and no more is decoded than a window needs."""
import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mxnetseg.data import loader as loader_module
from mxnetseg.data.base import IGNORE, read_image
from mxnetseg.data.folder import FolderDataset
from mxnetseg.data.loader import Loader
from mxnetseg.data.source import ArraySource, FileSource
from mxnetseg.data.transforms import Compose, RandomCrop, RandomScale, ScaleCrop, train_transform
from mxnetseg.errors import DataError


def gradient(height, width):
    """Make an image that JPEG keeps well: red and green are the column and the row, 0 to 250."""
    y, x = np.mgrid[:height, :width]
    return np.stack([x * 250 // width, y * 250 // height, np.full_like(x, 80)], -1).astype(np.uint8)


@pytest.fixture(params=[".png", ".jpg"])
def dataset(request, tmp_path):
    """Folder data whose masks are the columns of the image, in 8 classes."""
    root = tmp_path / "data"
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
    for i, (height, width) in enumerate([(120, 160), (121, 161), (64, 200), (90, 90)]):
        Image.fromarray(gradient(height, width)).save(root / "images" / f"{i}{request.param}", quality=97)
        labels = np.tile(np.arange(width) * 8 // width, (height, 1)).astype(np.uint8)
        Image.fromarray(labels).save(root / "masks" / f"{i}.png")
    (root / "classes.txt").write_text("\n".join("abcdefgh"))
    (root / "train.txt").write_text("0\n1\n2\n3\n")
    return FolderDataset(root=root)


@settings(max_examples=25)
@given(seed=st.integers(0, 999), i=st.integers(0, 3), low=st.sampled_from([0.1, 0.3, 0.6, 1.0, 2.0]))
def test_files_give_the_same_crops_as_arrays(tmp_path_factory, seed, i, low):
    dataset = _once(tmp_path_factory)
    transform = ScaleCrop(scale=RandomScale(base_size=160, low=low, high=low), crop=RandomCrop(size=(24, 32)))
    image, mask, _ = dataset[i]
    expected = transform.read(ArraySource(image, mask), np.random.default_rng(seed))
    found = transform.read(FileSource(dataset, i), np.random.default_rng(seed))
    assert np.array_equal(found[1], expected[1])
    # JPEG decoding at a reduced size averages pixels
    assert abs(found[0].astype(int) - expected[0])[expected[1] != IGNORE].max(initial=0) <= 10


_MADE = {}


def _once(factory):
    """Make the JPEG data once, since hypothesis calls a test many times."""
    if "data" not in _MADE:
        root = factory.mktemp("jpeg")
        for folder in ("images", "masks"):
            (root / folder).mkdir()
        for i, (height, width) in enumerate([(120, 160), (121, 161), (64, 200), (90, 90)]):
            Image.fromarray(gradient(height, width)).save(root / "images" / f"{i}.jpg", quality=97)
            labels = np.tile(np.arange(width) * 8 // width, (height, 1)).astype(np.uint8)
            Image.fromarray(labels).save(root / "masks" / f"{i}.png")
        (root / "classes.txt").write_text("\n".join("abcdefgh"))
        (root / "train.txt").write_text("0\n1\n2\n3\n")
        _MADE["data"] = FolderDataset(root=root)
    return _MADE["data"]


@pytest.mark.parametrize("size, reduced", [((60, 80), 2), ((59, 79), 2), ((61, 80), 1), ((15, 20), 8), ((30, 21), 4)])
def test_jpeg_is_decoded_at_a_reduced_size_where_the_window_shrinks(dataset, monkeypatch, size, reduced):
    reductions = []
    monkeypatch.setattr(dataset, "load_image", lambda i, reduce=1: reductions.append(reduce) or read_image(
        dataset.image_path(i), reduce=reduce))
    image = FileSource(dataset, 0).image(slice(0, 120), slice(0, 160), size)
    assert reductions == [reduced] and image.shape == (*size, 3)
    expected = cv2.resize(gradient(120, 160), (size[1], size[0]), interpolation=cv2.INTER_AREA).astype(int)
    assert abs(image - expected).max() <= 8


def test_only_jpeg_is_decoded_at_reduced_sizes(dataset):
    path = dataset.image_path(1)  # 121 x 161
    shape = (61, 81, 3) if path.suffix == ".jpg" else (121, 161, 3)
    assert read_image(path, reduce=2).shape == shape


def test_exif_rotation_is_applied_at_reduced_sizes_too(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # a rotation by 90 degrees
    Image.fromarray(gradient(64, 96)).save(tmp_path / "x.jpg", exif=exif, quality=97)
    whole, small = read_image(tmp_path / "x.jpg"), read_image(tmp_path / "x.jpg", reduce=4)
    assert whole.shape == (96, 64, 3) and small.shape == (24, 16, 3)
    assert abs(small.astype(int) - cv2.resize(whole, (16, 24), interpolation=cv2.INTER_AREA)).max() <= 8


def test_a_crop_keeps_no_whole_image_in_memory(dataset):
    image = FileSource(dataset, 0).image(slice(10, 30), slice(10, 30), (20, 20))
    assert image.base is None


def test_the_loader_reads_files_by_windows(dataset, monkeypatch):
    made = []
    monkeypatch.setattr(loader_module, "FileSource", lambda *a: made.append(a) or FileSource(*a))
    transform = train_transform(base_size=160, crop_size=48, blur=False)
    batch = next(Loader(dataset, batch_size=4, transform=transform, workers=0).epoch(0))
    assert len(made) == 4 and batch.images.shape == (4, 48, 48, 3)
    assert sorted(batch.names) == ["0", "1", "2", "3"]
    # red and the class both follow the column
    wrong = (batch.images[..., 0].astype(int) * 8 // 250 != batch.masks) & (batch.masks != IGNORE)
    assert wrong.mean() < 0.08  # pixels at the border of two classes


def test_another_first_transform_gets_arrays(dataset):
    crop = Compose([RandomCrop(size=40)])
    assert not crop.reads and train_transform(base_size=9, crop_size=8).reads and not Compose([]).reads
    assert next(Loader(dataset, batch_size=2, transform=crop, workers=0).epoch(0)).images.shape == (2, 40, 40, 3)


def test_sizes_that_differ_are_reported_when_only_a_window_is_read(dataset):
    Image.fromarray(gradient(50, 70)).save(dataset.image_path(0))
    with pytest.raises(DataError, match="differ in size"):
        FileSource(dataset, 0).image(slice(0, 40), slice(0, 40), (40, 40))


def test_labels_outside_the_classes_are_reported_anywhere_in_the_mask(dataset):
    mask = np.zeros((120, 160), np.uint8)
    mask[0, :3] = 99
    Image.fromarray(mask).save(dataset.mask_path(0))
    with pytest.raises(DataError, match="outside the classes") as error:
        FileSource(dataset, 0)
    assert error.value.where == dataset.mask_path(0) and "99 (3 pixels)" in error.value.received
