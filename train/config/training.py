"""Training configuration; Hydra fills it, and past that point it is plain data."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from ...policies.diffusion.config import SamplingConfig
from ...policies.diffusion.model import ModelConfig
from ...policies.planners.config import PlannerConfig, PlannerSampling
from ..data.source import ReadOptions
from .vla import VlaPolicyConfig


@dataclass(frozen=True)
class PolicyConfig:
    """A diffusion policy to train.

    Attributes:
        kind: ``"dp"`` Diffusion Policy or ``"sdp"`` Streaming Diffusion Policy.
        model: Network, window and noise levels.
        chunkwise: Share of samples on one of the model's ladders; the rest of the samples has a
            constant level.
        independent: Share of samples with independent levels.
        observation_noise: Standard deviation of the noise on normalised observations, against
            over-fitting to the exact states of few demonstrations.
        action_normalization: min_max, z_score or identity.
        observation_normalization: min_max, z_score or identity.
        sampling: What the checkpoint does unless it is told otherwise.
    """

    kind: Literal["dp", "sdp"] = "sdp"
    model: ModelConfig = field(default_factory=ModelConfig)
    chunkwise: float = 0.0
    independent: float = 0.0
    observation_noise: float = 0.0
    action_normalization: str = "min_max"
    observation_normalization: str = "min_max"
    sampling: SamplingConfig = field(default_factory=SamplingConfig)


@dataclass(frozen=True)
class PlannerPolicyConfig:
    """A trajectory planner to train.

    Attributes:
        kind: Diffuser, Decision Diffuser or Trajectory Diffuser.
        model: Parts, networks and horizon.
        condition_dropout: Share of samples whose return is hidden from the denoiser.
        drafter_share: Share of each batch that the drafter is trained on.
        drafter_noise: Standard deviation of the noise on the states that the drafter reads, in
            units of their usual change in one step.
        sampling: What the checkpoint does unless it is told otherwise.
    """

    kind: Literal["diffuser", "decision_diffuser", "trajectory_diffuser"]
    model: PlannerConfig = field(default_factory=PlannerConfig)
    condition_dropout: float = 0.25
    drafter_share: float = 0.25
    drafter_noise: float = 0.3
    sampling: PlannerSampling = field(default_factory=PlannerSampling)


@dataclass(frozen=True)
class TaskConfig:
    """Where demonstrations come from and which environment they belong to.

    Attributes:
        name: Environment, as `hotloop eval` knows it; ``"recorded"`` for recordings of one's own
            robot, which no simulator belongs to.
        dataset: Path or id of the demonstrations, see `read_episodes`.
        keys: hotloop's key for each source column, ``"action"`` included.
        options: What the dataset does not say itself.
    """

    name: str = ""
    dataset: str = ""
    keys: dict[str, str] = field(default_factory=dict)
    options: ReadOptions = field(default_factory=ReadOptions)


@dataclass(frozen=True)
class OptimConfig:
    """AdamW with warm-up and cosine decay to zero.

    Attributes:
        lr: Peak learning rate.
        betas: Momentum of the gradient and of its square.
        weight_decay: Decoupled weight decay.
        warmup_steps: Steps of linear warm-up.
        ema_power: EMA decay after t steps is 1 - (1 + t) ** -ema_power, at most ema_max.
        ema_max: Largest EMA decay.
    """

    lr: float = 5e-4
    betas: tuple[float, float] = (0.95, 0.999)
    weight_decay: float = 1e-6
    warmup_steps: int = 500
    ema_power: float = 0.75
    ema_max: float = 0.9995


@dataclass(frozen=True)
class DistillConfig:
    """Distillation; read when a teacher is given.

    Of a planner's teacher the guidance is distilled, for which only `teacher` is read.

    Attributes:
        teacher: Checkpoint to distil, by name or path; empty trains from demonstrations alone.
            The student takes over the teacher's network, `policy.model` is not read.
        calls_per_step: Numbers of network calls that the student learns.
        teacher_steps: Steps of the teacher's integration of one jump.
        denoising: Share of samples that train ordinary denoising.
        start: Share of samples that train the start buffer's jumps.
        visited: Share of samples from buffers that the student itself produced.
        num_visits: Rollouts per ladder whose buffers are kept at each refresh; the latencies that
            the model knows share them.
        refresh_every: Steps between two refreshes.
    """

    teacher: str = ""
    calls_per_step: tuple[int, ...] = (1, 2)
    teacher_steps: int = 5
    denoising: float = 0.2
    start: float = 0.15
    visited: float = 0.4
    num_visits: int = 1024
    refresh_every: int = 500


@dataclass(frozen=True)
class TrainConfig:
    """One training run.

    Attributes:
        output_dir: Run folder; created, never overwritten unless `resume` is set.
        resume: Continue the run in `output_dir` from its last checkpoint.
        seed: Seed of initialisation, batch order and noise.
        steps: Optimisation steps.
        batch_size: Samples per step over all processes.
        log_every: Steps between two log lines.
        save_every: Steps between two checkpoints.
        num_threads: CPU threads per process.
    """

    policy: PolicyConfig | PlannerPolicyConfig | VlaPolicyConfig = field(
        default_factory=PolicyConfig
    )
    task: TaskConfig = field(default_factory=TaskConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    distill: DistillConfig = field(default_factory=DistillConfig)
    output_dir: str = "outputs/train"
    resume: bool = False
    seed: int = 42
    steps: int = 30_000
    batch_size: int = 256
    log_every: int = 100
    save_every: int = 5_000
    num_threads: int = 1


@dataclass(frozen=True)
class EvalOptions:
    """Which episodes an evaluation runs.

    Attributes:
        n_episodes: Number of episodes.
        seed: Seed of the first episode; episode i uses seed + i.
        batch_size: Environments side by side.
        latency: Injected control steps between an observation and its first action.
        videos: Episodes recorded to ``video.mp4``.
    """

    n_episodes: int = 50
    seed: int = 100_000
    batch_size: int = 50
    latency: int = 0
    videos: int = 0


@dataclass(frozen=True)
class EvalConfig:
    """One evaluation; what is null stays as the checkpoint has it.

    Attributes:
        checkpoint: Name or path.
        task: Environment; the one that the checkpoint was trained for by default.
        num_execute: Actions executed per plan, Ta.
        calls_per_step: Network calls per plan.
        update: ddpm or ddim.
        start: Start buffer of a streaming policy: denoise, zero or constant.
        start_calls: Network calls of the start buffer.
        start_key: Observation that holds the current position, for start=constant.
        sampling: Any other sampling choice of the checkpoint's kind, e.g. ``sampling.guidance=1.2``
            of a planner.
        engine: eager, compile, onnx, openvino or cuda-graph.
        eval: Episodes.
        compare: Another checkpoint, evaluated on the same episodes and compared pair by pair.
        num_threads: CPU threads.
        output_dir: Folder of ``eval_info.json``; printed only when empty.
    """

    checkpoint: str = ""
    task: str | None = None
    num_execute: int | None = None
    calls_per_step: int | None = None
    update: str | None = None
    start: str | None = None
    start_calls: int | None = None
    start_key: str | None = None
    sampling: dict[str, Any] = field(default_factory=dict)
    engine: str = "eager"
    eval: EvalOptions = field(default_factory=EvalOptions)
    compare: str | None = None
    num_threads: int = 1
    output_dir: str = ""

    def sampling_choices(self) -> dict[str, Any]:
        """The sampling choices that were given."""
        names = ("num_execute", "calls_per_step", "update", "start", "start_calls", "start_key")
        given = {name: value for name in names if (value := getattr(self, name)) is not None}
        return given | self.sampling


@dataclass(frozen=True)
class BenchConfig:
    """One latency measurement.

    Attributes:
        engines: Engines to time; all that this machine can run by default.
        threads: CPU threads; each number is measured in a process of its own.
        steps: Planning control steps per row, fewer for slow policies.
        calls: Network calls per plan of the rows; 0 means every level (N for DP, N / h for SDP).
            By default 100 (DDPM), 10, 4, 2 and 1 for DP, and 0, 2 and 1 for SDP. Early exits of
            VLA, by default 4, 2 and 1 beside the other decoders.
        num_execute: Actions executed per plan; the checkpoint's number by default.
        sampling: Other sampling choices for all rows, e.g. ``sampling.reuse=100`` of a planner.
        output: JSON file to write; printed only when empty.
    """

    engines: tuple[str, ...] = ()
    threads: tuple[int, ...] = (1,)
    steps: int = 400
    calls: tuple[int, ...] = ()
    num_execute: int | None = None
    sampling: dict[str, Any] = field(default_factory=dict)
    output: str = ""
