"""Every data set, damaged in every way that its layout allows: each error names the file and a fix.

A kind of damage is a function of a :class:`Case`: it damages the files of a new miniature and returns the text that
the error must contain. The miniature of a data set determines which kinds apply to it.
"""
import json
import shutil
from pathlib import Path
from typing import NamedTuple

import image_files
import miniatures
import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from mxnetseg.data import get_dataset, get_dataset_class, list_datasets
from mxnetseg.errors import DataError, DataNotFoundError, MXNetSegError, UnknownNameError

LEAST_KINDS = 12


class Case(NamedTuple):
    """A miniature to damage, with the first pair of its training split."""

    name: str
    mini: miniatures.Mini
    image: Path
    mask: Path

    @property
    def list(self) -> Path:
        return self.mini.lists["train"]


DAMAGES = []


def damage(error: type[MXNetSegError], *, when=lambda case: True, opened=False, split="train"):
    """Register a kind of damage.

    Args:
        error: the error that must be raised.
        when: returns whether the damage applies to a case.
        opened: whether the files are damaged after the data set was opened.
        split: the split to open.
    """
    def register(spoil):
        DAMAGES.append((spoil, error, when, opened, split))
        return spoil
    return register


def by_list(case):
    return case.mini.driven_by == "list"


def by_files(case):
    return case.mini.driven_by != "list" and case.name != "sample"


def has_png(case):
    return case.mini.mask_format == "png"


def has_mat(case):
    return case.mini.mask_format == "mat"


# ---- whole data sets

@damage(DataNotFoundError, when=lambda case: case.name != "sample")  # the sample is painted again
def no_folder(case):
    shutil.rmtree(case.mini.root)
    return case.mini.root


@damage(DataNotFoundError, when=lambda case: bool(get_dataset_class(case.name).markers))
def incomplete_folder(case):
    marker = next(m for m in get_dataset_class(case.name).markers[0].split("|") if (case.mini.root / m).exists())
    (case.mini.root / marker).rename(case.mini.root / "elsewhere")
    return marker


@damage(UnknownNameError, split="trian")
def unknown_split(case):
    return None


@damage(DataError, when=by_files)
def empty_split(case):
    driving, ending = (case.mask, ".png") if case.mini.driven_by == "mask" else (case.image, case.image.suffix)
    top = max(case.mini.root.iterdir(), key=lambda folder: driving.is_relative_to(folder))
    for path in top.rglob("*" + ending):
        path.unlink()
    return case.mini.root


# ---- pairs

@damage(DataNotFoundError, when=lambda case: case.mini.driven_by != "mask" and case.name != "sample")
def missing_mask(case):
    case.mask.unlink()
    return case.image if case.name == "folder" else case.mask.parent


@damage(DataNotFoundError, when=lambda case: case.mini.driven_by == "mask" or by_list(case))
def missing_image(case):
    case.image.unlink()
    return case.list if case.name == "folder" else case.image


@damage(DataNotFoundError, when=lambda case: case.mini.driven_by == "image" and case.name not in ("sample",))
def image_without_mask(case):
    new = case.image.with_name("9" + case.image.name)
    shutil.copy(case.image, new)
    return stem_of(new)


def stem_of(path):
    return path.name.replace("_leftImg8bit", "").replace("_rgb_anon", "").partition(".")[0]


@damage(DataNotFoundError, opened=True)
def image_removed_later(case):
    case.image.unlink()
    return case.image


@damage(DataNotFoundError, opened=True)
def mask_removed_later(case):
    case.mask.unlink()
    return case.mask


# ---- images

@damage(DataError)
def image_of_zero_bytes(case):
    case.image.write_bytes(b"")
    return case.image


@damage(DataError)
def truncated_image(case):
    case.image.write_bytes(case.image.read_bytes()[:case.image.stat().st_size // 2])
    return case.image


@damage(DataError)
def text_instead_of_an_image(case):
    case.image.write_text("<html>404: not found</html>")
    return case.image


@damage(DataError)
def image_of_16_bits(case):
    Image.fromarray(np.full((24, 32), 300, np.uint16)).save(case.image, format="TIFF")
    return case.image


@damage(DataError)
def image_that_is_partly_transparent(case):
    Image.fromarray(np.full((24, 32, 4), 90, np.uint8)).save(case.image, format="PNG")
    return case.image


@damage(DataError)
def image_of_two_pages(case):
    page = Image.fromarray(np.full((24, 32, 3), 90, np.uint8))
    page.save(case.image, format="TIFF", save_all=True, append_images=[page])
    return case.image


@damage(DataError)
def image_of_a_claimed_size(case):
    case.image.write_bytes(image_files.png_of_claimed_size(16000, 16000))
    return case.image


@damage(DataError)
def image_of_another_size(case):
    miniatures.write_image(case.image)
    with Image.open(case.image) as image:
        image.resize((16, 12)).save(case.image)
    return case.image


# ---- masks

@damage(DataError)
def mask_of_zero_bytes(case):
    case.mask.write_bytes(b"")
    return case.mask


@damage(DataError)
def truncated_mask(case):
    case.mask.write_bytes(case.mask.read_bytes()[:case.mask.stat().st_size // 2])
    return case.mask


@damage(DataError)
def text_instead_of_a_mask(case):
    case.mask.write_text("version https://git-lfs.github.com/spec/v1")
    return case.mask


@damage(DataError, when=lambda case: case.mini.mask_format != "rgb")
def transposed_mask(case):
    miniatures.write_mask(case.mask, miniatures.ids_of(case.mini).T)
    return case.mask


@damage(DataError, when=lambda case: case.mini.mask_format != "rgb")
def label_outside_the_classes(case):
    ids = miniatures.ids_of(case.mini)
    ids[0, 0] = case.mini.outside
    miniatures.write_mask(case.mask, ids)
    return case.mask


@damage(DataError, when=lambda case: case.mini.mask_format == "rgb")
def colour_of_no_class(case):
    with Image.open(case.mask) as mask:
        spoiled = np.array(mask)
    spoiled[0, 0] = (1, 2, 3)
    miniatures.write_mask(case.mask, spoiled)
    return case.mask


@damage(DataError, when=lambda case: case.mini.mask_format == "rgb")
def mask_resized_smoothly(case):
    with Image.open(case.mask) as mask:
        mask.resize((40, 40), Image.BILINEAR).resize((32, 24), Image.BILINEAR).save(case.mask)
    return case.mask


@damage(DataError, when=has_png)
def rgb_mask(case):
    miniatures.write_mask(case.mask, np.full((24, 32, 3), 90, np.uint8))
    return case.mask


@damage(DataError, when=has_png)
def mask_of_16_bits(case):
    miniatures.write_mask(case.mask, np.full((24, 32), 300, np.uint16))
    return case.mask


@damage(DataError, when=has_png)
def mask_of_two_pages(case):
    page = Image.fromarray(miniatures.ids_of(case.mini))
    page.save(case.mask, format="TIFF", save_all=True, append_images=[page])
    return case.mask


@damage(DataError, when=has_png)
def jpeg_mask_named_png(case):
    Image.fromarray(miniatures.ids_of(case.mini)).save(case.mask, format="JPEG")
    return case.mask


@damage(DataError, when=has_mat)
def mat_without_the_variable(case):
    savemat(case.mask, {"LabelMap": miniatures.ids_of(case.mini)})
    return case.mask


@damage(DataError, when=has_mat)
def mat_of_large_ids(case):
    miniatures.write_mask(case.mask, np.full((24, 32), 300, np.uint16))
    return case.mask


@damage(DataError, when=has_mat)
def mat_of_fractions(case):
    miniatures.write_mask(case.mask, np.full((24, 32), 1.5))
    return case.mask


@damage(DataError, when=has_mat)
def mat_of_a_colour_image(case):
    miniatures.write_mask(case.mask, np.zeros((24, 32, 3), np.uint8))
    return case.mask


@damage(DataError, when=has_mat)
def mat_of_version_7_3(case):
    case.mask.write_bytes(b"MATLAB 7.3 MAT-file, but its body was lost")
    return case.mask


# ---- lists

def needs_its_list(case):
    return by_list(case) and case.name not in ("camvid", "stanfordbackground")  # these can be read without lists


@damage(DataNotFoundError, when=needs_its_list)
def missing_list(case):
    case.list.unlink()
    return case.list.name


@damage(DataError, when=by_list)
def empty_list(case):
    case.list.write_text(" \n\n")
    return case.list


@damage(DataError, when=by_list)
def list_that_is_not_text(case):
    case.list.write_bytes(b"\xff\xfe\x00\x01")
    return case.list


@damage(DataNotFoundError, when=by_list)
def list_of_a_missing_image(case):
    line = "train/nowhere.png trainannot/nowhere.png" if case.mini.has_pairs else "nowhere"
    lines = case.list.read_text().splitlines()
    case.list.write_text("\n".join([lines[0], line, *lines[1:]]) + "\n")
    return "nowhere" if case.name != "folder" else case.list


@damage(DataError, when=by_list)
def list_that_repeats_itself(case):
    case.list.write_text(case.list.read_text() * 2)
    return case.image if case.name in ("camvid", "list") else case.list


@damage(DataError, when=lambda case: by_list(case) and case.mini.has_pairs)
def line_that_is_not_a_pair(case):
    lines = case.list.read_text().splitlines()
    case.list.write_text("\n".join([lines[0], lines[1] + " and more"]) + "\n")
    return f"{case.list}, entry 2"


# ---- damage of a single data set

def only(name):
    return lambda case: case.name == name


@damage(DataError, when=only("mapillary"))
def configuration_that_is_not_json(case):
    (case.mini.root / "config.json").write_text('{"labels": [')
    return "config.json"


@damage(DataError, when=only("mapillary"))
def configuration_without_labels(case):
    (case.mini.root / "config.json").write_text(json.dumps({"version": "1.2"}))
    return "config.json"


@damage(DataError, when=only("mapillary"))
def configuration_of_other_classes(case):
    names = [*miniatures.VISTAS[:7], "Ambiguous Barrier", *miniatures.VISTAS[7:]]
    (case.mini.root / "config.json").write_text(miniatures.vistas_config(names))
    return "config.json"


@damage(DataError, when=only("mapillary"))
def configuration_of_too_few_classes(case):
    (case.mini.root / "config.json").write_text(miniatures.vistas_config(miniatures.VISTAS[:60]))
    return "config.json"


@damage(DataNotFoundError, when=only("mhpv1"))
def missing_mask_of_the_second_person(case):
    second = case.mask.with_name(case.mask.name.replace("_01.png", "_02.png"))
    second.unlink()
    return second


@damage(DataError, when=only("mhpv1"))
def second_person_of_another_size(case):
    second = case.mask.with_name(case.mask.name.replace("_01.png", "_02.png"))
    miniatures.write_mask(second, np.zeros((9, 9), np.uint8))
    return second


# ---- the test

class Snapshot:
    """Contents of all files below a folder, to restore them later."""

    def __init__(self, folder):
        self.folder = folder
        self.files = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    def restore(self):
        for path in self.folder.rglob("*"):
            if path.is_file() and path not in self.files:
                path.unlink()
        for path, data in self.files.items():
            if not path.is_file() or path.read_bytes() != data:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)


@pytest.mark.parametrize("name", list_datasets())
def test_every_damage_is_reported_with_file_and_fix(name, tmp_path):
    mini = miniatures.MAKERS[name](tmp_path)
    snapshot = Snapshot(tmp_path)
    whole = get_dataset(name, root=mini.root)
    case = Case(name, mini, whole.image_path(0), whole.mask_path(0))
    faced, wrong = [], []
    for spoil, expected, when, opened, split in DAMAGES:
        if not when(case):
            continue
        faced.append(spoil.__name__)
        named = spoil(case)
        try:
            dataset = whole if opened else get_dataset(name, split=split, root=mini.root)
            for i in range(len(dataset)):
                _ = dataset[i]
            wrong.append(f"{spoil.__name__}: no error")
        except MXNetSegError as error:
            if not isinstance(error, expected) or not error.fix or named and str(named) not in str(error):
                wrong.append(f"{spoil.__name__}: wanted {expected.__name__} that names {named}, got "
                             f"{type(error).__name__}: {error}")
        snapshot.restore()
    assert not wrong, "\n".join(wrong)
    assert len(faced) >= LEAST_KINDS, faced
    assert [s.name for s in map(whole.__getitem__, range(len(whole)))] == list(mini.splits["train"])  # restored


def test_every_kind_of_damage_applies_to_some_data_set(tmp_path):
    met = set()
    for name in ("camvidfull", "mapillary", "mhpv1", "sbd", "list"):
        mini = miniatures.MAKERS[name](tmp_path / name)
        case = Case(name, mini, mini.root, mini.root)
        met |= {spoil.__name__ for spoil, _, when, *_ in DAMAGES if when(case)}
    assert met == {spoil.__name__ for spoil, *_ in DAMAGES}
