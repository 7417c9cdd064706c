"""Losses. Each returns a sum and what to divide it by, so that means are taken over the *global* batch."""
from .boundary import BoundaryAware, BoundaryLoss
from .cross_entropy import CrossEntropy, Focal
from .mining import FORMS, Mining
from .mixed import Blend, MixedLoss, Part, Term, global_backward, global_value
from .regions import Dice, LovaszSoftmax

__all__ = ["Blend", "BoundaryAware", "BoundaryLoss", "CrossEntropy", "Dice", "FORMS", "Focal", "LovaszSoftmax",
           "Mining", "MixedLoss", "Part", "Term", "global_backward", "global_value"]
