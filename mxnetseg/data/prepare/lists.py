"""Write lists of pairs, ``image mask`` a line, for other programs. mxnetseg reads these data sets by folder."""
from __future__ import annotations

from pathlib import Path

from ...errors import DataError
from .. import get_dataset
from ..base import SegDataset
from .base import Job, Preparation, fingerprint, write_text


class _Lists(Preparation):
    """Lists for each split, with paths below the source; lines of a split without masks hold the image only."""

    makes = "train.txt, val.txt, trainval.txt, test.txt: 'image mask' a line; the images stay in SRC"

    def jobs(self) -> list[Job]:
        splits = type(get_dataset(self.dataset, split="train", root=self.source)).splits
        return [self._job(split) for split in splits]

    def result_dataset(self) -> tuple[str, Path]:
        return self.dataset, self.source

    def _job(self, split: str) -> Job:
        target, text = self.target / f"{split}.txt", self._text(split)
        return Job(target, lambda: None if text is None else write_text(target, text), fingerprint(text))

    def _text(self, split: str) -> str | None:
        try:
            dataset = get_dataset(self.dataset, split=split, root=self.source)
        except DataError:
            if split != "test":  # the images of the test split are often not unpacked
                raise
            return None
        return "".join(_line(dataset, i) for i in range(len(dataset)))


class CityscapesLists(_Lists):
    """Lists of Cityscapes with its fine annotations."""

    dataset = "cityscapes"
    needs = "leftImg8bit/ and gtFine/"


class ACDCLists(_Lists):
    """Lists of ACDC, all conditions together."""

    dataset = "acdc"
    needs = "rgb_anon/ and gt/"


def _line(dataset: SegDataset, i: int) -> str:
    return " ".join(path.relative_to(dataset.root).as_posix() for path in dataset.pair(i)[1:] if path) + "\n"
