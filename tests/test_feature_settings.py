"""Settings of a student of a policy that sees: those without effect are refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny import SPEC

from hotloop.policies.checkpoint import Checkpoint, save_checkpoint
from hotloop.policies.diffusion.config import ModelConfig, StreamingSampling
from hotloop.policies.diffusion.model import DiffusionModel
from hotloop.policies.networks import EncoderConfig
from hotloop.train import compose_training


def teacher(folder: Path, crop: tuple[int, int] | None) -> Path:
    encoder = EncoderConfig(crop=crop, width=8, num_keypoints=4, num_features=8)
    config = ModelConfig(ladders=("8x2",), encoder=encoder)
    model = DiffusionModel(config, {"observation.image": (20, 20, 3)}, SPEC.size)
    save_checkpoint(folder, Checkpoint("sdp", model, SPEC, StreamingSampling(), {}))
    return folder


def test_settings_without_effect_are_refused(tmp_path: Path) -> None:
    cut, whole = teacher(tmp_path / "cut", (16, 16)), teacher(tmp_path / "whole", None)
    for name, settings, message in (
        ("pusht-sdp", ["num_crops=2"], r"num_crops has no effect here: .* sees no pictures"),
        ("pusht-sdp", ["train_encoder=true"], r"train_encoder has .* sees no pictures"),
        (cut, ["train_encoder=true", "num_crops=2"], r"num_crops has .* in every batch"),
        (whole, ["num_crops=2"], r"num_crops has .* whole pictures"),
    ):
        given = [f"distill.{setting}" for setting in settings]
        with pytest.raises(ValueError, match=message):
            compose_training(["policy=sdp", f"distill.teacher={name}", *given])
    compose_training(["policy=sdp", f"distill.teacher={cut}", "distill.num_crops=2"])
