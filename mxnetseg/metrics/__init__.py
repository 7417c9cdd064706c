"""Metrics of a segmentation: a streaming confusion matrix and the scores computed from it."""
from .confusion import ConfusionMatrix, Scores

__all__ = ["ConfusionMatrix", "Scores"]
