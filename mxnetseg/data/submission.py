"""Predictions of a test split as the zip that the data set's evaluation server accepts.

==========  ==================================  =====================================================================
data set    server                              rules
==========  ==================================  =====================================================================
Cityscapes  www.cityscapes-dataset.com/submit   PNG of **label ids**, named ``CITY_123456_123456*.png``, in any folder;
                                                the organisers' ``evalPixelLevelSemanticLabeling.py`` reads them
ACDC        acdc.vision.ee.ethz.ch/submit       PNG of **train ids**, 1920 x 1080, named as the images, in the folder
                                                ``labelTrainIds``, as the organisers' Refign writes them
==========  ==================================  =====================================================================
"""
from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
from PIL import Image

from ..errors import DataError, UsageError
from ..files import PathLike, atomic_write
from .base import Sample, SegDataset
from .headers import open_image


class Rules(NamedTuple):
    """Rules of an evaluation server.

    Attributes:
        folder: the folder of the files in the zip, with its final ``/``.
        size: (width, height) of every file.
        has_train_ids: the files hold train ids, not the label ids of the data set's own masks.
        page: where to upload the zip.
    """

    folder: str
    size: tuple[int, int]
    has_train_ids: bool
    page: str


RULES = {"Cityscapes": Rules("results/", (2048, 1024), False, "https://www.cityscapes-dataset.com/submit/"),
         "ACDC": Rules("labelTrainIds/", (1920, 1080), True, "https://acdc.vision.ee.ethz.ch/submit")}


class Submission:
    """Zip of the predictions of a test split, which must all be added.

    Args:
        dataset: the split.
        archive: the zip.
    """

    def __init__(self, dataset: SegDataset, archive: zipfile.ZipFile):
        self._dataset, self._archive, self._rules = dataset, archive, RULES[dataset.name]
        self._files = {dataset.pair(i).name: dataset.image_path(i).name for i in range(len(dataset))}

    def add(self, sample: Sample, prediction: np.ndarray) -> None:
        """Add the prediction of an image, uint8 (H, W) train ids."""
        if prediction.shape[::-1] != self._rules.size:
            raise _wrong_size(self._dataset, sample.name, prediction.shape[::-1])
        ids = prediction if self._rules.has_train_ids else self._dataset.to_raw_ids(prediction)
        buffer = io.BytesIO()
        Image.fromarray(ids.astype(np.uint8)).save(buffer, "PNG")  # one channel of 8 bits
        self._archive.writestr(self._rules.folder + self._files.pop(sample.name), buffer.getvalue())

    def finish(self) -> None:
        """Refuse a zip without the predictions of all images."""
        if self._files:
            raise DataError("predictions are missing in the zip", received=", ".join(list(self._files.values())[:3]),
                            where=self._archive.filename, fix="run the command again")


@contextmanager
def open_submission(path: PathLike, dataset: SegDataset) -> Iterator[Submission]:
    """Open a zip for the predictions of a test split; the file appears when all of them are added.

    >>> with open_submission("results.zip", dataset) as submission:  # doctest: +SKIP
    ...     submission.add(sample, prediction)

    Raises:
        UsageError: the data set has no server whose rules are known, or this is not its test split.
        DataError: an image is missing, has another size than the server expects, or the name of another image.
    """
    check(dataset)
    with atomic_write(path) as stream, zipfile.ZipFile(stream, "w") as archive:  # PNG is compressed already
        submission = Submission(dataset, archive)
        yield submission
        submission.finish()


def check(dataset: SegDataset) -> None:
    """Check the images of a split against the rules, from their headers; see :func:`open_submission`."""
    rules = RULES.get(dataset.name)
    if rules is None:
        raise UsageError("no evaluation server with known rules takes predictions of this data set", where="--zip",
                         received=dataset.name, fix=f"leave out --zip; it knows {', '.join(RULES)}")
    if dataset.split != "test":
        raise UsageError("the evaluation server takes predictions of the test split", where="--zip",
                         received=dataset.split, fix="leave out --split, or --zip")

    published = dataset.published_count("test")
    if len(dataset) != published:
        raise DataError("the test split is not complete, and the server refuses a part of it",
                        where=dataset.root.absolute(), received=f"{len(dataset)} of {published} images",
                        fix="unpack the images again, or leave out --zip")
    names = [dataset.image_path(i).name for i in range(len(dataset))]
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise DataError("two test images have one name", where=dataset.root.absolute(), received=twice,
                        fix="unpack the images again")

    for i in range(len(dataset)):
        with open(dataset.image_path(i), "rb") as file, open_image(file) as image:
            if image.size != rules.size:
                raise _wrong_size(dataset, dataset.image_path(i), image.size)


def _wrong_size(dataset: SegDataset, where: object, size: tuple[int, ...]) -> DataError:
    wanted = RULES[dataset.name].size
    return DataError(f"the server takes predictions of {wanted[0]} x {wanted[1]} pixels", where=where,
                     received=f"{size[0]} x {size[1]}", fix="use the original images, or leave out --zip")
