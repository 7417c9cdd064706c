"""Loss scale of float16."""
from hypothesis import given
from hypothesis import strategies as st

from mxnetseg.engine.scaling import LossScale


def test_it_halves_at_once_and_doubles_after_patience():
    scale = LossScale(8.0)
    scale.follow(False)
    assert (scale.value, scale.good_steps) == (4.0, 0)
    for _ in range(LossScale.patience - 1):
        scale.follow(True)
    assert (scale.value, scale.good_steps) == (4.0, LossScale.patience - 1)
    scale.follow(True)
    assert (scale.value, scale.good_steps) == (8.0, 0)


def test_one_bad_step_restarts_the_count():
    scale = LossScale(8.0, good_steps=LossScale.patience - 1)
    scale.follow(False)
    assert (scale.value, scale.good_steps) == (4.0, 0)


@given(st.lists(st.booleans(), max_size=200))
def test_it_is_a_power_of_two_and_resumes_from_saved_values(steps):
    whole, half = LossScale(), LossScale()
    for i, good in enumerate(steps):
        whole.follow(good)
        if i == len(steps) // 2:
            half = LossScale(**vars(half))
        half.follow(good)
    assert vars(whole) == vars(half)
    assert whole.value.as_integer_ratio()[0] & (whole.value.as_integer_ratio()[0] - 1) == 0


def test_a_scale_is_lost_after_many_infinite_gradients():
    scale = LossScale()
    bad = 0
    while not scale.lost:
        scale.follow(False)
        bad += 1
    assert bad == 27  # from 2^16 below 2^-10
