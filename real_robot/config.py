"""A robot's configuration: what drives it, its limits, and how the loop treats it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, TypeVar, cast, get_args, get_origin, get_type_hints

from .core.controller import ControllerConfig

T = TypeVar("T")

LONGEST_LATENCY = 1.0  # [s]


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
        if min(self.size) < 1:
            raise ValueError(f"size of a camera must be height and width in px, got {self.size}")
        if not 0 <= self.latency <= LONGEST_LATENCY:
            raise ValueError(
                f"latency of a camera must be between 0 and {LONGEST_LATENCY} s, got {self.latency}"
            )


@dataclass(frozen=True)
class RobotConfig:
    """One robot.

    Attributes:
        name: What to call it.
        driver: Which back-end moves it, see `drivers`.
        control: Period, limits and faults of the loop; the limits have no default.
        joints: Names of the joints, in order; a checkpoint that names its actions has to agree.
        cameras: Its cameras, by name; a policy opens those that it needs.
        options: Settings of the back-end, e.g. the port.
        observation_latency: How old a joint measurement is when it is read [s].
        sensor_latency: How old the further sensors' numbers and the pictures are when they are
            read [s]; the policy sees the joints as they were at that time.
        bus_budget: Consecutive cycles with a bus error after which the robot is stopped.
        torque_off: Whether the joints go limp at the end; otherwise they hold their last place.
        realtime: Whether to ask for real-time scheduling.
    """

    name: str
    driver: str
    control: ControllerConfig
    options: dict[str, Any] = field(default_factory=dict[str, Any])
    joints: tuple[str, ...] = ()
    cameras: dict[str, CameraConfig] = field(default_factory=dict[str, CameraConfig])
    observation_latency: float = 0.0
    sensor_latency: float = 0.0
    bus_budget: int = 5
    torque_off: bool = False
    realtime: bool = True

    def __post_init__(self) -> None:
        """Reject a budget that is none, latencies that are not, and joints without names."""
        if len(self.joints) not in (0, self.control.limits.num_joints):
            raise ValueError(
                f"joints needs {self.control.limits.num_joints} names or none, got {self.joints}"
            )
        if self.bus_budget < 1:
            raise ValueError(f"bus_budget must be at least 1 cycle, got {self.bus_budget}")
        for name in ("observation_latency", "sensor_latency"):
            if not 0 <= getattr(self, name) <= LONGEST_LATENCY:
                raise ValueError(
                    f"{name} must be between 0 and {LONGEST_LATENCY} s, got {getattr(self, name)}"
                )


def from_plain(cls: type[T], values: Mapping[str, Any]) -> T:
    """Rebuild a nested dataclass from what `dataclasses.asdict` and JSON made of it."""
    hints = get_type_hints(cls)
    arguments = {name: _restore(hints[name], value) for name, value in values.items()}
    assert {item.name for item in fields(cls)} >= set(arguments)  # type: ignore[arg-type]
    return cls(**arguments)


def _restore(hint: Any, value: Any) -> Any:
    if isinstance(value, Mapping):
        mapping = cast("Mapping[str, Any]", value)
        inner = get_args(hint)
        if get_origin(hint) is dict and is_dataclass(inner[1]):
            return {name: _restore(inner[1], item) for name, item in mapping.items()}
        for member in (hint, *inner):
            if is_dataclass(member):
                return from_plain(member, mapping)  # type: ignore[arg-type]
        return mapping
    if isinstance(value, list):
        return tuple(_restore(Any, item) for item in value)  # type: ignore[misc]
    return value


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
class ControlConfig:
    """One `hotloop control` run.

    Attributes:
        robot: The robot.
        policy: ``"joints"`` runs any checkpoint whose actions are joint positions; ``"table"``
            runs a Push-T checkpoint on an arm that pushes a block over a table; ``"reach"`` moves
            from pose to pose. By default the first with a checkpoint, the last without.
        checkpoint: Name or path of a checkpoint, for policies that need one.
        sampling: How the checkpoint is sampled, e.g. ``sampling.calls_per_step=2``.
        latency: Control steps of the policy between an observation and the first action planned
            from it. As many as a plan takes keep the robot going meanwhile; 0 is what evaluation
            does, and rougher on a robot. By default 1 for ``"joints"``, 0 for ``"table"``.
        instruction: What a policy that understands language is told.
        units: The checkpoint's unit of joint positions, if it is not the robot's.
        given: Observations that do not change, by name without ``observation.``, e.g. a goal.
        duration: How long to run after the first motion [s].
        seed: Seed of the policy and of the simulated scene.
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
    duration: float = 10.0
    seed: int = 0
    inject: str | float = ""  # Hydra reads nan as a number.
    output_dir: str = ""
