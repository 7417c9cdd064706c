"""``mxnetseg models`` and ``mxnetseg datasets``: what there is, and where it was looked for."""
import re
from pathlib import Path

import pytest

from mxnetseg.config import list_configs, load_config
from mxnetseg.data import list_datasets
from mxnetseg.models import list_models
from mxnetseg.models._sizes import SIZES
from mxnetseg.models.backbones import list_backbones
from mxnetseg.tools.main import main


def test_names_are_listed_one_a_line(capsys):
    assert main(["models", "--names"]) == 0
    assert capsys.readouterr().out.splitlines() == list_models()
    assert main(["models", "--backbones", "mit"]) == 0
    assert capsys.readouterr().out.splitlines() == [name for name in list_backbones() if "mit" in name]


def test_the_table_of_networks(capsys):
    assert main(["models"]) == 0
    header, *rows = capsys.readouterr().out.partition("\n\n")[0].splitlines()
    assert [row.split()[0] for row in rows] == list_models() and max(map(len, rows)) < 130
    by_name = {row.split()[0]: row for row in rows}
    assert by_name["fastscnn"].endswith("small, fast") and "82.2  Cityscapes val" in by_name["segformer"]
    assert by_name["segformer"].endswith("small, fast, accurate with MiT-B5")  # not with its default backbone
    assert "accurate" not in by_name["alignseg"] and "Cityscapes test" in by_name["alignseg"]


def test_the_kept_sizes_are_those_of_the_page():
    page = {cells[1].strip(): tuple(cell.strip() for cell in cells[2:6]) for cells in
            (row.split("|") for row in rows_of_the_page())}
    kept = {name: (size.backbone, f"{size.parameters:.2f}", f"{size.multiply_adds:.1f}", str(size.stride))
            for name, size in SIZES.items()}
    assert kept == page


def test_models_are_filtered_by_a_part_of_the_name(capsys):
    assert main(["models", "FC", "--names"]) == 0
    assert "fcn" in capsys.readouterr().out.split()
    assert main(["models", "nothing-is-called-so"]) == 1
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("name", list_configs())
def test_every_configuration_names_a_model_and_a_data_set_that_exist(name):
    config = load_config(name)
    assert config.model.name in list_models() and config.data.name in list_datasets()


def test_every_data_set_is_listed(capsys):
    assert main(["datasets"]) == 0
    assert sorted(line.split()[0] for line in capsys.readouterr().out.splitlines()) == sorted(list_datasets())


def test_the_data_sets_that_were_found_come_first(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MXNETSEG_DATA", str(tmp_path))
    for split in ("train", "trainannot"):
        (tmp_path / "camvid" / split).mkdir(parents=True)
    assert main(["datasets"]) == 0
    lines = capsys.readouterr().out.splitlines()
    missing = ["not found" in line for line in lines]
    assert missing == sorted(missing) and "camvid" in [line.split()[0] for line in lines[:missing.index(True)]]


def test_data_set_is_found_or_the_places_are_named(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MXNETSEG_DATA", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    assert main(["datasets", "camvid"]) == 0
    out = capsys.readouterr().out
    assert "found:     not found" in out and str(tmp_path / "data" / "camvid") in out and "bicyclist" in out
    for split in ("train", "trainannot"):
        (tmp_path / "mine" / split).mkdir(parents=True)
    assert main(["datasets", "camvid", "--root", str(tmp_path / "mine")]) == 0
    assert f"found:     {tmp_path / 'mine'}\n" in capsys.readouterr().out


def test_unknown_data_set_suggests(capsys):
    assert main(["datasets", "camvit"]) == 2
    assert "did you mean 'camvid'" in capsys.readouterr().err


TABLE = Path(__file__).resolve().parents[2] / "docs" / "models.md"


def rows_of_the_page():
    return [line for line in TABLE.read_text(encoding="utf-8").splitlines() if re.match(r"\| [a-z0-9]+ \|", line)][1:]


def test_the_page_of_networks_names_them_all():
    assert [row.split(" | ")[0].strip("| ") for row in rows_of_the_page()] == list_models()


def test_the_page_of_networks_says_what_the_command_says(capsys):
    assert main(["models", "fcn", "--table"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] in rows_of_the_page()


@pytest.mark.slow
def test_every_row_of_the_page_is_what_the_command_says(capsys):
    assert main(["models", "--table"]) == 0
    assert capsys.readouterr().out.splitlines()[2:] == rows_of_the_page()
