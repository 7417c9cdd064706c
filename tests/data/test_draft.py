"""Folder and list data without ``classes.txt``: the draft made from the masks can be used as it is printed."""
import re

import numpy as np
import pytest
from PIL import Image

from mxnetseg.data import get_dataset
from mxnetseg.data.base import voc_palette
from mxnetseg.data.draft import draft_classes
from mxnetseg.data.folder import FolderDataset
from mxnetseg.data.prepare import prepare
from mxnetseg.errors import DataNotFoundError

THREE = np.array([(0, 0, 0), (255, 0, 0), (0, 0, 255)], np.uint8)


@pytest.fixture
def bare(folder):
    """The folder without ``classes.txt``."""
    (folder / "classes.txt").unlink()
    return folder


def ids_of(folder):
    return {path.name: np.array(Image.open(path)) for path in (folder / "masks").iterdir()}


def refusal(folder, **arguments):
    with pytest.raises(DataNotFoundError, match="classes.txt is missing") as error:
        FolderDataset(root=folder, **arguments)
    assert error.value.where == folder / "classes.txt"
    return error.value


def draft_in(error):
    """Return the lines of the draft in a message, as a user would copy them."""
    return [line.strip() for line in str(error).splitlines() if re.match(r"\s+class\d+", line)]


def test_ids(bare):
    error = refusal(bare)
    assert error.what == "classes.txt is missing: 10 pairs found, 3 values; a draft follows"
    assert draft_in(error) == ["class0", "class1", "class2"] and "prepare" not in error.fix
    (bare / "classes.txt").write_text("\n".join(draft_in(error)))
    assert FolderDataset(root=bare)[0].mask.max() == 2
    assert draft_in(error) == draft_in(refused_again(bare, "val"))


def refused_again(folder, split):
    (folder / "classes.txt").unlink()
    return refusal(folder, split=split)


def test_ignored_pixels_are_not_a_class(bare, write):
    for i in range(10):
        write(bare / "masks" / f"a{i}.png", np.uint8([[0, 1, 255, 3] * 8] * 24))
    assert draft_in(refusal(bare)) == ["class0", "class1", "class2", "class3"]


def test_colours(bare, write):
    before = ids_of(bare)
    for name, ids in before.items():
        write(bare / "masks" / name, THREE[ids])
    error = refusal(bare)
    assert error.what.endswith("10 pairs found, 3 colours; a draft follows") and "black means" in error.fix
    assert sorted(line.split()[1] for line in draft_in(error)) == ["#000000", "#0000ff", "#ff0000"]
    (bare / "classes.txt").write_text("\n".join(draft_in(error)))
    dataset = FolderDataset(root=bare)
    for i in range(len(dataset)):
        assert (dataset.palette[dataset[i].mask] == THREE[before[dataset.mask_path(i).name]]).all()


@pytest.mark.parametrize("values", [(0, 255), (0, 128), (0, 85, 170)])
def test_grey_levels_are_treated_as_colours(bare, write, values):
    before = ids_of(bare)
    for name, ids in before.items():
        write(bare / "masks" / name, np.uint8(values)[ids % len(values)])
    error = refusal(bare)
    assert f"{len(values)} colours" in error.what
    (bare / "classes.txt").write_text("\n".join(draft_in(error)))
    assert f"mxnetseg prepare colours {bare} DST" in error.fix
    prepare("colours", bare, bare.parent / "made")
    dataset = FolderDataset(root=bare.parent / "made")
    shown = dataset.palette[dataset[0].mask]
    assert (shown[..., 0] == np.uint8(values)[before[dataset.mask_path(0).name] % len(values)]).all()


def save_palette(path, ids, colours):
    image = Image.fromarray(ids)
    image.putpalette(colours.tobytes())
    image.save(path)


def test_palette_masks_give_ids_and_colours(bare):
    for name, ids in ids_of(bare).items():
        save_palette(bare / "masks" / name, ids, voc_palette(256))
    error = refusal(bare)
    assert draft_in(error) == ["class0 #000000", "class1 #800000", "class2 #008000"]
    (bare / "classes.txt").write_text("\n".join(draft_in(error)))
    assert FolderDataset(root=bare)[0].mask.max() == 2


def test_palettes_that_differ_are_read_by_colour(bare):
    for i, (name, ids) in enumerate(sorted(ids_of(bare).items())):
        order = np.roll([0, 1, 2], i)
        save_palette(bare / "masks" / name, np.argsort(order).astype(np.uint8)[ids], THREE[order])
    error = refusal(bare)
    assert "3 colours" in error.what and "prepare colours" in error.fix
    assert sorted(line.split()[1] for line in draft_in(error)) == ["#000000", "#0000ff", "#ff0000"]


def test_masks_without_recognisable_classes(bare, write, rng):
    for i in range(10):
        write(bare / "masks" / f"a{i}.png", rng.integers(0, 256, (24, 32, 3), dtype=np.uint8))
    error = refusal(bare)
    assert not draft_in(error) and re.search(r"10 pairs found, \d{4} colours$", error.what)
    for i in range(10):
        write(bare / "masks" / f"a{i}.png", 0)
    error = refusal(bare)
    assert not draft_in(error) and error.what.endswith("10 pairs found, 1 value")


def test_nothing_to_draft_from(bare):
    for path in (bare / "masks").iterdir():
        path.write_bytes(b"no image")
    with pytest.raises(DataNotFoundError, match="was not found") as error:
        FolderDataset(root=bare)
    assert "it lacks classes.txt" in error.value.where


def test_damaged_masks_are_skipped_and_many_masks_are_sampled(tmp_path, write):
    masks = [write(tmp_path / f"{i}.png", i % 2) for i in range(300)]
    masks[0].write_bytes(b"no image")
    draft = draft_classes(masks)
    assert draft.found == "2 values in 200 of 300 masks" and draft.lines == ["class0", "class1"]


def test_list_data(bare, tmp_path):
    lists = tmp_path / "lists"
    lists.mkdir()
    (lists / "train.txt").write_text("".join(f"{bare}/images/a{i}.jpg {bare}/masks/a{i}.png\n" for i in range(4)))
    with pytest.raises(DataNotFoundError, match="4 pairs found, 3 values; a draft follows") as error:
        get_dataset(f"list:{lists}")
    (lists / "classes.txt").write_text("\n".join(draft_in(error.value)))
    assert get_dataset(f"list:{lists}").nclass == 3
