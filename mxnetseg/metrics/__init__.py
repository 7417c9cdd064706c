"""How good a segmentation is: one streaming confusion matrix and everything derived from it."""
from .confusion import ConfusionMatrix, Scores

__all__ = ["ConfusionMatrix", "Scores"]
