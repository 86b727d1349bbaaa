"""One decision of a planner, from observed states to a plan, with its constants computed."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from ...decoding.guidance import pinned_levels, posterior_variance
from ...decoding.samplers import spaced_levels, step_coefficients
from ..programs.program import Call, Port, Program
from .config import PlannerSampling
from .model import PlannerModel
from .stages import Choose, Condition, Denoise, Draft, modulations, num_found, stage


class Decision:
    """Draft, denoise, choose: a program from what is observed to a plan.

    Args:
        model: Trained planner.
        sampling: How it plans.
        warm: Whether plans continue the ones before.

    Attributes:
        program: From ``states``, ``returns``, noise, ``goal`` and ``previous``, as far as they are
            needed, to ``plan`` and ``actions``; see `Draft` and `Choose`.
        noise: Names of the program's inputs that are standard normal noise.

    Raises:
        ValueError: If the model lacks a part that `sampling` needs, or steps and levels disagree.
    """

    def __init__(self, model: PlannerModel, sampling: PlannerSampling, warm: bool = False) -> None:
        check_parts(model, sampling)
        levels = reverse_levels(model, sampling, warm)
        from_noise = sampling.draft == "noise" and not warm
        noised = bool(levels) and (from_noise or sampling.add_noise)
        inputs = ["states", "returns"]
        inputs += ["goal"] * bool(model.goal_dim) + ["previous"] * warm
        self.noise = ["start_noise"] * noised
        arguments = {name: name for name in inputs}
        constants = {}
        if noised:
            arguments["noise"] = "start_noise"
            constants = entry_constants(model, levels[0], from_noise)
        draft = stage(Draft, model, sampling)
        calls = [Call(draft, arguments, ("x_0", "return_to_go"), constants)]
        if levels:
            condition = stage(Condition, model, sampling)
            calls.append(Call(condition, {"returns": "returns"}, ("conditional", "unconditional")))
        for index, pair in enumerate(pairwise(levels)):
            arguments = {"x": f"x_{index}"} | {name: name for name in modulations(model, sampling)}
            if sampling.update == "ddpm":
                # The last step adds none, but with the same inputs it is the same function.
                arguments["noise"] = f"noise_{index}"
                self.noise.append(f"noise_{index}")
            constants = denoise_constants(model, sampling, *pair)
            denoise = stage(Denoise, model, sampling)
            calls.append(Call(denoise, arguments, (f"x_{index + 1}",), constants))
        last = f"x_{max(len(levels) - 1, 0)}"
        arguments = {"x": last, "states": "states", "return_to_go": "return_to_go"}
        calls.append(Call(stage(Choose, model, sampling), arguments, ("plan", "actions")))
        ports = make_ports(model, sampling)
        self.program = Program(
            {name: ports[name] for name in inputs} | {name: ports["noise"] for name in self.noise},
            {name: ports[name] for name in ("plan", "actions")},
            calls,
            num_calls=max(len(levels) - 1, 0),
        )


def make_ports(model: PlannerModel, sampling: PlannerSampling) -> dict[str, Port]:
    """Shapes and typical values of everything that goes in and out of a decision."""
    config, normalizer = model.config, model.coordinates.normalizer
    spread = (1 / normalizer.scale).cpu().numpy()
    mean = (-normalizer.offset / normalizer.scale).cpu().numpy()
    action_spread = (1 / model.action_normalizer.scale).cpu().numpy()
    centre, unit = np.append(mean, 1.0), np.append(spread, 1.0)
    if config.joint:
        centre = np.append(centre, 0 * action_spread)
        unit = np.append(unit, action_spread)
    plan = (config.horizon, len(centre))
    size = model.goal_dim
    return {
        "states": Port((config.context, model.state_dim), mean, spread),
        "returns": Port((config.context,), 1.0, 0.1),
        "goal": Port((size,), mean[:size], spread[:size]),
        "previous": Port(plan, centre, 0.1 * unit),
        "noise": Port((sampling.candidates, config.horizon, model.plan_dim)),
        "plan": Port(plan, centre, unit),
        "actions": Port((num_found(model, sampling), model.action_dim), 0.0, action_spread),
    }


def reverse_levels(model: PlannerModel, sampling: PlannerSampling, warm: bool) -> list[np.ndarray]:
    """Level vectors from the draft to a clean plan; none without refinement."""
    num_levels, num_steps = model.config.num_levels, sampling.calls_per_step
    from_noise = sampling.draft == "noise" and not warm
    start = num_levels if from_noise else sampling.draft_level or num_steps
    if start > num_levels:
        raise ValueError(
            f"draft_level (or calls_per_step) must be at most {num_levels}, got {start}"
        )
    if num_steps == 0:
        return []
    levels = spaced_levels(start, 0, num_steps)
    return pinned_levels(list(levels), model.config.horizon, model.pinned)


def entry_constants(model: PlannerModel, level: np.ndarray, from_noise: bool) -> dict[str, Tensor]:
    """How much is kept of a draft that enters at `level`, (H,), and how much noise is added.

    Of a draft that only holds the pinned positions, which are at level 0, the rest is dropped.
    """
    schedule, known = model.schedule, (level == 0).astype(float)
    parts = {
        "signal": known if from_noise else schedule.signals[level],
        "sigma": 1 - known if from_noise else schedule.sigmas[level],
    }
    return {
        name: torch.from_numpy(part).float()[:, None].to(model.device)
        for name, part in parts.items()
    }


@torch.no_grad()
def denoise_constants(
    model: PlannerModel, sampling: PlannerSampling, level: np.ndarray, following: np.ndarray
) -> dict[str, Tensor]:
    """What `Denoise` knows in advance of the step from `level` to `following`, both (H,)."""
    step = step_coefficients(
        model.schedule, level, following, model.config.prediction, sampling.update
    )
    levels = torch.from_numpy(level)[None].to(model.device)  # (1, h)
    jump = torch.from_numpy(level - following)[None].to(model.device).amax(dim=1)  # (1,)
    tensors = {
        "level_modulation": model.embed_level(levels, jump),
        "coefficients": step.tensor().to(model.device),
    }
    if sampling.value_steps:
        assert model.value is not None
        variance = posterior_variance(model.schedule, level, following)
        size = sampling.value_scale * variance * (level.max() >= sampling.value_stop)
        scaled = levels.amax(dim=1).float() / model.config.num_levels
        tensors["value_term"] = model.value.embed_level(scaled)
        tensors["guidance_scale"] = torch.from_numpy(size).float()[None, :, None].to(model.device)
    return tensors


def check_parts(model: PlannerModel, sampling: PlannerSampling) -> None:
    """Raise ValueError if `model` lacks a part that `sampling` asks for."""
    missing = {
        "draft 'rollout'": sampling.draft == "rollout" and model.drafter is None,
        "select 'critic'": sampling.select == "critic" and model.critic is None,
        "select 'value'": sampling.select == "value" and model.value is None,
        "value_steps": sampling.value_steps > 0 and model.value is None,
    }
    lacking = [name for name, is_missing in missing.items() if is_missing]
    if lacking:
        raise ValueError(
            f"this planner was trained without the part that {' and '.join(lacking)} needs; "
            "train it with policy.model.drafter, critic or value"
        )
    check_distilled(model, sampling)
    if sampling.calls_per_step == 0 and sampling.draft == "noise":
        raise ValueError("calls_per_step 0 returns the draft, so it needs draft 'rollout'")
    span = model.config.stride * (model.config.horizon - 1)
    if not 1 <= sampling.num_execute <= span:
        raise ValueError(f"num_execute must be between 1 and {span}, got {sampling.num_execute}")


def check_distilled(model: PlannerModel, sampling: PlannerSampling) -> None:
    """Raise ValueError if a distilled planner is asked for what it has not learned."""
    distilled, weight = model.config.distilled_guidance, sampling.guidance
    if isinstance(distilled, tuple) and not distilled[0] <= weight <= distilled[1]:
        raise ValueError(
            f"guidance must be between {distilled[0]:g} and {distilled[1]:g}, the weights that "
            f"this planner's network has learned, got {weight:g}; use its teacher for others"
        )
    if isinstance(distilled, int | float) and weight != distilled:
        raise ValueError(
            f"guidance must be {distilled:g}, the weight that was distilled into this planner's "
            f"network, got {weight:g}; use its teacher for other weights"
        )
    if not model.config.jump:
        return
    if sampling.update != "ddim":
        raise ValueError(
            "update must be 'ddim' for this distilled planner, whose calls are jumps without "
            f"noise, got {sampling.update!r}"
        )
    if distilled is None and weight != 0 and not model.goal_dim:
        raise ValueError(
            "guidance must be 0 for this distilled planner, which was distilled from one that is "
            f"guided by its value alone, got {weight:g}"
        )
    if sampling.value_steps:
        raise ValueError(
            "value_steps must be 0 for this distilled planner, which has learned to plan as its "
            f"teacher's value guides, got {sampling.value_steps}"
        )
