"""``mxnetseg summary``, and that every network has a paper."""
import json

import pytest

from mxnetseg.models import build_model, list_models
from mxnetseg.models._cost import measure
from mxnetseg.models._published import PAPERS, RESULTS, results
from mxnetseg.tools.main import main


def summary(capsys, *arguments):
    assert main(["summary", *arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_every_network_has_a_paper_and_no_other():
    assert sorted(PAPERS) == list_models()
    assert set(RESULTS) <= set(PAPERS)


@pytest.mark.parametrize("name", list_models())
def test_a_paper_can_be_found(name):
    paper = PAPERS[name]
    assert all([paper.title, paper.authors, paper.venue]) and paper.url.startswith("https://")
    assert paper.link.partition(":")[0] in ("arXiv", "doi", "https")


@pytest.mark.parametrize("name, result", [(name, result) for name in sorted(RESULTS) for result in results(name)])
def test_a_published_row_is_in_percent_and_says_whose_it_is(name, result):
    scores = [v for v in (result.miou, result.miou_ms, result.pa, result.pa_ms) if v is not None]
    assert scores and all(1 < v < 100 for v in scores)
    assert result.miou is None or result.miou_ms is None or result.miou < result.miou_ms
    assert result.by in str(result) and result.data in str(result)


def test_it_says_what_the_network_has(capsys):
    facts = summary(capsys, "BiSeNet", "--nclass", "5", "--size", "64", "96", "--aux")
    cost = measure(build_model("bisenet", nclass=5, aux=True), (64, 96))
    assert facts["model"] == "bisenet" and facts["backbone"] == "resnet18" and facts["size"] == [64, 96]
    assert facts["output_stride"] == 32 and facts["taps"][0] == [64, 4]
    assert facts["macs"]["layers"] == cost.layer_macs == facts["macs"]["backbone"] + facts["macs"]["heads"]
    parameters = facts["parameters"]
    assert parameters["all"] == cost.count() == parameters["backbone"] + parameters["heads"]
    assert parameters["all"] == parameters["trainable"] + parameters["not_trained"]
    assert sum(child["parameters"] for child in facts["children"]) == parameters["all"]
    assert facts["paper"]["link"] == "arXiv:1808.00897" and facts["published"][0]["miou"] == 71.6


def test_for_people(capsys):
    assert main(["summary", "fcn"]) == 0
    out = capsys.readouterr().out
    for text in ("fcn on resnet18, 19 classes", "12.372 M", "68.3", "Cityscapes", "by MXNetSeg", "backbone",
                 "Fully convolutional networks"):
        assert text in out
    assert main(["summary", "seenet", "--backbone", "resnet18"]) == 0
    assert "no figure known" in capsys.readouterr().out


def test_options_reach_the_network(capsys):
    small, large = (summary(capsys, "hrnet", "--set", text, "--size", "64")
                    for text in ("model.options.width=18", "width=48"))
    assert small["parameters"]["all"] < large["parameters"]["all"]
    names = [child["name"] for child in summary(capsys, "fcn", "--size", "64", "--depth", "2")["children"]]
    assert "backbone.layer1" in names
    assert summary(capsys, "fcn", "--output-stride", "32", "--size", "64")["output_stride"] == 32


@pytest.mark.parametrize("arguments, says", [
    (["bisnet"], "did you mean 'bisenet'"),
    (["fcn", "--backbone", "resnet19"], "did you mean 'resnet18'"),
    (["hrnet", "--set", "widht=18"], "did you mean 'width'"),
    (["fcn", "--size", "8"], "at least 32"),
    (["fcn", "--size", "64", "64", "64"], "height and width"),
    (["fcn", "--depth", "0"], "at least 1"),
])
def test_mistakes_are_told(arguments, says, capsys):
    assert main(["summary", *arguments]) == 2
    assert says in capsys.readouterr().err
