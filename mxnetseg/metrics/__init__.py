"""Metrics of a segmentation: a streaming confusion matrix and the scores computed from it.

The other modules score what a confusion matrix hides: boundaries (:mod:`.boundary`), confidences
(:mod:`.calibration`), the size of objects (:mod:`.objects`) and the uncertainty of a score (:mod:`.bootstrap`).
"""
from .confusion import ConfusionMatrix, Scores

__all__ = ["ConfusionMatrix", "Scores"]
