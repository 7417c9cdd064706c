"""The notebooks in demo/ are stored without results, and run from their first cell to their last."""
import ast
import json
import os
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "demo").glob("*.ipynb"))


def cells(path, kind="code"):
    found = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in found if cell["cell_type"] == kind]


def test_there_are_three():
    assert [path.stem for path in NOTEBOOKS] == ["from-gluoncv", "own-data", "tour"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_stored_without_results(path):
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        assert not cell.get("outputs") and cell.get("execution_count") is None


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_code_of_a_notebook_fits_the_library(path):
    """Imports exist, and commands take their options."""
    from importlib import import_module

    from mxnetseg.tools.main import COMMANDS, Parser
    for source in cells(path):
        for line in re.findall(r"^!(.+)$", source, re.MULTILINE):
            program, command, *arguments = line.split()
            parser = Parser(prog=line)
            module = import_module(COMMANDS[command][0])
            module.add_arguments(parser)
            assert program == "mxnetseg" and parser.parse_args(arguments), line
        for node in ast.walk(ast.parse(re.sub(r"^!.*$", "pass", source, flags=re.MULTILINE))):
            if isinstance(node, ast.ImportFrom) and node.module.startswith("mxnetseg"):
                for name in node.names:
                    assert hasattr(import_module(node.module), name.name), name.name


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_links_lead_to_files(path):
    for source in cells(path, "markdown"):
        for target in re.findall(r"\]\((?!https?:)([^)]+)\)", source):
            assert (path.parent / target).is_file(), target


@pytest.fixture
def ran(request, tmp_path, monkeypatch):
    """Run a notebook in an empty folder without a network, with the command mxnetseg on the path; return it."""
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    (tmp_path / "bin").mkdir()
    command = tmp_path / "bin" / "mxnetseg"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m mxnetseg "$@"\n')
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{command.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    for scheme in ("http_proxy", "https_proxy"):  # where nothing listens: a download fails at once
        monkeypatch.setenv(scheme, "http://127.0.0.1:9")
    (tmp_path / "work").mkdir()
    notebook = nbformat.read(ROOT / "demo" / f"{request.param}.ipynb", as_version=4)
    nbclient.NotebookClient(notebook, timeout=1500, kernel_name="python3",
                            resources={"metadata": {"path": str(tmp_path / "work")}}).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    notebook.printed = "".join(output.get("text", "") for output in outputs)
    notebook.displays = ["".join(output.get("data", {}).get("text/html", "")) for output in outputs]
    notebook.folder = tmp_path / "work"
    return notebook


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("ran", ["tour"], indirect=True)
def test_the_tour_runs(ran):
    assert "mIoU" in ran.printed and list(ran.folder.glob("weights/**/*_best.params"))
    assert sum("data:image/jpeg" in html for html in ran.displays) == 2  # an item and a prediction
    assert max(map(len, ran.displays)) < 500_000


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("ran", ["own-data"], indirect=True)
def test_own_data_runs(ran):
    assert list(ran.folder.glob("weights/**/*_best.params")) and "24 overlays" in ran.printed
    assert "error" not in ran.printed.lower().replace("0 errors", "")
    assert sum("data:image/" in html for html in ran.displays) == 2


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("ran", ["from-gluoncv"], indirect=True)
def test_from_gluoncv_runs(ran):
    agreement = float(re.search(r"([\d.]+)% of the pixels", ran.printed)[1])
    classes = int(re.search(r"of (\d+) classes in the image", ran.printed)[1])
    assert agreement > 99 and classes > 3
    for name in ("pixel accuracy", "mIoU, absent as 0"):
        theirs, ours = map(float, re.search(rf"{name}\s+([\d.]+)\s+([\d.]+)", ran.printed).groups())
        assert theirs == pytest.approx(ours, abs=1e-6)
