"""robosuite's Lift, Can and Square with a Panda, as robomimic's datasets have them."""

from __future__ import annotations

import gc
import importlib
import logging
import tempfile
import weakref
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from .rendering import choose_backend, draw_fast, require_backend
from .robosuite_cameras import CAMERAS, IMAGE_SIZE, Cameras, drawn_fast
from .task import EndsWhenSolved

CONTROL_HZ = 20
HORIZON = 400
ROBOT_SHAPES = {"robot0_eef_pos": (3,), "robot0_eef_quat": (4,), "robot0_gripper_qpos": (2,)}
# What actions mean, of robosuite's settings of the arm's controller.
CONTROLLER: dict[str, Any] = {
    "type": "OSC_POSE",
    "input_max": 1,
    "input_min": -1,
    "output_max": (0.05, 0.05, 0.05, 0.5, 0.5, 0.5),
    "output_min": (-0.05, -0.05, -0.05, -0.5, -0.5, -0.5),
    "kp": 150,
    "damping_ratio": 1,
    "impedance_mode": "fixed",
    "uncouple_pos_ori": True,
}
# As robomimic's files have it; robosuite's own default, the base, is not turned against the world.
FRAME = "world"


class RobosuiteArm(EndsWhenSolved):
    """One Panda whose hand is moved by OSC_POSE, by deltas or to absolute poses.

    Frames have robomimic's keys: hand position [m] ``observation.robot0_eef_pos``, quaternion
    x, y, z, w ``observation.robot0_eef_quat``, finger positions [m]
    ``observation.robot0_gripper_qpos``, and the object's state ``observation.object``, or instead
    of that, with images, ``observation.CAMERA_image``, uint8, upright. An episode begins in the
    state that its seed determines, whatever frames and actions are.

    Args:
        env_name: robosuite's name, e.g. ``"Lift"``.
        images: Whether frames hold pictures.
        absolute: Whether actions say where the hand shall be, as robomimic's ``actions_abs`` do,
            rather than how it shall move.
    """

    def __init__(self, env_name: str, images: bool = False, absolute: bool = False) -> None:
        if images:
            require_backend()
        self._env = _make(env_name, images, absolute)
        self._images, self._success, self._num_steps = images, False, 0
        self._renderer: Any = None
        self._cameras = Cameras()
        if images:
            self._cameras.belong_to(self._env.sim)
        weakref.finalize(self, self._cameras.free).atexit = False

    @property
    def drawn(self) -> bool:
        """Whether `step` draws what the cameras see, see `DrawsOnDemand`."""
        return self._cameras.drawn

    @drawn.setter
    def drawn(self, drawn: bool) -> None:
        self._cameras.drawn = drawn

    @property
    def infos(self) -> dict[str, np.ndarray]:
        """The simulator's flat state: time, joint positions, joint velocities."""
        return {"states": self._env.sim.get_state().flatten()}

    @property
    def goal(self) -> np.ndarray:
        """Where the newest action asked the hand to be, shape (6,).

        Position [m] and rotation vector [rad] in the world: what the same controller takes as an
        absolute action, see robomimic's ``actions_abs``.
        """
        from scipy.spatial.transform import Rotation

        controller = self._env.robots[0].part_controllers["right"]
        turn = Rotation.from_matrix(controller.goal_ori).as_rotvec()
        return np.concatenate([controller.goal_pos, turn])

    @property
    def model_xml(self) -> str:
        """The model of this episode, which robomimic's files hold beside the states."""
        mujoco: Any = importlib.import_module("mujoco")  # its stubs leave this function out
        with tempfile.TemporaryDirectory() as folder:  # robosuite's own get_xml leaves a file open
            path = Path(folder) / "model.xml"
            mujoco.mj_saveLastXML(str(path), self._env.sim.model._model)
            return path.read_text(encoding="utf-8")

    def reset(self, seed: int) -> dict[str, np.ndarray]:
        """Start the episode that `seed` determines."""
        self._begin()
        # robosuite 1.5.1 draws from numpy's global generator, which is nobody else's business.
        before = np.random.get_state()  # noqa: NPY002
        np.random.seed(seed)  # noqa: NPY002
        try:
            self._restart(self._env.reset)
            return self._first_frame()
        finally:
            np.random.set_state(before)  # noqa: NPY002

    def set_state(self, states: np.ndarray, model_xml: str = "") -> dict[str, np.ndarray]:
        """Start an episode from a recorded flat state, in its recorded model if that is given.

        Raises:
            ValueError: If the state does not have the model's size.
        """
        self._begin()
        self._restart(self._env.reset)
        if model_xml:
            xml = self._env.edit_model_xml(model_xml)
            self._restart(partial(self._env.reset_from_xml_string, xml))
            self._env.sim.reset()
        expected = self._env.sim.get_state().flatten().shape
        if np.shape(states) != expected:
            raise ValueError(
                f"the simulator's state has shape {expected}, the recorded one {np.shape(states)}; "
                "a file of another robosuite version or task?"
            )
        self._env.sim.set_state_from_flattened(np.asarray(states, np.float64))
        self._env.sim.forward()
        self._restart_controllers()
        return self._first_frame()

    def step(self, action: np.ndarray) -> tuple[dict[str, np.ndarray], float, bool]:
        """Move the hand, and the fingers, for 0.05 s.

        Args:
            action: Shares of 0.05 m and 0.5 rad to move the hand by, or position [m] and rotation
                vector [rad] to move it to in the world; then -1 to open the fingers, 1 to close
                them; shape (7,).
        """
        observation, reward, _, _ = self._env.step(np.asarray(action, np.float64))
        self._num_steps += 1
        self._success = self._success or bool(self._env._check_success())
        done = self._success or self._num_steps >= HORIZON
        return self._frame(observation), float(reward), done

    def render(self) -> np.ndarray:
        """Picture of the front camera, shape (256, 256, 3)."""
        require_backend()
        import mujoco

        model, data = self._env.sim.model._model, self._env.sim.data._data
        if self._renderer is None:
            draw_fast(model)
            self._renderer = mujoco.Renderer(model, 256, 256)
        self._renderer.update_scene(data, camera="frontview")
        return self._renderer.render()

    def close(self) -> None:
        """Release the simulator."""
        self._close_renderer()
        self._cameras.free()
        self._env.close()

    def _restart_controllers(self) -> None:
        """Let goal and rest posture be those of the present state, as after a reset.

        Else the arm first jumps to where the reset before had left the hand.
        """
        for robot in self._env.robots:
            for arm in robot.arms:
                controller = robot.part_controllers[arm]
                controller.update(force=True)
                controller.update_initial_joints(controller.joint_pos)

    def _begin(self) -> None:
        self._close_renderer()  # it belongs to the model that a reset replaces
        if self._images:
            gc.collect()  # robosuite's models of former episodes, 0.07 GB each, lie in cycles
        self._success, self._num_steps = False, 0

    def _restart(self, start: Callable[[], object]) -> None:
        """Let robosuite start a new simulator in place of the present one, with new cameras."""
        self._cameras.free()
        start()
        if self._images:
            self._cameras.belong_to(self._env.sim)

    def _close_renderer(self) -> None:
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None

    def _first_frame(self) -> dict[str, np.ndarray]:
        self.drawn = True
        # What robosuite's reset returns has zeros for the object's place relative to the hand.
        return self._frame(self._env._get_observations(force_update=True))

    def _frame(self, observation: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        frame = {f"observation.{key}": observation[key].astype(np.float32) for key in ROBOT_SHAPES}
        if not self._images:
            return frame | {"observation.object": observation["object-state"].astype(np.float32)}
        for camera in CAMERAS:
            # robosuite's pictures start with the lowest row, as OpenGL's do.
            frame[f"observation.{camera}_image"] = observation[f"{camera}_image"][::-1].copy()
        return frame


def make_arguments(images: bool, absolute: bool = False) -> dict[str, Any]:
    """Return what ``robosuite.make`` gets, which robomimic's files keep as ``env_kwargs``."""
    from robosuite.controllers import load_composite_controller_config

    controllers: Any = load_composite_controller_config(controller="BASIC", robot="Panda")
    arm = controllers["body_parts"]["right"]
    arm |= CONTROLLER | {
        "input_ref_frame": FRAME,
        "input_type": "absolute" if absolute else "delta",
    }
    return {
        "robots": ["Panda"],
        "controller_configs": controllers,
        "has_renderer": False,
        "has_offscreen_renderer": images,
        "use_camera_obs": images,
        "camera_names": list(CAMERAS),
        "camera_heights": IMAGE_SIZE,
        "camera_widths": IMAGE_SIZE,
        "control_freq": CONTROL_HZ,
        "ignore_done": True,
    }


def _make(env_name: str, images: bool, absolute: bool) -> Any:
    choose_backend()
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)  # robosuite warns on import of everything that is optional
    try:
        import robosuite

        env = robosuite.make(env_name, **make_arguments(images, absolute))
    except ImportError as error:
        raise ImportError(
            "the robosuite tasks need robosuite: pip install 'hotloop[robosuite]'"
        ) from error
    finally:
        logging.disable(disabled)
    logging.getLogger("robosuite_logs").setLevel(logging.ERROR)
    if images:
        env.set_xml_processor(drawn_fast)
    return env
