"""Built-in data set of street scenes, painted on first use.

It needs no download and is the same on every machine. A small network learns it within minutes, so it serves for
demonstrations, tests and first steps. `mxnetseg/data/sample/street.py` paints it.
"""
from __future__ import annotations

import json
import logging
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from ...errors import EnvironmentProblem, UsageError
from ...files import HOME_VARIABLE, expand, home
from ..base import IGNORE, Pair, PathLike, SegDataset
from .street import CLASSES, PALETTE, paint

VERSION = 3  # changed images are a new version, painted into a new folder
COUNTS = {"train": 160, "val": 40, "test": 20}
_SEED = 20
_FIRST_INDEX = {"train": 0, "val": 10000, "test": 20000}  # so that the splits share no scene
_MARKER = "sample.json"  # written last

_log = logging.getLogger(__name__)


class SampleDataset(SegDataset):
    """Street scenes of 288 x 192 pixels in 9 classes: 160 for training, 40 for validation, 20 for testing.

    Noon, dusk, night, rain, fog and snow alternate. Posts, traffic signs, lights and lamps are all
    ``pole``. Thin seams between the classes and the bonnet of the camera's car are ignored.

    Args:
        split: ``'train'``, ``'val'`` or ``'test'``.
        root: folder of the data set, painted if it does not exist; by default ``sample-<version>`` in
            ``$MXNETSEG_HOME`` (``~/.mxnetseg``).

    Raises:
        UsageError: ``root`` holds other files.
        EnvironmentProblem: the data set cannot be written there.
    """

    name = "sample"
    splits = tuple(COUNTS)
    classes = CLASSES
    palette = PALETTE
    licence = "made by this program; free for any use"
    layout = """\
<root>/images/SPLIT/NNN.png, masks/SPLIT/NNN.png      8-bit palette masks of class ids, 255 = ignore
<root>/classes.txt                                    makes it folder data as well"""
    label_hint = "remove the folder of the sample; it is painted again at the next use"

    @classmethod
    def places(cls, root: PathLike | None = None) -> list[Path]:
        """Return the one folder that holds the sample, or will hold it."""
        if root is not None:
            return [expand(root)]
        return [home() / f"sample-{VERSION}"]

    def _find_root(self, root: PathLike | None) -> Path:
        folder = self.places(root)[0]
        if not is_complete(folder):
            make_sample(folder, replace=root is None)  # the default folder belongs to mxnetseg
        return folder

    def find_pairs(self) -> list[Pair]:
        files = sorted((self.root / "images" / self.split).glob("*.png"))
        return [Pair(f"{self.split}/{f.stem}", f, self.root / "masks" / self.split / f.name) for f in files]


def is_complete(folder: Path) -> bool:
    """Return whether ``folder`` holds a sample of this version with all its files."""
    try:
        made = json.loads((folder / _MARKER).read_text(encoding="utf-8"))
        wanted = [folder / part / f"{name}.png" for part in ("images", "masks")
                  for split, count in made["counts"].items() for name in _names(split, count)]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False
    return made.get("version") == VERSION and all(path.is_file() for path in wanted)


def make_sample(folder: PathLike, *, counts: Mapping[str, int] | None = None, seed: int = _SEED,
                replace: bool = False) -> Path:
    """Paint the data set, and replace ``folder`` by it in one step.

    The data set is painted beside ``folder`` and then renamed, so ``folder`` never holds an incomplete one. If
    another process finishes first, its result is kept.

    Args:
        folder: the folder to make. The remains of another sample in it are replaced.
        counts: number of images in each split; by default ``COUNTS``.
        seed: seed of the series of scenes.
        replace: replace other contents of ``folder``, too.

    Returns:
        ``folder`` as a Path.

    Raises:
        UsageError: ``folder`` holds other files, which would be lost.
        EnvironmentProblem: the disk is full, or writing is not permitted.
    """
    folder, counts = Path(folder), dict(COUNTS if counts is None else counts)
    if not replace and _is_foreign(folder):
        raise UsageError("this folder holds other files than the built-in data set", where=folder,
                         fix="give a folder that is empty or does not exist yet, or leave the root out")
    _log.info("painting the built-in data set, %d images, once: %s", sum(counts.values()), folder)

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
            fix=f"make room or give write permission, or choose another place: {HOME_VARIABLE}=PATH",
        ) from error
    return folder


def _is_foreign(folder: Path) -> bool:
    if folder.is_dir():
        return not (folder / _MARKER).exists() and any(folder.iterdir())
    return folder.exists()


def _names(split: str, count: int) -> list[str]:
    return [f"{split}/{i:03d}" for i in range(count)]


def _fill(folder: Path, counts: Mapping[str, int], seed: int) -> None:
    colors = np.zeros((256, 3), np.uint8)
    colors[:len(PALETTE)] = PALETTE
    for split, count in counts.items():
        for part in ("images", "masks"):
            (folder / part / split).mkdir(parents=True)
        for i, name in enumerate(_names(split, count)):
            image, mask = paint(seed, _FIRST_INDEX[split] + i)
            Image.fromarray(image).save(folder / "images" / f"{name}.png", compress_level=4)
            mask_file = Image.fromarray(mask)
            mask_file.putpalette(colors.tobytes())  # changes the mode from L to P; the ids stay
            mask_file.save(folder / "masks" / f"{name}.png", optimize=False)
    lines = [f"{name} #{bytes(color).hex()}" for name, color in zip(CLASSES, PALETTE)]
    (folder / "classes.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    about = {"version": VERSION, "seed": seed, "counts": dict(counts), "ignore": IGNORE}
    (folder / _MARKER).write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")


def _put_in_place(made: Path, folder: Path) -> None:
    """Rename ``made`` to ``folder``, unless another process has put a complete sample there."""
    made.chmod(0o755)  # mkdtemp() makes folders that only their owner can read
    for _ in range(3):  # an attempt fails only if another process replaces the folder meanwhile
        try:
            os.rename(made, folder)
            return
        except OSError:
            if is_complete(folder):
                return
            if not folder.exists():
                raise

        # an incomplete sample: rename it first, so that two processes never delete the same files
        away = made.with_name(made.name + "-old")
        try:
            os.rename(folder, away)
        except FileNotFoundError:
            continue
        shutil.rmtree(away, ignore_errors=True)
    os.rename(made, folder)
