"""A robot's configuration: what drives it, its limits, and how the loop treats it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, TypeVar, cast, get_args, get_type_hints

from .core.controller import ControllerConfig

T = TypeVar("T")

LONGEST_LATENCY = 1.0  # [s]


@dataclass(frozen=True)
class RobotConfig:
    """One robot.

    Attributes:
        name: What to call it.
        driver: Which back-end moves it, see `drivers`.
        control: Period, limits and faults of the loop; the limits have no default.
        options: Settings of the back-end, e.g. the port.
        observation_latency: How old a joint measurement is when it is read [s].
        sensor_latency: How old the further sensors' numbers are when they are read [s]; the
            policy sees the joints as they were at that time.
        bus_budget: Consecutive cycles with a bus error after which the robot is stopped.
        torque_off: Whether the joints go limp at the end; otherwise they hold their last place.
        realtime: Whether to ask for real-time scheduling.
    """

    name: str
    driver: str
    control: ControllerConfig
    options: dict[str, Any] = field(default_factory=dict[str, Any])
    observation_latency: float = 0.0
    sensor_latency: float = 0.0
    bus_budget: int = 5
    torque_off: bool = False
    realtime: bool = True

    def __post_init__(self) -> None:
        """Reject a budget that is none and latencies that are not."""
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
        for member in (hint, *get_args(hint)):
            if is_dataclass(member):
                return from_plain(member, mapping)  # type: ignore[arg-type]
        return mapping
    if isinstance(value, list):
        return tuple(_restore(Any, item) for item in value)  # type: ignore[misc]
    return value


@dataclass(frozen=True)
class ControlConfig:
    """One `hotloop control` run.

    Attributes:
        robot: The robot.
        policy: ``"reach"`` moves from pose to pose; ``"table"`` runs a Push-T checkpoint on an
            arm that pushes a block over a table.
        checkpoint: Name or path of a checkpoint, for policies that need one.
        sampling: How the checkpoint is sampled, e.g. ``sampling.calls_per_step=2``.
        duration: How long to run after the first motion [s].
        seed: Seed of the policy and of the simulated scene.
        inject: Fault to inject into the policy's chunks, see `hotloop control --help`.
        output_dir: Folder of ``summary.json`` and ``log.mcap``; printed only when empty.
    """

    robot: RobotConfig
    policy: str = "reach"
    checkpoint: str = ""
    sampling: dict[str, Any] = field(default_factory=dict[str, Any])
    duration: float = 10.0
    seed: int = 0
    inject: str | float = ""  # Hydra reads nan as a number.
    output_dir: str = ""
