"""Loader: the same stream for any number of workers, errors at their place, no thread left running."""
import itertools
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mxnetseg.data.folder import FolderDataset
from mxnetseg.data.loader import Loader, stream
from mxnetseg.data.pairs import Sample
from mxnetseg.data.transforms import RandomFlip, train_transform
from mxnetseg.errors import ConfigError, DataError


class Numbers:
    """Data set in memory: item i is an image filled with i. ``before(i)`` runs before each reading."""

    def __init__(self, count, before=lambda i: None, labelled=True):
        self.count, self.before, self.labelled = count, before, labelled
        self.read = []  # in the order of reading

    def __len__(self):
        return self.count

    def __getitem__(self, i):
        self.read.append(i)
        self.before(i)
        y, x = np.mgrid[:6, :8].astype(np.uint8)
        return Sample(np.stack([np.full_like(x, i), x, y], -1), x, f"n{i}")

    def image_path(self, i):
        return Path(f"{i}.png")

    def mask_path(self, i):
        return Path(f"mask/{i}.png") if self.labelled else None


TRANSFORM = train_transform(base_size=8, crop_size=5, jitter=0.3)


def batches(loader, *args):
    return [(b.images.tobytes(), b.masks.tobytes(), b.names, b.index.tolist()) for b in loader.epoch(*args)]


def data_threads():
    return [t for t in threading.enumerate() if t.name.startswith("mxnetseg-data") and t.is_alive()]


@pytest.fixture(autouse=True)
def no_threads_left():
    yield
    assert data_threads() == []


# ---- batches and streams

def test_batch():
    batch = next(Loader(Numbers(5), batch_size=3, shuffle=False).epoch(0))
    assert batch.images.shape == (3, 6, 8, 3) and batch.masks.shape == (3, 6, 8)
    assert batch.images.dtype == batch.masks.dtype == np.uint8
    assert batch.names == ("n0", "n1", "n2") and batch.index.tolist() == [0, 1, 2]
    assert batch.images[:, 0, 0, 0].tolist() == [0, 1, 2]


@settings(max_examples=15)
@given(count=st.integers(4, 20), size=st.integers(1, 4), workers=st.integers(1, 5), seed=st.integers(0, 9),
       epoch=st.integers(0, 3), drop_last=st.booleans())
def test_same_stream_for_any_number_of_workers(count, size, workers, seed, epoch, drop_last):
    def make(workers):
        return Loader(Numbers(count), batch_size=size, transform=TRANSFORM, seed=seed, workers=workers,
                      drop_last=drop_last)

    expected = batches(make(0), epoch)
    assert batches(make(workers), epoch) == expected
    assert len(expected) == len(make(workers))
    indices = list(itertools.chain(*(b[3] for b in expected)))
    assert len(set(indices)) == len(indices) == (count // size * size if drop_last else count)


def test_slow_items_do_not_change_the_order():
    dataset = Numbers(12, before=lambda i: time.sleep(0.02 * (i % 3 == 0)))
    names = [n for b in Loader(dataset, batch_size=2, shuffle=False, workers=4).epoch(0) for n in b.names]
    assert names == [f"n{i}" for i in range(12)]


def test_epochs_and_seeds_differ():
    def stream_of(seed, epoch):
        return batches(Loader(Numbers(20), batch_size=4, transform=TRANSFORM, seed=seed), epoch)

    assert stream_of(0, 0) == stream_of(0, 0)
    orders = [[b[3] for b in stream_of(*key)] for key in ((0, 0), (0, 1), (1, 0))]
    assert orders[0] != orders[1] != orders[2] != orders[0]


def test_an_image_is_augmented_differently_in_each_epoch():
    loader = Loader(Numbers(1), batch_size=1, transform=RandomFlip(), workers=0)
    first_columns = [next(loader.epoch(e)).masks[0, 0, 0] for e in range(20)]
    assert set(first_columns) == {0, 7}


@pytest.mark.parametrize("workers", [0, 3])
@pytest.mark.parametrize("start", [0, 1, 4, 5])
def test_resume_in_the_middle_of_an_epoch(workers, start):
    dataset = Numbers(11)
    loader = Loader(dataset, batch_size=2, transform=TRANSFORM, workers=workers)
    whole = batches(loader, 3)
    dataset.read.clear()
    assert batches(loader, 3, start) == whole[start:]
    assert set(dataset.read) == set(itertools.chain(*(b[3] for b in whole[start:])))  # earlier items were not read


def test_last_batch_may_be_kept():
    loader = Loader(Numbers(5), batch_size=3, drop_last=False)
    assert len(loader) == 2 and [len(b.names) for b in loader.epoch(0)] == [3, 2]


@pytest.mark.parametrize("workers", [0, 1, 4])
def test_stream_is_whole_and_in_order(workers):
    samples = list(stream(Numbers(7, labelled=False), workers=workers))
    assert [s.name for s in samples] == [f"n{i}" for i in range(7)]


def test_reading_ahead_is_bounded():
    dataset = Numbers(500)
    samples = stream(dataset, workers=2)
    for taken in (1, 2, 3):
        next(samples)
        deadline = time.monotonic() + 20
        while len(dataset.read) < taken + 2 and time.monotonic() < deadline:
            time.sleep(0.001)
        time.sleep(0.02)  # enough time to read hundreds too many
        assert taken + 2 <= len(dataset.read) <= taken + 3
    samples.close()


# ---- errors

@pytest.mark.parametrize("workers", [0, 1, 3])
def test_damaged_file_is_reported_at_its_place(folder, workers):
    dataset = FolderDataset(root=folder)
    dataset.image_path(5).write_bytes(b"damaged")
    loader = Loader(dataset, batch_size=2, shuffle=False, workers=workers)
    seen = []
    with pytest.raises(DataError) as error:
        for batch in loader.epoch(0):
            seen += batch.index.tolist()
    assert seen == [0, 1, 2, 3]
    assert error.value.where == dataset.image_path(5)


@pytest.mark.parametrize("workers", [0, 2])
def test_any_exception_names_its_file(workers):
    def fail(i):
        if i == 3:
            raise ZeroDivisionError("by a library")

    samples = stream(Numbers(6, before=fail), workers=workers)
    with pytest.raises(DataError) as error:
        list(samples)
    assert error.value.where == Path("3.png") and error.value.received == "ZeroDivisionError: by a library"
    assert isinstance(error.value.__cause__, ZeroDivisionError)


def test_failing_transform_names_the_image():
    def fail(image, mask, rng):
        raise ValueError("no")

    with pytest.raises(DataError, match="augmented") as error:
        next(Loader(Numbers(4), batch_size=2, shuffle=False, transform=fail).epoch(0))
    assert error.value.where == Path("0.png")


def test_hanging_file_is_named_after_the_time_out():
    release = threading.Event()
    dataset = Numbers(8, before=lambda i: release.wait(60) if i == 2 else None)
    samples = stream(dataset, workers=2, timeout=0.3)
    try:
        with pytest.raises(DataError, match="within 0.3 seconds") as error:
            list(samples)
        assert error.value.where == Path("2.png")
        assert all(thread.daemon for thread in data_threads())  # the thread does not keep the program from ending
    finally:
        release.set()
        for thread in data_threads():
            thread.join(30)


def test_images_of_different_sizes():
    class Growing(Numbers):
        def __getitem__(self, i):
            return Sample(np.zeros((5 + i, 8, 3), np.uint8), np.zeros((5 + i, 8), np.uint8), f"n{i}")

    with pytest.raises(DataError, match="differ in size") as error:
        next(Loader(Growing(3), batch_size=2, shuffle=False).epoch(0))
    assert error.value.received == "8 x 5, 8 x 6" and "1.png" in error.value.where


def test_fewer_images_than_one_batch():
    with pytest.raises(ConfigError, match="fewer images") as error:
        Loader(Numbers(3), batch_size=4)
    assert error.value.received == "4 with 3 images" and "at most 3" in error.value.fix


@pytest.mark.parametrize("option", [{"batch_size": 0}, {"workers": -1}, {"seed": -1}])
def test_numbers_out_of_range(option):
    with pytest.raises(ConfigError, match=next(iter(option))):
        Loader(Numbers(3), **{"batch_size": 1, **option})


def test_split_without_masks():
    with pytest.raises(DataError, match="no masks"):
        Loader(Numbers(3, labelled=False), batch_size=1)


# ---- leaving early

def leave_by_break(loader):
    for _ in loader.epoch(0):
        break


def leave_by(exception):
    def leave(loader):
        with pytest.raises(exception):
            for _ in loader.epoch(0):
                raise exception
    return leave


def leave_by_close(loader):
    iterator = loader.epoch(0)
    next(iterator)
    iterator.close()


def never_begin(loader):
    loader.epoch(0)


@pytest.mark.parametrize("leave", [leave_by_break, leave_by(ValueError), leave_by(KeyboardInterrupt),
                                   leave_by_close, never_begin])
def test_no_thread_is_left_running(leave):
    leave(Loader(Numbers(100), batch_size=2, workers=3))
    assert data_threads() == []


def test_no_thread_is_left_after_the_last_batch():
    list(Loader(Numbers(6), batch_size=2, workers=3).epoch(0))
    assert data_threads() == []
