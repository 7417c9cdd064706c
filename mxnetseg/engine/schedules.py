"""The learning rate as a function of the step, for every optimiser alike."""
from __future__ import annotations

import math

from ..config.schema import Schedule


class LearningRate:
    """``rate = LearningRate(schedule, lr, steps_per_epoch, epochs); rate(step)``, steps from 0.

    With t the step, T all steps and lr -> target:

    * poly: target + (lr - target) (1 - t/T)^power;   linear: the same with power 1
    * cosine: target + (lr - target) (1 + cos(pi t/T)) / 2
    * step: lr * factor^(number of step epochs that have passed);   constant: lr

    During warm-up the result is multiplied by a line from ``warmup_factor`` to 1 (Goyal et al. 2017).

    Args:
        schedule: the configuration's section.
        lr: highest rate.
        steps_per_epoch, epochs: the length of the run.

    Attributes:
        lr, epochs: as given.
    """

    def __init__(self, schedule: Schedule, lr: float, steps_per_epoch: int, epochs: int):
        self._schedule, self.lr, self.epochs = schedule, lr, epochs
        self._steps_per_epoch, self._steps = steps_per_epoch, steps_per_epoch * epochs
        self._shape = getattr(self, f"_{schedule.name}")

    def __call__(self, step: int) -> float:
        progress = min(step / self._steps, 1.0)
        return self._shape(progress, step) * self._warmup(step)

    def _warmup(self, step: int) -> float:
        length = self._schedule.warmup_epochs * self._steps_per_epoch
        if step >= length:
            return 1.0
        low = self._schedule.warmup_factor
        return low + (1 - low) * step / length

    def _between(self, share: float) -> float:
        """From the target (share 0) to the highest rate (share 1)."""
        return self._schedule.target_lr + (self.lr - self._schedule.target_lr) * share

    def _poly(self, progress, step):
        return self._between((1 - progress) ** self._schedule.power)

    def _linear(self, progress, step):
        return self._between(1 - progress)

    def _cosine(self, progress, step):
        return self._between((1 + math.cos(math.pi * progress)) / 2)

    def _step(self, progress, step):
        passed = sum(step >= epoch * self._steps_per_epoch for epoch in self._schedule.step_epochs)
        return self.lr * self._schedule.step_factor ** passed

    def _constant(self, progress, step):
        return self.lr
