"""Losses. Each returns a sum and its divisor, so that the mean is taken over the *global* batch."""
from .boundary import BoundaryAware, BoundaryLoss
from .cross_entropy import CrossEntropy, Focal
from .mining import MINING_RULES, Mining
from .mixed import Blend, LossSum, MixedLoss, Term, global_backward, global_value
from .regions import Dice, LovaszSoftmax

__all__ = ["Blend", "BoundaryAware", "BoundaryLoss", "CrossEntropy", "Dice", "Focal", "LossSum", "LovaszSoftmax",
           "MINING_RULES", "Mining", "MixedLoss", "Term", "global_backward", "global_value"]
