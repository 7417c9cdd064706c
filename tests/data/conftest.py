"""Miniature data sets, written to a temporary folder in the layouts of the real ones."""
import numpy as np
import pytest
from PIL import Image

SIZE = 24, 32  # height, width


@pytest.fixture
def rng():
    return np.random.default_rng(7)


@pytest.fixture
def write(rng):
    """Return ``write(path, array)``, which saves a PNG or JPEG in a new folder; an int fills a mask with that id."""

    def save(path, array=None):
        path.parent.mkdir(parents=True, exist_ok=True)
        if array is None:
            array = rng.integers(0, 256, (*SIZE, 3), dtype=np.uint8)
        elif isinstance(array, int):
            array = np.full(SIZE, array, np.uint8)
        Image.fromarray(array).save(path)
        return path

    return save


@pytest.fixture
def folder(tmp_path, write, rng):
    """Folder data with 10 pairs a0 .. a9 of three classes, without lists."""
    root = tmp_path / "pets"
    for i in range(10):
        write(root / "images" / f"a{i}.jpg")
        write(root / "masks" / f"a{i}.png", rng.integers(0, 3, SIZE, dtype=np.uint8))
    (root / "classes.txt").write_text("ground\ncat\nbig dog\n")
    return root


@pytest.fixture
def camvid(tmp_path, write):
    """CamVid with two training pairs, one validation pair, and lists with the paths of another machine."""
    root = tmp_path / "CamVid"
    for part, names in (("train", ("0001_1", "0001_2")), ("val", ("0016_1",))):
        lines = []
        for k, name in enumerate(names):
            write(root / part / f"{name}.png")
            write(root / f"{part}annot" / f"{name}.png", 11 if k else 10)
            lines.append(f"/SegNet/CamVid/{part}/{name}.png /SegNet/CamVid/{part}annot/{name}.png")
        (root / f"{part}.txt").write_text("\n".join(lines) + "\n")
    return root
