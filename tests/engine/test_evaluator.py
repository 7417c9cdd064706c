"""Scores equal NumPy's, files follow the format of test servers, and memory stays flat."""
import weakref
from pathlib import Path

import mxnet as mx
import numpy as np
import pytest
from mxnet.gluon import nn
from PIL import Image

from benchmarks.serve import resident_mib
from mxnetseg.backends.mxnet_runtime import MXNetRuntime
from mxnetseg.data import get_dataset
from mxnetseg.data.base import IGNORE, Sample, SegDataset
from mxnetseg.data.cityscapes import Cityscapes
from mxnetseg.data.shards import Shard
from mxnetseg.engine.evaluator import check_classes, contents, evaluate, warn_of_other_images, write_predictions
from mxnetseg.engine.inference import Segmenter
from mxnetseg.engine.protocol import Protocol
from mxnetseg.errors import CheckpointError, DataError
from mxnetseg.graph.inference_graph import compile_for_inference
from mxnetseg.metrics import ConfusionMatrix
from mxnetseg.models import get_model
from mxnetseg.models._base import SegModel
from mxnetseg.nn.resize import resize


@pytest.fixture
def net():
    net = get_model("toy", nclass=3, ctx=[mx.cpu(0), mx.cpu(1)], norm="bn")
    for p in net.named_parameters().values():
        if p.grad_req != "null":
            p.set_data(p.data(mx.cpu(0)) * 3)  # so that every class is predicted somewhere
    return net


def segmenter(net, contexts=1):
    return Segmenter(MXNetRuntime(net, [mx.cpu(i) for i in range(contexts)]))


def truth_and_predictions(net, dataset):
    one = segmenter(net)
    return [(sample.mask, one(sample.image)) for sample in (dataset[i] for i in range(len(dataset)))]


def matrix(pairs, n):
    """Count counts[t, p] in a plain loop."""
    counts = np.zeros((n, n), int)
    for mask, prediction in pairs:
        for t in range(n):
            for p in range(n):
                counts[t, p] += int(((mask == t) & (prediction == p)).sum())
    return counts


class TestScores:
    @pytest.mark.parametrize("contexts", [1, 2])
    @pytest.mark.parametrize("workers", [0, 2])
    def test_equal_a_plain_computation(self, net, images_folder, contexts, workers):
        dataset = get_dataset(str(images_folder), split="train")
        got, _ = evaluate(segmenter(net, contexts), dataset, workers=workers)
        wanted = matrix(truth_and_predictions(net, dataset), 3)
        np.testing.assert_array_equal(got.counts, wanted)
        assert (wanted.sum(0) > 0).all()  # every class was predicted
        union = wanted.sum(0) + wanted.sum(1) - wanted.diagonal()
        assert got.miou() == pytest.approx(np.mean(wanted.diagonal() / union))
        assert got.pixel_accuracy() == pytest.approx(wanted.trace() / wanted.sum())

    def test_the_control_is_each_prediction_against_a_mask_half_of_the_split_away(self, net, images_folder):
        dataset = get_dataset(str(images_folder), split="train")
        _, control = evaluate(segmenter(net), dataset)
        pairs = truth_and_predictions(net, dataset)
        half = len(pairs) // 2
        shifted = [(mask, prediction) for (mask, _), (_, prediction) in zip(pairs[half:] + pairs[:half], pairs)]
        np.testing.assert_array_equal(control.counts, matrix(shifted, 3))

    @pytest.mark.parametrize("count", [2, 4, 9])
    def test_the_matrices_of_all_parts_add_up_to_those_of_the_whole(self, net, images_folder, count):
        dataset, seen = get_dataset(str(images_folder), split="train"), []
        parts = [evaluate(segmenter(net), dataset, shard=Shard(i, count),
                          observer=lambda sample, _: seen.append(sample.name)) for i in range(count)]
        for joined, wanted in zip(zip(*parts), evaluate(segmenter(net), dataset)):
            np.testing.assert_array_equal(sum(part.counts for part in joined), wanted.counts)
        assert sorted(seen) == sorted(dataset.pair(i).name for i in range(len(dataset)))

    @pytest.mark.parametrize("contexts", [1, 2])
    def test_an_observer_sees_every_image_in_order(self, net, images_folder, contexts):
        dataset, seen = get_dataset(str(images_folder), split="train"), []
        evaluate(segmenter(net, contexts), dataset, observer=lambda *pair: seen.append(pair))
        assert [sample.name for sample, _ in seen] == [dataset.pair(i).name for i in range(len(dataset))]
        for (sample, prediction), (mask, wanted) in zip(seen, truth_and_predictions(net, dataset)):
            np.testing.assert_array_equal(sample.mask, mask)
            np.testing.assert_array_equal(prediction, wanted)

    def test_images_of_many_sizes(self, net, painting, tmp_path):
        root = painting(tmp_path / "data", val=4)
        rng = np.random.default_rng(0)
        for i, size in enumerate([(24, 32), (17, 40), (33, 9), (24, 32)]):
            Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)).save(root / "images" / f"val{i}.png")
            Image.fromarray(rng.integers(0, 3, size, dtype=np.uint8)).save(root / "masks" / f"val{i}.png")
        dataset = get_dataset(str(root), split="val")
        got, _ = evaluate(segmenter(net, 2), dataset)
        np.testing.assert_array_equal(got.counts, matrix(truth_and_predictions(net, dataset), 3))
        assert got.pixels == 24 * 32 * 2 + 17 * 40 + 33 * 9

    def test_a_split_without_masks_is_refused_with_an_alternative(self, net, painting, tmp_path):
        dataset = get_dataset(str(painting(tmp_path / "data", test=2)), split="test")
        with pytest.raises(DataError, match="no masks") as error:
            evaluate(segmenter(net), dataset)
        assert "--mode test" in error.value.fix

    def test_a_damaged_image_is_named(self, net, painting, tmp_path):
        root = painting(tmp_path / "data", val=5)
        (root / "images" / "val3.png").write_bytes(b"no image")
        with pytest.raises(DataError) as error:
            evaluate(segmenter(net, 2), get_dataset(str(root), split="val"))
        assert "val3.png" in str(error.value)

    def test_other_classes_are_refused(self, images_folder):
        dataset = get_dataset(str(images_folder))
        check_classes(["red", "green", "blue"], dataset, where="a.params")
        for classes, words in ((["red", "green"], "2 classes, the data set fields has 3"),
                               (["red", "blue", "green"], "classes of other names")):
            with pytest.raises(CheckpointError, match="other classes") as error:
                check_classes(classes, dataset, where="a.params")
            assert words in str(error.value) and "a.params" in str(error.value) and "init_from" in error.value.fix


class TestOtherImages:
    """Warnings about a split that holds other images than when the checkpoint was written."""

    @pytest.fixture
    def warning(self, images_folder, caplog):
        def warn(sidecar, *, held_out=False):
            dataset = get_dataset(str(images_folder), split="val")
            dataset.held_out = held_out
            caplog.clear()
            warn_of_other_images(sidecar, dataset, where="a.params")
            return caplog.text
        return warn

    def test_the_same(self, warning, images_folder):
        assert not warning({"contents": {"val": contents(get_dataset(str(images_folder), split="val"))}})
        assert not warning({"contents": {"train": contents(get_dataset(str(images_folder))), "val": None}})

    def test_others(self, warning):
        text = warning({"contents": {"train": None, "val": {"split": "val", "images": 7, "names": "ab"}}})
        assert "'val' of fields" in text and "7 then, 3 now" in text and "a.params" in text

    def test_not_recorded(self, warning):
        assert not warning({}) and "held out" in warning({}, held_out=True)

    @pytest.mark.parametrize("section", [[], "x", 3, {"val": 1}, {"val": []}, {"val": {"split": ["val"]}}])
    def test_a_damaged_record_raises_no_error(self, warning, section):
        warning({"contents": section}, held_out=True)


class MadeImages(SegDataset):
    """Images made on demand; ``alive`` holds a weak reference to each image that was returned."""

    name, classes, palette = "made", ("a", "b", "c"), np.arange(9, dtype=np.uint8).reshape(3, 3)

    def __init__(self, count):
        self.count, self.split, self.root, self.alive = count, "val", "memory", []

    def __len__(self):
        return self.count

    def mask_path(self, i):
        return f"{i}.png"

    image_path = mask_path

    def __getitem__(self, i):
        image = np.full((16, 16, 3), i, np.uint8)
        self.alive.append(weakref.ref(image))
        return Sample(image, self.load_raw_mask(i), str(i))

    def load_raw_mask(self, i):
        return np.zeros((16, 16), np.uint8)

    def held(self):
        return sum(reference() is not None for reference in self.alive)


@pytest.mark.parametrize("contexts", [1, 2])
def test_memory_is_flat(net, contexts):
    """At most n + 2 of twenty images are held: one a context, one read ahead, and the one being scored."""
    dataset, held = MadeImages(20), []

    def watched(items, count):
        assert count == 20
        for item in items:
            held.append(dataset.held())
            yield item
            del item
    counts, _ = evaluate(segmenter(net, contexts), dataset, workers=0, progress=watched)
    assert len(held) == 20 and max(held) <= contexts + 2
    assert counts.pixels == 20 * 256


class Heavy(SegModel):
    """Network of 9 MiB of weights, so that graphs that are not freed show in the memory."""

    def __init__(self):
        super().__init__(nn.HybridSequential(), 3)
        with self.name_scope():
            self.conv = nn.Conv2D(512, 3, 4, 1, in_channels=3)
            self.head = nn.Conv2D(512, 3, padding=1, in_channels=512)
            self.last = nn.Conv2D(3, 1, in_channels=512)

    def hybrid_forward(self, F, x):
        return (resize(F, self.last(self.head(self.conv(x))), x, align_corners=True),)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the memory from Linux")
@pytest.mark.parametrize("protocol", [
    Protocol(), pytest.param(Protocol(mode="slide", crop_size=(20, 20), scales=(0.5, 1.0), flip=True),
                             marks=pytest.mark.slow)])
def test_memory_is_flat_over_many_sizes(protocol):
    """The process holds as much memory after 240 images of twelve sizes as after 60."""
    net = Heavy()
    net.initialize()
    one = Segmenter(MXNetRuntime(compile_for_inference(net, [mx.cpu()])), protocol)
    counts = ConfusionMatrix(3)
    held = []
    for k in range(240):
        prediction = one(np.zeros((24 + 2 * (k % 3), 24 + 2 * (k % 4), 3), np.uint8))
        counts.update(prediction, prediction)
        held.append(resident_mib())
    assert held[-1] < held[59] + 40, held[::20]


class TestWriting:
    def test_colours_and_ids(self, net, painting, tmp_path):
        dataset = get_dataset(str(painting(tmp_path / "data", test=3, size=(17, 23))), split="test")
        written = write_predictions(segmenter(net, 2), dataset, tmp_path / "out")
        assert [p.relative_to(tmp_path / "out").as_posix() for p in written] == \
            [f"color/test{i}.png" for i in range(3)]
        for i, path in enumerate(written):
            wanted = segmenter(net)(dataset[i].image)
            with Image.open(path) as color, Image.open(tmp_path / "out" / "id" / path.name) as ids:
                assert (color.mode, ids.mode) == ("P", "L")
                np.testing.assert_array_equal(np.array(color), wanted)
                np.testing.assert_array_equal(np.array(color.convert("RGB")), dataset.palette[wanted])
                np.testing.assert_array_equal(np.array(ids), wanted)

    def test_ids_of_cityscapes_are_the_official_ones(self, tmp_path):
        rng = np.random.default_rng(0)
        for kind, suffix, shape in (("leftImg8bit", "leftImg8bit", (32, 64, 3)),
                                    ("gtFine", "gtFine_labelIds", (32, 64))):
            folder = tmp_path / "cityscapes" / kind / "val" / "munster"
            folder.mkdir(parents=True)
            Image.fromarray(rng.integers(0, 20, shape, dtype=np.uint8)).save(
                folder / f"munster_000000_000019_{suffix}.png")
        dataset = Cityscapes(split="val", root=tmp_path / "cityscapes")
        net = get_model("toy", nclass=19)
        (color,) = write_predictions(segmenter(net), dataset, tmp_path / "out")
        wanted = segmenter(net)(dataset[0].image)
        official = np.array([7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33], np.uint8)
        (path,) = (tmp_path / "out" / "id").glob("**/*.png")
        assert path.relative_to(tmp_path / "out" / "id") == color.relative_to(tmp_path / "out" / "color")
        with Image.open(path) as ids, Image.open(color) as colored:
            np.testing.assert_array_equal(np.array(ids), official[wanted])
            np.testing.assert_array_equal(np.array(colored), wanted)
        assert len(np.unique(wanted)) > 1 and IGNORE not in wanted
