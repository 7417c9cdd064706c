"""``mxnetseg datasets``: the description of one data set, and the Markdown page."""
from pathlib import Path

import miniatures
import pytest

from mxnetseg.data import get_dataset_class, list_datasets
from mxnetseg.tools.main import main

PAGE = Path(__file__).resolve().parents[2] / "docs" / "datasets.md"


@pytest.mark.parametrize("name", list_datasets())
def test_one_data_set_is_explained(name, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["datasets", name]) == 0
    out, dataset = capsys.readouterr().out, get_dataset_class(name)
    for i, (text, colour) in enumerate(zip(dataset.classes, dataset.palette)):
        assert f"{i:>3}  #{bytes(colour).hex()}  {text}\n" in out
    for split in dataset.splits:
        count = dataset.published_count(split)
        assert (f"{split}: {count} images" if count else split) in out
    assert all(line in out for line in [*dataset.layout.splitlines(), dataset.licence, dataset.home_page,
                                        dataset.preparation()])


def test_the_list_shows_the_folder(capsys, tmp_path, monkeypatch):
    mini = miniatures.siftflow_release(tmp_path)
    monkeypatch.chdir("/")
    for options, variable in ((["--root", str(tmp_path)], ""), (["--data-root", str(mini.root)], ""),
                              ([], str(tmp_path))):
        monkeypatch.setenv("MXNETSEG_DATA", variable)
        assert main(["datasets", *options]) == 0
        line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("siftflow "))
        assert line.endswith(str(mini.root)) and "33 classes" in line


def test_the_list_names_every_searched_folder_once(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MXNETSEG_DATA", "/data")
    assert main(["datasets"]) == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("gatech "))
    assert line.endswith(f"not found; looked in /data/GATECH; looked in {tmp_path}/dataset/GATECH")


def test_the_list_with_layouts(capsys):
    assert main(["datasets", "--layout"]) == 0
    out = capsys.readouterr().out
    names = [line.split()[0] for line in out.splitlines() if line and not line.startswith(" ")]
    assert sorted(names) == sorted(list_datasets())
    assert "\n    <root>/rgb_anon/{fog,night,rain,snow}/{train,val,test}/SEQUENCE/NAME_rgb_anon.png\n" in out


def test_the_page_is_the_output_of_the_command(capsys):
    assert main(["datasets", "--markdown"]) == 0
    made = capsys.readouterr().out
    assert PAGE.read_text(encoding="utf-8").endswith(made), "update it with the output of mxnetseg datasets --markdown"
