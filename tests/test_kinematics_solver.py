"""A tool goes where it is asked to, or it is said why it cannot; limits hold either way."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from arms import READY, desktop_arm, needs_panda, panda
from hypothesis import given, settings
from hypothesis import strategies as st

from hotloop.real_robot.kinematics.arm import Arm
from hotloop.real_robot.kinematics.pose import Pose, rotation_matrix
from hotloop.real_robot.kinematics.solver import ROUNDING, Motion, Solver

DT = 0.05
VELOCITY = 2.0
ACCELERATION = 5.0
BENT = np.array([0.0, 0.3, 1.0, 1.2, 0.0, 0.3])


@cache
def the_panda() -> Arm:
    return Arm(panda())


@cache
def the_desktop_arm() -> Arm:
    return Arm(desktop_arm())


def solver_of(arm: Arm) -> Solver:
    return Solver(arm, np.full(arm.num_joints, VELOCITY), np.full(arm.num_joints, 2 * ACCELERATION))


def resting(position: np.ndarray) -> Motion:
    return Motion(np.array(position, float), np.zeros(len(position)))


def follow(solver: Solver, start: np.ndarray, targets: list[Pose]) -> list[np.ndarray]:
    """Joint positions along a path, each pose of which can be had."""
    motions, before = [resting(start)], solver.arm.tool_pose(start)
    for target in targets:
        found = solver.solve(motions[-1], before, target, DT)
        before = target
        assert found.problem == "" and not found.late, found
        motions.append(found.motion)
    return [motion.position for motion in motions]


@needs_panda
@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_a_hand_follows_any_smooth_path_within_limits_and_speeds(seed: int) -> None:
    generator = np.random.default_rng(seed)
    arm, solver = the_panda(), solver_of(the_panda())
    start = np.array(READY)
    solver.prefer(start)
    home, ways = arm.tool_pose(start), generator.uniform(-0.05, 0.05, (2, 3))
    angles = generator.uniform(-0.2, 0.2, 3)
    targets = []
    for u in np.linspace(0, 1, 120)[1:]:
        s = 2 * np.pi * u**3 * (10 - 15 * u + 6 * u**2)
        way = np.sin(s) * ways[0] + (1 - np.cos(s)) / 2 * ways[1]
        turned = rotation_matrix("axis-angle", np.sin(s) * angles)
        targets.append(home.moved(way, turned, in_own_axes=False))
    rows = np.stack(follow(solver, start, targets))
    assert (np.abs(np.diff(rows, axis=0)) <= VELOCITY * DT + 1e-9).all()
    assert (np.abs(np.diff(rows, 2, axis=0)) <= ACCELERATION * DT**2 + 1e-9).all()
    assert ((arm.low <= rows) & (rows <= arm.high)).all()
    pairs = zip(rows[1:], targets, strict=True)
    ways, turns = zip(*(arm.tool_pose(row).distances(target) for row, target in pairs), strict=True)
    # Where joints reach their accelerations the tool is late, but never beyond the tolerances.
    assert np.median(ways) < 2e-4 and np.median(turns) < 2e-3
    assert max(ways) < arm.config.position_tolerance and max(turns) < arm.config.rotation_tolerance
    assert min(arm.distance(row)[0] for row in rows) > arm.config.clearance - ROUNDING - 1e-9


def assert_sound(arm: Arm, solver: Solver, before: Motion, after: Motion) -> None:
    """Limits hold, and still hold when the joints are braked from there, measured on the model."""
    assert (np.abs(after.velocity) <= VELOCITY + 1e-9).all()
    assert (np.abs(after.velocity - before.velocity) <= ACCELERATION * DT + 1e-9).all()
    assert np.allclose(after.position, before.position + DT * after.velocity)
    kept = min(arm.config.clearance - ROUNDING, arm.distance(before.position)[0])
    way = [after, *solver.to_rest(after, DT)]
    assert not way[-1].velocity.any()
    for motion in way:
        assert ((arm.low <= motion.position + 0.01) & (motion.position - 0.01 <= arm.high)).all()
        assert arm.distance(motion.position)[0] >= kept - 3e-3


@pytest.mark.parametrize("name", [pytest.param("panda", marks=needs_panda), "desktop arm"])
@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_no_pose_however_absurd_breaks_a_limit(name: str, seed: int) -> None:
    """Jumps of metres, into the table, into the arm itself: what comes out may always be sent."""
    arm = the_panda() if name == "panda" else the_desktop_arm()
    solver, generator = solver_of(arm), np.random.default_rng(seed)
    motion = resting(READY if name == "panda" else BENT)
    before = arm.tool_pose(motion.position)
    for _ in range(8):
        rotation = rotation_matrix("axis-angle", generator.uniform(-3, 3, 3))
        target = Pose(generator.uniform(-1, 1, 3) * generator.choice([0.1, 0.5, 3.0]), rotation)
        for _ in range(6):
            found = solver.solve(motion, before, target, DT)
            assert_sound(arm, solver, motion, found.motion)
            motion, before = found.motion, target


def push(arm: Arm, start: np.ndarray, way: np.ndarray, num_steps: int = 200) -> tuple[str, Pose]:
    """Move the tool on by small ways until it is refused; why, and where it was then."""
    solver, motion = solver_of(arm), resting(start)
    solver.prefer(start)
    home = before = arm.tool_pose(start)
    for count in range(1, num_steps):
        target = Pose(home.position + count * way, home.rotation)
        found = solver.solve(motion, before, target, DT)
        before = target
        assert_sound(arm, solver, motion, found.motion)
        if found.problem:
            return found.problem, arm.tool_pose(motion.position)
        motion = found.motion
    return "", arm.tool_pose(motion.position)


@needs_panda
def test_the_table_the_reach_and_the_arm_itself_are_each_said() -> None:
    arm, ready = the_panda(), np.array(READY)
    problem, pose = push(arm, ready, np.array([0, 0, -0.01]))
    assert "link7 and kinematics.planes[0] are 0.00" in problem
    assert pose.position[2] == pytest.approx(0.02 + arm.config.clearance, abs=0.02)
    problem, pose = push(arm, ready, np.array([0.01, 0, 0]))
    assert "stretched out, or two of its axes are in line" in problem
    assert 0.7 < np.linalg.norm(pose.position - [0, 0, 0.333]) < 1.0, "about as far as it goes"
    problem, _ = push(arm, ready, np.array([-0.01, 0, 0]))
    assert "is at its limit" in problem or "m apart" in problem


def test_a_joint_at_its_limit_is_named() -> None:
    problem, _ = push(the_desktop_arm(), BENT, np.array([-0.01, 0, 0]))
    assert "joint elbow_flex is at its limit" in problem


def test_the_gripper_does_not_move_the_tool_and_is_not_moved_for_it() -> None:
    arm = the_desktop_arm()
    opened = BENT.copy()
    opened[5] = 1.1
    assert np.array_equal(arm.tool_pose(BENT).position, arm.tool_pose(opened).position)
    solver = solver_of(arm)
    home = arm.tool_pose(opened)
    target = Pose(home.position + np.array([0.0, 0.002, 0.0]), home.rotation)
    found = solver.solve(resting(opened), home, target, DT)
    assert found.problem == "" and found.motion.position[5] == 1.1


def test_joints_that_are_too_slow_are_late_and_arrive() -> None:
    arm = the_desktop_arm()
    solver, home = solver_of(arm), arm.tool_pose(BENT)
    target = Pose(home.position + np.array([0.03, 0.12, -0.03]), home.rotation)
    assert solver.far_problem(BENT, target) == ""
    motion, num_steps = resting(BENT), 0
    while (found := solver.solve(motion, target, target, DT)).late:
        assert found.problem == ""
        assert_sound(arm, solver, motion, found.motion)
        motion, num_steps = found.motion, num_steps + 1
    assert found.problem == "" and 2 <= num_steps < 40
    for _ in range(10):
        motion = solver.solve(motion, target, target, DT).motion
    assert arm.tool_pose(motion.position).distances(target)[0] < 1e-3


def test_a_pose_far_out_of_reach_is_told_at_once() -> None:
    arm = the_desktop_arm()
    problem = solver_of(arm).far_problem(BENT, Pose(np.array([2.0, 0, 0.2]), np.eye(3)))
    assert problem.startswith("the tool cannot be at (2.000, 0.000, 0.200) m as wanted: 1.")


@needs_panda
def test_where_a_pose_leaves_a_choice_the_posture_is_kept() -> None:
    """Round and round, the elbow of seven joints comes back to where it was."""
    arm, solver, start = the_panda(), solver_of(the_panda()), np.array(READY)
    solver.prefer(start)
    home = arm.tool_pose(start)
    circle = [
        Pose(home.position + 0.08 * np.array([np.cos(s) - 1, np.sin(s), 0]), home.rotation)
        for s in 6 * np.pi * np.linspace(0, 1, 200) ** 2
    ]
    assert np.abs(follow(solver, start, circle)[-1] - start).max() < 0.05


def test_a_pose_that_is_no_number_is_no_pose() -> None:
    arm = the_desktop_arm()
    nowhere = Pose(np.array([np.nan, 0, 0.2]), np.eye(3))
    found = solver_of(arm).solve(resting(BENT), nowhere, nowhere, DT)
    assert np.array_equal(found.motion.position, BENT) and "not finite" in found.problem
