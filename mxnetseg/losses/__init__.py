"""Losses. Each returns a sum and what to divide it by, so that means are taken over the *global* batch."""
from .cross_entropy import CrossEntropy
from .mixed import MixedLoss, Part, Term, global_backward, global_value

__all__ = ["CrossEntropy", "MixedLoss", "Part", "Term", "global_backward", "global_value"]
