"""The whole way: an operator is recorded, a student trained, and put in the operator's place."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from virtual_run import VirtualRun

from hotloop.policies.checkpoint import load_checkpoint
from hotloop.real_robot.config import ControlConfig, RobotConfig
from hotloop.real_robot.logs.reader import ControlLog
from hotloop.real_robot.policies.pick import CUBE, TABLE, PickOperator, reach_down
from hotloop.real_robot.policies.pick_task import PICK, pick_score, random_cube, set_cube
from hotloop.real_robot.policies.protocol import Snapshot
from hotloop.train.cli import main
from hotloop.train.config.compose import compose
from hotloop.train.data.formats.registry import read_episodes

ARM = compose("control", ["robot=mujoco-arm"], ControlConfig).robot


class SensorsOnly(ControlLog):
    """What a score reads of a log."""

    def __init__(self, sensors: np.ndarray) -> None:
        self._sensors = sensors

    def column(self, name: str) -> np.ndarray:
        assert name == "state.sensors"
        return self._sensors


def arm_with_cube(seed: int) -> RobotConfig:
    return set_cube(ARM, seed)


@pytest.mark.parametrize("seed", range(3))
def test_the_operator_puts_the_cube_onto_the_mark(seed: int) -> None:
    robot = arm_with_cube(seed)
    operator = PickOperator(robot)
    operator.reset(seed)
    run = VirtualRun(robot, operator).run(7.5)
    assert pick_score(SensorsOnly(np.array(run.sensors))) == 1.0
    assert not [text for text in run.said if "refused" in text or "STOP" in text]


def test_no_two_recordings_are_alike() -> None:
    robot = arm_with_cube(0)
    ways = []
    for seed in (1, 2):
        operator = PickOperator(robot)
        operator.reset(seed)
        ways.append(np.array(VirtualRun(robot, operator).run(1.0).positions))
    assert np.abs(ways[0] - ways[1]).max() > 0.01


def test_a_cube_that_was_only_moved_about_is_not_picked_up() -> None:
    place = np.array([*random_cube(0)])
    on_mark = np.array([0.1773, -0.0968, TABLE + CUBE, 0.0])
    lifted = on_mark + np.array([0.0, 0.0, 0.03, 0.0])
    assert pick_score(SensorsOnly(np.stack([place, lifted, on_mark]))) == 1.0
    assert pick_score(SensorsOnly(np.stack([place, on_mark]))) == 0.0, "pushed"
    assert pick_score(SensorsOnly(np.stack([place, lifted]))) == 0.0, "still in the hand"
    assert pick_score(SensorsOnly(np.stack([place, lifted, place]))) == 0.0, "put elsewhere"
    assert pick_score(SensorsOnly(np.zeros((0, 4)))) == 0.0


def test_the_hand_points_down_where_it_is_sent() -> None:
    pytest.importorskip("mujoco")
    robot = arm_with_cube(0)
    run = VirtualRun(robot, PickOperator(robot))
    point, yaw = np.array([0.15, 0.08, 0.1]), 0.3
    run.plant.pose(reach_down(point, yaw, 0.0), np.zeros(0))
    body = run.plant.data.body("hand")
    between = body.xpos + body.xmat.reshape(3, 3) @ [0.0, 0.0, 0.038]
    np.testing.assert_allclose(between, point, atol=1e-6)
    np.testing.assert_allclose(body.xmat.reshape(3, 3)[:, 2], [0, 0, -1], atol=1e-6)
    with pytest.raises(ValueError, match="does not reach"):
        reach_down(np.array([0.4, 0.0, 0.05]), 0.0, 0.0)


@pytest.mark.parametrize("robot", ["mujoco", "dynamixel", "franka"])
def test_an_arm_of_other_lengths_is_not_moved_by_the_script(robot: str) -> None:
    config = compose("control", [f"robot={robot}"], ControlConfig)
    with pytest.raises(ValueError, match="knows the lengths of one arm"):
        PICK.make(config.robot, config.policy_options)


def test_the_script_does_not_guess_where_the_cube_is() -> None:
    snapshot = Snapshot(1.0, np.zeros(6), np.zeros(6), np.zeros(0))
    with pytest.raises(ValueError, match="needs the cube's x, y, z and angle"):
        PickOperator(ARM).plan(snapshot)
    far = snapshot._replace(sensors=np.array([0.5, 0.0, TABLE + CUBE, 0.0]))
    with pytest.raises(ValueError, match="does not reach"):
        PickOperator(ARM).plan(far)


def test_record_train_and_control(tmp_path: Path) -> None:
    """`tests/benchmarks/benchmark_whole_way.py` in short: what comes out is not skilled."""
    data, student = tmp_path / "data", tmp_path / "student"
    robot = [
        "control", "robot=mujoco-arm", "robot.cameras.front.size=[32,32]", "robot.realtime=false",
        "robot.control.slow_start=0", "robot.control.dt=0.02",
    ]  # fmt: skip
    operator = ["policy=pick", f"record={data}", "task=put the cube onto the mark", "duration=2.5"]
    for seed in range(2):
        folder = f"output_dir={tmp_path / str(seed)}"
        assert main([*robot, *operator, f"seed={seed}", folder]) == 0
    episodes = read_episodes(data, everything=True)
    assert episodes.num_episodes == 2
    assert episodes.observations["observation.state"].shape[1:] == (6,)
    assert episodes.observations["observation.environment_state"].shape[1:] == (4,)
    assert episodes.observations["observation.images.front"].shape[1:] == (32, 32, 3)
    training = ["steps=2", "batch_size=4", "policy.model.horizon=9", "policy.model.ladders=[2x4]"]
    training += ["policy.model.network.width=32", "policy.model.encoder.width=8"]
    training += ["policy.sampling.num_execute=2", f"task.dataset={data}", f"output_dir={student}"]
    assert main(["train", "policy=sdp", "task=recorded", *training]) == 0
    assert "observation.images.front" in load_checkpoint(str(student)).model.observation_shapes
    scene = ["robot.options.model=pick", "robot.cameras.front.options.model=pick"]
    scene += [f"robot.options.scene={random_cube(9)}"]
    folder = tmp_path / "run"
    main([*robot, f"checkpoint={student}", "duration=1", *scene, f"output_dir={folder}"])
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["accepted_chunks"] > 0 and not summary["limit_violations"]
