"""What a user can choose of a hotloop policy, in LeRobot's configuration.

LeRobot finds the policy and its processors by the names of this module and this class. A stored
``config.json`` names every field, so fields are added, never renamed or removed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lerobot.configs import NormalizationMode, PreTrainedConfig
from lerobot.optim import AdamWConfig, DiffuserSchedulerConfig

if TYPE_CHECKING:
    from hotloop.policies import Checkpoint
    from hotloop.train import TrainConfig

TRAINABLE = ("dp", "sdp")


@PreTrainedConfig.register_subclass("hotloop")
@dataclass
class HotloopConfig(PreTrainedConfig):
    """A policy of hotloop.

    Attributes:
        checkpoint: A checkpoint of hotloop, included (by name) or a folder: what is run, or where
            training starts. Empty trains a new policy; a folder that LeRobot saved needs none.
        kind: Kind of a new policy: ``"sdp"`` or ``"dp"``.
        recipe: How it is built and trained, as behind ``hotloop train``, e.g.
            ``["policy.model.horizon=32"]``.
        engine: What runs the network: eager, compile, onnx, openvino, openvino-bf16, cuda-graph, or
            auto for the fastest of them here.
        calls_per_step: Network calls per plan; null for what the checkpoint says.
        sampling: Other sampling choices, e.g. ``{"num_execute": 4}``.
        threads: CPU threads of PyTorch and engine; 0 leaves PyTorch's.
        seed: Seed of the first episode's noise; each further episode takes the next number.
            LeRobot seeds its environments in the same way, from 1000 unless ``--seed`` says
            otherwise.
        action_feature_names: Names of the actions in the training data; LeRobot fills it.
        stored: hotloop's description of a policy that was saved; never written by hand.
        averaged: Whether the weights' running average was saved too; it is what is run.
        normalization_mapping: None: hotloop's policies read and command physical units.
    """

    checkpoint: str = ""
    kind: str = "sdp"
    recipe: list[str] = field(default_factory=list)
    engine: str = "eager"
    calls_per_step: int | None = None
    sampling: dict[str, Any] = field(default_factory=dict)
    threads: int = 0
    seed: int = 1000
    action_feature_names: list[str] | None = None
    stored: dict[str, Any] | None = None
    averaged: bool = False
    normalization_mapping: dict[str, NormalizationMode] = field(
        default_factory=lambda: dict.fromkeys(
            ("VISUAL", "STATE", "ENV", "ACTION"), NormalizationMode.IDENTITY
        )
    )

    def __post_init__(self) -> None:
        """Reject what would be ignored or cannot be."""
        super().__post_init__()
        self._opened: Checkpoint | None = None
        self._training: TrainConfig | None = None
        if self.stored is not None and self.checkpoint:
            raise ValueError(
                f"policy.checkpoint={self.checkpoint} would replace the policy that the folder "
                "holds; leave it or policy.path out"
            )
        if self.kind not in TRAINABLE:
            raise ValueError(f"policy.kind must be one of {TRAINABLE}, got {self.kind!r}")
        if self.threads < 0 or self.seed < 0:
            raise ValueError(
                f"policy.threads and policy.seed must be at least 0, got {self.threads} and "
                f"{self.seed}"
            )

    @property
    def choices(self) -> dict[str, Any]:
        """Sampling choices that differ from the checkpoint's."""
        if self.calls_per_step is None:
            return dict(self.sampling)
        return {**self.sampling, "calls_per_step": self.calls_per_step}

    def opened(self) -> Checkpoint | None:
        """The checkpoint that is run or trained on; None for a new policy.

        One that LeRobot saved has random weights, until LeRobot loads its own.

        Raises:
            FileNotFoundError: If there is no such checkpoint.
            ValueError: If it cannot be read, or is of another policy of LeRobot's.
        """
        from hotloop.policies import load_checkpoint
        from hotloop.policies.checkpoint import rebuilt

        if self.stored is not None:
            return rebuilt(self.stored)
        if self._opened is None and self.checkpoint:
            _refuse_foreign(self.checkpoint)
            self._opened = load_checkpoint(self.checkpoint)
        return self._opened

    def store(self, description: dict[str, Any]) -> None:
        """Note which policy was built, so that a saved folder needs no other one."""
        self.stored, self.checkpoint, self._opened = description, "", None
        self.n_obs_steps = description["model"].get("num_obs_steps", 1)

    def description(self) -> dict[str, Any] | None:
        """How hotloop describes the policy; None for a new one."""
        from hotloop.policies.checkpoint import described

        if self.stored is not None:
            return self.stored
        opened = self.opened()
        return None if opened is None else described(opened)

    def training(self) -> TrainConfig:
        """How hotloop trains this kind of policy.

        Raises:
            ValueError: If the recipe has unknown settings, or training is not what this kind does
                in LeRobot.
        """
        from hotloop.train import compose_training

        description = self.description()
        kind = self.kind if description is None else description["kind"]
        if kind not in TRAINABLE:
            raise ValueError(
                f"LeRobot trains hotloop policies of the kinds {', '.join(TRAINABLE)}, not "
                f"{kind!r}; train it with `hotloop train`"
            )
        if self._training is None:
            self._training = compose_training([f"policy={kind}", *self.recipe])
        return self._training

    def validate_features(self) -> None:
        """Features are held against the checkpoint when the policy is built."""

    def get_optimizer_preset(self) -> AdamWConfig:
        """AdamW as hotloop has it, without clipping of gradients."""
        optim = self.training().optim
        return AdamWConfig(
            lr=optim.lr, betas=optim.betas, weight_decay=optim.weight_decay, grad_clip_norm=0.0
        )

    def get_scheduler_preset(self) -> DiffuserSchedulerConfig:
        """Warm-up and cosine decay to zero."""
        warmup_steps = self.training().optim.warmup_steps
        return DiffuserSchedulerConfig(name="cosine", num_warmup_steps=warmup_steps)

    @property
    def observation_delta_indices(self) -> list[int]:
        """Frames that a training sample holds, relative to the present one."""
        num_obs_steps, _ = self._window
        return list(range(1 - num_obs_steps, 1))

    @property
    def action_delta_indices(self) -> list[int]:
        """Actions that a training sample holds, relative to the present one."""
        num_obs_steps, horizon = self._window
        return list(range(1 - num_obs_steps, 1 - num_obs_steps + horizon))

    @property
    def reward_delta_indices(self) -> None:
        """No rewards."""
        return

    @property
    def _window(self) -> tuple[int, int]:
        """Observation frames To and horizon H of a training window."""
        model = self.training().policy.model  # refuses kinds without such windows
        if (description := self.description()) is not None:
            return description["model"]["num_obs_steps"], description["model"]["horizon"]
        return model.num_obs_steps, model.horizon


def _refuse_foreign(checkpoint: str) -> None:
    """Raise ValueError for a policy of LeRobot's own, which does not say its period."""
    from hotloop.decoding.plumbing.files import read_json_object
    from hotloop.policies.lerobot.folder import CONFIG_FILE, find_folder

    folder = find_folder(Path(checkpoint))
    if folder is not None and read_json_object(folder / CONFIG_FILE)["type"] != "hotloop":
        raise ValueError(
            f"policy.checkpoint={checkpoint} is a policy of LeRobot's own; make hotloop's of it, "
            f"`hotloop import {checkpoint} FOLDER dt=0.1`, and give policy.checkpoint=FOLDER"
        )
