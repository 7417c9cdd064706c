"""Damage to a part of an evaluation is refused."""
import json

import numpy as np
import pytest
from evaluations import CLASSES, painted, probabilities_of

from mxnetseg.errors import DataError, UsageError
from mxnetseg.metrics import ConfusionMatrix
from mxnetseg.report.partial import Partial, partial_path, read_partial, write_partial
from mxnetseg.report.recorder import Recorder
from mxnetseg.viz.palette import make_palette

KEY = {"images": 5, "classes": list(CLASSES), "palette": make_palette(3).tolist(), "details": True}


@pytest.fixture
def path(tmp_path):
    numbers = range(1, 5, 2)
    recorder, matrix = Recorder(tmp_path, 5, CLASSES, make_palette(3), numbers), ConfusionMatrix(3)
    for i in numbers:
        image, mask, prediction = painted(i)
        assert recorder.wants_probabilities(image)
        recorder.add(f"val/{i}", image, mask, prediction, probabilities_of(prediction))
        matrix.update(prediction, mask)
    return write_partial(Partial(KEY, {"checkpoint": "a.params"}, (1, 2), recorder.names, matrix, ConfusionMatrix(3),
                                 recorder.counts()), tmp_path)


def test_what_was_written_is_read(path, tmp_path):
    part = read_partial(path)
    assert path == partial_path(tmp_path, (1, 2)) and path.name == "2-of-2.npz"
    assert (part.key, part.shard, part.names) == (KEY, (1, 2), ["val/1", "val/3"])
    assert part.counts["numbers"].tolist() == [1, 3] and part.matrix.pixels == part.counts["regions"][:, 1].sum()
    assert sorted(file.name for file in (tmp_path / "details/images").glob("*.jpg")) == ["00001.jpg", "00003.jpg"]


@pytest.mark.parametrize("name, change", [
    ("about", {"shard": [2, 2]}), ("about", {"names": ["a"]}), ("about", {"key": {**KEY, "classes": ["a"]}}),
    ("about", {"key": []}), ("about", {"names": [1, 2]}), ("about", None), ("confusion", np.zeros((3, 3), int)),
    ("control", np.zeros((2, 2), int)), ("control", -np.ones((3, 3), int)), ("numbers", np.array([1, 2])),
    ("regions", np.zeros((2, 3, 3))), ("trimap", np.zeros((6, 3, 4), int)), ("calibrated", np.array([0, 1])),
    ("bin_confidence", np.zeros((2, 15), int)), ("objects", np.zeros((1, 3), int)), ("sizes", None)])
def test_damage(path, name, change):
    with np.load(path) as stored:
        arrays = dict(stored)
    if name == "about" and change is not None:
        about = {**json.loads(arrays["about"].tobytes()), **change}
        change = np.frombuffer(json.dumps(about).encode(), np.uint8)
    if change is None:
        del arrays[name]
    else:
        arrays[name] = change
    with open(path, "wb") as stream:
        np.savez(stream, **arrays)
    with pytest.raises(DataError, match="damaged") as error:
        read_partial(path)
    assert error.value.where == path and "--shard" in error.value.fix


def test_a_newer_format_is_refused(path):
    with np.load(path) as stored:
        arrays = dict(stored)
    about = {**json.loads(arrays["about"].tobytes()), "format": 9}
    with open(path, "wb") as stream:
        np.savez(stream, **{**arrays, "about": np.frombuffer(json.dumps(about).encode(), np.uint8)})
    with pytest.raises(UsageError, match="newer mxnetseg"):
        read_partial(path)
