import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotloop.decoding import ActionTrajectory

DT = 0.1


def stamped(first_step, horizon, **changes) -> ActionTrajectory:
    """Rows whose actions hold their row and their control step."""
    first_step = np.asarray(first_step)
    steps = first_step[:, None] + np.arange(horizon)
    rows = np.broadcast_to(np.arange(len(first_step))[:, None], steps.shape)
    fields = {
        "actions": np.stack([rows, steps], axis=-1).astype(float),
        "first_step": first_step,
        "observed_step": first_step,
        "dt": DT,
        "noise_level": np.zeros(steps.shape),
        "valid": np.ones(steps.shape, bool),
    }
    return ActionTrajectory(**(fields | changes))


def test_the_times_follow_from_steps_and_period():
    plan = stamped([0, 7], 3)
    np.testing.assert_allclose(plan.times, [[0.0, 0.1, 0.2], [0.7, 0.8, 0.9]])


def test_a_clean_trajectory_is_ready_throughout():
    steps = np.array([4, 5])
    plan = ActionTrajectory.clean(np.zeros((2, 5, 3)), steps, steps, DT)
    assert plan.horizon == 5
    np.testing.assert_array_equal(plan.num_ready, [5, 5])


def test_a_noise_level_that_rises_along_the_horizon_leaves_the_clean_head_ready():
    """The buffer of a streaming diffusion policy."""
    plan = stamped([0], 6, noise_level=np.array([[0.0, 0.0, 0.3, 0.3, 1.0, 1.0]]))
    np.testing.assert_array_equal(plan.num_ready, [2])


def test_the_tail_of_a_token_chunk_that_has_not_converged_is_not_ready():
    valid = np.array([[True, True, True, False], [True, False, False, False]])
    np.testing.assert_array_equal(stamped([0, 0], 4, valid=valid).num_ready, [3, 1])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nothing_is_ready_from_the_first_action_that_is_not_finite(bad):
    plan = stamped([0], 4)
    plan.actions[0, 1, 0] = bad
    np.testing.assert_array_equal(plan.ready, [[True, False, False, False]])


def test_an_unknown_noise_level_is_not_clean():
    plan = stamped([0], 3, noise_level=np.array([[0.0, np.nan, 0.0]]))
    np.testing.assert_array_equal(plan.num_ready, [1])


@given(
    usable=st.lists(
        st.lists(st.sampled_from(["ready", "noisy", "invalid", "nan"]), min_size=5, max_size=5),
        min_size=1,
        max_size=4,
    )
)
def test_the_ready_prefix_ends_before_the_first_unusable_action(usable):
    kinds = np.array(usable)
    plan = stamped(
        np.zeros(len(kinds), int), 5, noise_level=0.5 * (kinds == "noisy"), valid=kinds != "invalid"
    )
    plan.actions[kinds == "nan"] = np.nan
    for row, num_ready in zip(kinds, plan.num_ready, strict=True):
        assert (row[:num_ready] == "ready").all()
        assert num_ready == len(row) or row[num_ready] != "ready"


def test_a_following_plan_has_other_actions_and_the_same_readiness():
    plan = stamped([0, 4], 3, noise_level=np.array([[0.0, 0.0, 0.5], [0.0, 0.5, 0.5]]))
    after = plan.following(plan.actions + 1, plan.first_step + 3, plan.observed_step + 3)
    expected = dataclasses.replace(
        plan, actions=plan.actions + 1, first_step=plan.first_step + 3,
        observed_step=plan.observed_step + 3,
    )  # fmt: skip
    for name in ("actions", "first_step", "observed_step", "noise_level", "valid", "num_ready"):
        np.testing.assert_array_equal(getattr(after, name), getattr(expected, name))
    after.actions[0, 0] = np.nan
    np.testing.assert_array_equal(after.num_ready, [0, 1])
    with pytest.raises(ValueError, match=r"noise_level must have shape \(2, 2\)"):
        plan.following(plan.actions[:, :2], plan.first_step, plan.observed_step)


@given(rows=st.lists(st.integers(0, 3), min_size=1, max_size=4, unique=True))
def test_selected_rows_keep_their_order_and_everything_of_theirs(rows):
    first_step = np.array([2, 5, 9, 4])
    noise_level = np.arange(12).reshape(4, 3) / 12
    part = stamped(first_step, 3, noise_level=noise_level).select(np.array(rows))
    np.testing.assert_array_equal(part.actions[:, 0, 0], rows)
    np.testing.assert_array_equal(part.actions[:, 0, 1], first_step[rows])
    np.testing.assert_array_equal(part.first_step, first_step[rows])
    np.testing.assert_array_equal(part.noise_level, noise_level[rows])


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("actions", np.zeros((2, 3)), r"actions must have shape \(R, H, D\) with H > 0"),
        ("actions", np.zeros((2, 0, 2)), r"with H > 0, got \(2, 0, 2\)"),
        ("first_step", np.zeros(3, int), r"first_step must have shape \(2,\), got \(3,\)"),
        ("observed_step", np.array(0), r"observed_step must have shape \(2,\), got \(\)"),
        ("noise_level", np.zeros((2, 4)), r"noise_level must have shape \(2, 3\)"),
        ("valid", np.ones(3, bool), r"valid must have shape \(2, 3\), got \(3,\)"),
    ],
)
def test_shapes_that_do_not_belong_together_are_refused(field, value, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(stamped([0, 0], 3), **{field: value})
