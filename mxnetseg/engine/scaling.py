"""Dynamic loss scaling for float16 (Micikevicius et al., Mixed precision training, ICLR 2018, section 3.2)."""
from __future__ import annotations

from dataclasses import dataclass


@dataclass
class LossScale:
    """The factor on the loss that keeps small gradients above what float16 rounds to 0.

    It is halved when a gradient is no longer finite, and that step's update is left out; it is doubled after
    ``patience`` steps without such a one. All values are powers of two, so that scaling rounds nothing.

    Attributes:
        value: the factor.
        good_steps: steps with finite gradients since it last changed.
    """

    value: float = 2.0 ** 16
    good_steps: int = 0

    patience = 2000
    lowest = 2.0 ** -10

    def follow(self, finite: bool) -> None:
        """Take note of a step: whether all its gradients were finite."""
        self.good_steps += 1
        if not finite:
            self.value, self.good_steps = self.value / 2, 0
        elif self.good_steps == self.patience:
            self.value, self.good_steps = self.value * 2, 0

    @property
    def lost(self) -> bool:
        """Whether it is so small that the gradients themselves must be infinite."""
        return self.value < self.lowest
