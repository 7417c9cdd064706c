"""Large images in tiles: the same classes as at once, in memory that does not grow with the image."""
import cv2
import mxnet as mx
import numpy as np
import pytest
from exported import RECORD, WEIGHT, expected_logits, write_onnx
from hypothesis import given
from hypothesis import strategies as st
from mxnet.gluon import nn

from mxnetseg.backends.mxnet_runtime import MXNetRuntime
from mxnetseg.engine.inference import Segmenter
from mxnetseg.engine.prediction_settings import choose_tiling
from mxnetseg.engine.predictor import Predictor
from mxnetseg.engine.protocol import Protocol
from mxnetseg.engine.tiles import ALIGNMENT, Tiling, argmax_of_enlarged, cut
from mxnetseg.errors import DataError, UsageError
from mxnetseg.models import get_model
from mxnetseg.models._base import SegModel
from mxnetseg.nn.resize import resize

TOLERANCE = 1e-5  # of a probability; the page docs/predict.md states it


class Strided(SegModel):
    """Convolutions of stride 8 in all, and a resize back: each output depends on pixels at most 33 away."""

    def __init__(self, align_corners):
        super().__init__(nn.HybridSequential(), 4)
        self.aligned_stride = 8 if align_corners else 1
        self._align_corners, self.smallest_side = align_corners, 32
        with self.name_scope():
            self.layers = nn.HybridSequential()
            for channels, inputs in ((6, 3), (6, 6), (4, 6)):
                self.layers.add(nn.Conv2D(channels, 3, 2, 1, in_channels=inputs,
                                          weight_initializer=mx.init.Normal(0.4)))

    def hybrid_forward(self, F, x):
        return (resize(F, self.layers(x), x, align_corners=self._align_corners),)


def runtime(align_corners=False):
    mx.random.seed(1)
    net = Strided(align_corners)
    net.initialize()
    return MXNetRuntime(net)


def image_of(height, width, seed=0):
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (height // 4 + 1, width // 4 + 1, 3), dtype=np.uint8)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)


def joined_probabilities(segmenter, image):
    whole = np.empty((4, *image.shape[:2]), np.float32)
    for tile in segmenter.tiles(image.shape[:2]):
        whole[:, tile.kept_rows, tile.kept_columns] = segmenter.tile_probabilities(image, tile)
    return whole


@given(st.integers(1, 700), st.integers(1, 700), st.integers(2, 6), st.integers(0, 5), st.integers(0, 1),
       st.sampled_from([1, 8, 32]))
def test_the_kept_parts_cover_each_pixel_once_and_lie_inside_their_tiles(height, width, side, overlap, extra, stride):
    side, overlap = side * ALIGNMENT + extra, min(overlap, side - 1) * ALIGNMENT
    count = np.zeros((height, width), int)
    tiles = cut((height, width), (side, side), overlap, aligned_stride=stride)
    if stride > 1:
        assert len({tile.size for tile in tiles}) == 1 and tiles[-1].rows.stop == height
        for position, kept, before, length in zip(tiles[-1].positions, tiles[-1][2:4], tiles[-1].before,
                                                  tiles[-1].size):
            assert len(position) == kept.stop - kept.start + before and position[-1] == length - 1
            assert (np.diff(position) >= 0).all() and position[0] >= 0
        return
    for tile in tiles:
        count[tile.kept_rows, tile.kept_columns] += 1
        for read, kept, length, size in zip(tile[:2], tile[2:4], (height, width), tile.size):
            assert read.start % ALIGNMENT == 0 and read.stop <= length and size == min(side, length)
            assert read.start <= kept.start < kept.stop <= read.stop <= read.start + size < read.stop + ALIGNMENT
            # half the overlap of context, except at the edges of the image
            assert kept.start == 0 or kept.start - read.start >= overlap // 2
            assert kept.stop == length or read.stop - kept.stop >= overlap // 2 - ALIGNMENT
    assert (count == 1).all()


@pytest.mark.parametrize("align_corners, size", [(False, (192, 288)), (True, (193, 289))])
def test_probabilities_at_the_seams_equal_those_of_the_whole_image(align_corners, size):
    """With half the overlap above the reach of the network, and sides that its kind of resizing fits."""
    image, one = image_of(*size), runtime(align_corners)
    tiled = Segmenter(one, tiling=Tiling.of(128, 96, extra=int(align_corners)))
    assert len(tiled.tiles(size)) > 4
    whole = Segmenter(one).probabilities(image)
    assert np.ptp(whole) > 0.5
    np.testing.assert_allclose(joined_probabilities(tiled, image), whole, atol=TOLERANCE)
    assert (tiled(image) == Segmenter(one)(image)).mean() > 0.9999


@pytest.mark.parametrize("size", [(192, 288), (203, 301)])
def test_tiles_are_sampled_where_a_whole_image_with_aligned_corners_is(size):
    """Sides that the resize does not fit: the whole image is stretched by up to 7 pixels, and each tile, too."""
    image, one = image_of(*size), runtime(align_corners=True)
    tiled = Segmenter(one, tiling=choose_tiling(128, 96, Protocol(), one, 4, (480, 480)))
    whole = Segmenter(one)
    assert np.abs(joined_probabilities(tiled, image) - whole.probabilities(image)).mean() < 2e-3
    assert (tiled(image) == whole(image)).mean() > 0.996

    protocol = Protocol(size_divisor=32, remainders=(1, 24))
    tiled = Segmenter(one, protocol, tiling=choose_tiling(128, 96, protocol, one, 4, (481, 472)))
    whole_of_crops = Segmenter(one, protocol)
    assert (tiled(image) == whole_of_crops(image)).mean() > 0.996 > (tiled(image) == whole(image)).mean()
    assert np.abs(joined_probabilities(tiled, image) - whole_of_crops.probabilities(image)).mean() < 2e-3
    tiled = Segmenter(one, tiling=choose_tiling(128, 96, Protocol(), one, 4, (480, 480)))

    one.has_scores = False  # class maps only, of the nearest pixel
    assert (tiled(image) == whole(image)).mean() > 0.95
    one.aligned_stride = 1
    assert (tiled(image) == whole(image)).mean() < 0.9


@pytest.mark.slow
def test_fcn_in_tiles_gives_the_classes_of_the_whole_image():
    """With random weights; docs/predict.md has the figures of trained networks."""
    mx.random.seed(0)
    one = MXNetRuntime(get_model("fcn", nclass=4, backbone="resnet18"))
    image, whole = image_of(250, 381), Segmenter(one)
    agreement = {}
    for one.aligned_stride in (8, 1):
        tiled = Segmenter(one, tiling=choose_tiling(192, 128, Protocol(), one, 4, (480, 480)))
        agreement[one.aligned_stride] = (tiled(image) == whole(image)).mean()
    assert agreement[8] > 0.98 > agreement[1]


def test_tiles_without_overlap_have_nothing_to_compare(caplog):
    Segmenter(runtime(), tiling=Tiling.of(64, 0))(image_of(192, 288))
    assert "agree" not in caplog.text


def test_the_agreement_at_the_seams_is_reported_once_and_a_poor_one_is_a_warning(caplog):
    caplog.set_level("INFO")
    image = image_of(192, 288)
    tiled = Segmenter(runtime(), tiling=Tiling.of(128, 96))
    tiled(image), tiled(image)
    message, = (record for record in caplog.records if "agree" in record.message)
    assert message.levelname == "INFO" and "100.0 %" in message.message

    caplog.clear()
    stretched = runtime(align_corners=True)
    stretched.aligned_stride = 1
    tiled = Segmenter(stretched, tiling=Tiling.of(64, 32))
    tiled(image), tiled(image)
    warning, = (record for record in caplog.records if "agree" in record.message)
    assert warning.levelname == "WARNING" and "--overlap" in warning.message


def test_an_image_of_any_size_is_computed_as_if_its_edges_were_repeated_to_the_next_multiple():
    image, one = image_of(203, 301), runtime()
    got = Segmenter(one, tiling=Tiling.of(128, 96))(image)
    enlarged = cv2.copyMakeBorder(image, 0, 224 - 203, 0, 320 - 301, cv2.BORDER_REPLICATE)
    assert got.shape == (203, 301)
    assert (got == Segmenter(one)(enlarged)[:203, :301]).mean() > 0.9999


@pytest.mark.parametrize("crop, side", [((480, 480), 128), ((769, 769), 129), ((473, 713), 129), ((512, 513), 128)])
def test_tiles_are_of_the_kind_of_the_crops_that_the_network_was_trained_on(crop, side):
    assert choose_tiling(128, None, Protocol(), runtime(), 4, crop).side == side
    assert choose_tiling("auto", None, Protocol(), runtime(), 4, crop).side == side + 1024 - 128


@pytest.mark.parametrize("protocol", [
    Protocol(scales=(0.5, 1.0), flip=True), Protocol(mode="slide", crop_size=(64, 64), batch=3)], ids=str)
def test_the_protocol_is_applied_to_each_tile(protocol):
    image, one = image_of(192, 288), runtime()
    tiled = Segmenter(one, protocol, tiling=Tiling.of(128, 64))
    whole = np.zeros((192, 288), np.uint8)
    for tile in cut((192, 288), (128, 128), 64):
        tile.keep(tile.classes(Segmenter(one, protocol)(tile.read(image))), whole)
    np.testing.assert_array_equal(tiled(image), whole)


def test_no_input_is_larger_than_a_tile_and_streams_keep_their_order(monkeypatch):
    one, seen = runtime(), []
    stack = one.stack
    monkeypatch.setattr(one, "stack", lambda images, device: seen.append(images[0].shape) or stack(images, device))
    images = [image_of(64, 96), image_of(400, 96), image_of(64, 96, 1), image_of(64, 96, 2)]
    tiled = Segmenter(one, tiling=Tiling.of(128), batch=2)
    got = list(tiled.stream(iter(images)))
    assert max(map(max, seen)) <= 128
    counts = []
    tiled.progress = lambda tiles, count: counts.append(count) or tiles
    tiled(images[1])
    assert counts == [len(tiled.tiles((400, 96)))] and counts[0] > 2
    for image, class_map in zip(images, got):
        assert class_map.shape == image.shape[:2]
    for i in (0, 2, 3):
        np.testing.assert_array_equal(got[i], Segmenter(one)(images[i]))


def test_a_batch_computes_images_of_one_size_at_once(monkeypatch):
    one, seen = runtime(), []
    stack = one.stack
    monkeypatch.setattr(one, "stack", lambda images, device: seen.append(len(images)) or stack(images, device))
    images = [image_of(64, 96, i) for i in range(5)] + [image_of(96, 64)] + [image_of(64, 96, 9)]
    got = list(Segmenter(one, batch=3).stream(iter(images)))
    assert seen == [3, 2, 1, 1]
    for image, class_map in zip(images, got):
        np.testing.assert_array_equal(class_map, Segmenter(one)(image))


@pytest.mark.parametrize("side, overlap, fix", [
    (1000, None, "992 or 1024"), (32, None, "64 or 96"), (128, 128, "32 to 96"), (128, 50, "32 to 96")])
def test_impossible_tiles_are_refused_with_possible_ones(side, overlap, fix):
    with pytest.raises(UsageError) as error:
        Tiling.of(side, overlap)
    assert fix in error.value.fix


def test_automatic_tiles_follow_an_estimate_of_the_memory():
    one = runtime()
    plain, averaging = (choose_tiling("auto", None, protocol, one, 4, (480, 480))
                        for protocol in (Protocol(), Protocol(scales=(1.0, 2.0), flip=True)))
    assert plain.above == one.total_memory() // 4 // one.bytes_per_pixel
    assert 20 < one.bytes_per_pixel < 1000 and averaging.above < plain.above / 7
    assert "quarter of the memory" in plain.reason
    height = plain.above // 2000
    assert not plain.cuts((height, 2000)) and plain.cuts((height + 1, 2000))
    assert choose_tiling("auto", None, Protocol(base_size=512), one, 4, (480, 480)) is None
    assert choose_tiling(None, None, Protocol(), one, 4, (480, 480)) is None


def test_enlarging_in_bands_gives_the_classes_of_enlarged_scores():
    rng, one = np.random.default_rng(0), runtime()
    maps = [cv2.GaussianBlur(rng.random((h, w, 5), np.float32), (0, 0), 2) for h, w in ((30, 41), (17, 23))]
    total = sum(one.resize(mx.nd.array(x), (143, 210), align_corners=False).asnumpy() for x in maps)
    for most in (1 << 24, 5 * 210 * 7):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("mxnetseg.engine.tiles._BAND", most)
            got = argmax_of_enlarged(maps, (143, 210))
        assert (got == total.argmax(2)).mean() > 0.999


def test_a_scaled_image_whose_scores_would_be_many_is_enlarged_in_bands(monkeypatch):
    image, one = image_of(192, 288), runtime()
    plain = Segmenter(one, Protocol(base_size=96))
    wanted = plain(image)
    monkeypatch.setattr("mxnetseg.engine.inference._MOST_SCORES", 1000)
    monkeypatch.setattr(one, "resize", None)  # nothing is enlarged as a whole
    assert (plain(image) == wanted).mean() > 0.999
    [streamed] = plain.stream(iter([image]))
    assert (streamed == wanted).mean() > 0.999


@pytest.mark.parametrize("backend, ending", [("onnxruntime", "onnx"), ("openvino", "openvino")])
def test_other_backends(tmp_path, backend, ending):
    pytest.importorskip(ending if ending == "openvino" else backend)
    path = write_onnx(tmp_path / "net.onnx")
    image = image_of(160, 224)
    got = Predictor(path, backend=backend, precision="float32", tile=64)(image).class_map
    np.testing.assert_array_equal(got, expected_logits(image).argmax(0))
    with pytest.raises(UsageError, match="not cut into tiles as well"):
        Predictor(path, backend=backend, tile=64, base=128)
    with pytest.raises(UsageError, match="several at once"):
        Predictor(path, backend=backend, ms=True, batch=2)


def test_a_network_of_one_size_predicts_larger_images_in_tiles(tmp_path):
    pytest.importorskip("onnxruntime")
    predictor = Predictor(write_onnx(tmp_path / "net.onnx", size=(40, 56)))
    image = image_of(90, 121)
    assert (predictor(image).class_map == expected_logits(image).argmax(0)).mean() > 0.999
    with pytest.raises(DataError, match="40 x 56 pixels only"):
        predictor.segmenter.check_size((39, 200))
    with pytest.raises(DataError, match="40 x 56 pixels only"):
        predictor(image_of(39, 200))


def test_the_size_is_checked_before_anything_is_computed():
    one = runtime()
    Segmenter(one).check_size((32, 32))
    for protocol, size in ((Protocol(), (31, 64)), (Protocol(scales=(0.5, 1.0)), (62, 64)),
                           (Protocol(mode="slide", crop_size=(16, 64)), (64, 64))):
        with pytest.raises(DataError, match="at least 32 pixels"):
            Segmenter(one, protocol).check_size(size)


def test_the_hand_written_network_reaches_one_pixel():
    assert WEIGHT.shape[2:] == (3, 3) and len(RECORD["data"]["classes"]) == 3  # so that the default overlap suffices
