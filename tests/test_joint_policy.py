"""Any checkpoint whose actions are joint positions, on any robot."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tiny_joints import CAMERA, DT, KINDS, NAMES, PICTURES, SPEC, save_tiny

from hotloop.decoding import ActionSpec, ActionTrajectory, ObservationSpec
from hotloop.policies.planners.model import REWARD_KEY
from hotloop.real_robot.cameras import Picture
from hotloop.real_robot.config import ControlConfig, PolicyOptions, RobotConfig, UnitsConfig
from hotloop.real_robot.core.controller import ControllerConfig
from hotloop.real_robot.core.limits import Limits
from hotloop.real_robot.policies.joint_map import map_joints
from hotloop.real_robot.policies.joints import SENSORS_KEY, JointPolicy, make_reader
from hotloop.real_robot.policies.protocol import RobotPolicy, Snapshot
from hotloop.train.commands.robot_policies import policy_kind
from hotloop.train.config.compose import compose

NO_UNITS = UnitsConfig()
SIZE = "robot.cameras.front.size=[16,16]"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("checkpoints")


def build(checkpoint: Path, *overrides: str) -> RobotPolicy:
    """Build the policy as `hotloop control robot=mujoco-arm checkpoint=...` does."""
    arguments = ["robot=mujoco-arm", f"checkpoint={checkpoint}", *overrides]
    config = compose("control", arguments, ControlConfig)
    kind = policy_kind(config)
    assert kind.path == "hotloop.train.commands.robot_policies:make_joint_policy"
    return kind.make(config.robot, config.policy_options)


def snapshot(time: float = 5.0, shape: tuple[int, ...] = (16, 16, 3)) -> Snapshot:
    picture = Picture(time, np.full(shape, 90, np.uint8))
    return Snapshot(time, np.full(6, 0.1), np.zeros(6), np.zeros(0), {"front": picture})


def robot(joints: tuple[str, ...] = NAMES, num: int = 6) -> RobotConfig:
    limits = Limits((-1.5,) * num, (1.5,) * num, *((1.0,) * num,) * 3)
    return RobotConfig("arm", "dry-run", ControllerConfig(limits, 0.01), joints=joints)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_checkpoint_plans_joint_waypoints_in_time(kind, folder) -> None:
    shape = PICTURES.get(kind, (16, 16, 3))
    needed = [f"robot.cameras.front.size=[{shape[0]},{shape[1]}]"]
    needed += ["instruction=wave"] if kind == "vla" else []
    policy = build(save_tiny(folder / kind, kind), *needed)
    assert policy.period == DT and policy.cameras == (("front",) if kind in PICTURES else ())
    policy.reset(3)
    seen = [policy.plan(snapshot(5.0 + DT * step, shape)) for step in range(6)]
    for plan in seen:
        assert plan is not None
        assert (np.diff(plan.times) > 0).all()
        assert plan.times[-1] - plan.observed_at >= 2 * DT - 1e-9
        low, high = np.array(SPEC.low) - 1e-6, np.array(SPEC.high) + 1e-6
        assert ((low <= plan.waypoints) & (plan.waypoints <= high)).all()
    for before, after in itertools.pairwise(seen):
        # What a plan says about the next step is what is done then.
        (due,) = before.waypoints[np.isclose(before.times - before.observed_at, 2 * DT)]
        (done,) = after.waypoints[np.isclose(after.times - after.observed_at, DT)]
        np.testing.assert_array_equal(due, done)


def test_the_same_seed_gives_the_same_waypoints(folder) -> None:
    policy = build(save_tiny(folder / "dp", "dp"))
    plans = []
    for seed in (1, 1, 2):
        policy.reset(seed)
        plans.append(policy.plan(snapshot()).waypoints)
    np.testing.assert_array_equal(plans[0], plans[1])
    assert np.abs(plans[0] - plans[2]).max() > 1e-3


class Echo:
    """Its action is its state, as it reads it."""

    num_execute = 1

    def __init__(self, spec: ActionSpec) -> None:
        self.action_spec = spec
        self.observation_spec = ObservationSpec({"observation.state": (spec.size,)}, 1)

    def reset(self, seeds, rows=None) -> None: ...

    def plan(self, observation, step) -> ActionTrajectory:
        self.state = observation.frames["observation.state"][0, -1]
        actions = np.array(observation.frames["observation.state"][:, -1:], np.float64)
        return ActionTrajectory.clean(actions, step, observation.step, DT)


def test_state_and_actions_go_by_the_checkpoints_order_and_units() -> None:
    """A checkpoint in degrees whose features are sorted differently."""
    names = ("gripper.pos", "Shoulder Pan", "shoulder-lift.pos")
    echo = Echo(ActionSpec(names, (-180.0,) * 3, (180.0,) * 3, DT))
    arm = robot(("shoulder_pan", "shoulder_lift", "gripper"), 3)
    units = UnitsConfig((np.pi / 180,), (0.0, 0.2, 0.0))
    joints = map_joints(echo.action_spec, arm, units)
    reader = make_reader("observation.state", (3,), arm, joints, PolicyOptions())
    policy = JointPolicy(echo, joints, {"observation.state": reader})
    policy.reset(0)
    position = np.array([0.5, 0.3, 1.0])
    plan = policy.plan(Snapshot(0.0, position, np.zeros(3), np.zeros(0)))
    np.testing.assert_allclose(echo.state, np.rad2deg([1.0, 0.5, 0.1]), rtol=1e-6)
    np.testing.assert_allclose(plan.waypoints, [position], atol=1e-6)


def test_generic_names_go_by_position_and_others_must_be_the_robots() -> None:
    numbered = ActionSpec(tuple(f"joint_{i} [rad]" for i in range(6)), (-1,) * 6, (1,) * 6, DT)
    assert map_joints(numbered, robot(), NO_UNITS).order.tolist() == [0, 1, 2, 3, 4, 5]
    assert map_joints(numbered, robot(()), NO_UNITS).order.tolist() == [0, 1, 2, 3, 4, 5]
    with pytest.raises(ValueError, match="robot arm does not say what its joints are called"):
        map_joints(SPEC, robot(()), NO_UNITS)
    wrong = replace(SPEC, names=(*NAMES[:5], "spindle"))
    with pytest.raises(ValueError, match=r"'spindle'.* the joints of robot arm are .*'gripper'"):
        map_joints(wrong, robot(), NO_UNITS)


@pytest.mark.parametrize(
    ("change", "units", "message"),
    [
        ({"names": ("a [deg]",)}, {}, r"'a \[deg\]' is in deg; units\.scale"),
        ({"low": (-100.0,), "high": (100.0,)}, {}, "67 times the range.* hardly in the same unit"),
        ({}, {"scale": (1.0, 2.0)}, r"units\.scale needs one number or 1"),
        ({}, {"offset": (np.nan,)}, r"units\.offset needs one number or 1"),
        ({}, {"scale": (0.0,)}, r"units\.scale must not be 0"),
    ],
)
def test_units_that_do_not_fit_are_explained(change, units, message) -> None:
    spec = replace(ActionSpec(("a",), (-1.0,), (1.0,), DT), **change)
    with pytest.raises(ValueError, match=message):
        map_joints(spec, robot(("a",), 1), UnitsConfig(**units))


@pytest.mark.parametrize(
    ("kind", "overrides", "message"),
    [
        ("vla", [SIZE], "the checkpoint follows instructions; give one: instruction="),
        ("vla", ["instruction=wave"], r"\(16, 16, 3\), camera 'front' gives \(96, 96, 3\); set"),
        ("dp", ["latency=20"], "num_execute 4 plus latency 20 may exceed it"),
        ("dp", ["instruction=wave"], r"follows no instruction, it reads \['observation\.state'\]"),
        ("dp", ["given.goal=[1.0]"], r"given\.goal is read by nobody; .*\['state'\]"),
        ("dp", ["sampling.colour=red"], r"no sampling choices \['colour'\]"),
    ],
)
def test_what_does_not_fit_is_an_error_when_the_policy_is_built(
    kind, overrides, message, folder
) -> None:
    with pytest.raises(ValueError, match=message):
        build(save_tiny(folder / f"wrong-{kind}", kind), *overrides)


def test_more_actions_than_joints_or_numbers_of_another_robot_are_an_error(folder) -> None:
    """A checkpoint of five numbered joints may be any five-joint robot's."""
    for names in ((*NAMES, "rail"), tuple(f"action {index}" for index in range(5))):
        spec = ActionSpec(names, (-0.6,) * len(names), (0.6,) * len(names), DT)
        message = rf"plans {len(names)} values .*, robot mujoco-arm has 6 joints"
        with pytest.raises(ValueError, match=message):
            build(save_tiny(folder / f"joints-{len(names)}", "dp", spec))


def test_joints_that_a_checkpoint_does_not_plan_hold_their_place() -> None:
    """Recordings with a locked wrist: the actions of the other joints, the positions of all."""
    names = ("action 0", "action 1", "action 2", "action 3", "action 5")
    spec = ActionSpec(names, (-1.0,) * 5, (1.0,) * 5, DT)
    with pytest.raises(ValueError, match="plans 5 values"):
        map_joints(spec, robot(), NO_UNITS, num_read=5)
    joints = map_joints(spec, robot(), NO_UNITS, num_read=6)
    assert (joints.order.tolist(), joints.held) == ([0, 1, 2, 3, 5], [4])
    read = make_reader("observation.state", (6,), robot(), joints, PolicyOptions())
    first, later = np.linspace(0.1, 0.6, 6), np.linspace(0.2, 0.7, 6)
    np.testing.assert_allclose(read(Snapshot(0.0, first, first, np.zeros(0))), first, rtol=1e-6)
    echo = Echo(spec)
    policy = JointPolicy(
        echo, joints, {"observation.state": lambda snapshot: snapshot.position[[0, 1, 2, 3, 5]]}
    )
    policy.reset(0)
    for time, position in ((0.0, first), (2 * DT, later)):
        plan = policy.plan(Snapshot(time, position, np.zeros(6), np.zeros(0)))
        np.testing.assert_allclose(plan.waypoints[-1, :4], position[:4], atol=1e-6)
        assert (plan.waypoints[:, 4] == first[4]).all()


def test_actions_that_name_some_of_the_joints_are_theirs() -> None:
    spec = ActionSpec((NAMES[3], NAMES[1]), (-1.0,) * 2, (1.0,) * 2, DT)
    joints = map_joints(spec, robot(), NO_UNITS)
    assert joints.order.tolist() == [3, 1]
    with pytest.raises(ValueError, match=r"reads 'observation\.state' of shape \(6,\)"):
        make_reader("observation.state", (6,), robot(), joints, PolicyOptions())


def test_observations_that_a_robot_lacks_are_named() -> None:
    joints = map_joints(SPEC, robot(), NO_UNITS)
    options = PolicyOptions(given={"goal": [0.5, 1.0]})

    def reader(key: str, shape: tuple[int, ...]):
        return make_reader(key, shape, robot(), joints, options)

    np.testing.assert_array_equal(reader("observation.goal", (2,))(None), [0.5, 1.0])
    np.testing.assert_array_equal(reader(REWARD_KEY, (1,))(None), [0.0])
    for key, shape, message in (
        ("observation.torque", (6,), r"does not measure; .* give it: given\.torque="),
        ("observation.goal", (3,), r"given\.goal must have shape \(3,\), got \(2,\)"),
        ("observation.state", (12,), r"of shape \(12,\), robot arm has 6 joint positions"),
        (SENSORS_KEY, (3,), r"reads 3 numbers of the scene, robot arm measures 0; a tracker"),
        (CAMERA, (16, 16, 3), r"has no camera 'front' but \[\]; add it"),
    ):
        with pytest.raises(ValueError, match=message):
            reader(key, shape)


def test_a_policy_slower_than_its_steps_is_told_the_latency_that_it_needs(folder, capfd) -> None:
    slow = save_tiny(folder / "slow", "dp", replace(SPEC, dt=1e-4))
    build(slow, "robot.control.dt=0.0001")
    assert "control steps; latency=" in capfd.readouterr().err
