"""Learning rate as a function of the step, the same for every optimiser."""
from __future__ import annotations

import math

from ..config.schema import Schedule


class LearningRate:
    """Callable schedule: ``rate = LearningRate(schedule, lr, steps_per_epoch, epochs); rate(step)``, steps from 0.

    With t the step, T all steps and lr -> target:

    * poly: target + (lr - target) (1 - t/T)^power;   linear: the same with power 1
    * cosine: target + (lr - target) (1 + cos(pi t/T)) / 2
    * step: lr * factor^(number of step epochs that have passed);   constant: lr

    During warm-up the result is multiplied by a line from ``warmup_factor`` to 1 (Goyal et al. 2017).

    Args:
        schedule: the section of the configuration.
        lr: highest rate.
        steps_per_epoch: steps of an epoch.
        epochs: epochs of the run.

    Attributes:
        lr, steps_per_epoch, epochs: as given.
    """

    def __init__(self, schedule: Schedule, lr: float, steps_per_epoch: int, epochs: int):
        self._schedule, self.lr, self.epochs = schedule, lr, epochs
        self.steps_per_epoch, self._steps = steps_per_epoch, steps_per_epoch * epochs
        self._shape = getattr(self, f"_{schedule.name}")

    def __call__(self, step: int) -> float:
        time = min(step / self._steps, 1.0)
        return self._shape(time, step) * self._warmup(step)

    def _warmup(self, step: int) -> float:
        length = self._schedule.warmup_epochs * self.steps_per_epoch
        if step >= length:
            return 1.0
        low = self._schedule.warmup_factor
        return low + (1 - low) * step / length

    def _between(self, fraction: float) -> float:
        """Return a rate between the target (fraction 0) and the highest rate (fraction 1)."""
        return self._schedule.target_lr + (self.lr - self._schedule.target_lr) * fraction

    # ---- shapes: time from 0 to 1, and the step -------------------------------------------------

    def _poly(self, time, step):
        return self._between((1 - time) ** self._schedule.power)

    def _linear(self, time, step):
        return self._between(1 - time)

    def _cosine(self, time, step):
        return self._between((1 + math.cos(math.pi * time)) / 2)

    def _step(self, time, step):
        passed = sum(step >= epoch * self.steps_per_epoch for epoch in self._schedule.step_epochs)
        return self.lr * self._schedule.step_factor ** passed

    def _constant(self, time, step):
        return self.lr
