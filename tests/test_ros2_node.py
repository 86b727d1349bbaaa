"""The ROS 2 node, run against a stand-in of rclpy: what is published, when, and when nothing is."""

from __future__ import annotations

import importlib.util
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ros_stub
from tiny_joints import DT, NAMES, save_tiny

from hotloop.decoding import Executor
from hotloop.policies import load_checkpoint
from hotloop.policies.export.write import export_policy

NODE = Path(__file__).parents[1] / "real_robot" / "integrations" / "ros2" / "hotloop_node.py"
JOINTS = ["pan", "lift"]


def load(monkeypatch: pytest.MonkeyPatch, folder: Path, **parameters: Any) -> Any:
    ros_stub.install(monkeypatch, policy=str(folder), **parameters)
    spec = importlib.util.spec_from_file_location("hotloop_node", NODE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


RUNTIME = '''
import json, numpy as np

def read_about(folder):
    return json.loads((folder / "policy.json").read_text())

class Runtime:
    """Plans three actions from the joints that it sees."""
    dt = 0.1
    def __init__(self, folder):
        self.planned, self.resets = [], []
    def reset(self, seed):
        self.planned = []
        self.resets.append(seed)
    def act(self, frame):
        if not self.planned:
            state = np.array(frame["observation.state"])
            self.planned = [state + step for step in (0.1, 0.2, 0.3)]
        return self.planned.pop(0)
'''


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    state = {"key": "observation.state", "shape": [2], "dtype": "float32"}
    about = {"action": {"names": ["pan [rad]", "lift [rad]"]}, "observation": [state]}
    (tmp_path / "policy.json").write_text(json.dumps(about))
    (tmp_path / "hotloop_runtime.py").write_text(RUNTIME)
    return tmp_path


def states(*position: float) -> Any:
    """Joint states in another order, with a joint more."""
    names = ["wheel", *JOINTS[::-1]]
    kind = ros_stub.STUBS["sensor_msgs.msg"]["JointState"]
    return kind(name=names, position=[9.0, *position[::-1]])


def test_a_plan_is_published_once_with_its_times(folder: Path, monkeypatch) -> None:
    node = load(monkeypatch, folder, joints=JOINTS).HotloopNode()
    assert node.period == 0.1
    assert set(node.topics) == {"/joint_states", "/joint_trajectory_controller/joint_trajectory"}
    for position in (0.0, 0.05, 0.15, 0.25):
        node.hear(states(position, position + 1))
        node.tick()
    first, second = node.published
    assert first.joint_names == JOINTS
    found = np.array([point.positions for point in first.points])
    np.testing.assert_allclose(found, [[0.1, 1.1], [0.2, 1.2], [0.3, 1.3]])
    times = [point.time_from_start.nanosec for point in first.points]
    assert times == [100_000_000, 200_000_000, 300_000_000]
    np.testing.assert_allclose(second.points[0].positions, [0.35, 1.35])


def test_positions_are_published_one_per_step(folder: Path, monkeypatch) -> None:
    node = load(monkeypatch, folder, joints=JOINTS, controller="positions").HotloopNode()
    for _ in range(3):
        node.hear(states(0.0, 1.0))
        node.tick()
    assert next(iter(node.topics)) == "/forward_position_controller/commands"
    found = np.array([message.data for message in node.published])
    np.testing.assert_allclose(found, [[0.1, 1.1], [0.2, 1.2], [0.3, 1.3]])


def test_nothing_is_published_without_new_joint_states(folder: Path, monkeypatch) -> None:
    """And what the policy remembers from before the gap is forgotten, once."""
    node = load(monkeypatch, folder, joints=JOINTS, controller="positions", seed=7).HotloopNode()
    node.tick()
    assert node.published == [] and node.logger.lines == ["no joint states"]
    node.hear(states(0.0, 1.0))
    node.tick()
    assert len(node.published) == 1
    now = time.monotonic
    monkeypatch.setattr(time, "monotonic", lambda: now() + 1.0)
    node.tick()
    node.tick()
    assert len(node.published) == 1 and node._policy.resets == [7]
    node.hear(states(0.5, 1.0))
    node.tick()
    np.testing.assert_allclose(node.published[-1].data, [0.6, 1.1])


def test_states_that_say_not_where_the_joints_are_are_none(folder: Path, monkeypatch) -> None:
    """Positions may be left out, not known, or those of other joints: the node lives on."""
    node = load(monkeypatch, folder, joints=JOINTS).HotloopNode()
    kind = ros_stub.STUBS["sensor_msgs.msg"]["JointState"]
    for positions in ([], [0.1], [0.1, float("nan")]):
        node.hear(kind(name=JOINTS, position=positions))
        node.tick()
    node.hear(kind(name=["wheel"], position=[0.0]))
    node.tick()
    assert node.published == [] and set(node.logger.lines) == {"no joint states"}


def test_a_wrong_controller_and_a_damaged_policy_end_the_node(folder: Path, monkeypatch) -> None:
    with pytest.raises(SystemExit, match="controller:=torque is none of trajectory, positions"):
        load(monkeypatch, folder, joints=JOINTS, controller="torque").HotloopNode()
    (folder / "policy.json").write_text("{")
    with pytest.raises(SystemExit, match="policy:="):
        load(monkeypatch, folder, joints=JOINTS).HotloopNode()


def test_a_plan_that_begins_far_away_is_not_sent(folder: Path, monkeypatch) -> None:
    node = load(monkeypatch, folder, joints=JOINTS, max_jump=0.05).HotloopNode()
    node.hear(states(0.0, 1.0))
    node.tick()
    assert node.published == []
    assert node.logger.lines == ["a plan begins 0.1 away, nothing is sent"]


def test_the_reset_service_begins_an_episode(folder: Path, monkeypatch) -> None:
    node = load(monkeypatch, folder, joints=JOINTS, controller="positions").HotloopNode()
    node.hear(states(0.0, 1.0))
    node.tick()
    assert node.services["~/reset"]().success
    node.hear(states(0.5, 1.0))
    node.tick()
    np.testing.assert_allclose(node.published[-1].data, [0.6, 1.1])


def test_it_publishes_what_an_exported_policy_plans(tmp_path: Path, monkeypatch) -> None:
    """A real one: the node's waypoints are the actions of the executor, in the same order."""
    checkpoint = load_checkpoint(save_tiny(tmp_path / "tiny", "dp", num_execute=3))
    export_policy(checkpoint, tmp_path / "out", num_steps=8)
    executor = Executor(checkpoint.policy(engine="onnx"))
    executor.reset([0])
    node = load(monkeypatch, tmp_path / "out", joints=list(NAMES), max_jump=9.0).HotloopNode()
    assert node.period == DT
    positions = np.random.default_rng(0).uniform(-0.5, 0.5, (6, 6))
    expected = []
    for position in positions:
        node.hear(ros_stub.STUBS["sensor_msgs.msg"]["JointState"](name=NAMES, position=position))
        node.tick()
        frame = {"observation.state": position[None].astype(np.float32)}
        expected.append(executor.act(frame)[0])
    found = [point.positions for message in node.published for point in message.points]
    assert len(node.published) == 2
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("joints", "message"),
    [(["pan"], "the policy moves 2"), (["pan", "lift", "jaw"], "the policy moves 2")],
)
def test_joints_that_are_not_the_policys_are_refused(joints, message, folder, monkeypatch) -> None:
    with pytest.raises(SystemExit, match=message):
        load(monkeypatch, folder, joints=joints).HotloopNode()


def test_a_policy_that_reads_more_than_joints_is_refused(folder: Path, monkeypatch) -> None:
    about = json.loads((folder / "policy.json").read_text())
    about["observation"].append({"key": "observation.images.front", "shape": [9, 9, 3]})
    (folder / "policy.json").write_text(json.dumps(about))
    with pytest.raises(SystemExit, match=r"2 joint positions, the policy reads .*images\.front"):
        load(monkeypatch, folder, joints=JOINTS).HotloopNode()
    (folder / "hotloop_runtime.py").unlink()
    with pytest.raises(SystemExit, match="write it with `hotloop export`"):
        load(monkeypatch, folder, joints=JOINTS).HotloopNode()
