"""The Franka back-end, against the independent franka-sim with its limits enforced.

franka-sim pins other versions of numpy and MuJoCo, so it lives in an environment of its own:
HOTLOOP_FRANKA_SIM names its ``run-franka-sim-server``, FR3_MJCF a model of the arm.
"""

from __future__ import annotations

import os
import subprocess
import time
from dataclasses import replace

import numpy as np
import pytest

from hotloop.real_robot.config import ControlConfig, RobotConfig
from hotloop.real_robot.core.limits import Motion
from hotloop.real_robot.drivers import make_driver
from hotloop.real_robot.runtime.supervisor import RunConfig, supervise
from hotloop.train.config.compose import compose

pytestmark = pytest.mark.realtime


def franka(address: str = "127.0.0.1") -> RobotConfig:
    config: ControlConfig = compose(
        "control", ["robot=franka", f"robot.options.address={address}"], ControlConfig
    )
    # The simulator may run slower than the clock, and then it lags behind its commands.
    return replace(config.robot, control=replace(config.robot.control, tracking_error=()))


@pytest.fixture
def simulator(monkeypatch):
    server = os.environ.get("HOTLOOP_FRANKA_SIM")
    if not server:
        pytest.skip("set HOTLOOP_FRANKA_SIM to the run-franka-sim-server of its own environment")
    monkeypatch.setenv("FRANKA_REALTIME", "ignore")
    process = subprocess.Popen(
        [server, "--no-gripper", "--enforce-comm-constraints", "--enforce-motion-limits"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    time.sleep(6)
    yield process
    process.kill()
    process.wait()


def test_the_arm_is_moved_without_a_reflex(simulator) -> None:
    job = RunConfig("hotloop.real_robot.policies.reach:make_reach_policy", duration=3)
    summary = supervise(franka(), job, lambda line: None)
    assert summary["ended_by"] == "duration" and summary["clean_end"], summary
    assert summary["limit_violations"] == 0 and summary["bus_failures"] == 0


def test_the_arm_reports_what_it_does_and_its_end(simulator) -> None:
    driver = make_driver(franka())
    driver.connect()
    start = driver.read()
    assert start.fault == ""
    for _ in range(200):
        driver.write(Motion.at_rest(start.position + 0.05))
        time.sleep(0.005)
    assert np.abs(driver.read().position - start.position).max() > 0.01
    simulator.kill()
    deadline = time.monotonic() + 10
    while not driver.read().fault:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    driver.disconnect(torque_off=False)
    driver.disconnect(torque_off=False)


def test_wrong_settings_and_an_absent_robot_are_explained() -> None:
    with pytest.raises(ValueError, match="needs the option address"):
        make_driver(replace(franka(), options={}))
    two = compose("control", ["robot=mujoco"], ControlConfig).robot.control
    with pytest.raises(ValueError, match="a Franka arm has 7 joints, the limits are for 2"):
        make_driver(replace(franka(), control=two, joints=()))
    with pytest.raises(ConnectionError, match=r"127\.0\.0\.9: "):
        make_driver(franka("127.0.0.9")).connect()
