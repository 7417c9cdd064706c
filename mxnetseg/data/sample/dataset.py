"""The built-in data set: painted street scenes that make themselves on first use.

It needs no download, is the same everywhere, and a small network learns it within minutes, so
it serves demonstrations, tests and first steps. See :mod:`mxnetseg.data.sample.street` for the painter.
"""
from __future__ import annotations

import json
import logging
import os
import shutil
import tempfile
from pathlib import Path
from typing import List, Mapping, Optional

import numpy as np
from PIL import Image

from ...errors import EnvironmentProblem, UsageError
from ...files import HOME_VARIABLE, expand, home
from ..base import IGNORE, Pair, PathLike, SegDataset
from .street import CLASSES, PALETTE, paint

VERSION = 3  # a change of the pictures is a new version, made into a new folder
COUNTS = {"train": 160, "val": 40, "test": 20}
_SEED = 20
_FIRST_INDEX = {"train": 0, "val": 10000, "test": 20000}  # so that the splits share no scene
_MARKER = "sample.json"  # written last

_log = logging.getLogger(__name__)


class SampleDataset(SegDataset):
    """Street scenes of 288 x 192 pixels in 9 classes: 160 for training, 40 for validation, 20 for testing.

    Noon, dusk, night, rain, fog and snow take turns. Posts, traffic signs, lights and lamps are all
    ``pole``. Thin seams between the classes and the bonnet of the own car are ignored.

    Args:
        split: ``'train'``, ``'val'`` or ``'test'``.
        root: folder to make the data set in, or where it was made; by default ``sample-<version>`` in
            ``$MXNETSEG_HOME`` (``~/.mxnetseg``).

    Raises:
        UsageError: ``root`` holds something else.
        EnvironmentProblem: the data set cannot be written there.
    """

    name = "sample"
    splits = tuple(COUNTS)
    classes = CLASSES
    palette = PALETTE
    licence = "made by this program; free for any use"
    layout = """\
<root>/images/SPLIT/NNN.png, masks/SPLIT/NNN.png      8-bit palette masks of class ids, 255 = ignore
<root>/classes.txt                                    so it is folder data, too"""
    label_hint = "remove the folder of the sample; it is made anew when it is next asked for"

    @classmethod
    def places(cls, root: Optional[PathLike] = None) -> List[Path]:
        """The one folder where the sample is, or will be made."""
        if root is not None:
            return [expand(root)]
        return [home() / f"sample-{VERSION}"]

    def _find_root(self, root: Optional[PathLike]) -> Path:
        folder = self.places(root)[0]
        if not is_complete(folder):
            make_sample(folder, replace=root is None)  # the default folder is ours alone
        return folder

    def find_pairs(self) -> List[Pair]:
        files = sorted((self.root / "images" / self.split).glob("*.png"))
        return [Pair(f"{self.split}/{f.stem}", f, self.root / "masks" / self.split / f.name) for f in files]


def is_complete(folder: Path) -> bool:
    """Whether ``folder`` holds a sample of this version with all its files."""
    try:
        made = json.loads((folder / _MARKER).read_text(encoding="utf-8"))
        wanted = [folder / kind / f"{name}.png" for kind in ("images", "masks")
                  for split, count in made["counts"].items() for name in _names(split, count)]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False
    return made.get("version") == VERSION and all(path.is_file() for path in wanted)


def make_sample(folder: PathLike, *, counts: Optional[Mapping[str, int]] = None, seed: int = _SEED,
                replace: bool = False) -> Path:
    """Paint the data set, and put it in place of ``folder`` in one step.

    Nothing but a whole data set ever stands at ``folder``: it is painted beside it and then renamed. If
    another process finishes first, its result is kept.

    Args:
        folder: where to. What is left of another sample there is replaced.
        counts: pictures in each split; by default ``COUNTS``.
        seed: of the series of scenes.
        replace: replace whatever else is in ``folder``, too.

    Returns:
        ``folder`` as a Path.

    Raises:
        UsageError: ``folder`` holds something else, which would be lost.
        EnvironmentProblem: the disk is full, or one may not write there.
    """
    folder, counts = Path(folder), dict(COUNTS if counts is None else counts)
    if not replace and _is_foreign(folder):
        raise UsageError("this folder holds something else than the built-in data set", where=folder,
                         fix="give a folder that is empty or does not exist yet, or leave the root out")
    _log.info("painting the built-in data set, %d pictures, once: %s", sum(counts.values()), folder)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        try:
            _fill(made, counts, seed)
            _put_in_place(made, folder)
        finally:
            shutil.rmtree(made, ignore_errors=True)
    except OSError as error:
        raise EnvironmentProblem(
            "the built-in data set cannot be written", where=folder, received=error,
            fix=f"make room or give the right to write there, or choose another place: {HOME_VARIABLE}=PATH",
        ) from error
    return folder


def _is_foreign(folder: Path) -> bool:
    if folder.is_dir():
        return not (folder / _MARKER).exists() and any(folder.iterdir())
    return folder.exists()


def _names(split: str, count: int) -> List[str]:
    return [f"{split}/{i:03d}" for i in range(count)]


def _fill(folder: Path, counts: Mapping[str, int], seed: int) -> None:
    colors = np.zeros((256, 3), np.uint8)
    colors[:len(PALETTE)] = PALETTE
    for split, count in counts.items():
        for kind in ("images", "masks"):
            (folder / kind / split).mkdir(parents=True)
        for i, name in enumerate(_names(split, count)):
            image, mask = paint(seed, _FIRST_INDEX[split] + i)
            Image.fromarray(image).save(folder / "images" / f"{name}.png", compress_level=4)
            picture = Image.fromarray(mask)
            picture.putpalette(colors.tobytes())  # turns the mode from L to P; the ids stay
            picture.save(folder / "masks" / f"{name}.png", optimize=False)
    lines = [f"{name} #{bytes(color).hex()}" for name, color in zip(CLASSES, PALETTE)]
    (folder / "classes.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    about = {"version": VERSION, "seed": seed, "counts": dict(counts), "ignore": IGNORE}
    (folder / _MARKER).write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")


def _put_in_place(made: Path, folder: Path) -> None:
    """Rename ``made`` to ``folder``, unless somebody else's whole sample has come to stand there."""
    made.chmod(0o755)  # mkdtemp's folder is its owner's alone
    for _ in range(3):  # each turn loses against another process at most
        try:
            os.rename(made, folder)
            return
        except OSError:
            if is_complete(folder):
                return
            if not folder.exists():
                raise
        # an incomplete one: move it away whole, so that two processes never delete in each other's
        away = made.with_name(made.name + "-old")
        try:
            os.rename(folder, away)
        except FileNotFoundError:
            continue
        shutil.rmtree(away, ignore_errors=True)
    os.rename(made, folder)
