"""A robot's configuration: what drives it, its limits, and how the loop treats it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Literal

from ..decoding.plumbing.devices import CPU, check_device
from .core.controller_config import LONGEST_LATENCY, ControllerConfig
from .kinematics.actions import ActionsConfig
from .kinematics.config import KinematicsConfig

LARGEST_PICTURE = 16384  # px, either way


@dataclass(frozen=True)
class CameraConfig:
    """One camera, as the policy process opens it.

    Attributes:
        driver: What takes its pictures, see `cameras`.
        size: Height and width of a picture [px].
        latency: How old a picture is when it is read [s].
        options: Settings of the driver, e.g. the device.
    """

    driver: str
    size: tuple[int, int]
    latency: float = 0.0
    options: dict[str, Any] = field(default_factory=dict[str, Any])

    def __post_init__(self) -> None:
        """Reject a size that is none and a latency that is not."""
        if not 1 <= min(self.size) <= max(self.size) <= LARGEST_PICTURE:
            raise ValueError(
                "size of a camera must be height and width in px, at most "
                f"{LARGEST_PICTURE}, got {self.size}"
            )
        if not 0 <= self.latency <= LONGEST_LATENCY:
            raise ValueError(
                f"latency of a camera must be between 0 and {LONGEST_LATENCY} s, got {self.latency}"
            )


@dataclass(frozen=True)
class StopInputConfig:
    """Something that an operator holds or presses, and that stops the robot.

    Attributes:
        driver: What reads it, see `inputs`.
        options: Settings of the driver, e.g. the device and the button.
    """

    driver: str
    options: dict[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True)
class RobotConfig:
    """One robot.

    Attributes:
        name: What to call it.
        driver: Which back-end moves it, see `drivers`.
        control: Period, limits and faults of the loop; the limits have no default.
        joints: Names of the joints, in order; a checkpoint that names its actions has to agree.
        joint_units: ``"rad"`` for each joint that turns, ``"m"`` for each that slides; all turn if
            nothing is said, but for what ``control.workspace`` says.
        cameras: Its cameras, by name; a policy opens those that it needs.
        kinematics: The arm as a model, for policies that move its tool; None if nobody does.
        options: Settings of the back-end, e.g. the port.
        observation_latency: How old a joint measurement is when it is read [s].
        sensor_latency: How old the further sensors' numbers and the pictures are when they are
            read [s]; the policy sees the joints as they were at that time.
        bus_budget: Consecutive cycles with a bus error after which the robot is stopped.
        overrun_budget: Share of the last 10 s whose cycles may be left out; more stops the robot.
        stop_inputs: What stops it besides the terminal, by name; see `inputs`.
        torque_off: Whether the joints go limp at the end; otherwise they hold their last place.
        realtime: Whether to ask for real-time scheduling.
        template: Whether this is a robot file for an arm that nobody has measured yet: it moves
            nothing until the options say ``zero`` and ``direction``, see `hotloop calibrate`.
    """

    name: str
    driver: str
    control: ControllerConfig
    options: dict[str, Any] = field(default_factory=dict[str, Any])
    joints: tuple[str, ...] = ()
    joint_units: tuple[Literal["rad", "m"], ...] = ()
    cameras: dict[str, CameraConfig] = field(default_factory=dict[str, CameraConfig])
    kinematics: KinematicsConfig | None = None
    observation_latency: float = 0.0
    sensor_latency: float = 0.0
    bus_budget: int = 5
    overrun_budget: float = 0.1
    stop_inputs: dict[str, StopInputConfig] = field(default_factory=dict[str, StopInputConfig])
    torque_off: bool = False
    realtime: bool = True
    template: bool = False

    @property
    def calibrated(self) -> bool:
        """Whether the joints' zeros and directions are known: by what is given, not by a claim."""
        return not self.template or {"zero", "direction"} <= self.options.keys()

    @property
    def units(self) -> tuple[str, ...]:
        """Unit of each joint's position, rad or m."""
        if self.joint_units:
            return self.joint_units
        workspace = self.control.workspace
        sliding = workspace.chain.prismatic if workspace else ()
        return tuple("m" if one else "rad" for one in sliding) or (
            ("rad",) * self.control.limits.num_joints
        )

    @property
    def joint_names(self) -> tuple[str, ...]:
        """What to call the joints, also where they have no names."""
        return self.joints or tuple(f"joint {k}" for k in range(self.control.limits.num_joints))

    def joint_name(self, index: int) -> str:
        """A joint in messages: its number, and its name if it has one."""
        return f"{index} ({self.joints[index]})" if self.joints else str(index)

    def name_joints(self, text: str) -> str:
        """A message of the control core, which knows joints by number only, with their names."""
        known = range(len(self.joints))

        def named(found: re.Match[str]) -> str:
            index = int(found[1])
            return f"joint {self.joint_name(index)}" if index in known else found[0]

        return re.sub(r"\bjoint (\d+)\b(?! \()", named, text)

    def __post_init__(self) -> None:
        """Reject a budget that is none, latencies that are not, and joints without names."""
        self._check_joints()
        self._check_joint_units()
        if self.bus_budget < 1:
            raise ValueError(f"bus_budget must be at least 1 cycle, got {self.bus_budget}")
        if not 0 < self.overrun_budget <= 0.5:
            raise ValueError(
                "overrun_budget must be a share of cycles above 0 and at most 0.5, got "
                f"{self.overrun_budget}"
            )
        for name in ("observation_latency", "sensor_latency"):
            if not 0 <= getattr(self, name) <= LONGEST_LATENCY:
                raise ValueError(
                    f"{name} must be between 0 and {LONGEST_LATENCY} s, got {getattr(self, name)}"
                )
        self._check_ages()

    def _check_joints(self) -> None:
        if len(self.joints) not in (0, self.control.limits.num_joints):
            raise ValueError(
                f"joints needs {self.control.limits.num_joints} names or none, got {self.joints}"
            )
        plain = [plain_name(name) for name in self.joints]
        for index, name in enumerate(plain):
            if not name or name in plain[:index]:
                raise ValueError(
                    f"joints needs a name of its own for each joint, got {self.joints[index]!r} "
                    f"{'twice' if name else 'as a name'} in {self.joints}"
                )

    def _check_joint_units(self) -> None:
        num_joints, workspace = self.control.limits.num_joints, self.control.workspace
        if len(self.joint_units) not in (0, num_joints):
            raise ValueError(
                f"joint_units needs {num_joints} units, rad or m, or none, got {self.joint_units}"
            )
        if not (self.joint_units and workspace):
            return
        sliding = workspace.chain.prismatic or (False,) * num_joints
        if [unit == "m" for unit in self.joint_units] != list(sliding):
            raise ValueError(
                f"joint_units {self.joint_units} and control.workspace.chain.prismatic {sliding} "
                "do not agree on which joints slide"
            )

    def _check_ages(self) -> None:
        """Reject measurements that are too old for the loop the moment that they are read."""
        control = self.control
        if not self.observation_latency < control.state_timeout:
            raise ValueError(
                f"observation_latency {self.observation_latency} s must be below "
                f"control.state_timeout {control.state_timeout} s, or the robot could not be armed"
            )
        ages = {f"cameras.{name}.latency": one.latency for name, one in self.cameras.items()}
        for name, age in {**ages, "sensor_latency": self.sensor_latency}.items():
            if not age < control.rules.max_age:
                raise ValueError(
                    f"{name} {age} s must be below control.rules.max_age {control.rules.max_age} "
                    "s, or every chunk would be refused as too old"
                )


def plain_name(name: str) -> str:
    """A joint's name without unit, LeRobot's ending, and ways of writing it."""
    name = re.sub(r"\s*\[.*\]$", "", name.strip().lower())
    return re.sub(r"[_.-]+", " ", re.sub(r"\.(pos|position)$", "", name))


@dataclass(frozen=True)
class UnitsConfig:
    """A checkpoint's unit of joint positions: robot's position = scale * value + offset.

    Attributes:
        scale: One number, or one per joint of the robot, e.g. 0.0174533 for degrees.
        offset: Position of the robot at the checkpoint's 0 [rad or m], in the same form.
    """

    scale: tuple[float, ...] = ()
    offset: tuple[float, ...] = ()


@dataclass(frozen=True)
class PolicyOptions:
    """What a robot policy is built from, besides the robot; see `ControlConfig`.

    Attributes:
        wrapping: Settings of a policy that is put around this one, which nobody else reads.
    """

    checkpoint: str = ""
    sampling: dict[str, Any] = field(default_factory=dict[str, Any])
    latency: int | None = None
    instruction: str = ""
    units: UnitsConfig = field(default_factory=UnitsConfig)
    given: dict[str, list[float]] = field(default_factory=dict[str, list[float]])
    lerobot: dict[str, Any] = field(default_factory=dict[str, Any])
    engine: str = ""
    device: str = CPU
    precision: str = "float32"
    actions: ActionsConfig | None = None
    wrapping: dict[str, Any] = field(default_factory=dict[str, Any])

    def __post_init__(self) -> None:
        """Reject a latency and a device that is none."""
        check_device(self.device)
        if self.latency is not None and self.latency < 0:
            raise ValueError(f"latency must be 0 or more control steps, got {self.latency}")


@dataclass(frozen=True)
class ControlConfig:
    """One `hotloop control` run.

    Attributes:
        robot: The robot.
        policy: ``"joints"`` runs checkpoints whose actions are joint positions, ``"cartesian"``
            those that move the tool, ``"table"`` Push-T's on an arm over a table; ``"pick"`` puts a
            cube onto a mark, with ``robot=mujoco-arm``; ``"reach"`` moves from pose to pose;
            ``"module:Name"`` is your own, see `policies.protocol`. By default the first with a
            checkpoint, the second with `actions` too, ``"reach"`` without.
        checkpoint: Name or path of a checkpoint, for policies that need one.
        sampling: How the checkpoint is sampled, e.g. ``sampling.calls_per_step=2``.
        latency: Control steps between an observation and the first action planned from it; as many
            as a plan takes keep the robot going. By default 1 for ``"joints"``, 0 for ``"table"``.
        instruction: What a policy that understands language is told.
        units: The checkpoint's unit of joint positions, if it is not the robot's.
        given: Observations that do not change, by name without ``observation.``, e.g. a goal.
        lerobot: What a LeRobot folder does not say of itself, e.g. ``lerobot.dt=0.1``.
        engine: What runs the checkpoint's networks: by default eager; auto for the fastest here.
        device: Where they run: cpu, cuda or cuda:N.
        precision: Of their products: float32, tf32, bf16 or fp16.
        actions: What actions that move the tool mean, e.g. ``actions=robomimic``, or your own file.
        duration: How long to run after the first motion [s].
        seed: Seed of the policy and of the simulated scene.
        release: Let all joints go limp, warned, and run nothing: for an arm that may not start.
        inject: Fault to inject into the policy's chunks, see `hotloop control --help`.
        output_dir: Folder of ``summary.json`` and ``log.mcap``; printed only when empty.
    """

    robot: RobotConfig
    policy: str = ""
    checkpoint: str = ""
    sampling: dict[str, Any] = field(default_factory=dict[str, Any])
    latency: int | None = None
    instruction: str = ""
    units: UnitsConfig = field(default_factory=UnitsConfig)
    given: dict[str, list[float]] = field(default_factory=dict[str, list[float]])
    lerobot: dict[str, Any] = field(default_factory=dict[str, Any])
    engine: str = ""
    device: str = CPU
    precision: str = "float32"
    actions: ActionsConfig | None = None
    duration: float = 10.0
    seed: int = 0
    release: bool = False
    inject: str | float = ""  # Hydra reads nan as a number.
    output_dir: str = ""

    @property
    def policy_options(self) -> PolicyOptions:
        """What the policy is built from."""
        names = PolicyOptions.__dataclass_fields__.keys() & self.__dataclass_fields__
        return PolicyOptions(**{name: getattr(self, name) for name in names})
