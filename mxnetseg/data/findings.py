"""The result of an audit: its findings, the contents of each split, and the class weights that follow."""
from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Dict, List, NamedTuple, Tuple

import numpy as np

from ..errors import MXNetSegError
from .base import IGNORE, SegDataset


class Kind(NamedTuple):
    """A kind of finding: whether it makes the audit fail, and its heading."""

    fails: bool
    title: str


KINDS: Dict[str, Kind] = {
    "list": Kind(True, "lists and splits"),
    "missing": Kind(True, "files that are not there"),
    "image": Kind(True, "images that cannot be read"),
    "mask": Kind(True, "masks that cannot be read"),
    "size": Kind(True, "image and mask differ in size"),
    "label": Kind(True, "labels outside the classes"),
    "binary": Kind(True, "masks of 0 and 255"),
    "leak": Kind(True, "one image in two splits"),
    "count": Kind(False, "not as many images as published"),
    "duplicate": Kind(False, "one image twice in a split"),
    "unlabelled": Kind(False, "masks without a labelled pixel"),
    "flat": Kind(False, "masks of a single class"),
    "absent": Kind(False, "classes without a pixel"),
    "odd": Kind(False, "unusual images"),
    "orphan": Kind(False, "masks without an image"),
}
SHOWN = 20  # findings of a kind that are by_split; all are counted


class Finding(NamedTuple):
    """One thing that is wrong.

    Attributes:
        kind: a key of :data:`KINDS`.
        split: where it was met, '' if in none.
        error: what, where, the value and how to mend it.
    """

    kind: str
    split: str
    error: MXNetSegError

    def to_dict(self) -> Dict[str, Any]:
        """Plain values, fit for JSON."""
        e = self.error
        return {"kind": self.kind, "split": self.split, "what": e.what,
                **{key: None if value is None else str(value)
                   for key, value in (("where", e.where), ("received", e.received), ("fix", e.fix))}}


@dataclass
class SplitStats:
    """What one split holds.

    Attributes:
        images: pairs that it lists.
        pixels: int64 (nclass,), pixels of each class.
        ignored: pixels that do not count.
        present_in: int64 (nclass,), images that hold the class.
        pixels_around: int64 (nclass,), all pixels of those images, ignored ones too.
        sizes: how many images there are of each (width, height).
        modes: how many files there are of each kind, such as ``'image JPEG RGB'``.
    """

    images: int
    pixels: np.ndarray
    ignored: int
    present_in: np.ndarray
    pixels_around: np.ndarray
    sizes: Counter = field(default_factory=Counter)
    modes: Counter = field(default_factory=Counter)

    @classmethod
    def empty(cls, images: int, nclass: int) -> SplitStats:
        """No pixel counted yet."""
        return cls(images, *(kind(nclass) for kind in (_zeros, lambda n: 0, _zeros, _zeros)))

    @property
    def frequency(self) -> np.ndarray:
        """Share of each class in the labelled pixels, float64 (nclass,); zeros if there are none."""
        return self.pixels / max(int(self.pixels.sum()), 1)

    def count(self, histogram: np.ndarray) -> None:
        """Take in a mask.

        Args:
            histogram: int64 (256,), pixels of each train id and, at 255, ignored ones.
        """
        n = len(self.pixels)
        here = histogram[:n] > 0
        self.pixels += histogram[:n]
        self.ignored += int(histogram[IGNORE])
        self.present_in += here
        self.pixels_around[here] += histogram.sum()

    def to_dict(self) -> Dict[str, Any]:
        """Plain values, fit for JSON."""
        return {"images": self.images, "pixels": self.pixels.tolist(), "ignored": self.ignored,
                "present_in": self.present_in.tolist(), "frequency": self.frequency.tolist(),
                "sizes": {f"{w}x{h}": n for (w, h), n in self.sizes.most_common()},
                "modes": dict(self.modes.most_common())}


@dataclass
class Audit:
    """The result of :func:`audit`.

    Attributes:
        dataset: any split of it, for its name, classes and root.
        splits: what each audited split holds.
        absent: splits that were not asked for and are not there, with the reason.
        findings: at most :data:`SHOWN` of each kind and split.
        counts: how many there were of each kind.
        by_split: how many there were of each (kind, split).
        allowed: kinds that do not make the audit fail although they otherwise would.
    """

    dataset: SegDataset
    splits: Dict[str, SplitStats] = field(default_factory=dict)
    absent: Dict[str, str] = field(default_factory=dict)
    findings: List[Finding] = field(default_factory=list)
    counts: Counter = field(default_factory=Counter)
    by_split: Counter = field(default_factory=Counter)
    allowed: Tuple[str, ...] = ()

    @property
    def failures(self) -> int:
        """Findings that must be mended."""
        return sum(n for kind, n in self.counts.items() if self.fails(kind))

    @property
    def passed(self) -> bool:
        """Whether the data set can be trained on as it is."""
        return not self.failures

    def fails(self, kind: str) -> bool:
        """Whether findings of this kind make the audit fail."""
        return KINDS[kind].fails and kind not in self.allowed

    def add(self, kind: str, split: str, error: MXNetSegError) -> None:
        """Note a finding; beyond :data:`SHOWN` of its kind and split it is only counted."""
        self.counts[kind] += 1
        self.by_split[kind, split] += 1
        if self.by_split[kind, split] <= SHOWN:
            self.findings.append(Finding(kind, split, error))

    @property
    def training_split(self) -> str:
        """``'train'`` if it was audited, else the first that was."""
        return "train" if "train" in self.splits else next(iter(self.splits))

    def weights(self) -> Dict[str, List[float]]:
        """Suggested class weights, from the training split: see :func:`median_frequency` and :func:`enet`."""
        stats = self.splits[self.training_split]
        return {"median frequency": median_frequency(stats).tolist(), "ENet": enet(stats).tolist()}

    def to_dict(self) -> Dict[str, Any]:
        """Plain values, fit for JSON."""
        return {
            "name": self.dataset.name, "root": str(self.dataset.root.absolute()), "passed": self.passed,
            "classes": list(self.dataset.classes),
            "splits": {name: stats.to_dict() for name, stats in self.splits.items()},
            "absent_splits": self.absent,
            "counts": dict(self.counts), "findings": [f.to_dict() for f in self.findings],
            "class_weights": self.weights() if self.splits else {},
        }


def median_frequency(stats: SplitStats) -> np.ndarray:
    """Median frequency balancing: float64 (nclass,), the median of all frequencies over the class's own.

    The frequency of a class is its pixels over all pixels of the images that hold it (Eigen and Fergus,
    Predicting depth, surface normals and semantic labels, ICCV 2015, section 6.3.2). A class without a pixel
    gets 1.
    """
    seen = stats.pixels > 0
    frequency = stats.pixels / np.maximum(stats.pixels_around, 1)
    weights = np.ones(len(seen))
    if seen.any():
        weights[seen] = np.median(frequency[seen]) / frequency[seen]
    return weights


def enet(stats: SplitStats) -> np.ndarray:
    """The weights of ENet: float64 (nclass,), ``1 / ln(1.02 + share of the labelled pixels)``, 1.4 to 50.5.

    Paszke et al., ENet, 2016, section 5.2.
    """
    return 1 / np.log(1.02 + stats.frequency)


def _zeros(n: int) -> np.ndarray:
    return np.zeros(n, np.int64)
