"""A denoising network of one's own, named by ``module:Name`` and trained like hotloop's.

python own_network.py
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hotloop.policies import load_checkpoint
from hotloop.policies.networks.config import UNET_CHOICES, NetworkConfig, WindowSizes
from hotloop.policies.networks.denoiser import Denoiser


class RecurrentDenoiser(Denoiser):
    """A gated recurrent unit that reads the noisy window from its first action to its last."""

    def __init__(self, action_dim: int, observation_dim: int, width: int) -> None:
        super().__init__()
        self.level = nn.Linear(1, width)
        self.observation = nn.Linear(observation_dim, width)
        self.action = nn.Linear(action_dim, width)
        self.recurrence = nn.GRU(width, width, batch_first=True)
        self.output = nn.Linear(width, action_dim)

    @classmethod
    def build(cls, config: NetworkConfig, sizes: WindowSizes) -> RecurrentDenoiser:
        config.refuse(*UNET_CHOICES, "options")
        return cls(sizes.action_dim, sizes.observation_dim, config.width)

    def embed_level(self, level: Tensor, jump: Tensor | None = None) -> Tensor:
        return self.level(level[..., None])  # (b, h, w)

    def encode(self, observation: Tensor) -> Tensor:
        return self.observation(observation)[:, None]  # (b, 1, w)

    def denoise(
        self, x: Tensor, level_modulation: Tensor, observation_modulation: Tensor
    ) -> Tensor:
        features = self.action(x) + level_modulation + observation_modulation  # (b, h, w)
        return self.output(torch.relu(self.recurrence(features)[0]))  # (b, h, d)


if __name__ == "__main__":
    from hotloop.train import compose_training, train
    from hotloop.train.demonstrations.generate import Collection, generate_demonstrations

    generate_demonstrations("maze.hdf5", Collection("pointmaze-umaze", num_episodes=5))
    config = compose_training(
        [
            *("policy=dp", "task=pointmaze-umaze", "task.dataset=maze.hdf5", "output_dir=run"),
            *("policy.model.network.kind='own_network:RecurrentDenoiser'", "steps=20"),
            *("policy.model.network.width=64", "batch_size=32", "optim.warmup_steps=5"),
        ]
    )
    checkpoint = load_checkpoint(train(config))
    print(type(checkpoint.model.network).__name__, "with", checkpoint.sampling)
