"""`mxnetseg predict`: the images that arguments name, and the names of their results."""
from pathlib import Path

import pytest

from mxnetseg.errors import DataNotFoundError, UsageError
from mxnetseg.tools._predict_inputs import find_inputs, is_video


@pytest.fixture
def folder(tmp_path):
    for name in ("b.png", "a.JPG", "c.txt", ".hidden.png", "._a.JPG", "d.webp", "sub/e.png", ".thumbs/f.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def find(*named, out="no such folder", **options):
    return find_inputs(list(map(str, named)), out=Path(out), **options)


def test_images_of_a_folder_in_order_with_subfolders_and_without_hidden_ones(folder):
    assert find(folder) == {"a": folder / "a.JPG", "b": folder / "b.png", "d": folder / "d.webp",
                            "sub/e": folder / "sub" / "e.png"}
    assert list(find(folder, recurse=False)) == ["a", "b", "d"]


def test_files_keep_the_order_of_the_arguments_and_any_suffix(folder):
    assert list(find(folder / "d.webp", folder / "c.txt")) == ["d", "c"]


def test_a_pattern_that_the_shell_did_not_expand(folder):
    assert list(find(folder / "*.png")) == ["b"]
    assert list(find(folder / "**" / "*.png")) == ["b", "e"]
    (folder / "odd[1].png").touch()  # a file whose name looks like a pattern
    assert list(find(folder / "odd[1].png")) == ["odd[1]"]


@pytest.mark.parametrize("name", ["none.png", "empty", "*.bmp"])
def test_a_path_without_images_is_an_error(folder, name):
    (folder / "empty").mkdir()
    with pytest.raises(DataNotFoundError) as error:
        find(folder / "b.png", folder / name)
    assert str(folder / name) in str(error.value) and error.value.fix


def test_two_images_of_one_name_both_get_results(folder):
    (folder / "a.png").touch()
    assert list(find(folder)) == ["a.JPG", "a.png", "b", "d", "sub/e"]
    assert len(find(folder / "b.png", folder / "b.png", folder)) == 5  # an image named twice is predicted once


def test_same_names_in_two_folders(folder):
    for camera in ("left", "right"):
        (folder / camera).mkdir()
        (folder / camera / "1.png").touch()
    assert find(folder / "left", folder / "right") == {"left/1.png": folder / "left" / "1.png",
                                                       "right/1.png": folder / "right" / "1.png"}
    (folder / "other" / "left").mkdir(parents=True)
    (folder / "other" / "left" / "1.png").touch()
    with pytest.raises(UsageError) as error:
        find(folder / "left", folder / "other" / "left")
    assert "--out" in error.value.fix and "1.png" in str(error.value)


def test_formats_that_are_not_read_are_reported(folder, capsys):
    (folder / "drawing.svg").touch()
    (folder / "phone.HEIC").touch()
    assert len(find(folder)) == 4
    assert "1 .heic, 1 .svg" in capsys.readouterr().out
    with pytest.raises(UsageError) as error:
        find(folder / "phone.HEIC")
    assert "PNG" in error.value.fix
    (folder / "phones").mkdir()
    (folder / "phones" / "x.heic").touch()
    with pytest.raises(DataNotFoundError) as error:
        find(folder / "phones")
    assert "1 .heic" in str(error.value)


def test_videos_are_found_with_the_images(folder):
    for name in ("a.mp4", "sub/Film.MOV", ".hidden.mkv"):
        (folder / name).touch()
    assert list(find(folder)) == ["a.JPG", "a.mp4", "b", "d", "sub/Film", "sub/e"]
    assert [is_video(file) for file in find(folder).values()] == [False, True, False, False, True, False]


def test_earlier_results_are_not_taken_as_images(folder):
    (folder / "out").mkdir()
    (folder / "out" / "a_overlay.png").touch()
    assert "out/a_overlay" in find(folder)
    assert "out/a_overlay" not in find(folder, out=folder / "out")
    assert list(find(folder / "out", out=folder / "out")) == ["a_overlay"]  # unless the folder is named
