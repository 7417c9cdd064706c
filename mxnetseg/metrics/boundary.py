"""Quality of boundaries: Boundary IoU, and IoU in bands around the true boundaries.

Sources:
    * Cheng, Girshick, Dollar, Berg, Kirillov, "Boundary IoU: Improving Object-Centric Image Segmentation Evaluation",
      CVPR 2021. Its masks are shrunk by a square window, so a distance here is the larger of the distances in rows and
      in columns.
    * Kohli, Ladicky, Torr, "Robust Higher Order Potentials for Enforcing Label Consistency", IJCV 2009, section 6: the
      trimap, a band around the true boundaries, whose width is varied.
"""
from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np

from ..errors import UsageError
from .counts import class_counts

RATIO = 0.02  # width of the band of Boundary IoU, over the diagonal of the image
WIDTHS = (1, 2, 4, 8, 16, 32)  # of the trimap, in pixels
_IGNORE = 255


def boundary_band(class_map: np.ndarray, distance: int, *, frame: bool) -> np.ndarray:
    """Find the pixels that are at most ``distance`` rows and columns from a pixel of another value.

    Args:
        class_map: (H, W) uint8.
        distance: in pixels, from 1.
        frame: the image is surrounded by pixels of another value.

    Returns:
        (H, W) bool.

    Raises:
        UsageError: the distance is below 1.
    """
    if distance < 1:
        raise UsageError("a boundary band must be at least 1 pixel wide", received=distance)
    # A window holds two values exactly if its smallest and its largest value differ, which treats all classes at once.
    window = np.ones((2 * distance + 1,) * 2, np.uint8)
    band = cv2.erode(class_map, window) != cv2.dilate(class_map, window)
    if frame:
        band[:distance] = band[-distance:] = True
        band[:, :distance] = band[:, -distance:] = True
    return band


def boundary_counts(pred: np.ndarray, label: np.ndarray, nclass: int, *, ratio: float = RATIO) -> np.ndarray:
    """Count the pixels of Boundary IoU: those of a class that are near the boundary of its own region.

    Ignored pixels belong to neither of the two masks of a class. Regions that touch the border of the image have a
    boundary there, as in the authors' code.

    Args:
        pred: (H, W) uint8 class ids.
        label: (H, W) uint8 train ids; those from ``nclass`` on are ignored.
        nclass: number of classes, up to 255.
        ratio: width of the boundary, over the diagonal of the image; at least 1 pixel.

    Returns:
        int64 (3, n): pixels in both boundaries, in the true one, in the predicted one. Their :func:`.counts.iou` is
        the Boundary IoU.

    Source: equation 2 of the paper; ``mask_to_boundary`` of the authors' code.
    """
    distance = max(int(round(ratio * math.hypot(*label.shape))), 1)
    ignored = label >= nclass
    truth, prediction = (np.where(ignored, _IGNORE, x).astype(np.uint8) for x in (label, pred))
    true_band, predicted_band = (boundary_band(x, distance, frame=True) & ~ignored for x in (truth, prediction))
    hits = truth[true_band & predicted_band & (truth == prediction)]
    return np.stack([np.bincount(values, minlength=nclass)
                     for values in (hits, truth[true_band], prediction[predicted_band])])


def trimap_counts(pred: np.ndarray, label: np.ndarray, nclass: int, *, widths: Sequence[int] = WIDTHS) -> np.ndarray:
    """Count the pixels in bands of several widths around the true boundaries.

    The border between a class and ignored pixels is a boundary too, because many data sets ignore the pixels between
    two objects.

    Args:
        pred: (H, W) uint8 class ids.
        label: (H, W) uint8 train ids; those from ``nclass`` on are ignored.
        nclass: number of classes.
        widths: distances from the boundary, in pixels.

    Returns:
        int64 (widths, 3, n), see :mod:`.counts`.
    """
    truth = np.where(label >= nclass, _IGNORE, label).astype(np.uint8)
    return np.stack([class_counts(pred, label, nclass, where=boundary_band(truth, width, frame=False))
                     for width in widths])
