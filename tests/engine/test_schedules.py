"""Learning rate: each shape by its formula, and properties of all shapes."""
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mxnetseg.config.schema import Schedule
from mxnetseg.engine.schedules import LearningRate

SHAPES = ("poly", "cosine", "step", "linear", "constant")
LR, PER_EPOCH, EPOCHS = 0.4, 10, 6
STEPS = PER_EPOCH * EPOCHS


def rate(**options):
    return LearningRate(Schedule(**options), LR, PER_EPOCH, EPOCHS)


FORMULAS = {
    "poly": lambda t: 0.1 + 0.3 * (1 - t / STEPS) ** 0.7,
    "linear": lambda t: 0.1 + 0.3 * (1 - t / STEPS),
    "cosine": lambda t: 0.1 + 0.3 * 0.5 * (1 + math.cos(math.pi * t / STEPS)),
    "step": lambda t: 0.4 * (1 if t < 20 else 0.3 if t < 50 else 0.09),
    "constant": lambda t: 0.4,
}


@pytest.mark.parametrize("name", SHAPES)
def test_formula(name):
    r = rate(name=name, power=0.7, target_lr=0.1, step_epochs=(2, 5), step_factor=0.3)
    for t in range(STEPS + 1):
        assert r(t) == pytest.approx(FORMULAS[name](t), rel=1e-12), t


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("epochs, length", [(1.0, 10), (2.5, 25), (0.25, 2.5)])
def test_warm_up_multiplies_any_shape_by_a_line(name, epochs, length):
    options = {"name": name, "step_epochs": (2, 5)}
    plain, warm = rate(**options), rate(**options, warmup_epochs=epochs, warmup_factor=0.2)
    assert warm(0) == pytest.approx(0.2 * plain(0))
    for t in range(STEPS):
        factor = 1 if t >= length else 0.2 + 0.8 * t / length
        assert warm(t) == pytest.approx(factor * plain(t), rel=1e-12), t


schedules = st.builds(
    Schedule, name=st.sampled_from(SHAPES), power=st.floats(0.1, 5), target_lr=st.floats(0, 0.01),
    step_epochs=st.lists(st.integers(1, 40), min_size=1, max_size=4, unique=True).map(sorted).map(tuple),
    step_factor=st.floats(0.01, 1), warmup_epochs=st.floats(0, 5), warmup_factor=st.floats(0, 1))


@given(schedules, st.floats(0.01, 10), st.integers(1, 40), st.integers(1, 40))
def test_bounds_and_monotonicity(schedule, lr, per_epoch, epochs):
    """Check that rates lie in [0, lr], fall after the warm-up, and end at the target."""
    r = LearningRate(schedule, lr, per_epoch, epochs)
    values = [r(t) for t in range(per_epoch * epochs + 2)]
    low = 0 if schedule.name in ("step", "constant") else schedule.target_lr
    assert all(0 <= v <= lr * (1 + 1e-12) for v in values)
    warm = math.ceil(schedule.warmup_epochs * per_epoch)
    rest = values[warm:]
    assert all(b <= a * (1 + 1e-12) for a, b in zip(rest, rest[1:]))
    assert all(v >= low * (1 - 1e-12) for v in rest)
    if rest and schedule.name in ("poly", "linear", "cosine"):
        assert rest[-1] == pytest.approx(schedule.target_lr, abs=1e-12)


@given(schedules, st.integers(0, 2000))
def test_the_rate_depends_on_the_step_alone(schedule, step):
    """Compare with a new object, which a resumed run creates."""
    used = LearningRate(schedule, 0.1, 50, 40)
    for t in (step + 7, 0, step):
        used(t)
    assert used(step) == LearningRate(schedule, 0.1, 50, 40)(step)
