"""Batches of a data set for training, and an ordered stream of its samples for evaluation.

The workers are threads: decoding, resizing and copying release Python's lock, and a process that has loaded
MXNet must not be forked. The result depends on the seed, the epoch and the data alone, never on the
number of workers or on their speed.
"""
from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from .._memory import keep_freed_memory
from ..errors import ConfigError, DataError, MXNetSegError
from .base import SegDataset
from .pairs import Sample
from .parallel import TIMEOUT, in_parallel
from .shards import WHOLE, Shard
from .source import FileSource
from .transforms import Transform


class Batch(NamedTuple):
    """A batch for training.

    Attributes:
        images: uint8 (N, H, W, 3), RGB.
        masks: uint8 (N, H, W), train ids and IGNORE.
        names: N names, see :class:`~mxnetseg.data.pairs.Sample`.
        index: int64 (N,), the items' indices in the data set.
    """

    images: np.ndarray
    masks: np.ndarray
    names: tuple[str, ...]
    index: np.ndarray  # type: ignore[assignment]  # hides tuple.index


class Loader:
    """Batches of augmented images, epoch by epoch.

    The batches of epoch ``e`` depend on ``(seed, e)`` alone: each item is transformed with its own generator,
    seeded by (seed, epoch, index). When iteration begins, OpenCV's own threads are switched off in this process,
    since the workers keep the cores busy, and glibc is set to keep the memory of freed images for the next ones.

    Args:
        dataset: a split with masks.
        batch_size: images in a batch.
        transform: see :mod:`mxnetseg.data.transforms`; None leaves images as they are, and then the images of
            one batch must agree in size.
        shuffle: use a new order in each epoch.
        seed: not negative.
        workers: threads that read ahead; 0 reads in the caller's thread.
        drop_last: leave out an incomplete last batch.
        timeout: seconds to wait for one image before giving up with an error (not with 0 workers).
        shard: part of each batch that this process reads. The parts of all processes are the batch that one process
            reads: the same images with the same crops.

    Raises:
        ConfigError: a number out of range, or no batch can be formed.
        DataError: the split has no masks.
    """

    def __init__(self, dataset: SegDataset, *, batch_size: int, transform: Transform | None = None,
                 shuffle: bool = True, seed: int = 0, workers: int = 2, drop_last: bool = True,
                 timeout: float = TIMEOUT, shard: Shard = WHOLE):
        for name, value, least in (("batch_size", batch_size, 1), ("seed", seed, 0), ("workers", workers, 0)):
            if value < least:
                raise ConfigError(f"{name} is too small", where=name, received=value,
                                  fix=f"give at least {least}")

        if drop_last and len(dataset) < batch_size:
            raise ConfigError("the data set has fewer images than one batch, so there is nothing to train on",
                              where="batch_size", received=f"{batch_size} with {len(dataset)} images",
                              fix=f"give a batch size of at most {len(dataset)}, or add images")
        if len(dataset) and dataset.mask_path(0) is None:
            raise DataError("this split has no masks, so it cannot be trained on", where=repr(dataset),
                            fix="choose a split with masks, such as train")

        self.dataset, self.transform = dataset, transform
        self.batch_size, self.shuffle, self.seed = batch_size, shuffle, seed
        self.workers, self.drop_last, self.timeout, self.shard = workers, drop_last, timeout, shard
        # choosing the crop before anything is decoded saves much of the decoding
        self._reads_files = isinstance(dataset, SegDataset) and getattr(transform, "reads", False)

    def __len__(self) -> int:
        """Number of batches in an epoch."""
        whole, rest = divmod(len(self.dataset), self.batch_size)
        return whole + (1 if rest and not self.drop_last else 0)

    def order(self, epoch: int) -> np.ndarray:
        """Return the indices of the items of an epoch in their order: int64 (len(dataset),)."""
        count = len(self.dataset)
        if not self.shuffle:
            return np.arange(count)
        return self._rng(epoch, count).permutation(count)  # `count` is the index of no item

    def epoch(self, epoch: int, start_batch: int = 0) -> Generator[Batch, None, None]:
        """Iterate over the batches of an epoch from ``start_batch`` on; earlier items are not read.

        Raises:
            DataError: a file is damaged or does not fit (raised at the place of its batch), or no
                image arrived within the time-out.
        """
        keep_freed_memory()
        chosen = self.order(epoch)[start_batch * self.batch_size:len(self) * self.batch_size]
        batches = [chosen[first:first + self.batch_size][self.shard.index::self.shard.count]
                   for first in range(0, len(chosen), self.batch_size)]
        samples = in_parallel(partial(self._item, epoch), (int(i) for index in batches for i in index),
                              workers=self.workers, ahead=2 * self.batch_size // self.shard.count + self.workers,
                              timeout=self.timeout, where=self.dataset.image_path)
        try:
            for index in batches:
                yield self._collate([next(samples) for _ in index], index)
        finally:
            samples.close()

    def _rng(self, epoch: int, index: int) -> np.random.Generator:
        return np.random.Generator(np.random.PCG64(np.random.SeedSequence([self.seed, epoch, index])))

    def _item(self, epoch: int, index: int) -> Sample:
        if self._reads_files:
            with _naming_the_file(self.dataset, index, "read and augmented",
                                  "check this file, its mask and the transform"):
                source = FileSource(self.dataset, index)
                transform: Any = self.transform
                image, mask = transform.read(source, self._rng(epoch, index))
                return Sample(image, mask, self.dataset.pair(index).name)
        image, mask, name = _read(self.dataset, index)
        if self.transform is None:
            return Sample(image, mask, name)
        with _naming_the_file(self.dataset, index, "augmented", "check the transform with this image"):
            return Sample(*self.transform(image, mask, self._rng(epoch, index)), name)

    def _collate(self, samples: list[Sample], index: np.ndarray) -> Batch:
        sizes = {s.image.shape[:2] for s in samples}
        if len(sizes) > 1:
            raise DataError("the images of a batch differ in size",
                            where="\n".join(str(self.dataset.image_path(int(i))) for i in index[:3]),
                            received=", ".join(f"{w} x {h}" for h, w in sorted(sizes)),
                            fix="crop them to one size (transform=train_transform(...)), or use batch_size=1")

        return Batch(np.stack([s.image for s in samples]), np.stack([s.mask for s in samples]),
                     tuple(s.name for s in samples), index)


def stream(dataset: SegDataset, *, workers: int = 2, timeout: float = TIMEOUT,
           shard: Shard = WHOLE) -> Generator[Sample, None, None]:
    """Yield all samples of a data set, or of a shard of it, in order, unchanged, read ahead by ``workers`` threads.

    Args:
        dataset: with or without masks.
        workers: threads that read ahead; 0 reads in the caller's thread.
        timeout: seconds to wait for one image before giving up with an error (not with 0 workers).
        shard: the samples to yield.

    Raises:
        DataError: a file is damaged or does not fit (raised at its place), or none arrived within the time-out.
    """
    return in_parallel(partial(_read, dataset), shard.indices(len(dataset)), workers=workers, ahead=workers + 1,
                       timeout=timeout, where=dataset.image_path)


def _read(dataset: SegDataset, index: int) -> Sample:
    with _naming_the_file(dataset, index, "read", "check this file and its mask"):
        return dataset[index]


@contextmanager
def _naming_the_file(dataset: SegDataset, index: int, done: str, fix: str) -> Iterator[None]:
    """Turn any exception of a library into an error with the file's name."""
    try:
        yield
    except MXNetSegError:
        raise
    except Exception as error:
        raise DataError(f"an image could not be {done}", where=dataset.image_path(index),
                        received=f"{type(error).__name__}: {error}", fix=fix) from error
