"""``mxnetseg browse``: the contact sheet, the page, and the errors."""
import base64
import re
from html.parser import HTMLParser

import cv2
import numpy as np
import pytest
from PIL import Image

from mxnetseg.data.base import IGNORE
from mxnetseg.tools.browse import _ignored_colour, _overlay
from mxnetseg.tools.main import main

SIZE = 60, 90
GROUND, CAT = (200, 40, 40), (40, 40, 200)


@pytest.fixture
def pets(tmp_path):
    """Five training pairs: the left half is ground, the right half is a cat, and the lowest rows are ignored."""
    root = tmp_path / "pets & <friends>"
    for folder in ("images", "masks"):
        (root / folder / "train").mkdir(parents=True)
    mask = np.zeros(SIZE, np.uint8)
    mask[:, SIZE[1] // 2:] = 1
    mask[-9:] = IGNORE
    for i in range(5):
        Image.fromarray(np.full((*SIZE, 3), 50 * i, np.uint8)).save(root / "images" / "train" / f"{i}.png")
        Image.fromarray(mask).save(root / "masks" / "train" / f"{i}.png")
    (root / "classes.txt").write_text("ground #c82828\ncat #2828c8\nbird #28c828\n")
    return root


def test_root_replaces_the_folder_in_a_configuration(pets, tmp_path, capsys):
    config = tmp_path / "pets.yaml"
    config.write_text("data: {name: 'folder:data/pets', crop_size: 32}\n")
    options = ["browse", "--config", str(config), "--out", str(tmp_path / "out"), "--count", "1", "--quiet"]
    assert main(options) == 2 and "--root PATH" in capsys.readouterr().err
    assert main([*options, "--root", str(pets)]) == 0 and "1 of 5 images" in capsys.readouterr().out


class Page(HTMLParser):
    """Parts of the page that a browser would load and show."""

    def __init__(self, path):
        super().__init__()
        self.sources, self.text, self.open = [], [], []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        if tag not in ("meta", "img", "input", "html"):
            self.open.append(tag)
        assert not {"href", "srcset"} & set(values)
        if "src" in values:
            self.sources.append(values["src"])

    def handle_endtag(self, tag):
        assert tag == "html" or self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def decode(uri):
    _, data = re.fullmatch(r"data:image/(png|jpeg);base64,([\w+/=]+)", uri).groups()
    return cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_COLOR)[..., ::-1]


def test_sheet_and_page(pets, tmp_path, capsys):
    out = tmp_path / "new" / "out"
    assert main(["browse", str(pets), "--out", str(out), "--count", "3", "--crops", "2", "--quiet"]) == 0
    assert "3 of 5 images" in capsys.readouterr().out
    sheet = np.array(Image.open(out / "contact_sheet.png"))
    assert all((sheet == colour).all(-1).sum() > 3 * 1000 for colour in (GROUND, CAT))  # the masks in full colour
    assert not (sheet == (40, 200, 40)).all(-1).any()  # the legend leaves out classes that are not shown

    page = Page(out / "index.html")
    assert not page.open and len(page.sources) == 3 * (1 + 2) * 2
    shown = [decode(source) for source in page.sources]
    assert shown[0].shape == shown[1].shape == (*SIZE, 3)
    assert (shown[1][0, 0], shown[1][0, -1]) == (pytest.approx(GROUND), pytest.approx(CAT))
    assert shown[2].shape == (64, 64, 3)  # the crop size for these images
    text = " ".join(page.text)
    assert "pets & <friends>" in text and "1 cat" in text and "bird" not in text and "ignored" in text


def test_the_same_seed_shows_the_same_images(pets, tmp_path):
    pages = []
    for i, seed in enumerate((4, 4, 5)):
        assert main(["browse", str(pets), "--out", str(tmp_path / str(i)), "--seed", str(seed), "--quiet"]) == 0
        pages.append((tmp_path / str(i) / "index.html").read_text())
    assert pages[0] == pages[1] != pages[2]


def test_data_and_crops_of_a_configuration(pets, tmp_path):
    config = tmp_path / "c.yaml"
    config.write_text(f"data:\n  name: 'folder:{pets}'\n  crop_size: [32, 48]\n")
    assert main(["browse", "--config", str(config), "--out", str(tmp_path), "--set", "data.base_size=90",
                 "--count", "1", "--quiet"]) == 0
    assert decode(Page(tmp_path / "index.html").sources[2]).shape == (32, 48, 3)
    assert main(["browse", str(pets), "--set", "data.crop_size=40", "--out", str(tmp_path), "--count", "1"]) == 0
    assert decode(Page(tmp_path / "index.html").sources[2]).shape == (40, 40, 3)


def test_a_broken_image_is_reported_and_the_others_are_shown(pets, tmp_path, capsys):
    (pets / "images" / "train" / "2.png").write_bytes(b"none")
    assert main(["browse", str(pets), "--out", str(tmp_path / "o"), "--quiet"]) == 1
    out = capsys.readouterr().out
    assert "not shown: an image cannot be decoded" in out and "4 of 5 images" in out
    for i in (0, 1, 3, 4):
        (pets / "images" / "train" / f"{i}.png").write_bytes(b"none")
    assert main(["browse", str(pets), "--out", str(tmp_path / "none"), "--quiet"]) == 1
    assert not (tmp_path / "none").exists()


def test_ignored_pixels_are_dark_in_an_overlay():
    image, mask = np.full((20, 20, 3), 200, np.uint8), np.zeros((20, 20), np.uint8)
    mask[10:] = IGNORE
    tinted = _overlay(image, mask, np.array([GROUND], np.uint8))
    assert (tinted[-1] == 70).all() and (tinted[0] == (200, 120, 120)).all()


def test_ignored_pixels_have_their_own_colour():
    assert _ignored_colour(np.array([GROUND, CAT])) == (0, 0, 0)
    assert _ignored_colour(np.array([(0, 0, 0), CAT])) == (255, 255, 255)
    everything = np.array([(level,) * 3 for level in range(256) if level != 77])
    assert _ignored_colour(everything) == (77, 77, 77)


@pytest.mark.parametrize("arguments, code, words", [
    ([], 2, "no data set is given"),
    (["camvit"], 2, "did you mean 'camvid'"),
    (["PETS", "--count", "0"], 2, "at least 1"),
    (["PETS", "--split", "tset"], 2, "did you mean 'test'"),
    (["PETS", "--out", "FILE"], 2, "give a folder"),
    (["PETS", "--out", "FILE/below"], 2, "no file can be written there"),
    (["PETS", "--set", "data.crop=3"], 2, "data.crop_size"),
    (["PETS", "--config", "no-such"], 2, "unknown configuration"),
])
def test_wrong_use(pets, tmp_path, arguments, code, words, capsys):
    (tmp_path / "file").write_text("")
    names = {"PETS": str(pets), "FILE": str(tmp_path / "file"), "FILE/below": str(tmp_path / "file" / "below")}
    assert main(["browse", *(names.get(a, a) for a in arguments)]) == code
    assert words in capsys.readouterr().err


def test_a_split_without_masks(pets, capsys):
    (pets / "images" / "test").mkdir()
    (pets / "images" / "train" / "0.png").rename(pets / "images" / "test" / "0.png")
    assert main(["browse", str(pets), "--split", "test"]) == 1
    assert "choose another with --split" in capsys.readouterr().err


def test_the_background_is_tinted_neither_on_the_sheet_nor_on_the_page(pets, tmp_path):
    (pets / "classes.txt").write_text("background #c82828\ncat #2828c8\nbird #28c828\n")
    assert main(["browse", str(pets), "--out", str(tmp_path / "o"), "--count", "1", "--quiet"]) == 0
    data = Page(tmp_path / "o" / "index.html").sources[1].partition(",")[2]
    opacity = cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_UNCHANGED)[..., 3]
    assert opacity[0, 0] == 0 and opacity[0, -1] == 255 and opacity[-1, 0] == 255  # ignored pixels stay visible
    image, mask = np.full((20, 20, 3), 200, np.uint8), np.zeros((20, 20), np.uint8)
    assert (_overlay(image, mask, np.array([GROUND, CAT]), ["background", "cat"]) == 200).all()
