"""Bootstrap samples equal a computation in a loop, repeat with their seed, and their intervals cover the truth."""
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mxnetseg.errors import UsageError
from mxnetseg.metrics.bootstrap import interval, resample
from mxnetseg.metrics.counts import iou, mean_iou


def counts_of(rng, images, nclass, hit_rate=0.6):
    """Draw consistent counts: hits are a part of the labelled and of the predicted pixels."""
    hits = rng.binomial(100, hit_rate, (images, nclass))
    labelled, predicted = (hits + rng.integers(0, 40, hits.shape) for _ in range(2))
    counts = np.stack([hits, labelled, predicted], axis=1)
    return counts * rng.integers(0, 2, (images, 1, nclass))  # a class is missing from half of the images


@given(st.integers(0, 2**32 - 1), st.integers(1, 9), st.integers(1, 4), st.sampled_from(["skip", "zero"]))
def test_samples_equal_a_loop(seed, images, nclass, absent_as):
    counts = counts_of(np.random.default_rng(seed), images, nclass)
    got = resample(counts, samples=20, seed=seed, absent_as=absent_as)
    times = np.random.default_rng(seed).multinomial(images, [1 / images] * images, size=20)
    for k in range(20):
        drawn = [counts[i] for i in range(images) for _ in range(times[k, i])]
        assert len(drawn) == images
        np.testing.assert_allclose(got.iou[k], iou(np.sum(drawn, axis=0)))
        np.testing.assert_allclose(got.miou[k], mean_iou(np.sum(drawn, axis=0), absent_as))


def test_a_seed_repeats_its_samples():
    counts = counts_of(np.random.default_rng(1), 30, 3)
    np.testing.assert_array_equal(resample(counts, seed=5).miou, resample(counts, seed=5).miou)
    assert (resample(counts, seed=5).miou != resample(counts, seed=6).miou).any()


def test_intervals_cover_the_score_of_the_population_about_as_often_as_they_claim():
    rng = np.random.default_rng(0)
    population = counts_of(rng, 20_000, 3)
    truth, covered = mean_iou(population.sum(axis=0)), 0
    for trial in range(200):
        drawn = population[rng.integers(0, len(population), 60)]
        low, high = interval(resample(drawn, samples=300, seed=trial).miou)
        covered += low <= truth <= high
    assert 178 <= covered <= 199  # 95 % of 200, less than 4 standard deviations away


def test_the_difference_of_two_networks_on_the_same_images_is_narrower_than_either():
    rng = np.random.default_rng(3)
    one = counts_of(rng, 50, 3)
    other = one.copy()
    other[:, 1:] += (one[:, 1:] > 0) * 3  # always a little worse
    first, second = resample(one).miou, resample(other).miou
    low, high = interval(second - first)
    assert low < high < 0
    assert high - low < 0.5 * np.ptp(interval(first))


def test_an_end_is_nan_only_if_a_class_is_in_no_sample():
    counts = np.zeros((5, 3, 2), np.int64)
    counts[0, :, 0] = 7
    low, high = interval(resample(counts).iou)
    assert low.tolist()[0] == high.tolist()[0] == 1 and np.isnan(low[1]) and np.isnan(high[1])


def test_nothing_to_draw_is_refused():
    with pytest.raises(UsageError, match="at least one image"):
        resample(np.zeros((0, 3, 2), np.int64))
