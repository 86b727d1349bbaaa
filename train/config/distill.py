"""What is distilled from a teacher: one dataclass per method, see `distillation.methods`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from .checks import above_zero, at_least, shares


@dataclass(frozen=True)
class DistillConfig:
    """Distillation of a teacher; all that is to be set for planners and token policies.

    Attributes:
        teacher: Checkpoint to distil, by name or path; empty trains from demonstrations alone.
        method: Name in `METHODS`; empty is the one that suits the kind of policy.
    """

    teacher: str = ""
    method: str = field(default="", kw_only=True)


@dataclass(frozen=True)
class GuidanceDistillConfig(DistillConfig):
    """Distillation of a planner's guidance, and of all of its calls into few.

    Attributes:
        calls_per_step: Numbers of network calls that the student learns to plan in; none for a
            student that takes its teacher's number of calls, of one pass each.
        guidance_range: Smallest and largest guidance weight that the student can be asked for; null
            for ``policy.sampling.guidance`` alone.
        teacher_steps: Calls of the teacher's plans, a multiple of each number in `calls_per_step`.
        denoising: Share of samples that train ordinary guided denoising.
        anywhere: Share of samples that jump from any point of a plan's way to any later one.
        executed: Weight of the states that the executed actions lead to, where the others count 1:
            each plan's are executed, and what lies behind them is planned again.
        state_noise: Standard deviation of the noise on the states that those plans begin at, in
            units of their usual change from one state to the next, since a student comes to states
            that no demonstration has.
        num_plans: Plans that the teacher makes at each refresh.
        refresh_every: Steps between two refreshes.
    """

    calls_per_step: tuple[int, ...] = ()
    guidance_range: tuple[float, float] | None = None
    teacher_steps: int = 20
    denoising: float = 0.05
    anywhere: float = 0.15
    executed: float = 10.0
    state_noise: float = 0.3
    num_plans: int = 4096
    refresh_every: int = 500
    method: str = field(default="guidance", kw_only=True)

    def __post_init__(self) -> None:
        """Reject numbers that are none."""
        at_least(1, distill__calls_per_step=min(self.calls_per_step, default=1))
        at_least(1, distill__teacher_steps=self.teacher_steps, distill__num_plans=self.num_plans)
        at_least(1, distill__refresh_every=self.refresh_every)
        above_zero(distill__executed=self.executed)
        at_least(0, distill__state_noise=self.state_noise)
        shares(distill__denoising=self.denoising, distill__anywhere=self.anywhere)
        if self.denoising + self.anywhere > 1:
            raise ValueError(
                "distill: shares must sum to at most 1, got "
                f"denoising {self.denoising} and anywhere {self.anywhere}"
            )


@dataclass(frozen=True)
class RolloutDistillConfig(DistillConfig):
    """What students have in common that can learn from what their teacher does in its simulator.

    Attributes:
        num_rollouts: Episodes of the teacher, where no demonstrations are named.
        rollout_noise: Standard deviation of the noise on the actions that every second of them
            executes, in half ranges of the action.
    """

    num_rollouts: int = field(default=200, kw_only=True)
    rollout_noise: float = field(default=0.05, kw_only=True)

    def __post_init__(self) -> None:
        """Reject numbers that are none."""
        at_least(1, distill__num_rollouts=self.num_rollouts)
        at_least(0, distill__rollout_noise=self.rollout_noise)


@dataclass(frozen=True)
class DiffusionDistillConfig(RolloutDistillConfig):
    """What all students of diffusion policies have in common.

    Attributes:
        num_crops: Crops per frame whose features the student learns from, where the teacher sees
            pictures: the first from the middle, as at run time, the others at random places. They
            are computed once by the teacher's encoder, which the student takes over as it is.
    """

    num_crops: int = field(default=4, kw_only=True)

    def __post_init__(self) -> None:
        """Reject numbers that are none."""
        super().__post_init__()
        at_least(1, distill__num_crops=self.num_crops)


@dataclass(frozen=True)
class JumpDistillConfig(DiffusionDistillConfig):
    """Distillation of a streaming policy's control step into few network calls.

    Attributes:
        calls_per_step: Numbers of network calls that the student learns.
        teacher_steps: Steps of the teacher's integration of one jump.
        denoising: Share of samples that train ordinary denoising.
        start: Share of samples that train the start buffer's jumps.
        visited: Share of samples from buffers that the student itself produced.
        num_visits: Rollouts per ladder whose buffers are kept at each refresh; the latencies that
            the model knows share them.
        refresh_every: Steps between two refreshes.
        train_encoder: Whether the student learns from the pictures themselves, and trains the
            encoder too, which takes longer.
    """

    calls_per_step: tuple[int, ...] = (1, 2)
    teacher_steps: int = 5
    denoising: float = 0.2
    start: float = 0.15
    visited: float = 0.4
    num_visits: int = 1024
    refresh_every: int = 500
    train_encoder: bool = False
    method: str = field(default="segment", kw_only=True)

    def __post_init__(self) -> None:
        """Reject numbers that are none."""
        if not self.calls_per_step:
            raise ValueError("distill.calls_per_step must name at least one number of calls")
        at_least(1, distill__calls_per_step=min(self.calls_per_step))
        at_least(1, distill__teacher_steps=self.teacher_steps)
        at_least(1, distill__num_visits=self.num_visits, distill__refresh_every=self.refresh_every)
        super().__post_init__()
        shares(distill__denoising=self.denoising, distill__start=self.start)
        shares(distill__visited=self.visited)
        if self.denoising + self.start + self.visited > 1:
            raise ValueError(
                "distill: shares must sum to at most 1, got "
                f"denoising {self.denoising}, start {self.start} and visited {self.visited}"
            )


@dataclass(frozen=True)
class TrajectoryDistillConfig(DiffusionDistillConfig):
    """What students have in common that learn along their teacher's trajectories.

    Attributes:
        calls_per_step: Numbers of network calls that the student learns.
        num_trajectories: Trajectories of the teacher, from noise to actions. They begin in all
            windows of the demonstrations alike, and are computed once.
        num_points: Equal parts of a trajectory whose ends are kept.
        solver_steps: Calls of the teacher per trajectory; near those that it acts with, as more of
            them make other plans, which are not always better.
        denoising: Share of samples that train ordinary denoising of demonstrations.
    """

    calls_per_step: tuple[int, ...] = (1, 2, 4)
    num_trajectories: int = 50_000
    num_points: int = 8
    solver_steps: int = 16
    denoising: float = 0.1

    def __post_init__(self) -> None:
        """Reject numbers that are none."""
        super().__post_init__()
        if not self.calls_per_step:
            raise ValueError("distill.calls_per_step must name at least one number of calls")
        at_least(1, distill__calls_per_step=min(self.calls_per_step))
        at_least(1, distill__num_trajectories=self.num_trajectories)
        at_least(1, distill__num_points=self.num_points, distill__solver_steps=self.solver_steps)
        shares(distill__denoising=self.denoising)


@dataclass(frozen=True)
class FlowMapConfig(TrajectoryDistillConfig):
    """Distillation by regression of jumps between stored points of the teacher's trajectories.

    Attributes:
        any_jump: Share of samples that jump from any kept point to any later one; the rest are the
            jumps of `calls_per_step` calls, few calls more often than many.
        visited: Share of samples from points that the student itself reaches between its calls;
            without effect on a student of one call.
        num_visits: Such points that are kept at each refresh.
        refresh_every: Steps between two refreshes.
    """

    any_jump: float = 0.3
    visited: float = 0.0
    num_visits: int = 2048
    refresh_every: int = 500
    method: str = field(default="flow-map", kw_only=True)

    def __post_init__(self) -> None:
        """Reject numbers that are none."""
        super().__post_init__()
        at_least(1, distill__num_visits=self.num_visits, distill__refresh_every=self.refresh_every)
        shares(distill__any_jump=self.any_jump, distill__visited=self.visited)
        if self.denoising + self.any_jump + self.visited > 1:
            raise ValueError(
                "distill: shares must sum to at most 1, got "
                f"denoising {self.denoising}, any_jump {self.any_jump} and visited {self.visited}"
            )


@dataclass(frozen=True)
class ConsistencyConfig(TrajectoryDistillConfig):
    """Distillation by agreement of the student with itself along the teacher's trajectories.

    Attributes:
        target: ``"segment"``: from every kept point to the end of its call (trajectory-segmented
            consistency, as many segments as calls); ``"any"``: to any later point (consistency
            trajectory models).
    """

    num_points: int = 16
    target: Literal["segment", "any"] = "segment"
    method: str = field(default="consistency", kw_only=True)


@dataclass(frozen=True)
class SamplerDistillConfig(RolloutDistillConfig):
    """Fitting of the steps of a diffusion policy's sampler, whose network stays as it is.

    Attributes:
        calls_per_step: Numbers of network calls to fit steps for, each by itself.
        teacher_steps: DDIM steps that they are to replace; null for as many as the teacher makes.
            More are not always better: on Push-T ten score higher than a hundred.
        num_pairs: Windows that are sampled with these steps, for comparison.
    """

    calls_per_step: tuple[int, ...] = (2, 4, 6)
    teacher_steps: int | None = None
    num_pairs: int = 2048
    method: str = field(default="sampler", kw_only=True)

    def __post_init__(self) -> None:
        """Reject numbers that are none."""
        super().__post_init__()
        if not self.calls_per_step:
            raise ValueError("distill.calls_per_step must name at least one number of calls")
        at_least(1, distill__calls_per_step=min(self.calls_per_step))
        if self.teacher_steps is not None:
            at_least(1, distill__teacher_steps=self.teacher_steps)
        at_least(1, distill__num_pairs=self.num_pairs)


@dataclass(frozen=True)
class MeanFlowConfig(DiffusionDistillConfig):
    """Jumps of any length from demonstrations, by the average velocity.

    Attributes:
        jumping: Share of samples that jump; the others are denoised.
        warm: Whether the student begins with its teacher's weights; without, it learns from the
            demonstrations alone, and the teacher only says how large it is.
    """

    jumping: float = 0.5
    warm: bool = True
    method: str = field(default="mean-flow", kw_only=True)

    def __post_init__(self) -> None:
        """Reject shares that are none."""
        super().__post_init__()
        shares(distill__jumping=self.jumping)
