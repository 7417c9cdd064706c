"""Result of an audit: its findings, statistics of each split, and class weights computed from them."""
from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from ..errors import MXNetSegError
from .base import IGNORE, SegDataset


class FindingKind(NamedTuple):
    """Kind of a finding: whether it makes the audit fail, and its heading in the report."""

    fails: bool
    title: str


KINDS: dict[str, FindingKind] = {
    "list": FindingKind(True, "lists and splits"),
    "missing": FindingKind(True, "missing files"),
    "image": FindingKind(True, "images that cannot be read"),
    "mask": FindingKind(True, "masks that cannot be read"),
    "size": FindingKind(True, "image and mask differ in size"),
    "label": FindingKind(True, "labels outside the classes"),
    "binary": FindingKind(True, "masks of 0 and 255"),
    "leak": FindingKind(True, "one image in two splits"),
    "count": FindingKind(False, "not as many images as published"),
    "duplicate": FindingKind(False, "the same image twice in a split"),
    "unlabelled": FindingKind(False, "masks without a labelled pixel"),
    "flat": FindingKind(False, "masks of a single class"),
    "absent": FindingKind(False, "classes without a pixel"),
    "odd": FindingKind(False, "unusual images"),
    "orphan": FindingKind(False, "masks without an image"),
}
ENET = 1.02  # c of ENet's class weights 1 / ln(c + fraction of the labelled pixels)
SHOWN = 20  # findings of a kind and split that are kept; all are counted


class Finding(NamedTuple):
    """One problem.

    Attributes:
        kind: a key of :data:`KINDS`.
        split: the split in which it was found; '' if it belongs to none.
        error: the violation, where it is, the value, and the fix.
    """

    kind: str
    split: str
    error: MXNetSegError

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, fit for JSON."""
        e = self.error
        return {"kind": self.kind, "split": self.split, "what": e.what,
                **{key: None if value is None else str(value)
                   for key, value in (("where", e.where), ("received", e.received), ("fix", e.fix))}}


@dataclass
class SplitStats:
    """Statistics of one split.

    Attributes:
        images: number of pairs that it lists.
        pixels: int64 (nclass,), number of pixels of each class.
        ignored: number of ignored pixels.
        present_in: int64 (nclass,), number of images that contain the class.
        pixels_around: int64 (nclass,), number of all pixels of the images that contain the class, ignored ones too.
        sizes: number of images of each (width, height).
        modes: number of files of each format and mode, such as ``'image JPEG RGB'``.
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
        """Return statistics of a split without any pixel counted."""
        return cls(images, pixels=_zeros(nclass), ignored=0, present_in=_zeros(nclass), pixels_around=_zeros(nclass))

    @property
    def frequency(self) -> np.ndarray:
        """Fraction of the labelled pixels that each class covers, float64 (nclass,); zeros if there are none."""
        return self.pixels / max(int(self.pixels.sum()), 1)

    def count(self, histogram: np.ndarray) -> None:
        """Add the pixels of a mask.

        Args:
            histogram: int64 (256,), number of pixels of each train id and, at 255, of ignored pixels.
        """
        n = len(self.pixels)
        here = histogram[:n] > 0
        self.pixels += histogram[:n]
        self.ignored += int(histogram[IGNORE])
        self.present_in += here
        self.pixels_around[here] += histogram.sum()

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, fit for JSON."""
        return {"images": self.images, "pixels": self.pixels.tolist(), "ignored": self.ignored,
                "present_in": self.present_in.tolist(), "frequency": self.frequency.tolist(),
                "sizes": {f"{w}x{h}": n for (w, h), n in self.sizes.most_common()},
                "modes": dict(self.modes.most_common())}


@dataclass
class Audit:
    """Result of :func:`~mxnetseg.data.audit.audit`.

    Attributes:
        dataset: one split of the data set, which gives its name, classes and root.
        splits: statistics of each audited split.
        absent: splits that were not requested and do not exist, with the reason.
        findings: at most :data:`SHOWN` of each kind and split.
        counts: number of findings of each kind.
        by_split: number of findings of each (kind, split).
        allowed: kinds that do not make the audit fail although they otherwise would.
    """

    dataset: SegDataset
    splits: dict[str, SplitStats] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    counts: Counter = field(default_factory=Counter)
    by_split: Counter = field(default_factory=Counter)
    allowed: tuple[str, ...] = ()

    @property
    def failures(self) -> int:
        """Number of findings that must be fixed."""
        return sum(n for kind, n in self.counts.items() if self.fails(kind))

    @property
    def passed(self) -> bool:
        """Return whether the data set can be used for training as it is."""
        return not self.failures

    def fails(self, kind: str) -> bool:
        """Return whether findings of this kind make the audit fail."""
        return KINDS[kind].fails and kind not in self.allowed

    def add(self, kind: str, split: str, error: MXNetSegError) -> None:
        """Add a finding; beyond :data:`SHOWN` of its kind and split, it is only counted."""
        self.counts[kind] += 1
        self.by_split[kind, split] += 1
        if self.by_split[kind, split] <= SHOWN:
            self.findings.append(Finding(kind, split, error))

    @property
    def training_split(self) -> str:
        """``'train'`` if it was audited, otherwise the first audited split."""
        return "train" if "train" in self.splits else next(iter(self.splits))

    def weights(self) -> dict[str, list[float]]:
        """Suggest class weights for the training split, by :func:`median_frequency` and by :func:`enet`."""
        stats = self.splits[self.training_split]
        return {"median frequency": median_frequency(stats).tolist(), "ENet": enet(stats).tolist()}

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, fit for JSON."""
        return {
            "name": self.dataset.name, "root": str(self.dataset.root.absolute()), "passed": self.passed,
            "classes": list(self.dataset.classes),
            "splits": {name: stats.to_dict() for name, stats in self.splits.items()},
            "absent_splits": self.absent,
            "counts": dict(self.counts), "findings": [f.to_dict() for f in self.findings],
            "class_weights": self.weights() if self.splits else {},
        }


def median_frequency(stats: SplitStats) -> np.ndarray:
    """Compute class weights by median frequency balancing: the median of all frequencies over the class's own.

    The frequency of a class is the number of its pixels over the number of all pixels of the images that contain it.
    A class without a pixel gets 1.

    Returns:
        float64 (nclass,).

    Source: Eigen and Fergus, Predicting depth, surface normals and semantic labels, ICCV 2015, section 6.3.2.
    """
    seen = stats.pixels > 0
    frequency = stats.pixels / np.maximum(stats.pixels_around, 1)
    weights = np.ones(len(seen))
    if seen.any():
        weights[seen] = np.median(frequency[seen]) / frequency[seen]
    return weights


def enet(stats: SplitStats) -> np.ndarray:
    """Compute the class weights of ENet: ``1 / ln(1.02 + fraction of the labelled pixels)``, 1.4 to 50.5.

    Returns:
        float64 (nclass,).

    Source: Paszke et al., ENet, 2016, section 5.2.
    """
    return log_weights(stats.frequency, ENET)


def log_weights(frequency: np.ndarray, c: float) -> np.ndarray:
    """Compute the class weights ``1 / ln(c + frequency)``; see :func:`enet`.

    Args:
        frequency: (nclass,), the fraction of the labelled pixels of each class.
        c: above 1. The lower it is, the more a rare class weighs.
    """
    return 1 / np.log(c + frequency)


def _zeros(n: int) -> np.ndarray:
    return np.zeros(n, np.int64)
