"""Files for contributors and for GitHub: they parse and agree with the package."""
import hashlib
import re
from pathlib import Path

import pytest
import yaml

import mxnetseg
from mxnetseg.models import MODELS
from mxnetseg.tools.main import COMMANDS

ROOT = Path(__file__).resolve().parents[1]
GITHUB = ROOT / ".github"
WORKFLOWS = sorted((GITHUB / "workflows").glob("*.y*ml"))
FORMS = [path for path in sorted((GITHUB / "ISSUE_TEMPLATE").glob("*.y*ml")) if path.stem != "config"]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md")), *sorted(GITHUB.rglob("*.md"))]
APACHE_2 = "cfc7749b96f63bd31c3c42b5c471bf756814053e847c10f3eb003417bc523d30"  # SHA-256 of apache.org's LICENSE-2.0.txt


def read(name):
    return (ROOT / name).read_text(encoding="utf-8")


def name_of(path):
    return path.name


def make_targets():
    return set(re.search(r"^\.PHONY: (.*)$", read("Makefile"), re.MULTILINE)[1].split())


def test_licence_is_the_unmodified_apache_text():
    assert hashlib.sha256((ROOT / "LICENSE").read_bytes()).hexdigest() == APACHE_2


def test_citation_names_this_version():
    citation = yaml.safe_load(read("CITATION.cff"))
    assert citation["cff-version"] == "1.2.0"
    assert citation["version"] == mxnetseg.__version__
    assert f'license="{citation["license"]}"' in read("setup.py")
    assert {"message", "title", "authors"} <= set(citation)


@pytest.mark.parametrize("path", WORKFLOWS, ids=name_of)
def test_workflow_calls_only_make_targets(path):
    jobs = yaml.safe_load(path.read_text(encoding="utf-8"))["jobs"]
    commands = [step["run"] for job in jobs.values() for step in job["steps"] if "run" in step]
    assert commands
    for command in commands:
        target = re.fullmatch(r"make ([\w-]+)", command.strip())
        assert target and target[1] in make_targets(), command


def test_workflow_runs_lint_and_tests_on_every_supported_python():
    jobs = yaml.safe_load(read(".github/workflows/ci.yml"))["jobs"]
    assert [step["run"] for step in jobs["lint"]["steps"] if "run" in step] == ["make lint"]
    assert [step["run"] for step in jobs["test"]["steps"] if "run" in step] == ["make test"]
    low, high = re.search(r'python_requires=">=3\.(\d+),<3\.(\d+)"', read("setup.py")).groups()
    versions = jobs["test"]["strategy"]["matrix"]["python-version"]
    assert versions == [f"3.{minor}" for minor in range(int(low), int(high))]


def test_there_are_issue_forms():
    assert {path.stem for path in FORMS} == {"bug_report", "wrong_result", "feature_request"}
    assert "blank_issues_enabled" in yaml.safe_load(read(".github/ISSUE_TEMPLATE/config.yml"))


@pytest.mark.parametrize("path", FORMS, ids=name_of)
def test_issue_form_is_valid(path):
    form = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert form["name"] and form["description"] and form["body"]
    fields = [item for item in form["body"] if item["type"] != "markdown"]
    for item in form["body"]:
        assert item["type"] in {"markdown", "textarea", "input", "dropdown", "checkboxes"}
        assert item["attributes"]["value" if item["type"] == "markdown" else "label"]
    assert any(item.get("validations", {}).get("required") for item in fields)
    identifiers, labels = [item["id"] for item in fields], [item["attributes"]["label"] for item in fields]
    assert len(set(identifiers)) == len(set(labels)) == len(fields)
    assert set(re.findall(r"`mxnetseg ([\w-]+)", path.read_text(encoding="utf-8"))) <= set(COMMANDS)


def test_pre_commit_uses_the_pinned_ruff():
    hooks = {Path(entry["repo"]).name: entry for entry in yaml.safe_load(read(".pre-commit-config.yaml"))["repos"]}
    pinned = re.search(r"^ruff==(.+)$", read("requirements-test.txt"), re.MULTILINE)[1]
    assert hooks["ruff-pre-commit"]["rev"] == f"v{pinned}"


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_page_names_make_targets_and_files_that_exist(path):
    text = path.read_text(encoding="utf-8")
    assert set(re.findall(r"`make ([a-z][a-z-]*)`", text)) <= make_targets()
    for link in re.findall(r"\]\(([^)#]+)", text):
        assert "://" in link or (path.parent / link).exists(), link


def test_contributing_names_every_folder_of_tests():
    table = re.search(r"^## Where the tests are$(.*?)^## ", read("CONTRIBUTING.md"), re.MULTILINE | re.DOTALL)[1]
    named = set(re.findall(r"^\| `(tests[\w/]*)`", table, re.MULTILINE))
    folders = {str(path.parent.relative_to(ROOT)) for path in (ROOT / "tests").rglob("test_*.py")}
    assert folders <= named and all((ROOT / folder).is_dir() for folder in named)
    for command in re.findall(r"pytest (tests/\S+)", table):
        assert (ROOT / command).is_file(), command
    for stem in re.findall(r"`(test_\w+\*?\.py)`", table):
        assert list((ROOT / "tests").rglob(stem)), stem


def test_licences_page_names_the_originals_of_every_network():
    rows = re.findall(r"^\| ([^|]+) \| ((?:`\w+` ?)+)\|", read("docs/licences.md"), re.MULTILINE)
    named = {"mxnetseg": set(), "gluoncv": set(), "mmseg": set(), "pytorch": set()}
    for original, networks in rows:
        form = {"MXNetSeg": "mxnetseg", "GluonCV": "gluoncv"}.get(
            original, "mmseg" if original.endswith("mmsegmentation") else "pytorch")
        named[form] |= set(re.findall(r"`(\w+)`", networks))
    known = {name: MODELS.get(name) for name in MODELS.names()}
    assert named["mxnetseg"] == {name for name, network in known.items() if network.mxnetseg_classes}
    for form in ("gluoncv", "mmseg"):
        assert named[form] == {name for name, network in known.items() if hasattr(network, f"from_{form}")}
    assert named["pytorch"] == {name for name, network in known.items() if hasattr(network, "from_pytorch")}
    assert set().union(*named.values()) == set(known)
