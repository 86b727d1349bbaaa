"""Timing of what LeRobot has trained: ACT, and every policy that LeRobot itself runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from ...policies.act.config import ActSampling
from ...policies.act.program import network_program
from ...policies.checkpoint import Checkpoint
from ...policies.lerobot.installed_policy import InstalledSampling
from ...policies.programs.engines.engine import make_engine
from ..data.episodes import Episodes
from ..measure.latency import ControlStepTimer, Frames
from .family import BenchRow, Costs, Family, Training, observation_scale

if TYPE_CHECKING:
    from ..config.training import TrainConfig


@dataclass(frozen=True)
class ActPolicyConfig:
    """An ACT policy.

    Attributes:
        kind: ``"act"``.
        sampling: What the checkpoint does unless it is told otherwise.
    """

    kind: Literal["act"] = "act"
    sampling: ActSampling = field(default_factory=ActSampling)


@dataclass(frozen=True)
class InstalledPolicyConfig:
    """A policy that LeRobot runs.

    Attributes:
        kind: ``"lerobot"``.
        sampling: What the folder does unless it is told otherwise.
    """

    kind: Literal["lerobot"] = "lerobot"
    sampling: InstalledSampling = field(default_factory=InstalledSampling)


class ActFamily(Family):
    """Action chunking with transformers."""

    config = ActPolicyConfig
    trained_elsewhere = "LeRobot"

    def prepare(self, config: TrainConfig, episodes: Episodes) -> Training:
        """LeRobot trains it; see `Family.prepare`."""
        del episodes
        self.check_trained_here(config.policy.kind)
        raise NotImplementedError

    def rows(self, checkpoint: Checkpoint, calls: Sequence[int]) -> list[BenchRow]:
        """The checkpoint's own choices: a plan is one call."""
        del checkpoint, calls
        return [BenchRow("act-*")]

    def timer(self, policy: Any, engine: str, episodes: Sequence[Frames]) -> ControlStepTimer:
        """Plans, and calls of the network alone."""
        del episodes
        forward = make_engine(engine, network_program(policy.model)).memory(1).run
        scale = observation_scale(policy.model) if policy.model.vectors else 1.0
        return ControlStepTimer(policy, forward, scale)

    def costs(self, policy: Any, timer: ControlStepTimer) -> Costs:
        """One call."""
        del timer
        return Costs(num_calls=1, num_compared=1, parity=policy.parity)


class InstalledFamily(ActFamily):
    """Whatever LeRobot runs: to be timed beside what hotloop makes of the same folder."""

    config = InstalledPolicyConfig
    engines = ("eager",)

    def rows(self, checkpoint: Checkpoint, calls: Sequence[int]) -> list[BenchRow]:
        """The folder's own choices."""
        del calls
        return [BenchRow(f"lerobot-{checkpoint.model.config.type}")]

    def timer(self, policy: Any, engine: str, episodes: Sequence[Frames]) -> ControlStepTimer:
        """Plans alone."""
        del engine, episodes
        return ControlStepTimer(policy)

    def costs(self, policy: Any, timer: ControlStepTimer) -> Costs:
        """One call of LeRobot's, whatever is behind it."""
        del policy, timer
        return Costs(num_calls=1, num_compared=1)


ACT, INSTALLED = ActFamily(), InstalledFamily()
