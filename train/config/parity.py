"""What `hotloop distill` is told beyond the settings of a training run."""

from __future__ import annotations

from dataclasses import dataclass, field

from .checks import at_least, seeds


@dataclass(frozen=True)
class ReportConfig:
    """What the parity report measures.

    Attributes:
        episodes: Episodes per row, the same ones in all of them; 0 simulates nothing.
        seed: Seed of the first episode; episode i uses seed + i.
        engines: Engines to time, auto among them; all that this machine can run by default.
        steps: Planning control steps that are timed per row and engine, fewer for slow policies.
        states: States of the demonstrations at which actions are sampled.
        samples: Samples per state.
        undistilled: Whether the teacher is measured at its student's numbers of calls, too.
    """

    episodes: int = 50
    seed: int = 100_000
    engines: tuple[str, ...] = ()
    steps: int = 200
    states: int = 16
    samples: int = 256
    undistilled: bool = True

    def __post_init__(self) -> None:
        """Reject numbers that are none."""
        at_least(0, report__episodes=self.episodes)
        seeds(report__seed=self.seed)
        at_least(1, report__steps=self.steps, report__states=self.states)
        at_least(2, report__samples=self.samples)


@dataclass(frozen=True)
class DistillOptions:
    """What `hotloop distill` has and `hotloop train` has not.

    Attributes:
        method: Name in `METHODS`; the one that suits the teacher by default.
        calls: Numbers of network calls that the student is made for and measured with; the method's
            own by default.
        report: What the parity report measures; False writes none.
    """

    method: str = ""
    calls: tuple[int, ...] = ()
    report: ReportConfig | bool = field(default_factory=ReportConfig)

    def __post_init__(self) -> None:
        """Reject numbers of calls that are none."""
        at_least(1, calls=min(self.calls, default=1))
        if len(set(self.calls)) < len(self.calls):
            raise ValueError(f"calls must name each number once, got {list(self.calls)}")
