"""Counts by the size of objects equal a computation region by region, and add up to the counts of the image."""
from collections import Counter

import numpy as np
from hypothesis import given
from maps import label_and_prediction

from mxnetseg.metrics.counts import class_counts, iou
from mxnetseg.metrics.objects import size_counts

LIMITS = (0.05, 0.2)


def regions(mask):
    """Return the connected regions of a mask as sets of pixels, found by flooding."""
    left, found = {tuple(p) for p in np.argwhere(mask)}, []
    while left:
        region, open_ends = set(), [min(left)]
        while open_ends:
            y, x = open_ends.pop()
            if (y, x) in left:
                left.remove((y, x))
                region.add((y, x))
                open_ends += [(y + v, x + u) for v in (-1, 0, 1) for u in (-1, 0, 1)]
        found.append(region)
    return found


def size_of(region, label):
    return sum(len(region) >= limit * label.size for limit in LIMITS)


@given(label_and_prediction(most=16))
def test_equal_a_computation_region_by_region(maps):
    label, pred, nclass = maps
    wanted, objects = np.zeros((3, 3, nclass), int), np.zeros((3, nclass), int)
    ambiguous = False
    for c in range(nclass):
        truths = regions(label == c)
        for truth in truths:
            size = size_of(truth, label)
            hits = sum(pred[p] == c for p in truth)
            wanted[size, :, c] += [hits, len(truth), hits]
            objects[size, c] += 1
        for guess in regions((pred == c) & (label != 255)):
            overlaps = Counter({i: len(truth & guess) for i, truth in enumerate(truths) if truth & guess})
            best = overlaps.most_common(2)
            ambiguous |= len(best) == 2 and best[0][1] == best[1][1]
            size = size_of(truths[best[0][0]] if best else guess, label)
            wanted[size, 2, c] += sum(label[p] != c for p in guess)
    counts, found = size_counts(pred, label, nclass, limits=LIMITS)
    np.testing.assert_array_equal(found, objects)
    np.testing.assert_array_equal(counts[:, :2], wanted[:, :2])
    if not ambiguous:  # of two regions that overlap a prediction equally, either may be taken
        np.testing.assert_array_equal(counts, wanted)


@given(label_and_prediction(most=16))
def test_all_sizes_add_up_to_the_image(maps):
    label, pred, nclass = maps
    counts, _ = size_counts(pred, label, nclass, limits=LIMITS)
    np.testing.assert_array_equal(counts.sum(axis=0), class_counts(pred, label, nclass))


def test_a_network_that_misses_small_objects():
    label = np.zeros((100, 100), np.uint8)
    label[10:60, 10:60] = 1
    label[80:82, 80:84] = label[90:92, 20:22] = 1
    pred = np.zeros_like(label)
    pred[10:60, 10:62] = 1
    pred[70:71, 90:95] = 1  # a false alarm
    counts, objects = size_counts(pred, label, 2)
    assert objects[:, 1].tolist() == [2, 0, 0, 1]
    np.testing.assert_allclose(iou(counts)[:, 1], [0, np.nan, np.nan, 2500 / 2600])
    assert counts[0, :, 1].tolist() == [0, 12, 5]
