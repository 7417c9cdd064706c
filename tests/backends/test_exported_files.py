"""ONNX Runtime and OpenVINO compute an .onnx file that carries a record, and refuse others by name."""
from __future__ import annotations

import json

import numpy as np
import pytest
from exported import RECORD, expected_logits, write_onnx
from numpy.testing import assert_allclose, assert_array_equal

from mxnetseg._precisions import PrecisionChoice
from mxnetseg.backends.choice import BACKENDS
from mxnetseg.engine.inference import Segmenter
from mxnetseg.engine.protocol import Protocol
from mxnetseg.errors import CheckpointError, ConfigError, DataError, DeviceError, UsageError

pytest.importorskip("onnx")


@pytest.fixture(params=["onnxruntime", "openvino"])
def backend(request):
    pytest.importorskip(request.param)
    return BACKENDS.get(request.param)


def image_of(height, width):
    return np.random.default_rng(1).integers(0, 256, (height, width, 3), dtype=np.uint8)


def load(backend, path, precision=None):
    stored, device = backend.read(path), backend.choose_device(["cpu"])
    return backend(stored, device, backend.choose_precision(precision, stored, device).precision)


@pytest.mark.parametrize("size", [(16, 24), (17, 31), (5, 4)])
def test_logits_and_class_maps(backend, tmp_path, size):
    runtime, image = load(backend, write_onnx(tmp_path / "net.onnx")), image_of(*size)
    expected = expected_logits(image)
    assert_allclose(runtime.logits(np.stack([image, image]))[1], expected, atol=1e-4)
    assert runtime.precision == "float32" and runtime.smallest_side == 4 and runtime.fixed_size is None
    assert_array_equal(Segmenter(runtime)(image), expected.argmax(0))
    total = np.exp(expected - expected.max(0))
    assert_allclose(Segmenter(runtime).probabilities(image), total / total.sum(0), atol=1e-5)


def test_windows_scales_and_flip(backend, tmp_path):
    """The 3x3 window of a pixel lies inside its window of 12 x 12 or at its border; both are averaged."""
    runtime = load(backend, write_onnx(tmp_path / "net.onnx"))
    protocol = Protocol(mode="slide", crop_size=(12, 12), scales=(1.0, 1.5), flip=True, batch=3)
    probabilities = Segmenter(runtime, protocol).probabilities(image_of(20, 29))
    assert probabilities.shape == (3, 20, 29)
    assert_allclose(probabilities.sum(0), 1, atol=1e-5)


def test_images_in_class_maps_out(backend, tmp_path):
    runtime, image = load(backend, write_onnx(tmp_path / "net.onnx", uint8=True)), image_of(16, 24)
    assert_array_equal(Segmenter(runtime)(image), expected_logits(image).argmax(0))
    with pytest.raises(UsageError, match="class maps only"):
        Segmenter(runtime, Protocol(flip=True))


@pytest.mark.parametrize("uint8", [False, True])
def test_a_file_of_one_size(backend, tmp_path, uint8):
    runtime = load(backend, write_onnx(tmp_path / "net.onnx", uint8=uint8, size=(16, 24)))
    assert runtime.fixed_size == (16, 24) and Segmenter(runtime)(image_of(16, 24)).shape == (16, 24)
    extending = Segmenter(runtime, Protocol(size_divisor=8))  # its own size as it is, smaller ones up to it
    assert extending(image_of(16, 24)).shape == (16, 24) and extending(image_of(11, 20)).shape == (11, 20)
    with pytest.raises(DataError, match="16 x 24 pixels only") as error:
        extending(image_of(11, 30))
    assert "11 x 30" in str(error.value)
    with pytest.raises(DataError, match="16 x 24 pixels only"):
        Segmenter(runtime)(image_of(24, 16))


@pytest.mark.parametrize("options, precision, atol", [({"half": True}, "float16", 0.02),
                                                      ({"quantized": True}, "int8", 0.2)])
def test_the_files_own_precision(backend, tmp_path, options, precision, atol):
    path, image = write_onnx(tmp_path / "net.onnx", **options), image_of(16, 24)
    for requested in (None, precision):
        runtime = load(backend, path, requested)
        assert runtime.precision == precision
    assert_allclose(runtime.logits(image[None])[0], expected_logits(image), atol=atol)
    with pytest.raises(ConfigError, match="does not compute this network in float32"):
        load(backend, path, "float32")


@pytest.mark.parametrize("requested, offered, multiplied, computed", [
    ("auto", ("float32", "bfloat16"), True, "bfloat16"), ("auto", ("float32", "bfloat16"), False, "float16"),
    ("auto", ("float32",), False, "float16"), ("bfloat16", ("float32", "bfloat16"), False, "bfloat16"),
    ("bfloat16", ("float32",), False, None)])
def test_float16_files_in_bfloat16(backend, tmp_path, monkeypatch, requested, offered, multiplied, computed):
    auto = PrecisionChoice("bfloat16" if multiplied else "float32", "of the processor")
    monkeypatch.setattr(backend, "precisions", classmethod(lambda cls, device: (offered, auto)))
    stored = backend.read(write_onnx(tmp_path / "net.onnx", half=True))
    if backend.name != "openvino":
        computed = "float16" if requested == "auto" else None
    if computed is None:
        with pytest.raises(ConfigError, match="does not compute this network in bfloat16"):
            backend.choose_precision(requested, stored, "CPU")
    else:
        assert backend.choose_precision(requested, stored, "CPU").precision == computed


def test_an_image_that_is_too_small(backend, tmp_path):
    with pytest.raises(DataError, match="at least 4 pixels"):
        Segmenter(load(backend, write_onnx(tmp_path / "net.onnx")))(image_of(3, 24))


@pytest.mark.parametrize("options, words", [
    ({"record": None}, "does not describe its network"), ({"record": "{"}, "damaged"),
    ({"record": {**RECORD, "smallest_side": 0}}, "smallest_side"),
    ({"record": {**RECORD, "normalisation": {"mean": [0.5] * 3, "std": [0, 1, 1]}}}, r"normalisation.std\[0\]"),
    ({"inputs": 2}, "one batch of images")])
def test_files_of_others_are_refused(backend, tmp_path, options, words):
    with pytest.raises(CheckpointError, match=words) as error:
        backend.read(write_onnx(tmp_path / "net.onnx", **options))
    assert error.value.fix and str(tmp_path) in str(error.value.where)


@pytest.mark.parametrize("damage", [lambda data: data[:len(data) // 2], lambda data: b"", lambda data: b"\xff" * 400,
                                    None])
def test_damaged_files_are_refused(backend, tmp_path, damage):
    path = write_onnx(tmp_path / "net.onnx")
    if damage is None:
        path.unlink()
    else:
        path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(CheckpointError):
        load(backend, path)


@pytest.mark.parametrize("ctx", [["npu"], ["7"], ["cuda:0"], ["nothing"], ["cpu", "0"]])
def test_devices_that_are_not_there(backend, ctx):
    with pytest.raises(DeviceError) as error:
        backend.choose_device(ctx)
    assert "cpu" in error.value.fix


def test_openvinos_own_files(tmp_path):
    openvino = pytest.importorskip("openvino")
    backend, image = BACKENDS.get("openvino"), image_of(16, 24)
    model = openvino.convert_model(str(write_onnx(tmp_path / "net.onnx", record=None)))
    path = tmp_path / "net.xml"
    openvino.save_model(model, str(path), compress_to_fp16=False)
    with pytest.raises(CheckpointError, match="does not describe its network"):
        backend.read(path)
    model.set_rt_info(json.dumps(RECORD), ["mxnetseg", "mxnetseg"])
    openvino.save_model(model, str(path), compress_to_fp16=False)
    assert_array_equal(Segmenter(load(backend, path))(image), expected_logits(image).argmax(0))
    path.with_suffix(".bin").unlink()
    with pytest.raises(CheckpointError, match="is not there"):
        backend.read(path)


def test_half_precision_in_openvino(tmp_path):
    pytest.importorskip("openvino")
    backend, path, image = BACKENDS.get("openvino"), write_onnx(tmp_path / "net.onnx"), image_of(16, 24)
    if "bfloat16" not in backend.precisions("CPU")[0]:
        pytest.skip("this processor has no bfloat16")
    found, expected = load(backend, path, "bfloat16").logits(image[None])[0], expected_logits(image)
    assert 1e-4 < np.abs(found - expected).max() < 0.1
