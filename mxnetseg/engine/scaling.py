"""Dynamic loss scaling for float16 (Micikevicius et al., Mixed precision training, ICLR 2018, section 3.2)."""
from __future__ import annotations

from dataclasses import dataclass


@dataclass
class LossScale:
    """Factor on the loss that keeps small gradients above the values that float16 rounds to 0.

    It is halved when a gradient is no longer finite, and the update of that step is left out; it is doubled after
    ``patience`` steps with finite gradients. All values are powers of two, so that scaling rounds nothing.

    It is the section ``loss_scale`` of a sidecar, so the names of its attributes are part of the file format.

    Attributes:
        value: the factor.
        good_steps: steps with finite gradients since it last changed.
    """

    value: float = 2.0 ** 16
    good_steps: int = 0

    patience = 2000
    lowest = 2.0 ** -10

    def follow(self, finite: bool) -> None:
        """Adapt the scale to one step.

        Args:
            finite: all gradients of the step were finite.
        """
        self.good_steps += 1
        if not finite:
            self.value, self.good_steps = self.value / 2, 0
        elif self.good_steps == self.patience:
            self.value, self.good_steps = self.value * 2, 0

    @property
    def lost(self) -> bool:
        """True if the scale is so small that the unscaled gradients must be infinite."""
        return self.value < self.lowest
