"""Training configuration; YAML fills it, and past that point it is plain data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, make_dataclass
from typing import Any, Literal, Protocol

from ...decoding.plumbing.devices import check_device
from ..data.source import ReadOptions
from .checks import above_zero, at_least, seeds, shares
from .distill import DistillConfig
from .policies import PolicyConfig

RECORDED = "recorded"  # the task of recordings of one's own robot, which no simulator belongs to


class TrainablePolicy(Protocol):
    """What every family's settings of a policy have."""

    @property
    def kind(self) -> str:
        """What is trained."""
        ...

    @property
    def sampling(self) -> Any:
        """What the checkpoint does unless it is told otherwise."""
        ...


@dataclass(frozen=True)
class TaskConfig:
    """Where demonstrations come from and which environment they belong to.

    Attributes:
        name: Environment, as `hotloop eval` knows it; ``"recorded"`` for recordings of one's own
            robot, which no simulator belongs to.
        dataset: Path or id of the demonstrations, see `read_episodes`; where none are named, a
            student learns from what its teacher does in the simulator, if its method can.
        keys: hotloop's key for each source column, ``"action"`` included.
        options: What the dataset does not say itself.
        check: Whether demonstrations are refused that were recorded in another task, or whose
            actions lie beyond what the task takes.
    """

    name: str = ""
    dataset: str = ""
    keys: dict[str, str] = field(default_factory=dict)
    options: ReadOptions = field(default_factory=ReadOptions)
    check: bool = True


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

    def __post_init__(self) -> None:
        """Reject numbers that are none."""
        above_zero(optim__lr=self.lr)
        at_least(0, optim__weight_decay=self.weight_decay, optim__warmup_steps=self.warmup_steps)
        at_least(0, optim__ema_power=self.ema_power)
        shares(optim__ema_max=self.ema_max)
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"optim.betas must be at least 0 and below 1, got {list(self.betas)}")


@dataclass(frozen=True)
class TrainConfig:
    """One training run.

    Attributes:
        policy: What is trained, e.g. a `PolicyConfig`.
        task: On which demonstrations.
        optim: Optimiser.
        distill: From which teacher, if from one.
        output_dir: Run folder; created, never overwritten unless `resume` is set.
        resume: Continue the run in `output_dir` from its last checkpoint, or from its beginning if
            it was ended before its first one.
        seed: Seed of initialisation, batch order and noise.
        steps: Optimisation steps.
        batch_size: Samples per step over all processes.
        log_every: Steps between two log lines; 0 logs only where a checkpoint is saved.
        save_every: Steps between two checkpoints; 0 saves only the last one.
        num_threads: CPU threads per process.
        device: cpu, cuda or cuda:N; by default a GPU if there is one. Of several processes each
            takes its own.
        precision: ``"float32"``, or ``"bf16"`` for the products of forward and backward passes,
            which is faster where the processor has it; weights stay float32.
    """

    policy: TrainablePolicy = field(default_factory=PolicyConfig)
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
    device: str = ""
    precision: Literal["float32", "bf16"] = "float32"

    def __post_init__(self) -> None:
        """Reject numbers and devices that are none."""
        if self.device:
            check_device(self.device)
        at_least(1, steps=self.steps, batch_size=self.batch_size, num_threads=self.num_threads)
        at_least(0, log_every=self.log_every, save_every=self.save_every)
        seeds(seed=self.seed)

    def logs_at(self, step: int) -> bool:
        """Whether a log line is written after `step` steps, saving or not."""
        return self.log_every > 0 and step % self.log_every == 0

    def saves_at(self, step: int) -> bool:
        """Whether a checkpoint is written after `step` steps."""
        return step == self.steps or (self.save_every > 0 and step % self.save_every == 0)

    @classmethod
    def specialised(cls, values: Mapping[str, Any]) -> type[TrainConfig]:
        """This dataclass with the policy and distillation settings of the family in `values`.

        Raises:
            ValueError: If no family trains the kind of policy that is asked for.
        """
        from ..distillation.methods import settings_type
        from ..families import family_of

        kind = (values.get("policy") or {}).get("kind", PolicyConfig.kind)
        family = family_of(kind)
        family.check_trained_here(kind)
        distill = settings_type(kind, (values.get("distill") or {}).get("method") or "")
        return make_dataclass(
            cls.__name__,
            [
                ("policy", family.config, field(default_factory=family.config)),
                ("distill", distill, field(default_factory=distill)),
            ],
            bases=(cls,),
            frozen=True,
            namespace={"explain": staticmethod(lambda key: _explain(key, kind))},
        )

    def check_given(self, keys: Iterable[str]) -> None:
        """Raise ValueError if a setting that was typed has no effect in this run.

        Files of policies are for teachers and students alike, so theirs are not asked.
        """
        from ..families import family_of

        unread = dict(family_of(self.policy.kind).unread(self))
        for key in keys:
            for prefix, reason in unread.items():
                if key == prefix or key.startswith(f"{prefix}."):
                    raise ValueError(f"{key} has no effect here: {reason}; leave it out")


def _explain(key: str, kind: str) -> str:
    """Say that others have a setting `key`, if that is so; else nothing."""
    from ..distillation.methods import methods_with
    from ..families import kinds_with

    group, _, name = key.partition(".")
    if group == "distill" and (methods := methods_with(name)):
        return f"{key} is only a setting of distill.method={' or '.join(methods)}; leave it out"
    kinds = kinds_with(name) if group == "policy" and name else []
    if not kinds:
        return ""
    return f"{key} is no setting of policy kind {kind!r}, only of {', '.join(kinds)}; leave it out"
