"""Miniatures of downloads, written as the originals are, including their orientation."""
import json

import numpy as np
import pytest
from PIL import Image
from prepared import SIZE

from mxnetseg.data.base import voc_palette


@pytest.fixture
def rng():
    return np.random.default_rng(11)


@pytest.fixture
def write_image(rng):
    """``write_image(path)`` writes a random image as JPEG or PNG and makes its folder."""
    def write(path, size=SIZE):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)).save(path)
        return path
    return write


@pytest.fixture
def ids(rng):
    """``ids(n)`` returns a mask with every id below n, and without a symmetry that would hide a flip or transpose."""
    def make(n, size=SIZE):
        mask = rng.integers(0, n, size, dtype=np.uint8)
        mask.flat[:n] = np.arange(n)
        return mask
    return make


@pytest.fixture
def palette_png():
    """``palette_png(path, mask)`` writes a mask as a palette image, as VOC does."""
    def write(path, mask):
        path.parent.mkdir(parents=True, exist_ok=True)
        image = Image.fromarray(mask)
        image.putpalette(voc_palette(256).tobytes())
        image.save(path)
        return path
    return write


@pytest.fixture
def text():
    """``text(path, line, ...)`` writes lines, or a single object as JSON."""
    def write(path, *lines):
        path.parent.mkdir(parents=True, exist_ok=True)
        if len(lines) == 1 and not isinstance(lines[0], str):
            path.write_text(json.dumps(lines[0]))
        else:
            path.write_text("".join(f"{line}\n" for line in lines))
        return path
    return write


@pytest.fixture
def hdf5_mat():
    """``hdf5_mat(path, fill)`` writes a MATLAB file of version 7.3, whose content ``fill(file)`` writes."""
    h5py = pytest.importorskip("h5py")

    def write(path, fill):
        path.parent.mkdir(parents=True, exist_ok=True)
        with h5py.File(path, "w", userblock_size=512) as file:
            fill(file)
        with open(path, "r+b") as stream:
            stream.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(116))
        return path
    return write


@pytest.fixture
def voc_and_sbd(tmp_path, write_image, ids, palette_png, text):
    """VOC with train v1, v2 and val v3, v4; SBD with train s1, v1, v3 and val s2, v4."""
    from scipy.io import savemat

    source, masks = tmp_path / "downloads", {}
    voc, sbd = source / "VOCdevkit" / "VOC2012", source / "benchmark_RELEASE" / "dataset"
    for name in ("v1", "v2", "v3", "v4", "s1", "s2"):
        write_image(voc / "JPEGImages" / f"{name}.jpg")
        if name[0] == "v":
            mask = masks[name] = ids(21)
            mask[5] = 255
            palette_png(voc / "SegmentationClass" / f"{name}.png", mask)
    for name in ("s1", "s2", "v1", "v3", "v4"):
        mask = ids(21)
        masks.setdefault(name, mask)
        (sbd / "cls").mkdir(parents=True, exist_ok=True)
        savemat(sbd / "cls" / f"{name}.mat", {"GTcls": {"Segmentation": mask, "Boundaries": [1]}})
    (sbd / "img").mkdir()
    text(voc / "ImageSets" / "Segmentation" / "train.txt", "v1", "v2")
    text(voc / "ImageSets" / "Segmentation" / "val.txt", "v3", "v4")
    text(sbd / "train.txt", "s1", "v1", "v3")
    text(sbd / "val.txt", "s2", "v4")
    return source, masks
