"""Everybody who plans ahead takes a joint for held up by the same rule."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from arms import desktop_arm

from hotloop.real_robot.policies.cartesian_jog import CartesianJog
from hotloop.real_robot.policies.held_up import FARTHEST, farthest_behind
from hotloop.real_robot.teleop.jog import JointJog


def test_a_plan_begins_anew_before_the_loop_would_stop_the_robot() -> None:
    robot = desktop_arm()
    allowed = np.asarray(robot.control.tracking_error)
    assert (farthest_behind(robot) == allowed / 2).all()
    for jog in (JointJog(robot), CartesianJog(robot)):
        np.testing.assert_array_equal(jog._lost, allowed / 2)
    free = replace(robot, control=replace(robot.control, tracking_error=()))
    assert (farthest_behind(free) == FARTHEST).all() and len(farthest_behind(free)) == len(allowed)
