"""Sticks and keys: what they ask for, and what the robot does of it."""

from __future__ import annotations

import os
import struct
from dataclasses import replace

import numpy as np
import pytest
from robots import CONFIG, Bench

from hotloop.real_robot.config import RobotConfig
from hotloop.real_robot.core.events import Mode
from hotloop.real_robot.policies.protocol import Snapshot
from hotloop.real_robot.teleop.config import TeleopConfig
from hotloop.real_robot.teleop.controls import GamepadWishes, KeyWishes, bindings_of
from hotloop.real_robot.teleop.jog import JogPolicy, JointJog

PERIOD = 0.04
TWO = RobotConfig("two joints", "dry-run", CONFIG, joints=("pan", "grip"))


def snapshot(time: float, position, mode: Mode = Mode.RUN, sequence: int = 0) -> Snapshot:
    place = np.asarray(position, np.float64)
    return Snapshot(time, place, np.zeros_like(place), np.zeros(0), sequence=sequence, mode=mode)


def stick(value: float, number: int) -> bytes:
    return struct.pack("=IhBB", 0, int(32767 * value), 2, number)


def button(down: bool, number: int) -> bytes:
    return struct.pack("=IhBB", 0, down, 1, number)


@pytest.fixture
def pad(tmp_path):
    path = tmp_path / "js0"
    os.mkfifo(path)
    end = os.open(path, os.O_RDWR | os.O_NONBLOCK)
    yield str(path), end
    os.close(end)


def test_sticks_and_buttons_move_joints(pad) -> None:
    path, end = pad
    wishes = GamepadWishes(["axis0", "-axis1", "button5-button4", ""], path)
    assert wishes.read("").tolist() == [0, 0, 0, 0]
    os.write(end, stick(1.0, 0) + stick(-1.0, 1) + button(True, 4) + button(True, 0))
    assert wishes.read("").tolist() == [1, 1, -1, 0]
    assert wishes.pressed() == "k" and wishes.pressed() == ""
    os.write(end, stick(0.02, 0) + button(False, 4) + button(True, 5))
    assert wishes.read("").tolist() == [0, 1, 1, 0]
    wishes.close()


def test_a_gamepad_that_is_unplugged_ends_it(pad) -> None:
    wishes = GamepadWishes(["axis0"], pad[0])
    wishes.close()
    with pytest.raises(ConnectionError):
        wishes.read("")


@pytest.mark.parametrize("binding", ["axis", "axis1 + axis2", "stick3", "axis1-", "button"])
def test_a_binding_that_cannot_be_read_is_told(binding: str) -> None:
    with pytest.raises(ValueError, match="a gamepad binding is made of"):
        GamepadWishes([binding])


def test_bindings_of_what_cannot_be_moved_are_told() -> None:
    with pytest.raises(ValueError, match="names 'wrist'; what can be moved are pan, grip"):
        bindings_of(["pan", "grip"], {}, {"wrist": "12"})
    with pytest.raises(ValueError, match="a keyboard binding is two keys"):
        KeyWishes(["123"])


def test_a_key_of_the_terminal_counts_for_a_moment() -> None:
    now = [10.0]
    wishes = KeyWishes(["12", "34"], monotonic=lambda: now[0])
    assert wishes.read("2").tolist() == [1, 0]
    now[0] += 0.1
    assert wishes.read("3").tolist() == [1, -1]
    now[0] += 0.1
    assert wishes.read("").tolist() == [0, -1]
    now[0] += 0.1
    assert wishes.read("").tolist() == [0, 0]


def test_joints_move_as_fast_as_asked_and_rest_when_nobody_asks() -> None:
    jog, bench, sequence = JointJog(TWO), Bench(CONFIG), 0
    speeds = []
    for cycle in range(2000):
        if cycle % 20 == 0:
            velocity = np.array([0.5, -9.0]) if 200 <= cycle < 1000 else np.zeros(2)
            bench.send(
                jog.step(snapshot(bench.now, bench.position, bench.mode, sequence), velocity)
            )
            sequence += 1
        else:
            bench.step()
        speeds.append(bench.controller._motion.velocity[0])
    assert np.allclose(speeds[500:950], 0.5, atol=0.01)
    assert speeds[-1] == 0 and bench.position[0] == pytest.approx(0.8, abs=0.02)
    assert bench.position[1] == pytest.approx(CONFIG.limits.low[1], abs=1e-3)
    assert max(bench.controller.peaks) <= 1 + 1e-9


def test_a_joint_that_is_held_up_is_not_pulled_on(pad) -> None:
    """The plan goes on from where the joint is, so that nothing jumps when it comes free."""
    watched = replace(TWO, control=replace(CONFIG, tracking_error=(0.2, 0.2)))
    jog = JointJog(watched)
    for index in range(40):
        chunk = jog.step(snapshot(0.04 * index, [0.0, 0.0]), np.array([1.0, 0.0]))
        assert chunk.waypoints[0, 0] <= 0.1


@pytest.mark.parametrize(
    ("config", "told"),
    [
        (TeleopConfig("keyboard"), "the keyboard moves: pan 12, grip 34"),
        (
            TeleopConfig("keyboard", bindings={"pan": "ad", "grip": ""}),
            "the keyboard moves: pan ad",
        ),
    ],
)
def test_whoever_moves_a_robot_by_keys_is_told_which(config, told) -> None:
    said: list[str] = []

    class Listening:
        def keys(self) -> str:
            return ""

        def say(self, text: str) -> None:
            said.append(text)

        def finish(self, reason: str) -> None: ...

    JogPolicy(TWO, config, PERIOD).attach(Listening())
    assert said == [told]


def test_the_tool_moves_along_its_axes_by_keys() -> None:
    pytest.importorskip("mink")
    from hotloop.real_robot.config import ControlConfig
    from hotloop.train.config.compose import compose

    robot = compose("control", ["robot=mujoco-arm"], ControlConfig).robot
    policy = JogPolicy(robot, TeleopConfig("keyboard", space="tool"), PERIOD)

    class Pressing:
        def keys(self) -> str:
            return "↑"

        def say(self, text: str) -> None: ...

        def finish(self, reason: str) -> None: ...

    policy.attach(Pressing())
    position = np.array([0.0, -0.5, 1.0, 0.5, 0.0, 0.3])
    tool = policy._tool.arm.tool_pose
    for index in range(25):
        chunk = policy.plan(snapshot(PERIOD * index, position))
        position = np.array([np.interp(PERIOD * (index + 1), chunk.times, one)
                             for one in chunk.waypoints.T])  # fmt: skip
    moved = tool(position).position - tool(np.array([0.0, -0.5, 1.0, 0.5, 0.0, 0.3])).position
    assert moved[0] == pytest.approx(0.1, abs=0.02) and np.abs(moved[1:]).max() < 0.01
