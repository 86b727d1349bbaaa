"""A Push-T checkpoint on a real arm: from joints to the policy's picture of the table and back."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ...decoding import Policy
from ...decoding.plumbing.extras import require
from ...envs.pusht import block_keypoints
from ...real_robot.config import PolicyOptions, RobotConfig
from ...real_robot.core.trajectory import Chunk
from ...real_robot.drivers import make_driver
from ...real_robot.logs.reader import ControlLog
from ...real_robot.policies.control_steps import ControlSteps
from ...real_robot.policies.protocol import PolicyKind, Snapshot
from .opening import open_for_robot
from .table import PIXELS, block_poses, coverage, random_scene

# Push-T's agent does not jump to its target: gym-pusht moves it by these gains, in steps of 10 ms.
STIFFNESS, DAMPING, TIME_STEP = 100.0, 20.0, 0.01
# Waypoints reach this far beyond the control step, for a plan that comes late.
LOOKAHEAD = 0.4  # [s]
# A pusher this far from where the agent should be has been held up; plan from where it is [px].
LOST = 40.0


class TablePolicy:
    """Runs a Push-T policy on an arm with two vertical axes.

    The policy sees the pusher as its agent and the block's keypoints, in pixels; its target moves
    a virtual agent as in Push-T, and the arm follows that agent.

    Args:
        policy: A Push-T policy.
        base: Position of the shoulder on the table [m].
        links: Lengths of upper arm and forearm [m].
        latency: Control steps between an observation and the first action planned from it.
    """

    cameras: tuple[str, ...] = ()

    def __init__(
        self,
        policy: Policy,
        base: tuple[float, float],
        links: tuple[float, float],
        latency: int = 0,
    ) -> None:
        self.period = policy.action_spec.dt
        self._steps = ControlSteps(policy, latency)
        self._base, self._links = np.asarray(base), links
        self._agent, self._velocity = np.full(2, np.nan), np.zeros(2)

    def reset(self, seed: int) -> None:
        """Start an episode."""
        self._steps.reset(seed)
        self._agent = np.full(2, np.nan)

    def plan(self, snapshot: Snapshot) -> Chunk | None:
        """Where the arm should be in the next moments; None if no control step is due.

        Args:
            snapshot: Its ``position`` are the two joint angles [rad], its ``sensors`` the block's
                centre of gravity x, y [m] and angle [rad].
        """
        pusher = PIXELS * self.forward(snapshot.position)
        block = block_poses(snapshot.sensors[:3])
        frame = {
            "observation.state": pusher.astype(np.float32),
            "observation.environment_state": block_keypoints(block).ravel().astype(np.float32),
        }
        actions = self._steps.act(snapshot.time, frame)
        if actions is None:
            return None
        target = actions.actions[0, int(actions.observed_step[0] - actions.first_step[0])]
        if not np.linalg.norm(self._agent - pusher) < LOST:
            self._agent, self._velocity = pusher, np.zeros(2)
        path = self._virtual_agent(target)
        now = round(self.period / TIME_STEP) - 1
        self._agent, self._velocity = path[now, 0], path[now, 1]
        every = slice(1, None, 2)
        times = snapshot.time + TIME_STEP * np.arange(1, len(path) + 1)
        return snapshot.chunk(times[every], self.inverse(path[every, 0] / PIXELS))

    def _virtual_agent(self, target: np.ndarray) -> np.ndarray:
        """Position and velocity of Push-T's agent on its way to a target, shape (n, 2, 2)."""
        position, velocity, path = self._agent, self._velocity, []
        for _ in range(round((self.period + LOOKAHEAD) / TIME_STEP)):
            pull = STIFFNESS * (target - position) - DAMPING * velocity
            velocity = velocity + TIME_STEP * pull
            position = position + TIME_STEP * velocity
            path.append((position, velocity))
        return np.asarray(path)

    def forward(self, joints: np.ndarray) -> np.ndarray:
        """Pusher position [m], shape (..., 2), of joint angles of shape (..., 2)."""
        first, second = joints[..., 0], joints[..., 0] + joints[..., 1]
        upper, fore = self._links
        return self._base + np.stack(
            [
                upper * np.cos(first) + fore * np.cos(second),
                upper * np.sin(first) + fore * np.sin(second),
            ],
            axis=-1,
        )

    def inverse(self, positions: np.ndarray) -> np.ndarray:
        """Joint angles with the elbow bent to the left, of positions [m] of shape (..., 2).

        Positions out of reach become the nearest that the arm's stretched or folded links reach.
        """
        away, (upper, fore) = positions - self._base, self._links
        cosine = ((away**2).sum(axis=-1) - upper**2 - fore**2) / (2 * upper * fore)
        elbow = np.arccos(np.clip(cosine, -1.0, 1.0))
        shoulder = np.arctan2(away[..., 1], away[..., 0]) - np.arctan2(
            fore * np.sin(elbow), upper + fore * np.cos(elbow)
        )
        return np.stack([shoulder, elbow], axis=-1)


def make_table_policy(robot: RobotConfig, options: PolicyOptions) -> TablePolicy:
    """Build the policy for a robot whose workspace names its kinematics.

    Args:
        robot: Its ``control.workspace.chain`` has two joints.
        options: ``checkpoint``, ``sampling`` and ``latency``, by default 0, are read.

    Raises:
        ValueError: If the robot is no such arm or the checkpoint is for another task.
    """
    workspace = robot.control.workspace
    if workspace is None or len(workspace.chain.axes) != 2:
        raise ValueError(
            "the table policy needs a robot whose workspace.chain has two joints; "
            f"{robot.name} has none such"
        )
    if (num_sensors := make_driver(robot).num_sensors) < 3:
        raise ValueError(
            f"the table policy needs the block's x, y and angle, robot {robot.name} measures "
            f"{num_sensors} numbers beside its joints; a tracker is given as "
            "robot.options.tracker=PORT robot.options.tracker_size=3"
        )
    opened = open_for_robot(robot, options)
    task = opened.provenance.get("task", "")
    if task != "pusht":
        raise ValueError(
            f"the table policy runs checkpoints of the task 'pusht', {options.checkpoint!r} is "
            f"for {task!r}"
        )
    base, elbow = workspace.chain.offsets
    latency = options.latency or 0
    warm_up(opened.policy, latency)
    return TablePolicy(
        opened.policy,
        (base[0], base[1]),
        (float(np.linalg.norm(elbow)), float(np.linalg.norm(workspace.chain.tool[:2]))),
        latency,
    )


def warm_up(policy: Policy, latency: int) -> None:
    """Let a policy plan before the robot moves: it prepares what it needs when it needs it."""
    steps, time = ControlSteps(policy, latency), 0.0
    shapes = policy.observation_spec.shapes
    frame = {key: np.zeros(shape, np.float32) for key, shape in shapes.items()}
    steps.reset(0)
    while steps.num_plans < 3:
        steps.act(time, frame)
        time += steps.dt


def set_table(robot: RobotConfig, seed: int) -> RobotConfig:
    """Put the block of a simulated table somewhere; a real one lies where it lies.

    Raises:
        ImportError: If the package is missing that the score will need.
    """
    require("shapely", "pusht")
    if robot.driver not in ("mujoco", "dry-run"):
        return robot
    return replace(robot, options={"scene": random_scene(seed), **robot.options})


def table_score(log: ControlLog) -> float:
    """Largest share of Push-T's mark that the block covered, over 0.95."""
    sensors = log.column("state.sensors")
    covered = coverage(block_poses(sensors[::25])).max() if len(sensors) else 0.0
    return min(float(covered) / 0.95, 1.0)


TABLE = PolicyKind(
    make_table_policy,
    settings=("checkpoint", "sampling", "latency", "engine", "device", "precision"),
    prepare=set_table,
    score=table_score,
)
