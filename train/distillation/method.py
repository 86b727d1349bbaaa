"""The contract of a distillation method."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ...policies.checkpoint import Checkpoint
from ..config.distill import DistillConfig
from ..data.episodes import Episodes
from ..families.family import Training

if TYPE_CHECKING:
    from ..config.training import TrainConfig


def reads_everything(config: TrainConfig) -> Iterable[tuple[str, str]]:
    """No setting is without effect."""
    del config
    return ()


def accepts_any(config: TrainConfig, teacher: Checkpoint) -> None:
    """No run and no teacher is refused."""
    del config, teacher


@dataclass(frozen=True)
class Method:
    """One way of making a trained policy faster.

    A student is of its teacher's kind.

    Attributes:
        name: Name in `METHODS`.
        summary: What it does, half a sentence.
        source: Papers it comes from.
        cost: What it costs, in words, e.g. of the teacher's training.
        teachers: Kinds of policy that it distils.
        calls: Numbers of network calls that a student may be asked for; empty for any.
        config: Dataclass of `TrainConfig.distill`. Where the student learns numbers of calls, it
            has them as `calls_per_step`.
        prepare: Builds what the student's run optimises from run, teacher and demonstrations;
            ValueError if they do not fit each other.
        check_run: Raises ValueError for a run that cannot be, whatever the demonstrations are,
            because of the teacher or the settings; asked before anything is computed.
        unread: Dotted settings, or groups of them, that a run does not read, and why.
        data_free: Whether the teacher alone will do: episodes that it acts in are as good as
            demonstrations, since its observations are what the student learns from. `config` is
            then a `RolloutDistillConfig`.
        settings: What `hotloop distill` sets of a run unless it is told otherwise, nested as in
            `TrainConfig`, e.g. ``{"steps": 300, "optim": {"lr": 0.02}}``.
        sampling: Sampling choices of its students that differ from their teacher's, as far as the
            kind of policy has them, e.g. ``{"update": "ddim"}``.
        default_calls: Numbers of network calls that `hotloop distill` asks for of a teacher's
            student unless it is told otherwise; null for those of the dataclass.
    """

    name: str
    summary: str
    source: str
    cost: str
    teachers: tuple[str, ...]
    calls: tuple[int, ...]
    config: type[DistillConfig]
    prepare: Callable[[TrainConfig, Checkpoint, Episodes], Training]
    check_run: Callable[[TrainConfig, Checkpoint], None] = accepts_any
    unread: Callable[[TrainConfig], Iterable[tuple[str, str]]] = reads_everything
    data_free: bool = False
    settings: Mapping[str, Any] = field(default_factory=dict)
    sampling: Mapping[str, Any] = field(default_factory=dict)
    default_calls: Callable[[Checkpoint], tuple[int, ...]] | None = None

    def check_student(self, config: TrainConfig, teacher: Checkpoint) -> None:
        """Raise ValueError if no such student can be, whatever demonstrations it learns from.

        Args:
            config: Its run.
            teacher: Whom it learns from.
        """
        own, executed = (
            getattr(one, "num_execute", None) for one in (teacher.sampling, config.policy.sampling)
        )
        if executed != own:
            # How much of a plan can be executed depends on the network, which is its teacher's.
            teacher.policy({"num_execute": executed})
        self.check_run(config, teacher)

    def check(self, kind: str, calls: Sequence[int] = ()) -> None:
        """Raise ValueError unless it distils such a policy to such numbers of network calls."""
        if kind not in self.teachers:
            raise ValueError(
                f"distill.method={self.name} distils {', '.join(self.teachers)}, not {kind}; "
                "choose another teacher, or another method from `hotloop distill --list`"
            )
        if self.calls and (unknown := [num for num in calls if num not in self.calls]):
            raise ValueError(
                f"distill.method={self.name} makes students of {', '.join(map(str, self.calls))} "
                f"network calls, got {', '.join(map(str, unknown))}; choose among those"
            )
