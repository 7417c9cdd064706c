"""Lists of pairs, ``image mask`` a line, of data sets that are read by their folders: for other programs."""
from __future__ import annotations

from pathlib import Path
from typing import List, Optional, Tuple

from ...errors import DataError
from .. import get_dataset
from ..base import SegDataset
from .base import Job, Preparation, fingerprint, write_text


class _Lists(Preparation):
    """One list for each split, with paths below the source; those of a split without masks name the image alone."""

    makes = "train.txt, val.txt, trainval.txt, test.txt: 'image mask' a line; the pictures stay where they are"

    def jobs(self) -> List[Job]:
        splits = type(get_dataset(self.dataset, split="train", root=self.source)).splits
        return [self._job(split) for split in splits]

    def audited(self) -> Tuple[str, Path]:
        return self.dataset, self.source

    def _job(self, split: str) -> Job:
        target, text = self.target / f"{split}.txt", self._text(split)
        return Job(target, lambda: None if text is None else write_text(target, text), fingerprint(text))

    def _text(self, split: str) -> Optional[str]:
        try:
            dataset = get_dataset(self.dataset, split=split, root=self.source)
        except DataError:
            if split != "test":  # whose images are often not unpacked
                raise
            return None
        return "".join(_line(dataset, i) for i in range(len(dataset)))


class CityscapesLists(_Lists):
    """Of Cityscapes' fine annotations."""

    dataset = "cityscapes"
    needs = "leftImg8bit/ and gtFine/"


class ACDCLists(_Lists):
    """Of ACDC, all conditions together."""

    dataset = "acdc"
    needs = "rgb_anon/ and gt/"


def _line(dataset: SegDataset, i: int) -> str:
    return " ".join(path.relative_to(dataset.root).as_posix() for path in dataset.pair(i)[1:] if path) + "\n"
