"""Training of vision-language policies: what is trained, on what, and towards what."""

from __future__ import annotations

import copy
import logging
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ...decoding.instruction import INSTRUCTION_KEY, decode_instruction
from ...policies.checkpoint import load_checkpoint
from ...policies.vla.build import pretrained_vla, tiny_vla
from ...policies.vla.model import VlaModel
from ...policies.vla.tokenizer import BinStatistics
from ..config.vla import VlaPolicyConfig
from ..data.episodes import Episodes
from ..data.windows import Windows
from ..objectives.jacobi_trajectories import Trajectories, read_trajectories
from ..objectives.vla import CloningObjective, ConsistencyObjective, TrajectoryBatch
from ..objectives.vla_losses import chunk_distance, distance_quantile, mixed_labels

_LOG = logging.getLogger(__name__)


def prepare_vla(
    config: VlaPolicyConfig, teacher: str, episodes: Episodes, seed: int
) -> tuple[nn.Module, Any, dict[str, Any]]:
    """Objective, training samples, and facts for the checkpoint's provenance.

    Args:
        config: The policy.
        teacher: Checkpoint to distil by its Jacobi trajectories; empty clones demonstrations.
        episodes: Demonstrations.
        seed: Seed of the initialisation.

    Raises:
        ValueError: If data, teacher and trajectories do not fit each other.
    """
    if bool(teacher) != bool(config.trajectories):
        raise ValueError(
            "consistency distillation needs both distill.teacher and policy.trajectories; leave "
            "both empty to clone the demonstrations"
        )
    if teacher:
        model = load_checkpoint(teacher).model
        if not isinstance(model, VlaModel):
            raise ValueError(f"distill.teacher={teacher} is no vision-language policy")
        model.train().requires_grad_(True)
    else:
        model = initial_vla(config, episodes, seed)
    windows = Windows(episodes, tuple(model.observation_shapes), 1, model.config.num_actions)
    facts: dict[str, Any] = {"clipped_share": clipped_share(model, windows)}
    _LOG.info("%.3f %% of the action values lie outside q01..q99", 100 * facts["clipped_share"])
    if config.lora_rank:
        add_lora(model, config.lora_rank, seed)
    if not teacher:
        return CloningObjective(model, config.image_shift), windows, facts
    samples = TrajectorySamples(
        model, windows, read_trajectories(Path(config.trajectories)), config.label_quantile
    )
    facts |= {
        "trajectories": len(samples),
        "guess_share": config.guess_share,
        "replaced_share": samples.replaced_share,
        "delta_max": samples.max_distance if np.isfinite(samples.max_distance) else None,
    }
    _LOG.info(
        "%d trajectories; %.2f %% of the labels come from demonstrations (delta_max %.4f)",
        len(samples),
        100 * samples.replaced_share,
        samples.max_distance,
    )
    objective = ConsistencyObjective(
        model, config.cloning_weight, config.guess_share, config.image_shift
    )
    return objective, samples, facts


def initial_vla(config: VlaPolicyConfig, episodes: Episodes, seed: int) -> VlaModel:
    """Build a model with the data's quantiles, and random or pretrained weights.

    Raises:
        ValueError: If the episodes lack pictures, instructions or the state.
    """
    observations = episodes.observations
    images = [key for key in observations if key.startswith("observation.images.")]
    cameras = config.cameras or tuple(images)
    needed = [*cameras, INSTRUCTION_KEY, *([config.state_key] if config.state_key else [])]
    absent = [key for key in needed if key not in observations]
    if absent or not cameras:
        raise ValueError(
            f"a vision-language policy needs pictures and instructions; the dataset lacks "
            f"{absent or 'observation.images.*'}, it has {sorted(observations)}; name its columns "
            "with task.keys"
        )
    flags = tuple(
        index not in config.unscaled_actions for index in range(episodes.actions.shape[1])
    )
    actions = BinStatistics.fit(episodes.actions, flags)
    state = BinStatistics.fit(observations[config.state_key]) if config.state_key else None
    if config.pretrained:
        return pretrained_vla(
            config.pretrained, config.num_actions, actions, cameras, config.state_key, state
        )
    starts = episodes.episode_starts
    instructions = np.unique(observations[INSTRUCTION_KEY][starts], axis=0)
    texts = [decode_instruction(row) for row in instructions]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return tiny_vla(
            config.host, texts, config.num_actions, actions, cameras, config.state_key, state
        )


def clipped_share(model: VlaModel, windows: Windows) -> float:
    """Share of the dataset's action values that the tokenizer has to clip."""
    tokenizer, num_actions = model.action_tokenizer, model.config.num_actions
    actions = windows.actions.numpy()
    whole = actions[: len(actions) // num_actions * num_actions]
    chunks = whole.reshape(-1, num_actions, actions.shape[1])
    return tokenizer.encode(chunks).num_clipped / max(whole.size, 1)


class TrajectorySamples:
    """Collected trajectories with their observations and labels, by index.

    Args:
        model: Whose tokenizer made them.
        windows: Dataset that they were collected on.
        trajectories: The trajectories.
        label_quantile: Share of chunks for which the teacher is believed; see `mixed_labels`.

    Raises:
        ValueError: If they belong to other chunks or another dataset.
    """

    def __init__(
        self,
        model: VlaModel,
        windows: Windows,
        trajectories: Trajectories,
        label_quantile: float,
    ) -> None:
        tokenizer = model.action_tokenizer
        if trajectories.fixed.shape[1] != tokenizer.num_tokens:
            raise ValueError(
                f"the trajectories have blocks of {trajectories.fixed.shape[1]} tokens, the "
                f"model's have {tokenizer.num_tokens}"
            )
        if int(trajectories.index.max()) >= len(windows):
            raise ValueError(
                f"the trajectories reach to sample {int(trajectories.index.max())}, the dataset "
                f"has {len(windows)}; collect them again on this dataset"
            )
        self._windows, self._trajectories = windows, trajectories
        self._fixed, demonstrated = trajectories.fixed.long(), trajectories.labels.long()
        values = [
            torch.from_numpy(tokenizer.normalised(tokens.numpy()))
            for tokens in (self._fixed, demonstrated)
        ]
        distance = chunk_distance(*values)
        self.max_distance = distance_quantile(distance, label_quantile)
        self._labels, replaced = mixed_labels(
            self._fixed, demonstrated, distance, self.max_distance
        )
        self.replaced_share = float(replaced.float().mean())

    def __len__(self) -> int:
        """Number of prompts with a trajectory."""
        return len(self._fixed)

    def gather(self, current: Tensor) -> TrajectoryBatch:
        """Samples `current`, integer, shape (B,)."""
        return TrajectoryBatch(
            self._windows.gather(self._trajectories.index[current]),
            [self._trajectories.iterates_of(row) for row in current.tolist()],
            self._trajectories.guesses[current].long(),
            self._fixed[current],
            self._labels[current],
        )


def add_lora(model: VlaModel, rank: int, seed: int) -> None:
    """Freeze the host but for low-rank adapters on its language model and the action block's ids.

    OpenVLA's recipe: every linear layer, alpha = min(rank, 16), no dropout, Gaussian start.

    Raises:
        ImportError: If peft is not installed.
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError as error:
        raise ImportError("lora_rank needs peft: pip install 'hotloop[vla]'") from error
    host = model.host.model
    decoder = host.get_decoder()
    names = {
        name.rsplit(".", 1)[-1]
        for name, module in decoder.named_modules()
        if isinstance(module, nn.Linear)
    }
    model.requires_grad_(False)
    config = LoraConfig(
        r=rank,
        lora_alpha=min(rank, 16),
        lora_dropout=0.0,
        init_lora_weights="gaussian",
        target_modules=sorted(names),
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        inject_adapter_in_model(config, decoder)
    # The action ids are new words: their rows must be learnt, and a row cannot be unfrozen alone.
    for module in (host.get_input_embeddings(), host.get_output_embeddings()):
        module.requires_grad_(True)


def without_lora(model: VlaModel) -> VlaModel:
    """A copy of a model whose adapters are added to the weights that they adapt."""
    from peft.tuners.lora import LoraLayer

    merged = copy.deepcopy(model)
    for name, module in list(merged.named_modules()):
        if isinstance(module, LoraLayer):
            module.merge()
            parent, _, child = name.rpartition(".")
            setattr(merged.get_submodule(parent), child, module.get_base_layer())
    return merged


def stored_model(config: VlaPolicyConfig, averaged: nn.Module) -> nn.Module:
    """The averaged model as a checkpoint holds it."""
    assert isinstance(averaged, VlaModel)
    return without_lora(averaged) if config.lora_rank else averaged
