"""Images anywhere on the disk, named by list files with one line ``image mask`` each, without Python code."""
from __future__ import annotations

import os
import unicodedata
from pathlib import Path, PurePosixPath

from ..errors import DataError
from .base import Pair, read_list
from .folder import OwnDataset, find_split
from .layouts import split_line
from .listing import nfc


class ListDataset(OwnDataset):
    """``train.txt``, ``val.txt`` and ``test.txt`` with ``image mask`` on each line, class names in ``classes.txt``.

    Paths are absolute or below the folder of the lists. They are separated by a tab, a comma or white space; a
    path may contain spaces. The lines of ``test.txt`` need no mask. ``valid.txt`` and ``validation.txt`` are other
    spellings of ``val.txt``. Masks and ``classes.txt`` are as in
    :class:`~mxnetseg.data.folder.FolderDataset`.

    Args:
        split: ``'train'``, ``'val'``, ``'test'``, or ``'trainval'`` (the first two together).
        root: the folder of the lists.
    """

    name = "list"
    splits = ("train", "val", "test", "trainval")
    combined = {"trainval": ("train", "val")}
    markers = ("classes.txt",)
    layout = """\
<root>/classes.txt                    one class a line, id 0 first; a colour may follow: road #804080
<root>/{train,val,test}.txt           IMAGE MASK a line: paths, absolute or below <root>; test: IMAGE alone is enough"""

    def find_pairs(self) -> list[Pair]:
        return [pair for part in self.parts for pair in self._from_list(
            find_split(self.root, part, ".txt") or self.root / f"{part}.txt", part == "test")]

    def _from_list(self, path: Path, mask_is_optional: bool) -> list[Pair]:
        pairs: list[Pair] = []
        for number, line in enumerate(read_list(path), 1):
            image, mask = self._paths(line, mask_is_optional)
            if not image:
                self.problems.append(DataError(
                    "a line of a list is not a pair 'image mask'", where=f"{path}, entry {number}", received=line,
                    fix="write two paths, separated by a space; by a tab if a path contains spaces"))
                continue
            parts = PurePosixPath(image.replace("\\", "/")).with_suffix("").parts
            name = "/".join(part for part in parts if part not in ("/", "..") and not part.endswith(":"))
            pairs.append(Pair(nfc(name), self._file(image), self._file(mask) if mask else None))
        return pairs

    def _file(self, name: str) -> Path:
        """Return the file of a name; an accented name is looked for in both encodings, NFC and NFD."""
        path = self.root / os.path.expanduser(name)
        if not name.isascii() and not path.exists():
            for encoding in ("NFC", "NFD"):
                other = Path(unicodedata.normalize(encoding, str(path)))
                if other.exists():
                    return other
        return path

    def _paths(self, line: str, mask_is_optional: bool) -> tuple[str, str]:
        """Return image and mask of a line, split at the space where both files exist if there are several spaces."""
        words = split_line(line)
        if len(words) > 2 and words == line.split():
            cuts = [(" ".join(words[:k]), " ".join(words[k:])) for k in range(1, len(words))]
            for image, mask in cuts:
                if self._file(image).is_file() and self._file(mask).is_file():
                    return image, mask
        if mask_is_optional and (len(words) == 1 or self._file(line).is_file()):
            return line, ""
        return (words[0], words[1]) if len(words) == 2 else ("", "")
