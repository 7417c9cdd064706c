"""`mxnetseg predict`: which pictures are meant."""
import pytest

from mxnetseg.errors import DataNotFoundError, UsageError
from mxnetseg.tools.predict import _files


@pytest.fixture
def folder(tmp_path):
    for name in ("b.png", "a.JPG", "c.txt", ".hidden", "d.webp"):
        (tmp_path / name).touch()
    return tmp_path


def test_the_pictures_of_a_folder_in_order_and_nothing_else(folder):
    assert [p.name for p in _files([folder])] == ["a.JPG", "b.png", "d.webp"]


def test_files_as_they_were_named(folder):
    assert [p.name for p in _files([folder / "d.webp", folder / "c.txt"])] == ["d.webp", "c.txt"]


@pytest.mark.parametrize("name", ["none.png", "empty"])
def test_nothing_there(folder, name):
    (folder / "empty").mkdir()
    with pytest.raises(DataNotFoundError) as error:
        _files([folder / "b.png", folder / name])
    assert str(folder / name) in str(error.value) and ".png" in error.value.fix


def test_two_of_one_name_would_overwrite_each_other(folder):
    (folder / "a.png").touch()
    with pytest.raises(UsageError) as error:
        _files([folder])
    assert "a.JPG" in str(error.value) and "a.png" in str(error.value)
    assert len(_files([folder / "b.png", folder / "b.png"])) == 2  # the same one twice is no conflict
