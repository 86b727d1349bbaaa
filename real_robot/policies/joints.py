"""Any policy whose actions are joint positions, on any robot."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from time import perf_counter
from typing import Any

import numpy as np

from ...decoding import ActionSpec, ObservationSpec, Policy
from ...decoding.instruction import INSTRUCTION_KEY, encode_instruction
from ...decoding.interface import is_picture
from ..cameras.camera import Picture
from ..config import PolicyOptions, RobotConfig, plain_name
from ..core.limits import Vector
from ..core.trajectory import Chunk
from ..drivers import make_driver
from ..readiness import ROUNDING
from .control_steps import ControlSteps
from .joint_map import JointMap, beyond_limits, map_joints
from .joint_names import GENERIC
from .protocol import Snapshot

STATE_KEY, SENSORS_KEY = "observation.state", "observation.environment_state"
# What a planner was rewarded with: nobody rewards a robot, so it goes on asking for what it asked.
REWARD_KEY = "reward"
# From a snapshot to one observation.
Reader = Callable[[Snapshot], np.ndarray]


class JointPolicy:
    """Runs a policy that reads joint positions, pictures and an instruction on a robot.

    Args:
        policy: Its actions are joint positions.
        joints: Which of its numbers is which joint.
        readers: How each of its observations is read from a snapshot.
        cameras: Cameras whose pictures the readers need.
        latency: Control steps between an observation and the first action planned from it.
    """

    def __init__(
        self,
        policy: Policy,
        joints: JointMap,
        readers: Mapping[str, Reader],
        cameras: tuple[str, ...] = (),
        latency: int = 0,
    ) -> None:
        self.period, self.cameras = policy.action_spec.dt, cameras
        self._joints, self._readers = joints, readers
        self._held: Vector | None = None
        self._steps = ControlSteps(policy, latency)

    def reset(self, seed: int) -> None:
        """Start an episode."""
        self._held = None
        self._steps.reset(seed)

    def plan(self, snapshot: Snapshot) -> Chunk | None:
        """Joint positions for the next moments, as far as they are planned and valid.

        Returns:
            None if there is nothing to send: no action is ready, or the next is not due.
        """
        if self._held is None:
            # Joints that are not planned stay where they stood when the episode began.
            self._held = np.array(snapshot.position)
        frame = {key: read(snapshot) for key, read in self._readers.items()}
        actions = self._steps.act(snapshot.time, frame)
        if actions is None:
            return None
        waypoints = self._joints.to_robot(actions.actions[0], self._held)
        return snapshot.chunk(self._steps.due(actions), waypoints)

    def try_out(self, snapshot: Snapshot) -> float:
        """Plan three times from the same snapshot; return how long the third plan took [s].

        What does not fit together shows here, before a robot moves. The first plan begins an
        episode and the second one is the first of its latency: both take longer than the others.
        """
        self.reset(0)
        duration, time = 0.0, 0.0
        while self._steps.num_plans < 3:
            began = perf_counter()
            self.plan(snapshot._replace(time=time))
            duration, time = perf_counter() - began, time + self.period
        return duration


def on_joints(policy: Policy, robot: RobotConfig, options: PolicyOptions) -> JointPolicy:
    """Connect a policy whose actions are joint positions with a robot, and try it out.

    Args:
        policy: The policy.
        robot: Its joints, cameras and limits are compared with the policy.
        options: ``latency``, by default 1, ``instruction``, ``units`` and ``given`` are read.

    Raises:
        ValueError: If the policy and the robot do not fit each other.
    """
    latency = 1 if options.latency is None else options.latency
    shapes = {key: tuple(shape) for key, shape in policy.observation_spec.shapes.items()}
    num_read = shapes[STATE_KEY][0] if STATE_KEY in shapes else None
    joints = map_joints(policy.action_spec, robot, options.units, num_read)
    check_rate(policy.action_spec.dt, robot)
    check_read(shapes, options)
    readers = {
        key: make_reader(key, shape, robot, joints, options) for key, shape in shapes.items()
    }
    cameras = cameras_of(policy.observation_spec)
    made = JointPolicy(policy, joints, readers, cameras, latency)
    _tell(policy.action_spec, robot, joints)
    duration = made.try_out(standing_still(robot, shapes))
    warn_of_slow_plans(duration, latency, made.period)
    return made


def _tell(spec: ActionSpec, robot: RobotConfig, joints: JointMap) -> None:
    """What the operator should know of how the checkpoint fits the robot."""
    names = [robot.joint_name(joint) for joint in range(len(joints.scale))]
    if all(GENERIC.fullmatch(plain_name(name)) for name in spec.names):
        planned = ", ".join(names[joint] for joint in joints.planned)
        say(f"the checkpoint's actions are only numbered; they are taken for joints {planned}")
    if joints.held:
        held = ", ".join(names[joint] for joint in joints.held)
        say(f"the checkpoint does not plan joints {held}; they hold their place")
    if beyond := beyond_limits(spec, robot, joints):
        say(
            f"the checkpoint was trained on positions beyond the limits of robot {robot.name}: "
            f"{', '.join(beyond)}; plans that go there are refused"
        )


def check_rate(dt: float, robot: RobotConfig) -> None:
    """Compare a policy's control period [s] with the robot's.

    Raises:
        ValueError: If the loop is slower than the policy, or would brake before each of its plans.
    """
    control = robot.control
    if dt < (1 - ROUNDING) * control.dt:
        raise ValueError(
            f"the checkpoint acts every {dt:g} s, robot {robot.name} only every {control.dt:g} s, "
            "so that actions would be left out; lower control.dt, or train at the robot's rate"
        )
    if dt >= control.stale_timeout:
        raise ValueError(
            f"the checkpoint acts every {dt:g} s, and robot {robot.name} brakes when it hears "
            f"nothing for control.stale_timeout={control.stale_timeout:g} s; check the rate that "
            "the checkpoint was trained at"
        )


def warn_of_slow_plans(duration: float, latency: int, period: float) -> None:
    """Tell the operator if a plan takes longer than its latency lets it."""
    if duration > (latency + 1) * period:
        needed = int(np.ceil(duration / period))
        say(
            f"a plan takes {duration:.3f} s, {needed} control steps; latency={needed} lets the "
            "robot go on while it plans, and engine=auto may shorten it"
        )


def say(text: str) -> None:
    """Tell the operator, at once."""
    print(f"hotloop: policy: {text}", file=sys.stderr, flush=True)


def check_read(shapes: Mapping[str, tuple[int, ...]], options: PolicyOptions) -> None:
    """Raise ValueError for what was given and nobody reads."""
    if options.instruction and INSTRUCTION_KEY not in shapes:
        raise ValueError(
            f"the checkpoint follows no instruction, it reads {sorted(shapes)}; leave out "
            f"instruction={options.instruction!r}"
        )
    names = {key.removeprefix("observation.") for key in shapes}
    if unknown := sorted(set(options.given) - names):
        raise ValueError(
            f"given.{unknown[0]} is read by nobody; the checkpoint reads {sorted(names)}"
        )


def cameras_of(spec: ObservationSpec) -> tuple[str, ...]:
    """Cameras whose pictures a policy reads.

    Raises:
        ValueError: If two of its keys would be pictures of the same camera.
    """
    names = tuple(map(camera_name, spec.pictures))
    if twice := [key for key in spec.pictures if names.count(camera_name(key)) > 1]:
        raise ValueError(
            f"the checkpoint reads {' and '.join(twice)}, which both are pictures of a camera "
            f"{camera_name(twice[0])!r}; train it with keys that end in different names"
        )
    return names


def camera_name(key: str) -> str:
    """Camera of ``observation.images.NAME``."""
    return key.rpartition(".")[2]


def make_reader(
    key: str, shape: tuple[int, ...], robot: RobotConfig, joints: JointMap, options: PolicyOptions
) -> Reader:
    """How an observation of the policy is read from a snapshot.

    Raises:
        ValueError: If it cannot be; the message says what would have to be given.
    """
    name = key.removeprefix("observation.")
    if key == STATE_KEY:
        return _state_reader(shape, robot, joints)
    if key == INSTRUCTION_KEY:
        if not options.instruction:
            raise ValueError("the checkpoint follows instructions; give one: instruction='...'")
        text = encode_instruction(options.instruction, shape[0])
        return lambda snapshot: text
    if len(shape) == 3:
        return _picture_reader(key, shape, robot)
    if name in options.given or key == REWARD_KEY:
        value = np.asarray(options.given.get(name, np.zeros(shape)), np.float32)
        if value.shape != shape:
            raise ValueError(f"given.{name} must have shape {shape}, got {value.shape}")
        return lambda snapshot: value
    if key == SENSORS_KEY:
        check_sensors(int(np.prod(shape)), robot)
        return lambda snapshot: snapshot.sensors.astype(np.float32)
    raise ValueError(
        f"the checkpoint reads {key!r} of shape {shape}, which a robot does not measure; if it "
        f"does not change, give it: given.{name}=[...]"
    )


def check_sensors(num_read: int, robot: RobotConfig) -> None:
    """Raise ValueError if a robot does not measure as many further numbers as a policy reads."""
    num_measured = make_driver(robot).num_sensors
    if num_read != num_measured:
        raise ValueError(
            f"the checkpoint reads {num_read} numbers of the scene, robot {robot.name} measures "
            f"{num_measured}; a tracker of a real scene is given as robot.options.tracker=PORT "
            f"robot.options.tracker_size={num_read}"
        )


def _state_reader(shape: tuple[int, ...], robot: RobotConfig, joints: JointMap) -> Reader:
    """How joint positions are read: of the planned joints in their order, or of all."""
    if shape == joints.order.shape:
        return lambda snapshot: joints.to_policy(snapshot.position).astype(np.float32)
    if shape == joints.scale.shape and (np.diff(joints.order) > 0).all():
        return lambda snapshot: joints.all_to_policy(snapshot.position).astype(np.float32)
    raise ValueError(
        f"the checkpoint reads {STATE_KEY!r} of shape {shape}, robot {robot.name} has "
        f"{len(joints.scale)} joint positions, of which it plans {joints.order.tolist()}"
    )


def _picture_reader(key: str, shape: tuple[int, ...], robot: RobotConfig) -> Reader:
    if not is_picture(shape):
        raise ValueError(
            f"the checkpoint reads {key!r} of shape {shape}; cameras give pictures of height, "
            "width and 3 colours, channels last; train it on such pictures"
        )
    name = camera_name(key)
    if name not in robot.cameras:
        raise ValueError(
            f"the checkpoint reads {key!r}, robot {robot.name} has no camera {name!r} but "
            f"{sorted(robot.cameras)}; add it: robot.cameras.{name}.driver=opencv "
            f"robot.cameras.{name}.size=[{shape[0]},{shape[1]}]"
        )
    size = (*robot.cameras[name].size, 3)
    if size != shape:
        raise ValueError(
            f"the checkpoint reads {key!r} of shape {shape}, camera {name!r} gives {size}; set "
            f"robot.cameras.{name}.size=[{shape[0]},{shape[1]}]"
        )
    return lambda snapshot: snapshot.pictures[name].image


def standing_still(robot: RobotConfig, shapes: Mapping[str, tuple[int, ...]]) -> Snapshot:
    """A snapshot to try a policy out on: the middle of each joint's range, and black pictures."""
    limits = robot.control.limits.arrays
    middle = (limits.low + limits.high) / 2
    pictures = {
        camera_name(key): Picture(0.0, np.zeros(shape, np.uint8))
        for key, shape in shapes.items()
        if is_picture(shape)
    }
    sensors: Any = np.zeros(shapes.get(SENSORS_KEY, 0))
    return Snapshot(0.0, middle, np.zeros_like(middle), sensors, pictures)
