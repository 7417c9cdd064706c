"""Every data set in miniature: its folders, lists and raw label ids, with a few images in each split.

``MAKERS`` has a function for each registered data set. It writes below the given folder and returns a description of
the files. Raw ids are mapped to class names by hand here, so that tests find a wrong ``label_map`` or a wrong order of
classes.
"""
from __future__ import annotations

import json
from pathlib import Path
from typing import Callable, NamedTuple
from zlib import crc32

import numpy as np
from PIL import Image
from scipy.io import savemat

SIZE = 24, 32  # height, width

# raw ids of Cityscapes, which other data sets use as well
STREET = {7: "road", 8: "sidewalk", 17: "pole", 21: "vegetation", 24: "person", 33: "bicycle", 0: None, 4: None,
          29: None}
TRAIN_IDS = {0: "road", 1: "sidewalk", 5: "pole", 8: "vegetation", 11: "person", 18: "bicycle", 255: None}
VOC = {0: "background", 1: "aeroplane", 9: "chair", 15: "person", 20: "tvmonitor", 255: None}
ROOMS = {0: None, 1: "wall", 4: "bed", 22: "ceiling", 25: "television", 37: "bag"}


class Mini(NamedTuple):
    """Description of the written files.

    Attributes:
        root: the data set's own folder.
        splits: split -> names of its images, in order.
        ids: raw id -> class name, or None for ignored pixels. Every mask holds all of them.
        outside: a raw id without a class; None if there is no such value.
        lists: split -> its list file; empty if the data set is read by folder.
        without_masks: splits without masks.
        driven_by: files that decide which images a split holds: ``'list'``, ``'image'`` or ``'mask'``.
        mask_format: ``'png'``, ``'mat'`` or ``'rgb'``.
        has_pairs: True if a line of a list is ``image mask``.
    """

    root: Path
    splits: dict[str, tuple[str, ...]]
    ids: dict[int, str | None]
    outside: int | None = 222
    lists: dict[str, Path] = {}
    without_masks: tuple[str, ...] = ()
    driven_by: str = "image"
    mask_format: str = "png"
    has_pairs: bool = False


def ids_of(mini: Mini) -> np.ndarray:
    """Return the raw ids of every mask, uint8 (24, 32): one id in each column, repeated in order."""
    return np.resize(np.array(list(mini.ids), np.uint8), SIZE[1])[None].repeat(SIZE[0], 0)


def write_image(path: Path) -> Path:
    """Write an image of noise, which depends on the name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(crc32("/".join(path.parts[-5:]).encode()))
    Image.fromarray(rng.integers(0, 256, (*SIZE, 3), dtype=np.uint8)).save(path)
    return path


def write_mask(path: Path, ids: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".mat":
        # SBD reads a struct, other data sets a matrix; write both into one file
        savemat(path, {"S": ids, "GTcls": {"Segmentation": ids, "CategoriesPresent": np.unique(ids)}})
    else:
        Image.fromarray(ids).save(path)
    return path


def write_list(path: Path, lines) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def write_pairs(mini: Mini, files: dict[str, tuple[str, str | None]]) -> Mini:
    """Write the image and the mask of each name; paths are below the root, and ``{}`` is replaced by the name."""
    for name, (image, mask) in sorted(files.items()):
        write_image(mini.root / image.format(name))
        if mask:
            write_mask(mini.root / mask.format(name), ids_of(mini))
    return mini


def street(root: Path, conditions, image: str, mask: str, test_image: str) -> Mini:
    """Write the layout of ACDC for the given conditions."""
    splits = {part: tuple(f"{c}/{part}/GOPR01/GOPR01_frame_{i}" for c in conditions for i in range(n))
              for part, n in (("train", 2), ("val", 1), ("test", 1))}
    splits["trainval"] = splits["train"] + splits["val"]
    mini = Mini(root, splits, STREET, outside=34, without_masks=("test",))
    for name in splits["trainval"]:
        write_pairs(mini, {name: (image, mask)})
    for name in splits["test"]:
        write_pairs(mini, {name: (test_image, None)})
    return mini


def acdc(base: Path, conditions=("fog", "night", "rain", "snow")) -> Mini:
    # write all four, so that a data set of one condition must leave out the others
    everything = street(base / "ACDC", ("fog", "night", "rain", "snow"), "rgb_anon/{}_rgb_anon.png",
                        "gt/{}_gt_labelIds.png", "rgb_anon/{}_rgb_anon.png")
    write_image(everything.root / "rgb_anon/fog/train_ref/GOPR01/GOPR01_frame_0_rgb_ref_anon.png")
    write_mask(everything.root / "gt/fog/train/GOPR01/GOPR01_frame_0_gt_labelTrainIds.png", ids_of(everything))
    kept = {split: tuple(n for n in names if n.split("/")[0] in conditions)
            for split, names in everything.splits.items()}
    return everything._replace(splits=kept)


def ade20k(base: Path) -> Mini:
    root = base / "ADE20K" / "ADEChallengeData2016"
    splits = {"train": ("ADE_train_1", "ADE_train_2"), "val": ("ADE_val_1",), "test": ("ADE_test_1",)}
    splits["trainval"] = splits["train"] + splits["val"]
    ids = {0: None, 1: "wall", 7: "road", 49: "skyscraper", 150: "flag"}
    mini = Mini(root, splits, ids, outside=151, without_masks=("test",))
    for part, folder in (("train", "training"), ("val", "validation")):
        write_pairs(mini, {n: (f"images/{folder}/{{}}.jpg", f"annotations/{folder}/{{}}.png") for n in splits[part]})
    return write_pairs(mini, {"ADE_test_1": ("../release_test/testing/{}.jpg", None)})


def aeroscapes(base: Path) -> Mini:
    splits = {"train": ("000001_001", "000001_002"), "val": ("000002_001",)}
    ids = {0: "background", 1: "person", 4: "drone", 10: "road", 11: "sky", 255: None}
    return with_lists(base / "Aeroscapes", splits, ids, outside=12, image="JPEGImages/{}.jpg",
                      mask="SegmentationClass/{}.png", lists={"train": "ImageSets/trn.txt", "val": "ImageSets/val.txt"})


def with_lists(root: Path, splits, ids, *, outside, image, mask, lists, without_masks=(), mask_format="png",
               trainval=True) -> Mini:
    """Write a data set with lists of names; ``trainval`` adds a split without a list of its own."""
    for part, path in lists.items():
        write_list(root / path, splits[part])
    names = {n for group in splits.values() for n in group}
    unlabelled = {n for part in without_masks for n in splits[part]}
    if trainval:
        splits = {**splits, "trainval": splits["train"] + splits["val"]}
    mini = Mini(root, splits, ids, outside, {s: root / p for s, p in lists.items()}, tuple(without_masks), "list",
                mask_format)
    return write_pairs(mini, {n: (image, None if n in unlabelled else mask) for n in names})


def held_out(root: Path, names, val, ids, *, outside, image, mask, list_path="{}.txt", mask_format="png",
             has_pairs=False, test=("t_1",)) -> Mini:
    """Write a data set with a training and a test list, in which ``val`` is held out of the training list."""
    for part, group in (("train", names), ("test", test)):
        write_list(root / list_path.format(part), [f"{n}.jpg {n}.png" if has_pairs else n for n in group])
    splits = {"train": tuple(n for n in names if n not in val), "val": val, "test": test, "trainval": tuple(names)}
    train, tested = root / list_path.format("train"), root / list_path.format("test")
    mini = Mini(root, splits, ids, outside, {"train": train, "val": train, "trainval": train, "test": tested}, (),
                "list", mask_format, has_pairs)
    return write_pairs(mini, {n: (image, mask) for n in (*names, *test)})


def bdd100k(base: Path) -> Mini:
    splits = {"train": ("train/a1", "train/a2"), "val": ("val/b1",), "test": ("test/c1",)}
    splits["trainval"] = splits["train"] + splits["val"]
    mini = Mini(base / "BDD" / "seg", splits, TRAIN_IDS, outside=19, without_masks=("test",))
    write_pairs(mini, {n: ("images/{}.jpg", "labels/{}_train_id.png") for n in splits["trainval"]})
    return write_pairs(mini, {"test/c1": ("images/{}.jpg", None)})


CAMVID = {0: "sky", 3: "road", 4: "sidewalk", 8: "car", 10: "bicyclist", 11: None}


def camvid(base: Path) -> Mini:
    root = base / "CamVid"
    splits = {"train": ("train/0001TP_1", "train/0001TP_2"), "val": ("val/0016E5_1",), "test": ("test/Seq05VD_1",)}
    mini = Mini(root, {**splits, "trainval": splits["train"] + splits["val"]}, CAMVID, 12, {
        s: write_list(root / f"{s}.txt", [f"/SegNet/CamVid/{n}.png /SegNet/CamVid/{n.replace('/', 'annot/')}.png"
                                          for n in names]) for s, names in splits.items()}, (), "list", "png", True)
    return write_pairs(mini, {n: ("{}.png", n.replace("/", "annot/") + ".png") for g in splits.values() for n in g})


def camvidfull(base: Path) -> Mini:
    splits = {"train": ("0001TP_008520", "0006R0_f00930", "0016E5_00901", "0016E5_07920"), "val": ("0016E5_07959",),
              "test": ("0001TP_008550", "Seq05VD_f00000")}
    splits["trainval"] = tuple(sorted(splits["train"] + splits["val"]))
    colors = {
        0x808080: "sky", 0xC00080: "building", 0x008040: "building", 0x800000: "building", 0x400040: "building",
        0x40C000: "building", 0xC0C080: "pole", 0x000040: "pole", 0x804080: "road", 0x8000C0: "road", 0xC00040: "road",
        0x0000C0: "sidewalk", 0x40C080: "sidewalk", 0x8080C0: "sidewalk", 0x808000: "tree", 0xC0C000: "tree",
        0xC08080: "sign", 0x808040: "sign", 0x004040: "sign", 0x404080: "fence", 0x400080: "car", 0x4080C0: "car",
        0xC080C0: "car", 0xC04080: "car", 0x804040: "car", 0x404000: "pedestrian", 0xC08040: "pedestrian",
        0x4000C0: "pedestrian", 0x408040: "pedestrian", 0x0080C0: "bicyclist", 0xC000C0: "bicyclist", 0x000000: None}
    mini = Mini(base / "CamVidFull", splits, colors, outside=0x010203, mask_format="rgb")
    row = np.resize(np.array(list(colors)), SIZE[1])
    row = np.stack([row >> 16, row >> 8 & 255, row & 255], -1).astype(np.uint8)
    for name in splits["trainval"] + splits["test"]:
        write_image(mini.root / f"701_StillsRaw_full/{name}.png")
        write_mask(mini.root / f"LabeledApproved_full/{name}_L.png", row[None].repeat(SIZE[0], 0))
    return mini


def cityscapes(base: Path) -> Mini:
    splits = {"train": ("aachen/aachen_0_19", "bochum/bochum_0_19"), "val": ("lindau/lindau_0_19",),
              "test": ("berlin/berlin_0_19",)}
    mini = Mini(base / "Cityscapes", {**splits, "trainval": splits["train"] + splits["val"]}, STREET, 34,
                without_masks=("test",))
    for part, names in splits.items():
        masks = None if part == "test" else f"gtFine/{part}/{{}}_gtFine_labelIds.png"
        write_pairs(mini, {n: (f"leftImg8bit/{part}/{{}}_leftImg8bit.png", masks) for n in names})
    # further files of the release that belong to no pair
    write_image(mini.root / "gtFine/train/aachen/aachen_0_19_gtFine_color.png")
    write_image(mini.root / "leftImg8bit/train/aachen/aachen_0_19_rightImg8bit.png")
    return mini


def citycoarse(base: Path) -> Mini:
    mini = cityscapes(base)
    extra = "erlangen/erlangen_0_19"
    image = f"leftImg8bit/{{}}/{extra}_leftImg8bit.png"
    for part, name in (("train_extra", extra), ("train", "aachen/aachen_0_19"), ("train", "bochum/bochum_0_19")):
        write_image(mini.root / image.replace(extra, name).format(part))
        write_mask(mini.root / f"gtCoarse/{part}/{name}_gtCoarse_labelIds.png", ids_of(mini))
    splits = {"train": (extra,), "val": mini.splits["val"], "train_coarse": mini.splits["train"]}
    return mini._replace(without_masks=(), splits=splits)


def coco(base: Path) -> Mini:
    splits = {"train": ("000000000009", "000000000025"), "val": ("000000000139",)}
    mini = Mini(base / "COCO", splits, VOC, outside=21, driven_by="mask")
    for part, names in splits.items():
        write_pairs(mini, {n: (f"{part}2017/{{}}.jpg", f"voc_masks/{part}2017/{{}}.png") for n in names})
    write_image(mini.root / "train2017/000000000030.jpg")  # has no object of VOC
    return mini


STUFF = {0: None, 1: "person", 11: "fire hydrant", 13: "stop sign", 90: "toothbrush", 92: "banner", 182: "wood"}


def cocostuff10k(base: Path, outside: int = 12) -> Mini:
    names = tuple(f"COCO_train2014_{i:012d}" for i in (77, 78, 79))
    return held_out(base / "COCOStuff", names, names[2:], STUFF, outside=outside, image="images/{}.jpg",
                    mask="annotations/{}.mat", list_path="imageLists/{}.txt", mask_format="mat")


def cocostuff164k(base: Path) -> Mini:
    splits = {"train": ("000000000009", "000000000025"), "val": ("000000000139",)}
    ids = {255: None, 0: "person", 12: "stop sign", 89: "toothbrush", 91: "banner", 181: "wood"}
    mini = Mini(base / "COCOStuff164k", splits, ids, outside=11)
    for part, names in splits.items():
        write_pairs(mini, {n: (f"images/{part}2017/{{}}.jpg", f"annotations/{part}2017/{{}}.png") for n in names})
    return mini


def folder(base: Path) -> Mini:
    root = base / "pets"
    splits = {"train": ("a1", "a2"), "val": ("b1",), "test": ("c1",)}
    write_list(root / "classes.txt", ["ground", "cat", "big dog"])
    return with_lists(root, splits, {0: "ground", 1: "cat", 2: "big dog", 255: None}, outside=3, image="images/{}.jpg",
                      mask="masks/{}.png", lists={s: f"{s}.txt" for s in splits}, without_masks=("test",),
                      trainval=False)


def gatech(base: Path) -> Mini:
    names = ("01_1", "01_2", "02_1", "02_2", "03_1")
    ids = {0: None, 1: "sky", 3: "solid", 5: "cars", 6: "humans", 8: "general mix"}
    return held_out(base / "GATECH", names, ("03_1",), ids, outside=9, image="images/{}.jpg", mask="labels/{}.png")


def listfile(base: Path) -> Mini:
    root = base / "lists"
    write_list(root / "classes.txt", ["ground #102030", "cat", "big dog"])
    splits = {"train": ("in/x2", "in/x 3"), "val": ("in/y1",), "test": ("in/z1",)}
    mini = Mini(root, {**splits, "trainval": splits["train"] + splits["val"]},
                {0: "ground", 1: "cat", 2: "big dog", 255: None}, 3, {
        s: write_list(root / f"{s}.txt", [f"{n}.jpg ids/{n[3:]}.png" if s != "test" else f"{n}.jpg" for n in names])
        for s, names in splits.items()}, ("test",), "list", "png", True)
    return write_pairs(mini, {n: ("{}.jpg", None if n == "in/z1" else f"ids/{n[3:]}.png")
                              for group in splits.values() for n in group})


VISTAS = """Bird|Ground Animal|Curb|Fence|Guard Rail|Barrier|Wall|Bike Lane|Crosswalk - Plain|Curb Cut|Parking|
Pedestrian Area|Rail Track|Road|Service Lane|Sidewalk|Bridge|Building|Tunnel|Person|Bicyclist|Motorcyclist|
Other Rider|Lane Marking - Crosswalk|Lane Marking - General|Mountain|Sand|Sky|Snow|Terrain|Vegetation|Water|Banner|
Bench|Bike Rack|Billboard|Catch Basin|CCTV Camera|Fire Hydrant|Junction Box|Mailbox|Manhole|Phone Booth|Pothole|
Street Light|Pole|Traffic Sign Frame|Utility Pole|Traffic Light|Traffic Sign (Back)|Traffic Sign (Front)|Trash Can|
Bicycle|Boat|Bus|Car|Caravan|Motorcycle|On Rails|Other Vehicle|Trailer|Truck|Wheeled Slow|Car Mount|Ego Vehicle|
Unlabeled""".replace("\n", "").split("|")


def vistas_config(names) -> str:
    return json.dumps({"version": "1.1", "labels": [
        {"color": [i, 2 * i, 255 - i], "evaluate": name != "Unlabeled", "name": name.lower(), "readable": name}
        for i, name in enumerate(names)]})


def mapillary(base: Path) -> Mini:
    splits = {"train": ("train/a-2", "train/a_1"), "val": ("val/b",), "test": ("test/c",)}
    ids = {0: "Bird", 13: "Road", 27: "Sky", 55: "Car", 64: "Ego Vehicle", 65: None}
    mini = Mini(base / "Mapillary", {**splits, "trainval": splits["train"] + splits["val"]}, ids, 66,
                without_masks=("test",))
    write_list(mini.root / "config.json", [vistas_config(VISTAS)])
    for part, folder_of in (("train", "training"), ("val", "validation"), ("test", "testing")):
        for name in splits[part]:
            stem = name.split("/")[1]
            mask = None if part == "test" else f"{folder_of}/labels/{stem}.png"
            write_pairs(mini, {name: (f"{folder_of}/images/{stem}.jpg", mask)})
    return mini


def mhpv1(base: Path) -> Mini:
    root = base / "MHP" / "v1"
    names = ("0001", "0003", "0004", "0009")
    splits = {"train": names[:3], "val": names[3:], "test": ("4001",), "trainval": names}
    lists = {s: root / ("test_list.txt" if s == "test" else "train_list.txt") for s in splits}
    write_list(lists["train"], [f"{n}.jpg" for n in names])
    write_list(lists["test"], ["4001.jpg"])
    ids = {0: None, 1: "hat", 4: "upper clothes", 11: "face", 18: "torso skin"}
    mini = Mini(root, splits, ids, 19, lists, (), "list")
    whole = ids_of(mini)
    for name in (*names, "4001"):
        write_image(root / f"images/{name}.jpg")
        # the first person covers the top; the second has other classes there, and the remaining pixels
        top = slice(0, SIZE[0] // 2)
        first, second = np.zeros_like(whole), whole.copy()
        first[top] = whole[top]
        second[top] = np.where(whole[top] == 0, 0, np.roll(whole[top], 1, axis=1))
        write_mask(root / f"annotations/{name}_02_01.png", first)
        write_mask(root / f"annotations/{name}_02_02.png", second)
    return mini


def nyuv2(base: Path) -> Mini:
    ids = {**ROOMS, 38: "otherstructure", 40: "otherprop"}
    return with_lists(base / "NYUv2", {"train": ("0003", "0004"), "val": ("0001",)}, ids, outside=41,
                      image="images/{}.jpg", mask="labels40/{}.png", lists={"train": "train.txt", "val": "val.txt"})


def pascalcontext(base: Path, background=None) -> Mini:
    ids = {0: background, 1: "aeroplane", 2: "bag", 6: "bicycle", 26: "floor", 50: "table", 59: "wood"}
    return with_lists(base / "VOCdevkit" / "VOC2010", {"train": ("2008_01", "2008_03"), "val": ("2008_02",)}, ids,
                      outside=60, image="JPEGImages/{}.jpg", mask="SegmentationClassContext/{}.png",
                      lists={s: f"ImageSets/SegmentationContext/{s}.txt" for s in ("train", "val")})


def pascalvoc(base: Path) -> Mini:
    splits = {"train": ("2007_1", "2007_3"), "val": ("2007_2",), "trainval": ("2007_1", "2007_2", "2007_3"),
              "test": ("2008_1",)}
    return with_lists(base / "VOCdevkit" / "VOC2012", splits, VOC, outside=21, image="JPEGImages/{}.jpg",
                      without_masks=("test",), mask="SegmentationClass/{}.png", trainval=False,
                      lists={s: f"ImageSets/Segmentation/{s}.txt" for s in splits})


def pascalvocaug(base: Path) -> Mini:
    root = base / "VOCdevkit" / "VOCAug"
    voc, aug, val = ("2007_1",), ("2007_1", "2008_5"), ("2007_2",)
    files = {"train.txt": voc, "train_aug.txt": aug, "val.txt": val, "trainval_aug.txt": aug + val}
    for path, names in files.items():  # write both forms of lists that are in use
        write_list(root / path, names if path == "val.txt" else [f"{n}.jpg {n}.png" for n in names])
    lists = {s: root / p for s, p in (("train", "train_aug.txt"), ("train_aug", "train_aug.txt"), ("val", "val.txt"),
                                      ("trainval", "trainval_aug.txt"), ("train_voc", "train.txt"))}
    mini = Mini(root, {"train": aug, "train_aug": aug, "val": val, "trainval": aug + val, "train_voc": voc}, VOC, 21,
                lists, (), "list", "png", True)
    return write_pairs(mini, {n: ("img_aug/{}.jpg", "cls_aug/{}.png") for n in aug + val})


def sample(base: Path) -> Mini:
    from mxnetseg.data.sample.dataset import CLASSES, make_sample

    counts = {"train": 2, "val": 1, "test": 1}
    root = make_sample(base / "sample", counts=counts)
    splits = {s: tuple(f"{s}/{i:03d}" for i in range(n)) for s, n in counts.items()}
    return Mini(root, splits, {**dict(enumerate(CLASSES)), 255: None}, outside=len(CLASSES))


def sbd(base: Path) -> Mini:
    ids = {raw: name for raw, name in VOC.items() if name}
    return with_lists(base / "VOCdevkit" / "SBD", {"train": ("2008_1", "2008_3"), "val": ("2008_2",)}, ids, outside=21,
                      image="img/{}.jpg", mask="cls/{}.mat", lists={"train": "train.txt", "val": "val.txt"},
                      mask_format="mat")


SIFT = {0: None, 1: "awning", 6: "building", 22: "road", 28: "sky", 33: "window"}


def siftflow(base: Path) -> Mini:
    return with_lists(base / "SiftFlow", {"train": ("coast_1", "opencountry_2"), "val": ("coast_2",)}, SIFT, outside=34,
                      image="images/{}.jpg", mask="labels/{}.png", lists={"train": "train.txt", "val": "val.txt"},
                      trainval=False)


def siftflow_release(base: Path) -> Mini:
    root, folder_of = base / "SiftFlow", "spatial_envelope_256x256_static_8outdoorcategories"
    write_list(root / "TestSet1.txt", [folder_of + "\\coast_2.jpg"])
    mini = Mini(root, {"train": ("coast_1", "opencountry_2"), "val": ("coast_2",)}, SIFT, 34, mask_format="mat")
    return write_pairs(mini, {n: (f"Images/{folder_of}/{{}}.jpg", f"SemanticLabels/{folder_of}/{{}}.mat")
                              for n in ("coast_1", "coast_2", "opencountry_2")})


STANFORD = {0: "sky", 1: "tree", 2: "road", 7: "foreground object", 255: None}


def stanfordbackground(base: Path) -> Mini:
    return with_lists(base / "Stanford10", {"train": ("0000047", "0000051"), "val": ("0000059",)}, STANFORD, outside=8,
                      image="images/{}.jpg", mask="labels/{}.png",
                      lists={"train": "trainList.txt", "val": "evalList.txt"})


def stanford_release(base: Path) -> Mini:
    root, names = base / "Stanford10", tuple(f"000{i}" for i in range(5))
    # the hashes of the names decide which image is held out
    mini = Mini(root, {"train": (*names[:3], names[4]), "val": names[3:4],
                       "trainval": (*names[:3], names[4], names[3])}, STANFORD, 8)
    for name in names:
        write_image(root / f"images/{name}.jpg")
        rows = np.where(ids_of(mini) == 255, -1, ids_of(mini).astype(int))
        write_list(root / f"labels/{name}.regions.txt", [" ".join(map(str, row)) for row in rows])
        write_list(root / f"labels/{name}.surfaces.txt", ["1 2 3"])
    return mini


def sunrgbd(base: Path) -> Mini:
    return held_out(base / "SUNRGBD", ("a_1", "a_2", "a_3"), ("a_3",), ROOMS, outside=38, image="images/{}.jpg",
                    mask="labels/{}.png", has_pairs=True)


def weizmannhorses(base: Path) -> Mini:
    names = tuple(f"horse00{i}" for i in range(5))
    splits = {"train": names[:4], "val": names[4:], "trainval": names}
    mini = Mini(base / "WeizHorses", splits, {0: "background", 1: "horse", 255: "horse"}, outside=2)
    return write_pairs(mini, {n: ("horse/{}.jpg", "mask/{}.png") for n in names})


MAKERS: dict[str, Callable[[Path], Mini]] = {
    "acdc": acdc,
    **{f"acdc{c}": lambda base, c=c: acdc(base, (c,)) for c in ("fog", "night", "rain", "snow")},
    "ade20k": ade20k,
    "aeroscapes": aeroscapes,
    "bdd100k": bdd100k,
    "camvid": camvid,
    "camvidfull": camvidfull,
    "citycoarse": citycoarse,
    "cityscapes": cityscapes,
    "coco": coco,
    "cocostuff10k": cocostuff10k,
    "cocostuff164k": cocostuff164k,
    "cocostuff182": lambda base: cocostuff10k(base, outside=183),
    "folder": folder,
    "gatech": gatech,
    "list": listfile,
    "mapillary": mapillary,
    "mhpv1": mhpv1,
    "nyuv2": nyuv2,
    "pascalcontext": pascalcontext,
    "pascalcontext60": lambda base: pascalcontext(base, "background"),
    "pascalvoc": pascalvoc,
    "pascalvocaug": pascalvocaug,
    "sample": sample,
    "sbd": sbd,
    "siftflow": siftflow,
    "stanfordbackground": stanfordbackground,
    "sunrgbd": sunrgbd,
    "weizmannhorses": weizmannhorses,
}

# further layouts that a data set reads
VARIANTS: dict[str, tuple[str, Callable[[Path], Mini]]] = {
    "siftflow as released": ("siftflow", siftflow_release),
    "stanfordbackground as released": ("stanfordbackground", stanford_release),
}
