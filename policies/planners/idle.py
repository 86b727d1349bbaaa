"""Which of a planner's sampling choices have no effect beside the others."""

from __future__ import annotations

from .config import PlannerSampling
from .model import REWARD_KEY, PlannerModel

OF_DENOISING = (
    "update", "temperature", "guidance", "draft_level", "add_noise", "value_scale", "value_steps",
    "value_stop", "candidates", "select",
)  # fmt: skip


def idle_choices(model: PlannerModel, sampling: PlannerSampling) -> dict[str, str]:
    """Names of the choices that change no plan, each with what deprives it of an effect."""
    drafts, reads_returns = sampling.draft == "rollout", not model.goal_dim
    noised = sampling.add_noise or not drafts or sampling.update == "ddpm"
    reads_returns = reads_returns and (drafts or sampling.guidance != 0)
    rules: list[tuple[bool, str, tuple[str, ...]]] = [
        (sampling.calls_per_step == 0, "with calls_per_step 0", OF_DENOISING),
        (sampling.value_steps == 0, "with value_steps 0", ("value_scale", "value_stop")),
        (sampling.candidates == 1, "with candidates 1", ("select",)),
        (not drafts, "with draft 'noise'", ("sweeps",)),
        (not drafts and sampling.reuse == 0, "with draft 'noise'", ("draft_level", "add_noise")),
        (sampling.reuse == 0, "with reuse 0", ("sweeps",)),
        (
            not noised,
            "with draft 'rollout', update 'ddim' and add_noise false",
            ("temperature", "candidates", "select"),
        ),
        (
            REWARD_KEY not in model.observation_shapes,
            "on a planner that observes no reward",
            ("return_floor",),
        ),
        (not reads_returns, "with guidance 0 and draft 'noise'", ("target_return", "return_floor")),
        (
            bool(model.goal_dim),
            "on a planner that heads for a goal",
            ("guidance", "target_return", "return_floor"),
        ),
    ]
    return {name: why for applies, why, names in rules if applies for name in names}
