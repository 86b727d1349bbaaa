"""Robots, chunks and virtual time for the tests of the control loop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from hotloop.real_robot.core.controller import Controller, ControllerConfig
from hotloop.real_robot.core.events import (
    Event,
    EventKind,
    Mailbox,
    Mode,
    Output,
    Request,
    RobotState,
)
from hotloop.real_robot.core.limits import Chain, Limits, Workspace
from hotloop.real_robot.core.trajectory import Chunk, ChunkRules
from hotloop.real_robot.logs.reader import ControlLog

DT = 0.002
LIMITS = Limits((-1.0, -2.0), (1.5, 2.0), (2.0, 3.0), (8.0, 12.0), (400.0, 300.0))
# Two links of 0.4 m and 0.3 m that turn about z.
CHAIN = Chain(((0.0, 0.0, 0.1), (0.4, 0.0, 0.0)), ((0.0, 0.0, 1.0),) * 2, (0.3, 0.0, 0.0))
WORKSPACE = Workspace(CHAIN, (0.2, -0.45, None), (0.69, 0.5, None))
CONFIG = ControllerConfig(LIMITS, DT, rules=ChunkRules(max_age=0.2))
NO_SENSORS = np.zeros(0)


def state(time: float, position: np.ndarray, fault: str = "") -> RobotState:
    return RobotState(time, position, np.zeros_like(position), fault, NO_SENSORS)


def chunk(sequence: int, now: float, waypoints: object, dt: float = 0.05, **changes) -> Chunk:
    points = np.asarray(waypoints, np.float64)
    made = Chunk(sequence, now, now + dt * np.arange(1, len(points) + 1), points)
    return replace(made, **changes)


class Bench:
    """A controller in virtual time whose robot does exactly what it is told."""

    def __init__(
        self, config: ControllerConfig = CONFIG, position: object = (0.0, 0.0), arm: bool = True
    ) -> None:
        self.controller = Controller(config)
        self.position = np.asarray(position, np.float64)
        self.now = 100.0
        self.commands: list[np.ndarray] = []
        self.events: list[Event] = []
        self.output: Output | None = None
        if arm:
            self.step(Mailbox(request=Request.ARM))

    @property
    def mode(self) -> Mode:
        return self.controller.mode

    def step(self, mailbox: Mailbox = Mailbox(), robot: RobotState | None = None) -> Output:  # noqa: B008
        self.now += self.controller.config.dt
        measured = robot or state(self.now, self.position)
        self.output = self.controller.step(self.now, measured, mailbox)
        self.events += self.output.events
        if self.output.command is not None:
            self.position = self.output.command.position
            self.commands.append(self.position)
        return self.output

    def run(self, seconds: float, source: Callable[[float], Chunk | None] | None = None) -> None:
        """Step for some time, with the chunk that `source` returns for each instant."""
        for _ in range(round(seconds / self.controller.config.dt)):
            self.step(Mailbox(source(self.now) if source else None))

    def send(self, made: Chunk) -> Output:
        return self.step(Mailbox(made))

    def kinds(self) -> set[EventKind]:
        return {event.kind for event in self.events}

    def said(self, kind: EventKind) -> str:
        return "\n".join(event.text for event in self.events if event.kind is kind)


def moving(config=CONFIG) -> Bench:
    """A bench whose robot is in the middle of a fast motion."""
    bench = Bench(config)
    bench.send(chunk(1, bench.now, [(0.8, 1.0)] * 4, dt=0.2))
    bench.run(0.2)
    assert np.abs(bench.output.command.velocity).max() > 0.5
    return bench


def commands(log: ControlLog) -> list[np.ndarray]:
    """Where the arm stood when it was armed, and all commands: the first may already move."""
    sent = log.column("has_command").astype(bool)
    return [log.column("state.position")[sent][0], *log.column("command")[sent]]


def stretches(log: ControlLog) -> list[list[np.ndarray]]:
    """The commands of a log as they were sent: each gap ends a stretch, the next begins at rest.

    Commands that never left are no part of what the robot was told.
    """
    sent = log.column("has_command").astype(bool)
    now, rows = log.column("now")[sent], log.column("command")[sent]
    begins = np.flatnonzero(np.diff(now, prepend=-np.inf) > 1.5 * log.robot.control.dt)
    pieces = np.split(rows, begins[1:])
    starts = [log.column("state.position")[sent][0], *(piece[-1] for piece in pieces[:-1])]
    return [[start, *piece] for start, piece in zip(starts, pieces, strict=True)]


def assert_log_within_limits(log: ControlLog) -> None:
    """Check all commands of a log, on the clock of the commands as they were sent."""
    for stretch in stretches(log):
        assert_within_limits(stretch, log.robot.control)


def largest_differences(commands: list[np.ndarray], dt: float) -> list[np.ndarray]:
    """Largest velocity, acceleration and jerk per joint, from positions alone."""
    padded = np.stack([*[commands[0]] * 3, *commands])
    return [np.abs(np.diff(padded, order, axis=0)).max(axis=0) / dt**order for order in (1, 2, 3)]


def assert_within_limits(commands: list[np.ndarray], config: ControllerConfig) -> None:
    """Check a command stream against its limits, independently of the library's own check."""
    limits, rows = config.limits, np.stack(commands)
    assert (np.asarray(limits.low) <= rows).all() and (rows <= np.asarray(limits.high)).all()
    caps = (limits.velocity, limits.acceleration, limits.jerk)
    for order, (found, cap) in enumerate(
        zip(largest_differences(commands, config.dt), caps, strict=True), start=1
    ):
        rounding = 2e-15 * 2**order / config.dt**order
        assert (found <= np.asarray(cap) * (1 + 1e-6) + rounding).all(), (order, found, cap)
    if config.workspace is not None:
        assert config.workspace.clearance(rows).min() >= -1e-9
