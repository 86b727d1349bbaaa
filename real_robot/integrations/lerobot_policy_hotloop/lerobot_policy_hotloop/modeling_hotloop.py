"""A hotloop policy behind LeRobot's interface."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from lerobot.policies import PreTrainedPolicy
from torch import Tensor, nn

from hotloop.policies.checkpoint import described

from .average import StoredAverage
from .configuration_hotloop import HotloopConfig
from .frames import frame_of
from .processor_hotloop import sees_corners
from .pusht import KEY
from .running import Running
from .training import hotloop_shape, loss_of, new_checkpoint

WEIGHTS_FILE = "model.safetensors"


class HotloopPolicy(PreTrainedPolicy):
    """Runs and trains a policy of hotloop.

    Args:
        config: Which one.
        dataset_stats: Statistics of the data set that it is trained on.
        dataset_meta: Metadata of that data set.

    Attributes:
        model: The network with its normalisation: what is trained.
        average: Running average of the weights, made by the first step of training; what is run.
    """

    config_class = HotloopConfig
    name = "hotloop"

    def __init__(
        self,
        config: HotloopConfig,
        dataset_stats: dict[str, dict[str, Tensor]] | None = None,
        dataset_meta: Any = None,
        **kwargs: Any,
    ) -> None:
        del kwargs  # what other policies are passed
        super().__init__(config)
        self._running: Running | None = None
        self._has_seen = False
        opened = config.opened()
        checkpoint = opened or new_checkpoint(config, dataset_stats, dataset_meta)
        _check_features(config, checkpoint.model.observation_shapes, checkpoint.action_spec.size)
        self.model: nn.Module = checkpoint.model.requires_grad_(True)
        self.average = self._new_average() if config.averaged else None
        self._checkpoint = replace(checkpoint, model=None)
        has_weights = bool(config.checkpoint)
        config.store(described(checkpoint))
        self.eval()
        if has_weights:
            self.build()

    def build(self) -> None:
        """Build the engine and warm it up: seconds that no control loop has."""
        if self.config.threads:
            torch.set_num_threads(self.config.threads)
        model = self.model if self.average is None else self.average.module
        frozen = deepcopy(model).cpu().eval().requires_grad_(False)
        checkpoint = replace(self._checkpoint, model=frozen)
        policy = checkpoint.policy(self.config.choices, self.config.engine)
        self._running = Running(policy, self.config.seed)

    def reset(self) -> None:
        """Begin new episodes, in as many rows as the next batch has."""
        if self._running is None:
            self.build()
        assert self._running is not None
        self._running.reset()

    def train(self, mode: bool = True) -> HotloopPolicy:
        """Weights that change are no longer those of the engine."""
        if mode:
            self._running = None
        return super().train(mode)

    @torch.no_grad()
    def select_action(self, batch: dict[str, Tensor], **kwargs: Any) -> Tensor:
        """The next action of every row, shape (B, D), from the newest frames (B, *shape).

        Raises:
            ValueError: If the batch does not fit, or holds noise: hotloop draws it from
                ``policy.seed``.
        """
        frame = self._frame(batch, kwargs)
        assert self._running is not None
        return _like(self._running.act(frame), batch)

    @torch.no_grad()
    def predict_action_chunk(self, batch: dict[str, Tensor], **kwargs: Any) -> Tensor:
        """The actions (B, T, D) until the next plan, from the newest frames (B, To, *shape).

        Raises:
            ValueError: As `select_action`, and if the batch holds another number of frames. One
                frame per chunk would be a history with holes.
        """
        frames = self._frame(batch, kwargs)
        assert self._running is not None
        return _like(self._running.chunk(frames), batch)

    def _frame(self, batch: dict[str, Tensor], kwargs: dict[str, Any]) -> dict[str, Any]:
        if unknown := sorted(name for name, value in kwargs.items() if value is not None):
            raise ValueError(
                f"hotloop's policies take no {', '.join(unknown)}; noise follows from policy.seed"
            )
        if self._running is None:
            self.reset()
        assert self._running is not None
        return frame_of(batch, self._running.observation_spec)

    def forward(self, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, Any] | None]:
        """The denoising loss of a batch of windows, shape ().

        Raises:
            ValueError: If this kind of policy is not trained in LeRobot, or the first batch holds
                pictures that are normalised.
        """
        # Pictures that are normalised already are so in every batch: to look at one is enough.
        check, self._has_seen = not self._has_seen, True
        return loss_of(self.model, self.config.training().policy, batch, check), None

    def get_optim_params(self) -> Any:
        """The model's parameters; the average is not trained."""
        return self.model.parameters()

    def update(self) -> None:
        """Take the weights of one more step into the running average."""
        if self.average is None:
            self.average, self.config.averaged = self._new_average(), True
        self.average.update(self.model)

    def _new_average(self) -> StoredAverage:
        return StoredAverage(self.model, self.config.training().optim)

    @classmethod
    def _load_as_safetensor(
        cls, model: HotloopPolicy, model_file: str, map_location: str, strict: bool
    ) -> HotloopPolicy:
        """Load all weights; LeRobot would only log those that are missing."""
        del strict
        policy = super()._load_as_safetensor(model, model_file, map_location, strict=True)
        policy.eval()
        policy.build()
        return policy

    def _save_pretrained(
        self, save_directory: Path, state_dict: dict[str, Tensor] | None = None
    ) -> None:
        """Save; others may read the weights as they may read the rest of the folder."""
        super()._save_pretrained(save_directory, state_dict)
        mode = (save_directory / "config.json").stat().st_mode
        (save_directory / WEIGHTS_FILE).chmod(mode)


def _check_features(
    config: HotloopConfig, shapes: dict[str, tuple[int, ...]], action_size: int
) -> None:
    """Raise ValueError unless LeRobot's features are what the policy reads and commands."""
    offered = {
        key: hotloop_shape(tuple(one.shape)) for key, one in (config.input_features or {}).items()
    }
    for key, shape in shapes.items():
        if offered.get(key, shape) != tuple(shape) and not (key == KEY and sees_corners(config)):
            raise ValueError(
                f"the policy reads {key!r} of shape {tuple(shape)}, LeRobot's feature has "
                f"{offered[key]}"
            )
    action = config.action_feature
    if action is not None and tuple(action.shape) != (action_size,):
        raise ValueError(
            f"the policy commands {action_size} numbers, LeRobot's action has {action.shape}"
        )


def _like(actions: Any, batch: dict[str, Tensor]) -> Tensor:
    """Actions where the batch is."""
    device = next((one.device for one in batch.values() if isinstance(one, Tensor)), None)
    return torch.as_tensor(actions, dtype=torch.float32, device=device)
