"""Lists of files: links, hidden files and broken links below a folder; names that leave it."""
import os

import pytest

from mxnetseg.data.audit import audit
from mxnetseg.data.base import list_files
from mxnetseg.data.folder import FolderDataset
from mxnetseg.data.listing import inside
from mxnetseg.errors import DataError, DataNotFoundError


def listed(root, suffixes=(".png",)):
    return [path.relative_to(root).as_posix() for path in list_files(root, suffixes)]


def touch(*paths):
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_links_to_folders_are_followed(tmp_path):
    touch(tmp_path / "disk" / "2.png", tmp_path / "disk" / "deep" / "3.png", tmp_path / "images" / "1.png")
    (tmp_path / "images" / "more").symlink_to(tmp_path / "disk", target_is_directory=True)
    assert listed(tmp_path / "images") == ["1.png", "more/2.png", "more/deep/3.png"]
    (tmp_path / "linked").symlink_to("images")
    assert listed(tmp_path / "linked") == ["1.png", "more/2.png", "more/deep/3.png"]


def test_a_circle_of_links_ends(tmp_path):
    touch(tmp_path / "a" / "1.png", tmp_path / "b" / "2.png")
    (tmp_path / "a" / "self").symlink_to(".")
    (tmp_path / "a" / "up").symlink_to("..")
    (tmp_path / "a" / "across").symlink_to("../b")
    (tmp_path / "b" / "back").symlink_to("../a")
    assert listed(tmp_path) == ["a/1.png", "b/2.png"]
    assert listed(tmp_path / "a") == ["1.png", "across/2.png"]
    (tmp_path / "a" / "across").unlink()
    assert listed(tmp_path / "a") == ["1.png"]  # b is not below a: up leads back


def test_a_folder_reached_by_two_paths_is_listed_once(tmp_path):
    touch(tmp_path / "images" / "z" / "1.png", tmp_path / "disk" / "part" / "2.png")
    (tmp_path / "images" / "a").symlink_to("z")  # the folder's own path is used, though the link comes first
    for link in ("n", "m"):
        (tmp_path / "images" / link).symlink_to(tmp_path / "disk")
    (tmp_path / "images" / "o").symlink_to(tmp_path / "disk" / "part")
    assert listed(tmp_path / "images") == ["m/part/2.png", "z/1.png"]


def test_hidden_files_are_left_out(tmp_path):
    touch(tmp_path / "x.png", tmp_path / "._x.png", tmp_path / ".DS_Store", tmp_path / ".trash" / "y.png",
          tmp_path / "__MACOSX" / "._z.png")
    (tmp_path / ".#x.png").symlink_to("nowhere")  # a lock file of an editor
    assert listed(tmp_path) == ["x.png"]


def test_a_broken_link_is_listed_if_named_like_an_image_and_refused_otherwise(tmp_path):
    (tmp_path / "a.png").symlink_to("nowhere.png")
    assert listed(tmp_path) == ["a.png"]
    (tmp_path / "part2").symlink_to(tmp_path / "unmounted")
    with pytest.raises(DataNotFoundError, match="leads nowhere") as error:
        list_files(tmp_path, (".png",))
    assert error.value.where == tmp_path / "part2" and str(tmp_path / "unmounted") in error.value.received
    (tmp_path / "part2").unlink()
    (tmp_path / "part3").symlink_to("part3")
    with pytest.raises(DataNotFoundError, match="leads nowhere"):
        list_files(tmp_path, (".png",))


def test_a_folder_that_cannot_be_read_is_refused(tmp_path, monkeypatch):
    touch(tmp_path / "images" / "secret" / "1.png")
    scandir = os.scandir

    def refuse(path):
        if str(path).endswith("secret"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(DataError, match="cannot be read") as error:
        list_files(tmp_path / "images", (".png",))
    assert error.value.where == tmp_path / "images" / "secret"


def test_folder_data_in_linked_folders_is_complete(folder, tmp_path, write):
    for part, suffix in (("images", "jpg"), ("masks", "png")):
        write(tmp_path / "disk" / part / f"b0.{suffix}", None if part == "images" else 1)
        (folder / part / "more").symlink_to(tmp_path / "disk" / part)
    names = [pair.name for split in ("train", "val") for pair in FolderDataset(split=split, root=folder)._pairs]
    assert sorted(names) == [*(f"a{i}" for i in range(10)), "more/b0"]


def test_check_data_reports_broken_links(folder):
    (folder / "images" / "b0.jpg").symlink_to("gone.jpg")
    (folder / "masks" / "b0.png").symlink_to("gone.png")
    assert audit("folder", root=folder).counts["missing"] >= 1
    (folder / "images" / "part2").symlink_to("gone")
    with pytest.raises(DataNotFoundError, match="leads nowhere"):
        audit("folder", root=folder)


@pytest.mark.parametrize("path, plain", [
    ("a/b.png", "a/b.png"), ("a/../b.png", "b.png"), ("a\\b.png", "a/b.png"), ("{root}/a.png", "a.png"),
    ("../x.png", None), ("a/../../x.png", None), ("..\\..\\x.png", None), ("/etc/passwd", None), ("..", None),
    ("a/..", None), ("", None), ("{root}-2/a.png", None), ("..a/b..c.png", "..a/b..c.png")])
def test_paths_inside_a_folder(tmp_path, path, plain):
    assert inside(tmp_path, path.format(root=tmp_path)) == plain
