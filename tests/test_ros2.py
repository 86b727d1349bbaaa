"""A robot behind ROS 2's topics: bytes on the wire, the driver, and a run of the loop."""

from __future__ import annotations

import contextlib
import re
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hotloop.real_robot.config import RobotConfig
from hotloop.real_robot.conformance import DriverConformance
from hotloop.real_robot.core.controller import ControllerConfig
from hotloop.real_robot.core.limits import Limits, Motion
from hotloop.real_robot.drivers import BusError, make_driver
from hotloop.train.cli import main

pytest.importorskip("cyclonedds")
from ros_arm import DOMAIN, JOINTS, LOOPBACK, RosArm

from hotloop.real_robot.drivers import ros_messages as ros

pytestmark = pytest.mark.realtime

LIMITS = Limits((-1.5,) * 6, (1.5,) * 6, (2.0,) * 6, (10.0,) * 6, (400.0,) * 6)
ROBOT = RobotConfig("arm", "ros2", ControllerConfig(LIMITS, 0.02), {"domain": DOMAIN}, JOINTS)


@pytest.fixture(autouse=True)
def loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CYCLONEDDS_URI", LOOPBACK)
    monkeypatch.delenv("ROS_DOMAIN_ID", raising=False)


class TestTrajectoryController(DriverConformance):
    def setup_method(self) -> None:
        self.arm = RosArm("trajectory").__enter__()

    def teardown_method(self) -> None:
        self.arm.__exit__()

    def robot(self) -> RobotConfig:
        return ROBOT


def test_messages_are_the_bytes_of_an_independent_implementation() -> None:
    """rosbags' serialisation of ROS 2's own definitions, Humble's and Jazzy's."""
    typesys = pytest.importorskip("rosbags.typesys")
    header = ros.Header(ros.Time(5, 999_999_999), "base")
    point = ros.JointTrajectoryPoint([1.0, -2.0], [0.5], [], [3.0], ros.Duration(0, 20_000_000))
    layout = ros.MultiArrayLayout([ros.MultiArrayDimension("joints", 2, 2)], 1)
    messages = {
        "sensor_msgs/msg/JointState": ros.JointState(header, ["a", "bcd"], [1.0, 2.0], [3.0], []),
        "trajectory_msgs/msg/JointTrajectory": ros.JointTrajectory(header, ["a", "b"], [point]),
        "std_msgs/msg/Float64MultiArray": ros.Float64MultiArray(layout, [0.25, -1e9]),
    }
    for store in (typesys.Stores.ROS2_HUMBLE, typesys.Stores.ROS2_JAZZY):
        types = typesys.get_typestore(store)
        for name, message in messages.items():
            expected = bytes(types.serialize_cdr(_rosbags(types, name, message), name))
            assert message.serialize(use_version_2=False) == expected, name


def _rosbags(types, name: str, message):
    """The same message in rosbags' classes, whose fields have the same names."""
    names = {ros.Time: "builtin_interfaces/msg/Time",
             ros.Duration: "builtin_interfaces/msg/Duration",
             ros.Header: "std_msgs/msg/Header",
             ros.JointTrajectoryPoint: "trajectory_msgs/msg/JointTrajectoryPoint",
             ros.MultiArrayLayout: "std_msgs/msg/MultiArrayLayout",
             ros.MultiArrayDimension: "std_msgs/msg/MultiArrayDimension"}  # fmt: skip

    def convert(value):
        if type(value) in names:
            return _rosbags(types, names[type(value)], value)
        if isinstance(value, list) and (not value or isinstance(value[0], float)):
            return np.array(value)
        return [convert(one) for one in value] if isinstance(value, list) else value

    return types.types[name](**{key: convert(value) for key, value in vars(message).items()})


def test_a_trajectory_says_when_and_how_fast() -> None:
    with RosArm("trajectory") as arm:
        driver = make_driver(ROBOT)
        driver.connect()
        start = driver.read().position
        driver.write(Motion(start, np.full(6, 0.25), np.zeros(6)))
        deadline = time.monotonic() + 5
        while not arm.received and time.monotonic() < deadline:
            time.sleep(0.01)
        driver.disconnect(torque_off=False)
    (message,) = arm.received
    assert tuple(message.joint_names) == JOINTS
    (point,) = message.points
    assert point.positions == start.tolist() and point.velocities == [0.25] * 6
    assert (point.time_from_start.sec, point.time_from_start.nanosec) == (0, 20_000_000)
    assert (message.header.stamp.sec, message.header.stamp.nanosec) == (0, 0), "at once"


def test_velocities_that_are_not_measured_are_differences() -> None:
    with RosArm("positions") as arm:
        arm.sends_velocity = False
        driver = make_driver(replace(ROBOT, options={"domain": DOMAIN, "controller": "positions"}))
        driver.connect()
        goal = driver.read().position + 0.2
        speeds = []
        for _ in range(20):
            driver.write(Motion.at_rest(goal))
            time.sleep(0.02)
            speeds.append(driver.read().velocity)
        driver.disconnect(torque_off=False)
    assert np.isfinite(speeds).all()
    assert (np.max(speeds, axis=0) > 0.1).all(), "it moved, in the right direction"
    assert arm.received[-1].data == goal.tolist(), "in the robot file's order"


def test_a_robot_that_falls_silent_is_a_failed_cycle() -> None:
    with RosArm("trajectory") as arm:
        driver = make_driver(ROBOT)
        driver.connect()
        driver.read()
        arm.silent = True
        time.sleep(0.1)
        with pytest.raises(BusError, match="no new joint states on /joint_states"):
            for _ in range(2):
                driver.read()
        arm.silent = False
        time.sleep(0.1)
        assert driver.read().position.shape == (6,)
        with pytest.raises(BusError, match="cannot be told to let joints go limp"):
            driver.disconnect(torque_off=True)


def test_a_gripper_that_shares_the_topic_is_passed_over() -> None:
    with RosArm("trajectory") as arm:
        arm.gripper_follows = True
        driver = make_driver(ROBOT)
        driver.connect()
        for _ in range(20):
            assert driver.read().position.shape == (6,)
            time.sleep(0.01)
        driver.disconnect(torque_off=False)


def test_a_robot_that_is_started_again_is_found_again() -> None:
    """Its end leaves a sample without data behind, which is no joint state."""
    with RosArm("trajectory"):
        driver = make_driver(ROBOT)
        driver.connect()
        driver.read()
    time.sleep(0.1)
    for _ in range(3):
        with contextlib.suppress(BusError):
            driver.read()
    with pytest.raises(BusError, match="no new joint states"):
        driver.read()
    with RosArm("trajectory"):
        deadline, state = time.monotonic() + 10, None
        while state is None and time.monotonic() < deadline:
            with contextlib.suppress(BusError):
                state = driver.read()
        assert state is not None
        driver.disconnect(torque_off=False)


def test_who_is_missing_is_said() -> None:
    driver = make_driver(replace(ROBOT, options={"domain": DOMAIN, "patience": 0.2}))
    with pytest.raises(ConnectionError, match="no joint states on /joint_states in DDS domain 87"):
        driver.connect()
    with RosArm("positions"):
        driver = make_driver(replace(ROBOT, options={"domain": DOMAIN, "patience": 1.0}))
        with pytest.raises(ConnectionError, match="nobody takes commands on /joint_trajectory_co"):
            driver.connect()
        options = {"domain": DOMAIN, "patience": 0.5}
        other = replace(ROBOT, joints=("elbow", *JOINTS[1:]), options=options)
        with pytest.raises(BusError, match="/joint_states has no joint 'elbow', only"):
            make_driver(other).connect()


def test_the_loop_moves_the_arm_and_stops_when_it_falls_silent(
    tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`hotloop control` in its own processes, with the robot file that the README shows."""
    text = (Path(__file__).parents[1] / "real_robot" / "README.md").read_text()
    (shown,) = re.findall(r"^```yaml\n(# my_ros_arm.yaml\n.*?)^```", text, re.MULTILINE | re.DOTALL)
    robot = tmp_path / "my_ros_arm.yaml"
    robot.write_text(f"{shown}overrun_budget: 0.5\n")
    monkeypatch.setenv("ROS_DOMAIN_ID", str(DOMAIN))
    with RosArm("trajectory") as arm:
        arm.silent_after = 60
        arguments = [f"robot={robot}", "duration=60", f"output_dir={tmp_path / 'run'}"]
        assert main(["control", *arguments]) == 1
    text = "".join(capsys.readouterr())
    assert "the robot stopped: bus: no new joint states on /joint_states" in text, text
    assert "limit violations 0" in text
    goals = np.array([message.points[0].positions for message in arm.received])
    assert len(goals) >= 60 and np.ptp(goals, axis=0).max() > 0.05, "it moved"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"joints": ()}, "needs the robot's names of its joints"),
        ({"torque_off": True}, "cannot let joints go limp: robot.torque_off=false"),
        ({"options": {"controller": "velocity"}}, "must be one of trajectory, positions"),
        ({"options": {"states": "joint_states"}}, "states must be a topic such as /joint_states"),
        ({"options": {"patience": float("nan")}}, "patience must be a time"),
        ({"options": {"domain": 233}}, "must be 0 to 232, got 233"),
    ],
)
def test_a_robot_file_that_cannot_work_is_refused(changes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_driver(replace(ROBOT, **changes))


def test_the_domain_is_that_of_ros_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROS_DOMAIN_ID", "many")
    with pytest.raises(ValueError, match="ROS_DOMAIN_ID"):
        make_driver(replace(ROBOT, options={}))
