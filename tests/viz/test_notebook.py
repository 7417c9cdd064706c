"""Display in notebooks, windows and files."""
import base64
import re
import sys
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from mxnetseg import Prediction, get_dataset
from mxnetseg.data.pairs import Sample
from mxnetseg.viz import notebook

ROOT = Path(__file__).resolve().parents[2]
CLASSES, PALETTE = ("road", "<b>sky</b>"), np.array([[128, 64, 128], [0, 0, 142]], np.uint8)


def a_prediction(height=300, width=400):
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    class_map = np.zeros((height, width), np.uint8)
    class_map[: height // 4] = 1
    return Prediction(image, class_map, CLASSES, PALETTE, "street & <i>sun</i>")


def a_sample(**changes):
    prediction = a_prediction()
    mask = prediction.class_map.copy()
    mask[-30:] = 255
    return Sample(**{"image": prediction.image, "mask": mask, "name": "val/1", **changes})


def images_in(html):
    return [Image.open(BytesIO(base64.b64decode(data))) for data in re.findall(r'base64,([^"]+)"', html)]


def test_the_html_of_a_prediction():
    html = a_prediction()._repr_html_()
    assert [image.size for image in images_in(html)] == [(400, 300), (400, 300)]
    assert "<b>" not in html and "<i>" not in html and "&lt;b&gt;sky" in html and "#804080" in html
    assert "75.0%" in html and "25.0%" in html
    assert len(re.findall('alt="[^"]+road 75 %[^"]*"', html)) == 1 and html.count("alt=") == 2
    assert not re.search(r"src=\"(?!data:)|href|<script|https?:", html)


@pytest.mark.parametrize("shape", [(4000, 3000), (1, 1), (3, 4000), (24, 32)])
def test_html_is_small_at_any_size(shape):
    html = a_prediction(*shape)._repr_html_()
    assert len(html) < 2 * notebook.LARGEST * 4 / 3 + 5000
    assert len(images_in(html)) == 2


def test_small_images_are_stored_without_loss():
    prediction = a_prediction(24, 32)
    assert (np.array(images_in(prediction._repr_html_())[0]) == prediction.image).all()


def test_the_html_of_a_sample():
    sample = a_sample().with_classes(CLASSES, PALETTE)
    html = sample._repr_html_()
    assert "ignored" in html and "10.0%" in html and "&lt;b&gt;sky" in html and len(images_in(html)) == 2
    assert tuple(images_in(html)[1].convert("RGB").getpixel((5, 150)))[0] in range(118, 139)


def test_a_sample_without_classes_or_without_a_mask():
    assert "class 1" in a_sample()._repr_html_() and "class 1" in repr(a_sample())
    alone = a_sample(mask=None)
    assert len(images_in(alone._repr_html_())) == 1 and "no mask" in repr(alone)
    assert (alone.draw() == alone.image).all()
    assert repr(a_sample(mask=np.full((300, 400), 255, np.uint8))).endswith("ignored 100 %)")


def test_a_sample_is_a_tuple_of_three():
    sample = a_sample().with_classes(CLASSES, PALETTE)
    image, mask, name = sample
    assert image is sample.image and mask is sample.mask and name == "val/1" and len(sample) == 3


def test_items_of_data_sets_know_their_classes():
    item = get_dataset(f"folder:{ROOT / 'demo' / 'folder'}", split="val")[0]
    assert len(item.classes) == 9 and item.classes[0] in item._repr_html_() and "class 0" not in repr(item)
    assert item.draw().shape[1] > 2 * item.image.shape[1]


def test_repr_of_a_prediction():
    text = repr(a_prediction())
    assert text == "Prediction('street & <i>sun</i>', 300 x 400, road 75 %, <b>sky</b> 25 %)"


def test_many_classes_are_cut_off():
    classes = [f"c{i}" for i in range(40)]
    class_map = np.arange(40, dtype=np.uint8).reshape(5, 8)
    html = Prediction(np.zeros((5, 8, 3), np.uint8), class_map, classes, np.full((40, 3), 9, np.uint8))._repr_html_()
    assert "and 28 more" in html


def test_show_without_a_desktop_writes_a_file(monkeypatch, capsys):
    monkeypatch.setattr(notebook, "has_desktop", lambda: False)
    prediction = a_prediction(40, 60)
    prediction.show()
    path = capsys.readouterr().out.rsplit(" ", 1)[1].strip()
    assert (np.array(Image.open(path)) == prediction.overlay).all()


def test_show_on_a_desktop_opens_the_viewer(monkeypatch, capsys):
    opened = []
    monkeypatch.setattr(notebook, "has_desktop", lambda: True)
    monkeypatch.setattr(notebook.ImageShow, "show", lambda image, title: opened.append(image.size) or True)
    a_sample().with_classes(CLASSES, PALETTE).show()
    assert len(opened) == 1 and capsys.readouterr().out == ""


def test_show_in_a_notebook_displays(monkeypatch):
    displayed = []
    shell = SimpleNamespace(kernel=object())
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    monkeypatch.setitem(sys.modules, "IPython.display", SimpleNamespace(display=displayed.append))
    prediction = a_prediction()
    prediction.show()
    assert displayed == [prediction]


@pytest.mark.parametrize("variable, expected", [("DISPLAY", True), ("WAYLAND_DISPLAY", True), ("OTHER", False)])
def test_a_desktop_on_linux(monkeypatch, variable, expected):
    monkeypatch.setattr(sys, "platform", "linux")
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(variable, ":0")
    assert notebook.has_desktop() == expected
