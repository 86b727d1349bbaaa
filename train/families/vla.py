"""Training and timing of vision-language policies."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from ...decoding import Executor
from ...decoding.instruction import INSTRUCTION_KEY, decode_instruction
from ...decoding.interface import is_picture
from ...policies.checkpoint import Checkpoint
from ...policies.vla.build import pretrained_vla, tiny_vla
from ...policies.vla.decoding_config import METHODS
from ...policies.vla.model import VlaModel
from ...policies.vla.policy import VlaPolicy
from ...policies.vla.precision import EXACT, TokenComparison
from ...policies.vla.tokenizer import BinStatistics
from ..config.lerobot import ANY_PERIOD, LeRobotConfig, load
from ..config.policies import VlaPolicyConfig
from ..data.episodes import Episodes
from ..data.windows import Windows
from ..measure.latency import ControlStepTimer, Frames
from ..measure.recorded_frames import recorded_frames
from ..objectives.jacobi_trajectories import read_trajectories
from ..objectives.trajectory_samples import TrajectorySamples
from ..objectives.vla import CloningObjective, ConsistencyObjective
from .family import BenchRow, Costs, Family, Training, as_it_is
from .lora import add_lora, without_lora

if TYPE_CHECKING:
    from ..config.training import TrainConfig

_LOG = logging.getLogger(__name__)
_NUM_COMPARED = 32  # blocks of tokens that `hotloop bench` decodes on two engines
ADAPTIVE_EXIT = 0.05  # largest move between two iterates that counts as none, of a range of 2


@dataclass(frozen=True)
class CloningFacts:
    """What a checkpoint tells about its tokens.

    Attributes:
        clipped_share: Share of the action values that the tokenizer has to clip.
    """

    clipped_share: float


@dataclass(frozen=True)
class ConsistencyFacts(CloningFacts):
    """What a checkpoint tells about its distillation.

    Attributes:
        trajectories: Number of prompts with a trajectory.
        guess_share: Share of prompts whose student started from a guess.
        replaced_share: Share of labels that come from demonstrations.
        delta_max: Distance beyond which they do; None for never.
    """

    trajectories: int
    guess_share: float
    replaced_share: float
    delta_max: float | None


class VlaFamily(Family):
    """Vision-language policies, whose actions are tokens."""

    config = VlaPolicyConfig
    engines = ("eager", "onnx", "openvino", "eager-tf32", "eager-bf16", "eager-fp16")
    pictures = True
    instruction = True

    def prepare(self, config: TrainConfig, episodes: Episodes) -> Training:
        """Cloning of demonstrations, or consistency along a teacher's Jacobi trajectories."""
        assert isinstance(config.policy, VlaPolicyConfig)
        return prepare_vla(config.policy, config.distill.teacher, episodes, config.seed)

    def unread(self, config: TrainConfig) -> Iterable[tuple[str, str]]:
        """A student is a copy of its teacher; without one there is nothing to weigh."""
        names = ("cloning_weight", "guess_share", "label_quantile")
        reason = "without distill.teacher demonstrations are cloned"
        if config.distill.teacher:
            names = ("host", "pretrained", "num_actions", "cameras", "state_key")
            names = (*names, "unscaled_actions")
            reason = "the student is a copy of its teacher"
        return [(f"policy.{name}", reason) for name in names]

    def rows(self, checkpoint: Checkpoint, calls: Sequence[int]) -> list[BenchRow]:
        """Decoders and early exits, sigma, for which `calls` stands.

        Guesses are the checkpoint's own choice, so ``sampling.guess=random`` starts all of them
        cold.
        """
        del checkpoint
        wait: dict[str, Any] = {"max_calls": 0, "max_move": -1.0, "unverified": "execute"}
        early = {"method": "committed", **wait}
        rows = [
            BenchRow(f"vla-exit-{num}", {**early, "max_calls": num}) for num in calls or (4, 2, 1)
        ]
        if calls:
            return rows
        decoders = [BenchRow(f"vla-{name}", {"method": name, **wait}) for name in METHODS]
        return [*decoders, *rows, BenchRow("vla-adaptive", {**early, "max_move": ADAPTIVE_EXIT})]

    def frames(self, checkpoint: Checkpoint) -> Sequence[Frames]:
        """Frames of its task: random pictures and words would make its calls meaningless."""
        return recorded_frames(checkpoint)

    def timer(self, policy: Any, engine: str, episodes: Sequence[Frames]) -> ControlStepTimer:
        """Plans, and forwards that read everything once; calls are counted, as plans differ."""
        del engine
        if policy.decoding.unverified == "hold":
            raise ValueError(
                "with sampling.unverified=hold plans differ in length, and their steps cannot be "
                "compared; leave it out"
            )
        forward = fused_forward_call(policy, episodes[0][0])
        return ControlStepTimer(policy, forward, episodes=episodes, calls=_calls_of(policy))

    def costs(self, policy: Any, timer: ControlStepTimer) -> Costs:
        """Forwards differ in size, so all time beyond one fused forward counts as overhead."""
        num_tokens = policy.model.action_tokenizer.num_tokens
        calls, equal = float(np.mean(timer.num_calls)), None
        if policy.engine != "eager":
            equal = equal_tokens(policy, timer.episodes)
        return Costs(calls, 1, num_tokens, policy.parity, equal)

    def comparison(self, policy: Any) -> TokenComparison | None:
        """Of a policy that computes with fewer digits than its weights have."""
        if policy.precision == EXACT:
            return None
        policy.comparison = TokenComparison(policy)
        return policy.comparison


FAMILY = VlaFamily()


def equal_tokens(policy: VlaPolicy, episodes: Sequence[Frames]) -> float:
    """Share of a policy's tokens that are its reference's, over the plans of some episodes."""
    executor = Executor(policy)
    policy.comparison = comparison = TokenComparison(policy, _NUM_COMPARED)
    for seed, frames in enumerate(episodes):
        executor.reset([seed])
        for frame in frames:
            if comparison.is_over:
                break
            executor.act(frame)
    policy.comparison = None
    return comparison.share


def prepare_vla(config: VlaPolicyConfig, teacher: str, episodes: Episodes, seed: int) -> Training:
    """What a vision-language policy is trained towards, and on.

    Args:
        config: The policy.
        teacher: Checkpoint to distil by its Jacobi trajectories; empty clones demonstrations.
        episodes: Demonstrations.
        seed: Seed of the initialisation.

    Raises:
        ValueError: If data, teacher and trajectories do not fit each other.
    """
    if bool(teacher) != bool(config.trajectories):
        raise ValueError(
            "consistency distillation needs both distill.teacher and policy.trajectories; leave "
            "both empty to clone the demonstrations"
        )
    model = vla_student(teacher) if teacher else initial_vla(config, episodes, seed)
    windows = Windows(episodes, tuple(model.observation_shapes), 1, model.config.num_actions)
    share = clipped_share(model, windows)
    _LOG.info("%.3f %% of the action values lie outside q01..q99", 100 * share)
    if config.lora_rank:
        add_lora(model, config.lora_rank, seed)
    store = stored_model if config.lora_rank else as_it_is
    if not teacher:
        objective = CloningObjective(model, config.image_shift)
        return Training(objective, windows, store, CloningFacts(share))
    samples = TrajectorySamples(
        model, windows, read_trajectories(Path(config.trajectories)), config.label_quantile
    )
    limit = samples.max_distance
    _LOG.info(
        "%d trajectories; %.2f %% of the labels come from demonstrations (delta_max %.4f)",
        len(samples),
        100 * samples.replaced_share,
        limit,
    )
    objective = ConsistencyObjective(
        model, config.cloning_weight, config.guess_share, config.image_shift
    )
    facts = ConsistencyFacts(
        clipped_share=share,
        trajectories=len(samples),
        guess_share=config.guess_share,
        replaced_share=samples.replaced_share,
        delta_max=limit if np.isfinite(limit) else None,
    )
    return Training(objective, samples, store, facts)


def vla_student(teacher: str) -> VlaModel:
    """A copy of the teacher that can be trained.

    Raises:
        ValueError: If the teacher is of another family.
    """
    model = load(teacher, LeRobotConfig(), ANY_PERIOD).model
    if not isinstance(model, VlaModel):
        raise ValueError(f"distill.teacher={teacher} is no vision-language policy")
    return model.train().requires_grad_(True)


def initial_vla(config: VlaPolicyConfig, episodes: Episodes, seed: int) -> VlaModel:
    """Build a model with the data's quantiles, and random or pretrained weights.

    Raises:
        ValueError: If the episodes lack pictures, instructions or the state.
    """
    observations = episodes.observations
    images = [key for key, array in observations.items() if is_picture(array.shape[1:])]
    cameras = tuple(images) if config.cameras is None else config.cameras
    needed = [*cameras, INSTRUCTION_KEY, *([config.state_key] if config.state_key else [])]
    absent = [key for key in needed if key not in observations]
    if absent or not cameras:
        raise ValueError(
            f"a vision-language policy needs pictures and instructions; the dataset lacks "
            f"{absent or 'pictures'}, it has {sorted(observations)}; name its columns "
            "with task.keys"
        )
    flags = tuple(
        index not in config.unscaled_actions for index in range(episodes.actions.shape[1])
    )
    actions = BinStatistics.fit(episodes.actions, flags)
    state = BinStatistics.fit(observations[config.state_key]) if config.state_key else None
    if config.pretrained:
        return pretrained_vla(
            config.pretrained, config.num_actions, actions, cameras, config.state_key, state
        )
    starts = episodes.episode_starts
    instructions = np.unique(observations[INSTRUCTION_KEY][starts], axis=0)
    texts = [decode_instruction(row) for row in instructions]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return tiny_vla(
            config.host, texts, config.num_actions, actions, cameras, config.state_key, state
        )


def clipped_share(model: VlaModel, windows: Windows) -> float:
    """Share of the dataset's action values that the tokenizer has to clip."""
    tokenizer, num_actions = model.action_tokenizer, model.config.num_actions
    actions = windows.actions.numpy()
    whole = actions[: len(actions) // num_actions * num_actions]
    chunks = whole.reshape(-1, num_actions, actions.shape[1])
    return tokenizer.encode(chunks).num_clipped / max(whole.size, 1)


def stored_model(averaged: nn.Module) -> nn.Module:
    """The averaged model as a checkpoint holds it: with its adapters in its weights."""
    assert isinstance(averaged, VlaModel)
    return without_lora(averaged)


def fused_forward_call(policy: VlaPolicy, frame: Mapping[str, np.ndarray]) -> Callable[[], object]:
    """One reading of pictures, prompt and a block of tokens: the least that a chunk can cost."""
    model = policy.model
    prompt, begin = model.prompt(frame), model.begin(1)
    num_guessed = model.action_tokenizer.num_tokens - 1
    tokens = torch.cat([begin, begin.new_zeros(1, num_guessed)], dim=1)  # (1, n)

    @torch.inference_mode()
    def run() -> Tensor:
        return policy.token_model(prompt).feed(tokens)

    return run


def _calls_of(policy: VlaPolicy) -> Callable[[], int]:
    """Tells the calls of the newest plan."""

    def read() -> int:
        assert policy.decoded is not None
        return int(policy.decoded.num_calls[0])

    return read
