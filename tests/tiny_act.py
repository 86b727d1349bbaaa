"""Tiny ACT models that tests share."""

from __future__ import annotations

import torch
from tiny import HIGH, LOW, SHAPES, SPEC

from hotloop.policies.act.config import ActConfig
from hotloop.policies.act.model import ActModel
from hotloop.policies.normalizer import Normalizer

CHUNK = 6
PICTURE = {"observation.images.top": (33, 40, 3)}


def tiny_act(*, pictures: bool = False, **choices: object) -> ActModel:
    """A model with random weights, for the actions of `SPEC`, which it sometimes exceeds."""
    sizes = {"dim": 16, "num_heads": 2, "dim_feedforward": 24, "num_encoder_layers": 2}
    config = ActConfig(**{"chunk_size": CHUNK, **sizes, **choices})  # pyright: ignore
    shapes = {**SHAPES, **PICTURE} if pictures else SHAPES
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = ActModel(config, shapes, SPEC.size)
        for parameter in (model.style_token, model.token_positions, model.queries):
            torch.nn.init.normal_(parameter)
        model.action_head.weight.data *= 6
    low, high = torch.tensor(LOW), torch.tensor(HIGH)
    model.action_scaling.scale.copy_((high - low) / 2)
    model.action_scaling.offset.copy_((high + low) / 2)
    model.observation_normalizer.scale.copy_(torch.tensor([0.5, 0.5, 0.0, 2.0, 0.5]))
    for normalizer in model.picture_normalizers:
        assert isinstance(normalizer, Normalizer)
        normalizer.scale.fill_(1 / 127.5)
        normalizer.offset.fill_(-1.0)
    return model.eval().requires_grad_(False)
