"""New policies from LeRobot's statistics, and hotloop's loss on LeRobot's batches."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from hotloop.decoding import ActionSpec
from hotloop.decoding.interface import is_picture
from hotloop.policies import Checkpoint, DiffusionModel
from hotloop.policies.diffusion.model import Batch
from hotloop.train.data.episodes import Episodes
from hotloop.train.families.diffusion import initial_model, level_mixture
from hotloop.train.objectives.denoising import DenoisingObjective
from hotloop.train.training import RECORDED

from .configuration_hotloop import HotloopConfig
from .frames import picture_bytes

if TYPE_CHECKING:
    from lerobot.configs import PolicyFeature

ACTION = "action"
WIDER = 1e-6  # of an action's range: its bounds hold the data in spite of rounding
Statistics = Mapping[str, Mapping[str, Any]]


def new_checkpoint(config: HotloopConfig, statistics: Statistics | None, meta: Any) -> Checkpoint:
    """A policy with random weights for the features, the statistics and the rate of a data set.

    Args:
        config: Kind, recipe and features.
        statistics: Per feature its ``min``, ``max``, ``mean`` and ``std``.
        meta: LeRobot's metadata of the data set.

    Raises:
        ValueError: If there is no data set.
    """
    if statistics is None or meta is None:
        raise ValueError(
            "without a data set there is no policy to make; say which one to run with "
            "policy.checkpoint=NAME_OR_FOLDER, or with policy.path=FOLDER one that LeRobot saved"
        )
    training = config.training()
    summary = two_rows(config.input_features or {}, statistics, training.policy)
    model = initial_model(training.policy, summary, training.seed)
    model.requires_grad_(True)
    spec = action_spec(statistics[ACTION], meta)
    provenance = {"task": RECORDED, "dataset": str(meta.repo_id)}
    return Checkpoint(training.policy.kind, model, spec, training.policy.sampling, provenance)


def two_rows(
    features: Mapping[str, PolicyFeature], statistics: Statistics, policy: Any
) -> Episodes:
    """A recording of two steps with the range, or with mean and deviation, of a whole data set.

    hotloop fits its normalisation to data; LeRobot has kept what that needs.
    """

    def rows(key: str, mode: str) -> np.ndarray:
        values = {name: np.asarray(one, np.float32) for name, one in statistics[key].items()}
        if mode == "z_score":
            return np.stack([values["mean"] - values["std"], values["mean"] + values["std"]])
        return np.stack([values["min"], values["max"]])

    observations: dict[str, np.ndarray] = {}
    for key, feature in features.items():
        shape = hotloop_shape(tuple(feature.shape))
        if not is_picture(shape):
            observations[key] = rows(key, policy.observation_normalization)
        elif policy.cameras is None or key in policy.cameras:
            observations[key] = np.zeros((2, *shape), np.uint8)
    actions = rows(ACTION, policy.action_normalization)
    return Episodes(observations, actions, np.array([2]))


def hotloop_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """LeRobot's shape of a feature as hotloop's: of a picture, (3, height, width) last to first."""
    return (*shape[1:], 3) if len(shape) == 3 and shape[0] == 3 else shape


def action_spec(statistics: Mapping[str, Any], meta: Any) -> ActionSpec:
    """The actions' names, rate and range in a data set."""
    low, high = (np.asarray(statistics[name], np.float64) for name in ("min", "max"))
    span = np.maximum(high - low, np.maximum(np.abs(low), 1) * WIDER)
    names = meta.features[ACTION].get("names")
    if isinstance(names, Mapping):  # older recordings group them
        names = [name for group in names.values() for name in group]
    if names is None or len(names) != len(low):
        names = [f"action {index}" for index in range(len(low))]
    return ActionSpec(
        tuple(map(str, names)),
        tuple((low - WIDER * span).tolist()),
        tuple((high + WIDER * span).tolist()),
        1 / meta.fps,
    )


def loss_of(
    model: DiffusionModel, policy: Any, batch: Mapping[str, Tensor], check: bool = True
) -> Tensor:
    """The denoising loss as hotloop has it, shape ().

    Steps beyond an episode's ends are repeated by both libraries and count.

    Args:
        model: In training.
        policy: How hotloop trains it.
        batch: LeRobot's: observations (B, To, *shape) and actions (B, H, D).
        check: Look at the values of pictures.
    """
    observation = {
        key: picture_bytes(batch[key], key, check) if is_picture(shape) else batch[key]
        for key, shape in model.observation_shapes.items()
    }
    objective = DenoisingObjective(
        model, level_mixture(policy, model), policy.observation_noise, policy.num_draws
    )
    # From PyTorch's own generator, whose state LeRobot saves and restores.
    generator = torch.Generator().manual_seed(int(torch.randint(2**62, ())))
    return objective(objective.draw(Batch(observation, batch[ACTION]), generator))
