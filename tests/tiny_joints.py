"""Tiny checkpoints whose actions are the joints of the six-joint arm, of every kind."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tiny_planner
import torch

from hotloop.decoding import ActionSpec
from hotloop.decoding.instruction import INSTRUCTION_KEY, encode_instruction
from hotloop.policies.act.config import ActConfig, ActSampling
from hotloop.policies.act.model import ActModel
from hotloop.policies.checkpoint import Checkpoint, save_checkpoint
from hotloop.policies.diffusion.config import DiffusionSampling, StreamingSampling
from hotloop.policies.diffusion.model import DiffusionModel, ModelConfig
from hotloop.policies.networks.config import EncoderConfig, NetworkConfig
from hotloop.policies.planners.config import PlannerSampling
from hotloop.policies.vla import BinStatistics, TinyHost, TokenDecodingConfig, tiny_vla
from hotloop.train.data.episodes import Episodes
from hotloop.train.families.planners import prepare_planner

NAMES = ("shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll", "gripper")
DT = 0.05
SPEC = ActionSpec(NAMES, (-0.6,) * 5 + (0.1,), (0.6,) * 5 + (1.1,), DT)
CAMERA = "observation.images.front"
# Those with a picture see the camera `front`.
KINDS = (
    "dp", "sdp", "dp-image", "sdp-image", "act-image",
    "diffuser", "decision_diffuser", "trajectory_diffuser", "vla",
)  # fmt: skip
PICTURES = {
    "dp-image": (20, 24, 3),
    "sdp-image": (20, 24, 3),
    "act-image": (20, 24, 3),
    "vla": (16, 16, 3),
}
PLANNERS = {
    "diffuser": tiny_planner.DIFFUSER,
    "decision_diffuser": tiny_planner.DECISION,
    "trajectory_diffuser": tiny_planner.TRAJECTORY,
}
HOST = TinyHost(
    image_size=16, patch_size=4, vision_width=16, vision_layers=1, width=32, layers=2, heads=2
)


def save_tiny(folder: Path, kind: str, spec: ActionSpec = SPEC, **sampling) -> Path:
    """Write a checkpoint with random weights; return its folder."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        family = kind.removesuffix("-image")
        makers = {"dp": _diffusion, "sdp": _diffusion, "vla": _vla, "act": _act}
        make = makers.get(family, _planner)
        model, choices = make(kind, spec, sampling)
    model.eval().requires_grad_(False)
    save_checkpoint(folder, Checkpoint(family, model, spec, choices, {"task": "own robot"}))
    return folder


def _diffusion(kind: str, spec: ActionSpec, sampling: dict):
    encoder = EncoderConfig(crop=(16, 18), num_keypoints=4, width=8)
    config = ModelConfig(9, 2, 24, ("1x8", "2x4", "4x2", "8x1"), "sample", False,
                         NetworkConfig("mlp", 16, 1), encoder=encoder)  # fmt: skip
    shapes: dict[str, tuple[int, ...]] = {"observation.state": (spec.size,)}
    if kind in PICTURES:
        shapes[CAMERA] = PICTURES[kind]
    model = DiffusionModel(config, shapes, spec.size)
    low, high = torch.tensor(spec.low), torch.tensor(spec.high)
    model.action_normalizer.scale.copy_(2 / (high - low))
    model.action_normalizer.offset.copy_(-(high + low) / (high - low))
    make, num_execute = (StreamingSampling, 1) if "sdp" in kind else (DiffusionSampling, 4)
    return model, make(**{"num_execute": num_execute, **sampling})


def _planner(kind: str, spec: ActionSpec, sampling: dict):
    rng, count = np.random.default_rng(0), 160
    states = rng.uniform(-0.5, 0.5, (count, spec.size)).astype(np.float32)
    rewards = rng.uniform(0, 1, count).astype(np.float32)
    ends = np.arange(1, 9) * 20
    episodes = Episodes({"observation.state": states}, states.copy(), ends, rewards)
    model, _ = prepare_planner(tiny_planner.tiny_config(value=True), episodes, seed=0)
    choices: PlannerSampling = PLANNERS[kind]
    return model, choices


def _vla(kind: str, spec: ActionSpec, sampling: dict):
    bins = BinStatistics(spec.low, spec.high, (True,) * spec.size)
    model = tiny_vla(HOST, ("wave", "lift the cube"), 4, bins, (CAMERA,), "observation.state", bins)
    assert INSTRUCTION_KEY in model.observation_shapes and encode_instruction("wave").any()
    return model, TokenDecodingConfig(**{"num_execute": 4, **sampling})


def _act(kind: str, spec: ActionSpec, sampling: dict):
    config = ActConfig(20, 16, 2, 16, num_encoder_layers=1)
    shapes = {"observation.state": (spec.size,), CAMERA: PICTURES[kind]}
    model = ActModel(config, shapes, spec.size)
    model.queries.data.normal_()  # a chunk whose actions differ
    low, high = torch.tensor(spec.low), torch.tensor(spec.high)
    model.action_scaling.scale.copy_((high - low) / 2)
    model.action_scaling.offset.copy_((high + low) / 2)
    return model, ActSampling(**{"num_execute": 4, **sampling})
