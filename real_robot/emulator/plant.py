"""A MuJoCo model with position-controlled joints that keeps up with a clock."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from ...decoding.plumbing.extras import require
from ..core.limits import Vector

# After a longer gap, e.g. a suspended process, simulated time does not catch up.
LONGEST_GAP = 0.5  # [s]


def find_model(name: str) -> Path:
    """Path of a model: one that comes with hotloop by name, or a file.

    Raises:
        FileNotFoundError: If there is neither.
    """
    folder = Path(str(resources.files(f"{__package__}.models")))
    included = folder / f"{name}.xml"
    path = included if included.is_file() else Path(name)
    if not path.is_file():
        names = sorted(model.stem for model in folder.glob("*.xml"))
        raise FileNotFoundError(f"no MuJoCo model {name!r}; a file, or one of {names}")
    return path


class Plant:
    """Simulated joints behind position actuators.

    The model's actuators, in order, are the robot's joints; every other joint of the model is
    part of the scene, and its positions are what `sensors` tells.

    Args:
        model: Name or path of the MJCF model.
        position: Joint positions at the start; the model's own by default.
        scene: Positions of the scene's joints at the start; the model's own by default.

    Attributes:
        model: MuJoCo's model.
        data: Its state.
        torque: Whether each joint is driven at all.
        held: Whether somebody holds each joint where it was put; nobody does once it is driven.
        strength: Share of its full torque that each joint may push with; full is what the model's
            `forcerange` says, and without one nothing is limited.
    """

    def __init__(
        self, model: str, position: Vector | None = None, scene: Vector | None = None
    ) -> None:
        self._mujoco: Any = require("mujoco", "mujoco")
        self.model: Any = self._load(find_model(model))
        self.data: Any = self._mujoco.MjData(self.model)
        driven = self.model.actuator_trnid[:, 0]
        others = [joint for joint in range(self.model.njnt) if joint not in driven]
        self._positions = self.model.jnt_qposadr[driven]
        self._velocities = self.model.jnt_dofadr[driven]
        self._scene = self.model.jnt_qposadr[others]
        self.stiffness: Vector = np.array(self.model.actuator_gainprm[:, 0])
        self.torque = np.ones(len(driven), bool)
        self.held = np.zeros(len(driven), bool)
        self.strength: Vector = np.ones(len(driven))
        limited = self.model.actuator_forcelimited[:].astype(bool)
        self._full: Vector = np.where(limited, self.model.actuator_forcerange[:, 1], np.inf)
        self._driven = driven
        self._stops = (self.model.jnt_limited.copy(), self.model.jnt_range.copy())
        self._time: float | None = None
        self._place(self._positions, position)
        self._place(self._scene, scene)
        self.target: Vector = self.position
        self._hand: Vector = self.position
        self._mujoco.mj_forward(self.model, self.data)

    def _load(self, path: Path) -> Any:
        try:
            return self._mujoco.MjModel.from_xml_path(str(path))
        except ValueError as error:
            reason = " ".join(str(error).split())
            raise ValueError(f"{path} is no MuJoCo model: {reason}") from error

    def _place(self, addresses: Any, values: Vector | None) -> None:
        if values is None:
            return
        if values.shape != (len(addresses),):
            raise ValueError(f"expected {len(addresses)} positions, got {len(values)}: {values}")
        if not np.isfinite(values).all():
            raise ValueError(f"positions must be finite, got {values}")
        self.data.qpos[addresses] = values

    @property
    def num_joints(self) -> int:
        """Driven joints D."""
        return len(self._positions)

    @property
    def num_sensors(self) -> int:
        """Joints of the scene."""
        return len(self._scene)

    @property
    def position(self) -> Vector:
        """Joint positions [rad or m], shape (D,)."""
        return np.array(self.data.qpos[self._positions])

    @property
    def velocity(self) -> Vector:
        """Joint velocities [rad/s or m/s], shape (D,)."""
        return np.array(self.data.qvel[self._velocities])

    @property
    def sensors(self) -> Vector:
        """Positions of the scene's joints."""
        return np.array(self.data.qpos[self._scene])

    def pose(self, position: Vector, scene: Vector) -> None:
        """Put robot and scene somewhere, at once; an empty scene stays as it is."""
        self._place(self._positions, position)
        self._place(self._scene, scene if len(scene) else None)
        self._mujoco.mj_forward(self.model, self.data)

    def move_by_hand(self, joint: int, place: float) -> None:
        """Put a joint somewhere [rad or m], and hold it and all limp ones there."""
        position = np.where(self.held, self._hand, self.position)
        position[joint] = place
        self.pose(position, np.zeros(0))
        self._hand, self.held = position, ~self.torque
        self.data.qvel[self._velocities] = np.where(self.held, 0.0, self.velocity)

    def load(self, joint: int) -> float:
        """How hard a joint is pushed, as a share of its full torque; 0 if that has no end."""
        return float(self.data.actuator_force[joint] / self._full[joint])

    def obstruct(self, joint: int, low: float, high: float) -> None:
        """Let a joint run against something on both sides [rad or m]."""
        index = self._driven[joint]
        self.model.jnt_limited[index] = True
        self.model.jnt_range[index] = low, high

    def clear(self) -> None:
        """Take away all obstacles."""
        self.model.jnt_limited[:], self.model.jnt_range[:] = self._stops

    def catch_up(self, now: float) -> None:
        """Simulate until `now` [s]; a joint without torque that nobody holds moves freely."""
        if self._time is None or now - self._time > LONGEST_GAP:
            self._time = now
        step = self.model.opt.timestep
        count = int((now - self._time) / step)
        if count <= 0:
            return
        self.held &= ~self.torque
        gain = np.where(self.torque | self.held, self.stiffness, 0.0)
        self.model.actuator_gainprm[:, 0] = gain
        self.model.actuator_biasprm[:, 1] = -gain
        most = np.where(np.isfinite(self._full), self._full * self.strength, 0.0)
        self.model.actuator_forcerange[:, 0], self.model.actuator_forcerange[:, 1] = -most, most
        self.data.ctrl[:] = np.where(self.held, self._hand, self.target)
        self._mujoco.mj_step(self.model, self.data, count)
        self._time += count * step
