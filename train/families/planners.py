"""Training and timing of planners."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ...policies.checkpoint import Checkpoint
from ...policies.normalizer import Normalizer
from ...policies.planners.config import PlannerConfig
from ...policies.planners.model import REWARD_KEY, Drafter, PlannerModel
from ..config.policies import PlannerPolicyConfig
from ..data.episodes import Episodes
from ..data.plan_windows import PlanWindows
from ..distillation.methods import prepare_student, unread
from ..distillation.student import load_teacher
from ..measure.latency import ControlStepTimer, Frames
from ..objectives.planning import PlannerObjective
from .family import BenchRow, Costs, Family, Training, observation_scale

if TYPE_CHECKING:
    from ..config.training import TrainConfig

logger = logging.getLogger(__name__)


class PlannerFamily(Family):
    """Diffuser, Decision Diffuser and Trajectory Diffuser."""

    config = PlannerPolicyConfig
    method = "guidance"

    def prepare(self, config: TrainConfig, episodes: Episodes) -> Training:
        """All parts of a planner, or a student of its guidance."""
        policy, teacher = config.policy, config.distill.teacher
        assert isinstance(policy, PlannerPolicyConfig)
        if teacher:
            return prepare_student(config, load_teacher(teacher), episodes)
        if policy.model.distilled_guidance is not None:
            raise ValueError(
                "policy.model.distilled_guidance is set by distillation; name a trained planner "
                "with distill.teacher, and the weight with policy.sampling.guidance"
            )
        model, windows = prepare_planner(policy.model, episodes, config.seed)
        return Training(PlannerObjective(model, policy), windows)

    def unread(self, config: TrainConfig) -> Iterable[tuple[str, str]]:
        """A student is a copy of its teacher; its method knows what else it does not read."""
        return unread(config)

    def rows(self, checkpoint: Checkpoint, calls: Sequence[int]) -> list[BenchRow]:
        """The checkpoint's own choices, or each number of calls."""
        name = checkpoint.kind.replace("_", "-") + "-*"
        return [BenchRow(name, {"calls_per_step": num}) for num in calls] or [BenchRow(name)]

    def timer(self, policy: Any, engine: str, episodes: Sequence[Frames]) -> ControlStepTimer:
        """Plans alone: planners have no single network that makes a plan."""
        del engine, episodes
        return ControlStepTimer(policy, scale=observation_scale(policy.model))

    def costs(self, policy: Any, timer: ControlStepTimer) -> Costs:
        """As many calls in every plan: of the drafter, then of the denoiser."""
        del timer
        sampling = policy.sampling
        num_drafts = 0
        if sampling.reuse:
            num_drafts = sampling.sweeps
        elif sampling.draft == "rollout":
            num_drafts = policy.model.config.horizon - 1
        num_calls = num_drafts + policy.program.num_calls
        return Costs(num_calls, num_calls, parity=policy.parity)


FAMILY = PlannerFamily()


def prepare_planner(
    config: PlannerConfig, episodes: Episodes, seed: int
) -> tuple[PlannerModel, PlanWindows]:
    """Build a planner with random weights and the data's scales, and its training windows.

    Raises:
        ValueError: If the planner needs rewards or a goal that the data does not have.
    """
    shapes = {key: value.shape[1:] for key, value in episodes.observations.items()}
    if not config.goal_key:
        if episodes.rewards is None:
            raise ValueError(
                "a planner without a goal is conditioned on returns, but the dataset has no "
                "rewards; choose data with rewards or set policy.model.goal_key"
            )
        shapes[REWARD_KEY] = (1,)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = PlannerModel(config, shapes, episodes.actions.shape[1])
    windows = PlanWindows(episodes, model.state_keys, config)
    states = Normalizer.fit(windows.states.numpy(), "z_score")
    model.coordinates.normalizer.load_state_dict(states.state_dict())
    model.coordinates.slot_scale.copy_(1 / windows.displacement_scale(config.horizon))
    actions = Normalizer.fit(episodes.actions, "min_max")
    model.action_normalizer.load_state_dict(actions.state_dict())
    model.return_scale.fill_(windows.return_scale)
    if model.drafter is not None:
        fit_drafter(model, model.drafter, episodes, windows.return_scale)
    if windows.num_padded:
        logger.info(
            "%d of %d windows reach beyond the end of their episode and are padded there; %d of %d "
            "episodes have fewer than the %d steps of a plan",
            windows.num_padded,
            len(windows),
            windows.num_short,
            windows.num_episodes,
            windows.span + 1,
        )
    return model, windows


def fit_drafter(
    model: PlannerModel, drafter: Drafter, episodes: Episodes, return_scale: float
) -> None:
    """Tell the drafter how much states and returns usually change from one token to the next."""
    scales = model.coordinates.normalizer.scale, model.coordinates.slot_scale[1]
    drafter.gain[: model.state_dim] = scales[0] / scales[1]
    if not model.goal_dim:
        assert episodes.rewards is not None
        rewards = model.config.stride * episodes.rewards.astype(np.float64) / return_scale
        drafter.gain[-1] = max(float(rewards.std()), 1e-6)
        drafter.drift[-1] = -float(rewards.mean())
