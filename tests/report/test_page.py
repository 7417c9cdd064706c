"""The page: what it says, what it shows, and that it is one file for any names."""
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from evaluations import CLASSES, evaluation

from mxnetseg.errors import EnvironmentProblem, UsageError
from mxnetseg.metrics.bootstrap import interval, resample
from mxnetseg.report.page import make_page
from mxnetseg.report.record import read_record
from mxnetseg.report.tables import run_names

ROOT = Path(__file__).resolve().parents[2]


class Content(HTMLParser):
    """Text, elements and attributes of a page; refuses elements that are closed in another order than opened."""

    VOID = {"meta", "link", "img", "input"}

    def __init__(self, page):
        super().__init__()
        self.open, self.elements, self.text = [], [], []
        self.feed(page)
        assert self.open == []
        self.text = re.sub(r"\s+", " ", " ".join(self.text))

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1:] not in (["script"], ["style"]):
            self.text.append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    return read_record(evaluation(tmp_path_factory.mktemp("one")))


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    return read_record(evaluation(tmp_path_factory.mktemp("other"), worse=30, checkpoint="weights/fcn/two.params",
                                  config={"train": {"epochs": 9}}))


@pytest.fixture(scope="module")
def both(one, other):
    return Content(make_page([one, other], samples=50))


def test_one_evaluation(one):
    content = Content(make_page([one], samples=50))
    low, high = interval(resample(one.regions, samples=50).miou)
    for text in ("made, val", "8 images, 3 classes", f"{100 * low:.1f} to {100 * high:.1f}", "12.96 M", "51.9 MB",
                 "12 ms", "The worst images", "The most ordinary images", "train.epochs", "float32", "one_best.params"):
        assert text in content.text, text
    assert "The largest differences" not in content.text and "difference to A" not in content.text


def test_two_evaluations(both, one, other):
    for text in ("difference to A", "The largest differences", "one_best", "two", "train.epochs", "3", "9"):
        assert text in both.text
    draws = [resample(record.regions, samples=50) for record in (one, other)]
    low, high = interval(draws[1].miou - draws[0].miou)
    assert high < 0
    assert f"{100 * low:+.1f} to {100 * high:+.1f}".replace("-", "\N{MINUS SIGN}") in both.text


def test_nothing_is_loaded_from_anywhere(both):
    for tag, attributes in both.elements:
        for name in ("src", "href", "srcset", "action", "data"):
            value = attributes.get(name) or "data:"
            assert value.startswith(("data:", "#")), (tag, value[:80])
    policy = next(a["content"] for a in both.all("meta") if a.get("http-equiv") == "Content-Security-Policy")
    assert "default-src 'none'" in policy and "http" not in policy


def test_names_cannot_add_elements(tmp_path):
    names = [f"<script>alert({i})</script>\x1b[31m" for i in range(8)]
    record = read_record(evaluation(tmp_path, names=names, checkpoint='"><img src=x>.params', data="<i>data</i>"))
    content = Content(make_page([record], title=None, samples=5))
    assert len(content.all("script")) == 1 and not content.all("i") == []
    assert "<script>alert(7)</script>\\x1b[31m" in content.text and "<i>data</i>" in content.text
    assert "sky <b>blue</b>" in content.text
    assert all(attributes["src"].startswith("data:") for attributes in content.all("img") if "src" in attributes)


def test_every_image_has_its_layers_and_a_description(both):
    cards = [a["id"] for a in both.all("article")]
    assert len(cards) == len(set(cards)) == 8
    layers = [a for a in both.all("img") if "data-name" in a]
    assert len(layers) == 8 * 6
    assert [a["data-name"] for a in layers[:6]] == ["image", "truth", "prediction A", "errors A", "prediction B",
                                                    "errors B"]
    assert all(a["alt"].startswith(a["data-name"] + " of val/") for a in layers)


def test_the_worst_images_come_first(one):
    content = Content(make_page([one], shown=2, samples=5))
    assert [a["id"] for a in content.all("article")][:2] == ["image-7", "image-6"]
    assert len(content.all("article")) == 4
    assert Content(make_page([one], shown=0, samples=5)).all("article") == []


def test_elements_have_unique_ids_and_links_lead_to_them(both):
    ids = [a["id"] for _, a in both.elements if "id" in a]
    assert len(ids) == len(set(ids))
    assert {a["href"][1:] for a in both.all("a")} <= set(ids)


def test_a_training_has_a_line_for_each_class_that_was_logged(one):
    text = make_page([one], samples=5)
    for name in ("road", "car"):
        assert f"<title>{name}: 10 at 1</title>" in text or f"<title>{name}: 20 at 1</title>" in text
    assert "IoU of each class in %" in text


def test_an_evaluation_without_training_speed_or_calibration(tmp_path):
    folder = evaluation(tmp_path, epochs=[], speed=None, control_miou=None, parameters=None, bytes=None)
    record = read_record(folder)
    for array in (record.bin_pixels, record.bin_correct, record.bin_confidence):
        array[:] = 0
    content = Content(make_page([record], samples=5))
    assert "Not computed" in content.text and 'href="#training"' not in content.text
    assert "training" not in [a.get("id") for a in content.all("section")]


def test_many_classes_have_their_matrix_as_an_image(tmp_path):
    record = read_record(evaluation(tmp_path, classes=tuple(f"class {i}" for i in range(40))))
    content = Content(make_page([record], samples=5))
    assert any("Confusion matrix of 40 classes" in a.get("alt", "") for a in content.all("img"))


def test_an_image_without_a_valid_pixel_is_not_shown(tmp_path):
    record = read_record(evaluation(tmp_path))
    record.regions[7] = 0
    record.boundaries[7] = 0
    content = Content(make_page([record], samples=20))
    assert "image-7" not in [a["id"] for a in content.all("article")]
    assert "nan" not in content.text


def test_the_same_evaluations_give_the_same_page(one, other):
    assert make_page([one, other], samples=20) == make_page([one, other], samples=20)
    assert make_page([one, other], samples=20) != make_page([one, other], samples=20, seed=1)


def test_too_many_evaluations_are_refused(one):
    with pytest.raises(UsageError, match="1 to 6 evaluations"):
        make_page([one] * 7)


def test_without_jinja2_a_command_installs_it(one, monkeypatch):
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(EnvironmentProblem, match="needs jinja2") as error:
        make_page([one], samples=5)
    assert "pip install" in error.value.fix


def test_a_report_needs_no_mxnet(one, tmp_path):
    code = (f"import sys; sys.modules['mxnet'] = None; from mxnetseg.tools.main import main; "
            f"sys.exit(main(['report', {str(one.folder)!r}, '--out', 'page.html']))")
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True,
                          env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "page.html").stat().st_size > 10_000


def test_runs_have_the_shortest_names_that_distinguish_them(tmp_path, one):
    def names(**description):
        other = read_record(evaluation(tmp_path, **description))
        return run_names([one, other])
    assert names(network="pspnet") == ["fcn on resnet18", "pspnet on resnet18"]
    assert names(network="", backbone="") == ["fcn on resnet18", "one_best"]
    assert names(checkpoint="a/two.params") == ["one_best", "two"]
    assert names(backend="onnxruntime") == ["mxnet", "onnxruntime"]
    assert names(protocol="windows") == ["whole images", "windows"]
    assert names() == [str(one.folder), str(tmp_path)]


def test_numbers_of_the_table_of_classes(one):
    text = Content(make_page([one], samples=20)).text
    counts = one.regions.sum(axis=0)
    for value in counts[0] / (counts[1] + counts[2] - counts[0]):
        assert f"{100 * value:.1f}" in text
    for name in CLASSES:
        assert name in text
    assert np.isfinite(counts).all()
