"""One small case of every kind of objective, with the windows that it is trained on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from test_pictures import SHAPES as PICTURES
from test_pictures import frame, seeing
from tiny import demonstrations, tiny_model
from tiny_planner import DECISION, tiny_planner, walks
from tiny_vla_data import CONFIG as VLA
from tiny_vla_data import demonstrations as told_demonstrations
from tiny_vla_data import windows_of
from torch import nn

from hotloop.decoding.rolling import LevelMixture
from hotloop.decoding.samplers import spaced_levels
from hotloop.policies.diffusion.config import ModelConfig
from hotloop.policies.diffusion.model import DiffusionModel, seeded_model
from hotloop.policies.networks.config import NetworkConfig
from hotloop.train.config.distill import (
    ConsistencyConfig,
    FlowMapConfig,
    GuidanceDistillConfig,
    JumpDistillConfig,
    TrajectoryDistillConfig,
)
from hotloop.train.data.episodes import Episodes
from hotloop.train.data.plan_windows import PlanWindows
from hotloop.train.data.windows import Windows
from hotloop.train.distillation.bank import make_bank
from hotloop.train.distillation.sampler import sampled_pairs
from hotloop.train.distillation.student import student_of
from hotloop.train.distillation.trajectories import TrajectoryWindows
from hotloop.train.families.vla import initial_vla
from hotloop.train.objectives import consistency, vla
from hotloop.train.objectives.denoising import DenoisingObjective
from hotloop.train.objectives.fitted_sampler import SamplerObjective
from hotloop.train.objectives.flow_map import FlowMapObjective
from hotloop.train.objectives.guidance import GuidanceObjective, guidance_student
from hotloop.train.objectives.jacobi_trajectories import Trajectories
from hotloop.train.objectives.mean_flow import MeanFlowObjective
from hotloop.train.objectives.plan_jumps import PlanJumpObjective
from hotloop.train.objectives.planning import PlannerObjective
from hotloop.train.objectives.segment import JumpObjective
from hotloop.train.objectives.trajectory_samples import TrajectorySamples

Case = tuple[nn.Module, Any]
BANK: dict[str, Any] = {"num_trajectories": 12, "num_points": 4, "solver_steps": 4}
GOAL: dict[str, Any] = {"goal_key": "observation.goal", "critic": False}


def make_windows(model: DiffusionModel, episodes: Episodes | None = None) -> Windows:
    keys, config = tuple(model.observation_shapes), model.config
    return Windows(episodes or demonstrations(), keys, config.num_obs_steps, config.horizon)


def denoising(model: DiffusionModel, **choices: Any) -> DenoisingObjective:
    mixture = LevelMixture(9, 24, model.delayed_ladders, 0.6, 0.2)
    return DenoisingObjective(model, mixture, observation_noise=0.1, **choices)


def streaming(network: NetworkConfig | None = None) -> Case:
    model = tiny_model(ladders=("1x8", "2x4"))
    if network is not None:
        sizes = {"horizon": 9, "num_levels": 24, "ladders": ("1x8", "2x4")}
        config = ModelConfig(**sizes, network=network)
        model = seeded_model(config, model.observation_shapes, 2, seed=0)
    return denoising(model), make_windows(model)


def pictures() -> Case:
    model, num = seeing(), 12
    observations = {
        key: np.concatenate([frame(step)[key] for step in range(num)]) for key in PICTURES
    }
    actions = np.random.default_rng(0).uniform(-1, 1, (num, 2)).astype(np.float32)
    mixture = LevelMixture(9, 8, model.delayed_ladders, 0.8, 0.0)
    windows = make_windows(model, Episodes(observations, actions, np.array([5, num])))
    return DenoisingObjective(model, mixture, num_draws=2), windows


def segment() -> Case:
    teacher = tiny_model(ladders=("1x8", "2x4"))
    student, windows = student_of(teacher, 0), make_windows(teacher)
    config = JumpDistillConfig(calls_per_step=(1, 2), teacher_steps=3, num_visits=8)
    return JumpObjective(student, teacher, denoising(student), windows, config, seed=0), windows


def bank_of(teacher: DiffusionModel, config: TrajectoryDistillConfig) -> TrajectoryWindows:
    windows = make_windows(teacher)
    return TrajectoryWindows(make_bank(teacher, windows, config, 0.0, seed=0), windows)


def flow_map() -> Case:
    teacher = tiny_model(ladders=())
    config = FlowMapConfig(**BANK, visited=0.3, num_visits=8)
    windows = bank_of(teacher, config)
    return FlowMapObjective(student_of(teacher, 0), teacher, windows, config, seed=0), windows


def consistent() -> Case:
    teacher = tiny_model(ladders=())
    config = ConsistencyConfig(**BANK)
    windows = bank_of(teacher, config)
    return consistency.ConsistencyObjective(student_of(teacher, 0), windows, config), windows


def mean_flow() -> Case:
    model = tiny_model(jump=True, ladders=())
    return MeanFlowObjective(model, observation_noise=0.1), make_windows(model)


def fitted_sampler() -> Case:
    model = tiny_model(ladders=())
    pairs = sampled_pairs(model, make_windows(model), spaced_levels(24, 0, 10), 12, seed=0)
    return SamplerObjective(model, (2, 4)), pairs


def plan_windows(model: Any) -> PlanWindows:
    return PlanWindows(walks(rewards=not model.goal_dim), model.state_keys, model.config)


def planner(**choices: Any) -> Case:
    model = tiny_planner(**choices)
    return PlannerObjective(model), plan_windows(model)


def guided() -> Case:
    teacher = tiny_planner()
    student = guidance_student(teacher, (0.0, 2.0))
    return GuidanceObjective(student, teacher), plan_windows(teacher)


def plan_jumps(**choices: Any) -> Case:
    teacher = tiny_planner(**choices)
    guidance = None if teacher.goal_dim else 2.0
    student, windows = guidance_student(teacher, guidance, jump=True), plan_windows(teacher)
    config = GuidanceDistillConfig(calls_per_step=(1, 5), teacher_steps=5, num_plans=12)
    sampling = replace(DECISION, guidance=guidance or 0.0)
    return PlanJumpObjective(student, teacher, windows, sampling, config, seed=0), windows


def cloning() -> Case:
    episodes = told_demonstrations(2)
    model = initial_vla(VLA, episodes, seed=0)
    return vla.CloningObjective(model, image_shift=1), windows_of(model, episodes)


def token_consistency() -> Case:
    episodes, generator = told_demonstrations(2), torch.Generator().manual_seed(0)
    model = initial_vla(VLA, episodes, seed=0)
    num, size = 12, model.action_tokenizer.num_tokens

    def tokens(*shape: int) -> torch.Tensor:
        shape = (*shape, size)
        return torch.randint(256, shape, generator=generator, dtype=torch.int16)

    trajectories = Trajectories(
        index=torch.arange(num),
        fixed=tokens(num),
        labels=tokens(num),
        guesses=tokens(num, 2),
        iterates=tokens(2 * num),
        offsets=2 * torch.arange(num + 1),
    )
    samples = TrajectorySamples(model, windows_of(model, episodes), trajectories, 0.5)
    return vla.ConsistencyObjective(model, guess_share=0.5, image_shift=1), samples


CASES: dict[str, Callable[[], Case]] = {
    "streaming, MLP": streaming,
    "streaming, U-Net": lambda: streaming(NetworkConfig("unet", dims=(8, 16), num_groups=4)),
    "pictures": pictures,
    "segment": segment,
    "flow map": flow_map,
    "consistency": consistent,
    "mean flow": mean_flow,
    "fitted sampler": fitted_sampler,
    "planner": planner,
    "joint plan with a value": lambda: planner(joint=True, value=True),
    "plan to a goal": lambda: planner(**GOAL),
    "guidance": guided,
    "plan jumps": plan_jumps,
    "plan jumps to a goal": lambda: plan_jumps(**GOAL, drafter=None),
    "VLA cloning": cloning,
    "VLA consistency": token_consistency,
}
