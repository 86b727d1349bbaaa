"""What a robot's configuration has to say before anything may move."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from robots import CHAIN, LIMITS

from hotloop.real_robot.config import ControlConfig, RobotConfig
from hotloop.real_robot.core.controller_config import ControllerConfig
from hotloop.real_robot.core.limits import Limits, Workspace
from hotloop.real_robot.drivers import make_driver
from hotloop.real_robot.readiness import check_calibrated, check_effect, check_stated, check_units
from hotloop.real_robot.runtime.job import RunConfig, check_run
from hotloop.train.cli import main
from hotloop.train.commands.control import prepare
from hotloop.train.config.compose import choices, compose


def arm(limits: Limits = LIMITS, **changes) -> RobotConfig:
    return RobotConfig("arm", "dry-run", ControllerConfig(limits, 0.01), **changes)


@pytest.mark.parametrize("name", choices("robot"))
def test_shipped_robots_are_in_radians_and_watched(name) -> None:
    robot = compose("control", [f"robot={name}"], ControlConfig).robot
    check_units(robot)
    check_effect(robot)
    assert check_stated(robot) == ""


@pytest.mark.parametrize("name", choices("robot"))
def test_shipped_robots_of_servos_are_templates_or_emulated(name) -> None:
    robot = compose("control", [f"robot={name}"], ControlConfig).robot
    if robot.template:
        with pytest.raises(ValueError, match=f"robot {name} is a template .*hotloop calibrate"):
            check_calibrated(robot)
    else:
        check_calibrated(robot)
    assert robot.template == (name in ("dynamixel", "feetech"))


def test_a_template_is_calibrated_by_what_is_measured_not_by_a_claim() -> None:
    for options in ({}, {"zero": [1, 2]}, {"direction": [1, 1]}):
        assert not arm(template=True, options=options).calibrated
    assert arm(template=True, options={"zero": [1, 2], "direction": [1, 1]}).calibrated
    assert arm().calibrated


@pytest.mark.parametrize(
    ("change", "units", "message"),
    [
        ({"low": (-90.0, -2.0)}, (), r"joint 0 reach 90 rad, .* 90 degrees would be 1\.571"),
        ({"high": (1.5, 180.0)}, (), r"joint 1 reach 180 rad, .* would be 3\.142"),
        ({"velocity": (2.0, 45.0)}, (), r"velocity of joint 1 reach 45 rad/s"),
        ({"high": (1.5, 300.0)}, ("rad", "m"), r"joint 1 reach 300 m, .* 300 mm would be 0\.3"),
    ],
)
def test_limits_in_degrees_or_millimetres_are_refused(change, units, message) -> None:
    with pytest.raises(ValueError, match=message):
        check_units(arm(replace(LIMITS, **change), joint_units=units))


@pytest.mark.parametrize(
    ("change", "tracking", "message"),
    [
        ({"acceleration": (8.0, 1e300)}, (), "acceleration of joint 1 reach 1e[+]300 rad/s2"),
        ({"jerk": (1e9, 300.0)}, (), "jerk of joint 0 reach 1e[+]09 rad/s3"),
        ({"jerk": (400.0, 1e-3)}, (), "joint 1 takes .* s from full speed to rest, at most 20 s"),
        (
            {"velocity": (29.0, 3.0), "acceleration": (1.0, 12.0)},
            (),
            "joint 0 takes 29 s from full speed to rest",
        ),
        (
            {},
            (0.3, 20.0),
            r"tracking_error of joint 1 is 20 rad, further than its limits are apart",
        ),
        ({}, (1e9, 0.3), "tracking_error of joint 0 is 1e[+]09 rad"),
    ],
)
def test_limits_that_limit_nothing_and_stops_that_never_end_are_refused(
    change, tracking, message
) -> None:
    robot = arm(replace(LIMITS, **change))
    watched = replace(robot, control=replace(robot.control, tracking_error=tracking))
    with pytest.raises(ValueError, match=message):
        check_run(watched, RunConfig("module:policy"))


def test_a_turn_either_way_and_a_long_rail_are_fine() -> None:
    check_units(arm(replace(LIMITS, low=(-2 * np.pi, -2.0), high=(6.2832, 2.0))))
    check_units(arm(replace(LIMITS, low=(-1.0, -9.0), high=(1.0, 9.0)), joint_units=("rad", "m")))


def test_units_are_said_once() -> None:
    assert arm().units == ("rad", "rad")
    free = (None, None, None)
    sliding = Workspace(replace(CHAIN, prismatic=(False, True)), free, free)
    control = ControllerConfig(LIMITS, 0.01, sliding)
    assert RobotConfig("arm", "dry-run", control).units == ("rad", "m")
    with pytest.raises(ValueError, match="do not agree on which joints slide"):
        RobotConfig("arm", "dry-run", control, joint_units=("m", "rad"))
    with pytest.raises(ValueError, match="joint_units needs 2 units"):
        arm(joint_units=("rad",))


@pytest.mark.parametrize("driver", ["dynamixel", "feetech", "franka"])
def test_an_arm_that_nobody_watches_is_refused(driver) -> None:
    measured = {"zero": [2048, 2048], "direction": [1, 1]}
    with pytest.raises(ValueError, match=r"no control\.tracking_error, so that a joint that is"):
        check_stated(replace(arm(), driver=driver, options=measured))


@pytest.mark.parametrize("options", [{}, {"zero": [2048, 2048]}, {"direction": [1, 1]}])
def test_servos_without_zeros_or_directions_are_refused_template_or_not(options) -> None:
    """A file that begins with a shipped one and says `template: false` has measured nothing."""
    watched = replace(arm().control, tracking_error=(0.3, 0.3))
    robot = RobotConfig("arm", "feetech", watched, options)
    with pytest.raises(ValueError, match=r"robot arm does not say where .*hotloop calibrate"):
        check_stated(robot)


def test_of_other_drivers_it_is_told() -> None:
    assert check_stated(arm()) == "", "a simulation hurts nobody"
    assert "is never noticed" in check_stated(replace(arm(), driver="mine:Arm"))
    watched = replace(arm().control, tracking_error=(0.3, 0.3))
    assert check_stated(RobotConfig("arm", "mine:Arm", watched)) == ""


BUS = ["robot=emulated-arm", "robot.options.port=/dev/no-such-bus"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["robot=mujoco-arm", "robot.control.limits.high=[90,90,90,90,90,90]"], "90 degrees"),
        ([*BUS, "robot.control.limits.high=[90,90,90,90,90,90]"], "90 degrees would be 1.571"),
        ([*BUS, "robot.control.tracking_error=[]"], "has no control.tracking_error"),
        ([*BUS, "robot.bus_budget=5000"], "bus_budget of 5000 cycles is 50 s"),
        (["robot=feetech", "robot.template=false", "robot.options.port=/dev/no-such-bus"],
         "robot feetech does not say where its joints have their zeros"),
        ([*BUS, "robot.joints=[a,b,c,d,e,A]"], "got 'A' twice"),
        ([*BUS, "robot.options.ids=[1,2,3,4,5,5]"], "cannot share servo 5"),
        ([*BUS, "robot.options.tracker=5005", "robot.options.tracker_size=3",
          "robot.options.tracker_timeout=60"], "tracker_timeout must be above 0"),
    ],
)  # fmt: skip
def test_the_command_refuses_in_one_line_before_it_opens_the_bus(arguments, message, capfd) -> None:
    assert main(["control", *arguments]) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert message in line and "no-such-bus" not in line


def test_a_dry_run_plans_from_a_scene_as_large_as_the_real_one() -> None:
    overrides = ["robot=feetech", "robot.options.tracker=5005", "robot.options.tracker_size=2"]
    robot = prepare(compose("control", overrides, ControlConfig), dry_run=True)[1]
    assert robot.driver == "dry-run" and make_driver(robot).num_sensors == 2


def test_doctor_tells_what_a_run_would_refuse(capfd) -> None:
    gone = "robot.options.port=/dev/no-such-bus"
    arguments = ["--seconds", "0.05", "robot=emulated-arm", gone, "robot.control.tracking_error=[]"]
    assert main(["doctor", *arguments]) == 1
    assert "FAIL robot emulated-arm has no control.tracking_error" in capfd.readouterr().out
    degrees = "robot.control.limits.high=[90,90,90,90,90,90]"
    assert main(["doctor", "--seconds", "0.05", "robot=feetech", gone, degrees]) == 2
    assert "90 degrees would be 1.571" in capfd.readouterr().err
