"""A Panda in PyBullet that reaches for a place, or pushes a cube to one."""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

from ..decoding import ActionSpec
from .task import EndsWhenSolved, Task

MAX_STEPS = 100
MAX_MOVE = 0.05  # [m], the hand's target per control step and axis
RADIUS = 0.05  # [m], distance from the goal that counts as there
_SUBSTEPS = 12  # of 1/240 s, PyBullet's default: a control period of 0.05 s
_HAND, _ARM = 11, tuple(range(7))
_REST = (0.0, -0.4, 0.0, -2.2, 0.0, 1.9, 0.785)  # [rad]
_LOW, _HIGH = np.array([0.3, -0.35, 0.02]), np.array([0.7, 0.35, 0.6])


class PybulletArm(EndsWhenSolved):
    """Frames hold the hand's position and velocity, the goal and, when pushing, the cube's place.

    Args:
        push: Push a cube instead of reaching.
    """

    def __init__(self, push: bool = False) -> None:
        self._p, self._data_path = _import_pybullet()
        self._client = self._p.connect(self._p.DIRECT)
        self._push, self._success, self._num_steps = push, False, 0
        self._arm, self._cube = -1, -1
        self._goal, self._target = np.zeros(3), np.zeros(3)

    def reset(self, seed: int) -> dict[str, np.ndarray]:
        """Start an episode with goal and cube drawn from the seed."""
        p, client, rng = self._p, self._client, np.random.default_rng(seed)
        p.resetSimulation(physicsClientId=client)
        p.setGravity(0, 0, -9.81, physicsClientId=client)
        p.setAdditionalSearchPath(self._data_path, physicsClientId=client)
        p.loadURDF("plane.urdf", physicsClientId=client)
        self._arm = p.loadURDF("franka_panda/panda.urdf", useFixedBase=True, physicsClientId=client)
        for joint, angle in zip(_ARM, _REST, strict=True):
            p.resetJointState(self._arm, joint, angle, physicsClientId=client)
        self._goal = rng.uniform([0.4, -0.25, 0.1], [0.6, 0.25, 0.5])
        if self._push:
            place = rng.uniform([0.45, -0.1], [0.55, 0.1])
            self._goal = np.array([place[0] + 0.12, place[1] + rng.uniform(-0.05, 0.05), 0.025])
            self._cube = p.loadURDF("cube_small.urdf", [*place, 0.025], physicsClientId=client)
        self._target = np.array(self._hand()[0])
        self._success, self._num_steps = False, 0
        return self._frame()

    def step(self, action: np.ndarray) -> tuple[dict[str, np.ndarray], float, bool]:
        """Move the hand's target by a share of 0.05 m along x, y, z, shape (3,), for 0.05 s."""
        p, client = self._p, self._client
        moved = self._target + MAX_MOVE * np.asarray(action, np.float64)
        self._target = np.clip(moved, _LOW, _HIGH)
        down = p.getQuaternionFromEuler([np.pi, 0, 0])
        angles = p.calculateInverseKinematics(
            self._arm, _HAND, self._target.tolist(), down, physicsClientId=client
        )
        p.setJointMotorControlArray(
            self._arm,
            _ARM,
            p.POSITION_CONTROL,
            targetPositions=angles[:7],
            forces=[87.0] * 4 + [12.0] * 3,
            physicsClientId=client,
        )
        for _ in range(_SUBSTEPS):
            p.stepSimulation(physicsClientId=client)
        self._num_steps += 1
        distance = float(np.linalg.norm(self._moving() - self._goal))
        self._success = self._success or distance <= RADIUS
        return self._frame(), -distance, self._success or self._num_steps >= MAX_STEPS

    def render(self) -> np.ndarray:
        """Picture by PyBullet's own software renderer, shape (240, 320, 3)."""
        p = self._p
        view = p.computeViewMatrix([1.4, 0.8, 0.9], [0.4, 0.0, 0.2], [0, 0, 1])
        lens = p.computeProjectionMatrixFOV(50, 320 / 240, 0.05, 5)
        picture = p.getCameraImage(
            320, 240, view, lens, renderer=p.ER_TINY_RENDERER, physicsClientId=self._client
        )[2]
        return np.reshape(picture, (240, 320, 4))[..., :3].astype(np.uint8)

    def close(self) -> None:
        """Release the simulator."""
        if self._p.isConnected(self._client):
            self._p.disconnect(self._client)

    def _hand(self) -> tuple[Any, Any]:
        link = self._p.getLinkState(
            self._arm,
            _HAND,
            computeLinkVelocity=1,
            computeForwardKinematics=1,
            physicsClientId=self._client,
        )
        return link[4], link[6]

    def _moving(self) -> np.ndarray:
        """Position of what must get to the goal [m]."""
        if not self._push:
            return np.array(self._hand()[0])
        pose = self._p.getBasePositionAndOrientation(self._cube, physicsClientId=self._client)
        return np.array(pose[0])

    def _frame(self) -> dict[str, np.ndarray]:
        frame = {
            "observation.state": np.concatenate(self._hand()).astype(np.float32),
            "observation.goal": self._goal.astype(np.float32),
        }
        if self._push:
            frame["observation.environment_state"] = self._moving().astype(np.float32)
        return frame


def _import_pybullet() -> tuple[Any, str]:
    try:
        with _quiet():
            import pybullet
            import pybullet_data
    except ImportError as error:
        raise ImportError(
            "the PyBullet tasks need pybullet: pip install 'hotloop[bullet]' (Python 3.11 or older)"
        ) from error
    return pybullet, pybullet_data.getDataPath()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Swallow what C code prints, as PyBullet does on import."""
    libc, kept = ctypes.CDLL(None), [(stream, os.dup(stream)) for stream in (1, 2)]
    with open(os.devnull, "w") as nowhere:  # noqa: PTH123 - a device, not a file
        libc.fflush(None)
        for stream, _ in kept:
            os.dup2(nowhere.fileno(), stream)
        try:
            yield
        finally:
            libc.fflush(None)
            for stream, copy in kept:
                os.dup2(copy, stream)
                os.close(copy)


def _task(name: str, push: bool) -> Task:
    shapes: dict[str, tuple[int, ...]] = {"observation.state": (6,), "observation.goal": (3,)}
    if push:
        shapes["observation.environment_state"] = (3,)
    spec = ActionSpec(
        names=tuple(f"hand d{axis} [0.05 m]" for axis in "xyz"),
        low=(-1.0,) * 3,
        high=(1.0,) * 3,
        dt=_SUBSTEPS / 240,
    )
    metric = "cube at the goal" if push else "hand at the goal"
    make, simulator = partial(PybulletArm, push), "PyBullet, Panda of pybullet_data"
    return Task(name, spec, shapes, MAX_STEPS, metric, make, simulator=simulator)


PYBULLET_TASKS = (_task("pybullet-reach", False), _task("pybullet-push", True))
