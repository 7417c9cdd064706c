"""The expected calibration error equals its definition, pixel by pixel."""
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mxnetseg.errors import UsageError
from mxnetseg.metrics.calibration import Calibration

PIXELS = st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=60)


def split(pixels):
    return np.array([c for c, _ in pixels]), np.array([r for _, r in pixels])


@given(PIXELS, st.integers(1, 20))
def test_ece_equals_its_definition(pixels, bins):
    calibration = Calibration(bins)
    calibration.update(*split(pixels))
    error = 0.0
    for b in range(bins):
        inside = [(c, r) for c, r in pixels if min(int(c * bins), bins - 1) == b]
        if inside:
            accuracy, confidence = np.mean([r for _, r in inside]), np.mean([c for c, _ in inside])
            error += len(inside) / len(pixels) * abs(accuracy - confidence)
            assert [curve[b] for curve in calibration.reliability()] == pytest.approx([confidence, accuracy])
        else:
            assert np.isnan(calibration.reliability()).all(axis=0)[b]
    assert calibration.ece() == pytest.approx(error)


@given(PIXELS, PIXELS)
def test_images_add_up(one, other):
    parts, whole = Calibration(), Calibration()
    parts.update(*split(one))
    parts.update(*split(other))
    whole.update(*split(one + other))
    np.testing.assert_array_equal(parts.pixels, whole.pixels)
    assert parts.ece() == pytest.approx(whole.ece())


def test_results_drawn_with_their_confidences_are_calibrated():
    rng = np.random.default_rng(0)
    confidence = rng.random(200_000).astype(np.float32)
    calibrated, too_sure = Calibration(), Calibration()
    calibrated.update(confidence, rng.random(confidence.shape) < confidence)
    too_sure.update(confidence, rng.random(confidence.shape) < confidence ** 2)
    assert calibrated.ece() < 0.01
    assert too_sure.ece() == pytest.approx(1 / 2 - 1 / 3, abs=0.01)


def test_rounding_beyond_1_is_the_last_bin():
    calibration = Calibration(4)
    calibration.update(np.array([1.0, np.float32(1.0000001)]), np.array([True, True]))
    assert calibration.pixels.tolist() == [0, 0, 0, 2] and calibration.ece() == 0


@pytest.mark.parametrize("values", [[1.5], [-0.1], [math.nan]])
def test_what_is_no_probability_is_refused(values):
    calibration = Calibration()
    with pytest.raises(UsageError, match="probabilities"):
        calibration.update(np.array(values), np.array([True]))
    assert not calibration.pixels.any() and math.isnan(calibration.ece())


def test_wrong_arguments_are_refused():
    with pytest.raises(UsageError, match="differ in shape"):
        Calibration().update(np.zeros(2), np.zeros(3, bool))
    with pytest.raises(UsageError, match="at least one bin"):
        Calibration(0)
