import dataclasses
import pickle

import numpy as np
import pytest
from noisy_hold import NoisyHold

from hotloop.decoding import ActionSpec, ActionTrajectory, ObservationSpec, Policy
from hotloop.decoding.conformance import PolicyConformance, check_policy

SPEC = ActionSpec(("x [px]", "y [px]"), (0.0, -1.0), (512.0, 1.0), dt=0.1)


class TestNoisyHold(PolicyConformance):
    @pytest.fixture
    def policy(self) -> Policy:
        return NoisyHold()


def test_actions_inside_the_spec_are_returned_as_they_are():
    actions = np.array([[[0.0, -1.0], [512.0, 1.0]]])
    assert SPEC.check(actions) is actions
    assert SPEC.size == 2


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 512.001, -0.001])
def test_an_action_that_is_not_inside_is_refused_with_its_name_and_place(bad):
    actions = np.full((3, 4, 2), 0.5)
    actions[1, 2, 0] = bad
    with pytest.raises(ValueError, match=r"'x \[px\]' = .* at index \(1, 2, 0\) is outside \[0.0"):
        SPEC.check(actions)


def test_a_spec_without_finite_bounds_is_refused() -> None:
    with pytest.raises(ValueError, match="bounds must be finite"):
        ActionSpec(("x",), (-np.inf,), (np.inf,), 0.1)


def test_an_action_of_another_size_is_refused():
    with pytest.raises(ValueError, match=r"must have 2 dimensions .* got shape \(5, 3\)"):
        SPEC.check(np.zeros((5, 3)))


def test_a_spec_survives_pickling():
    copy = pickle.loads(pickle.dumps(SPEC))
    assert copy == SPEC
    with pytest.raises(ValueError, match="outside"):
        copy.check(np.array([600.0, 0.0]))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"names": ("x",)}, "1 names, 2 low, 2 high"),
        ({"names": (), "low": (), "high": ()}, "at least one"),
        ({"low": (600.0, 0.0)}, "low must be below high"),
        ({"low": (np.nan, 0.0)}, "low must be below high"),
        ({"dt": 0.0}, "positive number of seconds"),
        ({"dt": np.nan}, "positive number of seconds"),
        ({"dt": np.inf}, "positive number of seconds"),
    ],
)
def test_a_spec_that_bounds_nothing_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(SPEC, **changes)


def test_a_frame_may_hold_more_than_a_policy_reads():
    spec = ObservationSpec({"observation.state": (2,)}, num_steps=2)
    spec.check_frame({"observation.state": np.zeros((3, 2)), "observation.image": np.zeros(3)})


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        ({"state": np.zeros((3, 2))}, r"'observation.state' is missing; .* got \['state'\]"),
        ({"observation.state": np.zeros((3, 4))}, r"shape \(rows, 2\), got \(3, 4\)"),
        ({"observation.state": np.zeros((3, 2, 1))}, r"shape \(rows, 2\), got \(3, 2, 1\)"),
        ({"observation.state": np.zeros(2)}, r"shape \(rows, 2\), got \(2,\)"),
    ],
)
def test_a_frame_that_does_not_fit_is_refused(frame, message):
    spec = ObservationSpec({"observation.state": (2,)}, num_steps=2)
    with pytest.raises(ValueError, match=message):
        spec.check_frame(frame)


SEEING = ObservationSpec({"observation.image": (4, 6, 3), "observation.state": (2,)}, num_steps=2)


def test_pictures_are_bytes_and_all_else_is_not():
    assert SEEING.pictures == ("observation.image",)
    assert SEEING.dtype("observation.image") is np.uint8
    assert SEEING.dtype("observation.state") is np.float32
    assert (
        ObservationSpec({"first": (3, 4, 6), "map": (4, 6), "alpha": (4, 6, 4)}, 1).pictures == ()
    )


@pytest.mark.parametrize(
    ("shape", "dtype", "what"),
    [
        ((3, 4, 6), np.uint8, "its channels come first; move them to the end"),
        ((4, 4, 6), np.uint8, "its channels come first"),
        ((4, 6), np.uint8, "it is grey; give red, green and blue"),
        ((4, 6, 1), np.uint8, "it is grey"),
        ((1, 4, 6), np.uint8, "it is grey"),
        ((4, 6, 4), np.uint8, "it has four channels; leave out the last, alpha or depth"),
        ((6, 4, 3), np.uint8, "its sides are swapped; height comes before width"),
        ((8, 12, 3), np.uint8, "resize it to 4 x 6"),
        ((5, 6, 7), np.uint8, "give red, green and blue, channels last"),
        ((2, 4, 6, 3), np.uint8, "give height, width and 3 channels"),
        ((4, 6, 3), np.float32, "give bytes from 0 to 255, not scaled"),
        ((4, 6, 3), np.int64, "give bytes from 0 to 255"),
    ],
)
def test_a_picture_that_is_none_is_told_with_what_to_do(shape, dtype, what):
    frame = {
        "observation.state": np.zeros((2, 2)),
        "observation.image": np.zeros((2, *shape), dtype),
    }
    with pytest.raises(ValueError) as error:
        SEEING.check_frame(frame)
    expected = "each row's picture of observation 'observation.image' must have shape (4, 6, 3)"
    assert str(error.value).startswith(
        f"{expected} and type uint8, got {shape} and {np.dtype(dtype)}: {what}"
    )


class OneGenerator(NoisyHold):
    """Draws the noise of all rows from the generator of the first."""

    def plan(self, observation, step):
        self.generators = dict.fromkeys(self.generators, self.generators[0])
        return super().plan(observation, step)


class PositionForRow(NoisyHold):
    """Takes an entry's place in the batch for its row."""

    def plan(self, observation, step):
        places = np.arange(len(observation.rows))
        return super().plan(dataclasses.replace(observation, rows=places), step)


class ResetsAllRows(NoisyHold):
    def reset(self, seeds, rows=None):
        super().reset(seeds, rows)
        for row in self.generators:
            super().reset(np.array([row]), np.array([row]))


class NeverReseeds(NoisyHold):
    def reset(self, seeds, rows=None):
        self.generators = self.generators or {row: np.random.default_rng(row) for row in range(4)}


class WritesIntoFrames(NoisyHold):
    def plan(self, observation, step):
        observation.frames["observation.state"][:] *= 0.5
        return super().plan(observation, step)


class ReusesItsBuffer(NoisyHold):
    buffer = np.zeros((4, 6, 2))

    def plan(self, observation, step):
        plan = super().plan(observation, step)
        self.buffer[: len(step)] = plan.actions
        return dataclasses.replace(plan, actions=self.buffer[: len(step)])


class StartsTooLate(NoisyHold):
    def plan(self, observation, step):
        return super().plan(observation, step + 1)


class NotReady(NoisyHold):
    def plan(self, observation, step):
        plan = super().plan(observation, step)
        return dataclasses.replace(plan, valid=np.zeros_like(plan.valid))


class IgnoresTheLatency(NoisyHold):
    horizon = 1
    num_execute = 1

    def plan(self, observation, step):
        return super().plan(observation, observation.step)


class LeavesTheSpec(NoisyHold):
    def plan(self, observation, step):
        plan = super().plan(observation, step)
        return dataclasses.replace(plan, actions=plan.actions + 10)


class OtherPeriod(NoisyHold):
    def plan(self, observation, step):
        return dataclasses.replace(super().plan(observation, step), dt=0.2)


class CountsWhatItSees(NoisyHold):
    """Its next plan is another one where it saw frames in between."""

    def observe(self, observation):
        for row in observation.rows.tolist():
            self.generators[row].standard_normal()


class WithoutReset:
    action_spec, observation_spec, num_execute = SPEC, ObservationSpec({}, 1), 1

    def plan(self, observation, step) -> ActionTrajectory:
        raise NotImplementedError


@pytest.mark.parametrize(
    ("broken", "test"),
    [
        (WithoutReset, "test_it_satisfies_the_protocol"),
        (CountsWhatItSees, "test_frames_seen_between_plans_change_no_plan"),
        (OtherPeriod, "test_a_plan_has_the_rows_size_and_period_that_were_asked_for"),
        (StartsTooLate, "test_the_first_action_that_is_needed_is_covered_and_ready"),
        (NotReady, "test_the_first_action_that_is_needed_is_covered_and_ready"),
        (LeavesTheSpec, "test_ready_actions_are_inside_the_action_spec"),
        (NeverReseeds, "test_the_same_seeds_give_the_same_plans"),
        (NeverReseeds, "test_resetting_twice_is_resetting_once"),
        (OneGenerator, "test_a_row_plans_the_same_alone_as_among_others"),
        (PositionForRow, "test_any_rows_can_be_planned_for_in_any_order"),
        (ResetsAllRows, "test_resetting_a_row_restarts_it_and_leaves_the_others_alone"),
        (NeverReseeds, "test_resetting_a_row_restarts_it_and_leaves_the_others_alone"),
        (WritesIntoFrames, "test_its_inputs_are_not_changed"),
        (ReusesItsBuffer, "test_a_plan_outlives_the_next_one"),
        (IgnoresTheLatency, "test_a_plan_can_be_made_ahead_of_its_execution"),
    ],
)
def test_the_conformance_suite_catches_broken_policies(broken, test):
    with pytest.raises((AssertionError, ValueError)):
        getattr(PolicyConformance(), test)(broken())


def test_a_policy_can_be_checked_without_pytest():
    check_policy(NoisyHold())
    message = r"broken rule: ready actions are inside the action spec: .* is outside \[-1"
    with pytest.raises(AssertionError, match=message):
        check_policy(LeavesTheSpec())
