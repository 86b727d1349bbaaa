"""A small set of demonstrations with pictures and words, for the tests of training on them."""

from __future__ import annotations

import numpy as np
from tiny_vla import IMAGE, SIZES, STATE_KEY, TEXTS

from hotloop.decoding.instruction import INSTRUCTION_KEY, encode_instruction
from hotloop.policies.vla import TinyHost, TokenDecodingConfig, VlaModel
from hotloop.train.config.policies import VlaPolicyConfig
from hotloop.train.data.episodes import Episodes
from hotloop.train.data.windows import Windows

HOST = TinyHost(layers=2, heads=2, **SIZES)
CONFIG = VlaPolicyConfig(
    "vla", HOST, num_actions=4, unscaled_actions=(2,), image_shift=1,
    sampling=TokenDecodingConfig(4, "committed"),
)  # fmt: skip


def demonstrations(num_episodes: int = 24, length: int = 12) -> Episodes:
    """The instruction says where to go, chance on which of two ways, the state how far it is."""
    rng = np.random.default_rng(0)
    images, states, actions, texts = [], [], [], []
    for episode in range(num_episodes):
        told, way = episode % len(TEXTS), rng.choice([-1.0, 1.0])
        time = np.linspace(0, 1, length)
        goal = (told - 1) * np.array([0.5, 0.9])
        path = goal * time[:, None] + way * np.sin(np.pi * time)[:, None] * [0.4, -0.3]
        states.append(path + 0.02 * rng.standard_normal(path.shape))
        grip = np.where(time > 0.7, 1.0, -1.0)[:, None]
        actions.append(np.concatenate([path - [0.5, -0.5], grip], axis=1))
        images.append(np.full((length, 16, 16, 3), 40 * told, np.uint8))
        texts.append(np.tile(encode_instruction(TEXTS[told]), (length, 1)))
    observations = {
        IMAGE: np.concatenate(images),
        STATE_KEY: np.concatenate(states).astype(np.float32),
        INSTRUCTION_KEY: np.concatenate(texts),
    }
    joined = np.concatenate(actions).astype(np.float32)
    return Episodes(observations, joined, np.arange(1, num_episodes + 1) * length)


def windows_of(model: VlaModel, episodes: Episodes) -> Windows:
    return Windows(episodes, tuple(model.observation_shapes), 1, model.config.num_actions)
