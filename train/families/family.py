"""The contract of a family of policies: how it is trained, and how it is timed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from torch import nn

from ...policies.checkpoint import Checkpoint
from ...policies.programs.engines.engine import is_auto
from ..data.episodes import Episodes
from ..measure.latency import ControlStepTimer, Frames
from ..objectives.objective import Objective, TrainingWindows

if TYPE_CHECKING:
    from ...policies.vla.precision import TokenComparison
    from ..config.training import TrainConfig


def as_it_is(model: nn.Module) -> nn.Module:
    """The model that is stored, where it is the one that is trained."""
    return model


@dataclass(frozen=True)
class Training:
    """What one run optimises.

    Attributes:
        objective: Loss, with the model inside.
        samples: What it is trained on.
        store: Turns the averaged model into the one that a checkpoint holds.
        facts: What else a checkpoint's provenance tells, a dataclass of JSON-able values.
        sampling: What the checkpoint does unless it is told otherwise, where that is not what the
            policy's settings say.
    """

    objective: Objective
    samples: TrainingWindows
    store: Callable[[nn.Module], nn.Module] = as_it_is
    facts: Any = None
    sampling: Any = None


def observation_scale(model: Any) -> float:
    """Mean standard deviation of a model's observations, for random ones to time it on."""
    return 1 / float(model.observation_normalizer.scale.mean())


@dataclass(frozen=True)
class BenchRow:
    """One way of sampling a checkpoint that is worth timing.

    Attributes:
        name: Name of the row; ``*`` stands for the number of network calls.
        sampling: Sampling choices.
    """

    name: str
    sampling: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Costs:
    """What a plan costs beyond time.

    Attributes:
        num_calls: Network calls per plan, on average.
        num_compared: Bare calls whose time is no overhead.
        num_tokens: Tokens per plan, where actions are tokens.
        parity: Largest difference to eager PyTorch, where an engine was compared with it.
        equal_tokens: Share of tokens that are those of eager PyTorch, where actions are tokens.
    """

    num_calls: float
    num_compared: int
    num_tokens: int | None = None
    parity: float | None = None
    equal_tokens: float | None = None


class Family(ABC):
    """One family of policies.

    Attributes:
        config: Dataclass of `TrainConfig.policy`; it has `kind` and `sampling`.
        method: Distillation method that suits its policies, a name in `METHODS`; empty if they are
            distilled in a way of their own, or not at all.
        engines: Engines that its policies run on; empty for all.
        pictures: Whether it learns from pictures.
        instruction: Whether it learns from what the robot was asked to do.
        trained_elsewhere: Who trains its policies, where hotloop does not.
    """

    config: type[Any]
    method: str = ""
    engines: tuple[str, ...] = ()
    pictures: bool = False
    instruction: bool = False
    trained_elsewhere: str = ""

    def runs_on(self, engine: str) -> bool:
        """Whether its policies run on an engine; one of them is always what ``auto`` chooses."""
        return not self.engines or engine in self.engines or is_auto(engine)

    def cameras(self, config: TrainConfig) -> tuple[str, ...] | None:
        """Observation keys of the pictures that a run reads; None for all that there are."""
        return getattr(config.policy, "cameras", None) if self.pictures else ()

    def check_pictures(self, config: TrainConfig, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Hold settings against pictures of these shapes, by key, before any is decoded.

        Raises:
            ValueError: If a run could not learn from them.
        """
        del config, shapes

    def advice(self, kind: str) -> str:
        """What to do with a teacher of this family, where one of another is needed."""
        if self.trained_elsewhere:
            return "choose another teacher; policies of that kind have no students"
        return f"choose policy={kind}"

    def check_trained_here(self, kind: str) -> None:
        """Raise ValueError for a kind of policy that somebody else trains."""
        if self.trained_elsewhere:
            raise ValueError(
                f"policy.kind={kind} is not trained here; train it with {self.trained_elsewhere}, "
                "whose checkpoints every command reads, or choose another policy"
            )

    @abstractmethod
    def prepare(self, config: TrainConfig, episodes: Episodes) -> Training:
        """Build what a run optimises.

        Raises:
            ValueError: If configuration, teacher and data do not fit each other.
        """

    def unread(self, config: TrainConfig) -> Iterable[tuple[str, str]]:
        """Dotted settings, or groups of them, that this run does not read, and why."""
        del config
        return ()

    @abstractmethod
    def rows(self, checkpoint: Checkpoint, calls: Sequence[int]) -> list[BenchRow]:
        """What `hotloop bench` times of a checkpoint, for these numbers of calls or by default."""

    def comparison(self, policy: Any) -> TokenComparison | None:
        """Compares what a policy plans from now on with its reference, where actions are tokens.

        None for one whose tokens are the reference's own by the tests of its engine.
        """
        del policy
        return None

    def frames(self, checkpoint: Checkpoint) -> Sequence[Frames]:
        """Episodes to observe while timing; by default random numbers."""
        del checkpoint
        return ()

    @abstractmethod
    def timer(self, policy: Any, engine: str, episodes: Sequence[Frames]) -> ControlStepTimer:
        """Times a policy of this family beside what it is compared with.

        Raises:
            ValueError: If the policy's choices make its plans incomparable.
        """

    @abstractmethod
    def costs(self, policy: Any, timer: ControlStepTimer) -> Costs:
        """What the plans that `timer` has timed cost."""
