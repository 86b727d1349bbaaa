"""Picture encoders: what is done to pictures first, and weights from elsewhere."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch.nn import functional as F

from hotloop.policies.networks import EncoderConfig
from hotloop.policies.networks.resnet import ResNet18Encoder
from hotloop.policies.networks.vision import Vision
from hotloop.train.families.encoders import load_encoder_weights

FRONT, SHAPE = "observation.front", (32, 40, 3)
ENCODER = EncoderConfig(crop=(20, 20), width=8, num_keypoints=4, num_features=8)


def test_resizing_by_matrices_is_resizing() -> None:
    shape = (37, 50, 3)
    vision = Vision(EncoderConfig(resize=(24, 20)), {FRONT: shape})
    pixels = torch.randint(0, 256, (2, *shape), dtype=torch.uint8)
    expected = F.interpolate(
        pixels.permute(0, 3, 1, 2).float(), [24, 20], mode="bilinear", antialias=True
    )
    found = vision.resizes[0](pixels).permute(0, 3, 1, 2)
    torch.testing.assert_close(found, expected, atol=1e-3, rtol=0)


def test_random_crops_are_parts_of_the_picture_and_the_same_for_all_frames_of_a_sample() -> None:
    vision = Vision(replace(ENCODER, crop=(16, 16)), {FRONT: (18, 19, 3)})
    whole = torch.arange(18 * 19, dtype=torch.int64).reshape(18, 19)
    codes = torch.stack([whole // 256, whole % 256, whole * 0], dim=-1).to(torch.uint8)
    frames = codes.expand(400, 2, 18, 19, 3)
    cropped = vision.crop({FRONT: frames}, torch.Generator().manual_seed(0))
    parts = cropped.reshape(400, 2, 16, 16, 3).long()
    corner = parts[:, :, 0, 0, 0] * 256 + parts[:, :, 0, 0, 1]  # (400, 2)
    assert (corner[:, 0] == corner[:, 1]).all()
    top, left = corner[:, 0] // 19, corner[:, 0] % 19
    assert set(top.tolist()) == {0, 1, 2} and set(left.tolist()) == {0, 1, 2, 3}
    for sample in range(0, 400, 37):
        expected = codes[top[sample] : top[sample] + 16, left[sample] : left[sample] + 16]
        assert (parts[sample, 0] == expected).all()
    middle = vision.crop({FRONT: frames[:1]}, None).reshape(2, 16, 16, 3)
    assert (middle[0] == codes[1:17, 1:17]).all()


def test_resnet18_has_the_names_and_numbers_of_torchvisions() -> None:
    torchvision = pytest.importorskip("torchvision", reason="torchvision is not installed")
    theirs = torchvision.models.resnet18(
        norm_layer=lambda channels: torch.nn.GroupNorm(channels // 16, channels)
    ).eval()
    ours = ResNet18Encoder((64, 64), 4, 8).eval()
    missing = ours.load_state_dict(theirs.state_dict(), strict=False).missing_keys
    assert all(name.startswith(("keypoints", "features")) for name in missing)
    x = torch.randn(2, 3, 64, 64)
    expected = torch.nn.Sequential(*list(theirs.children())[:-2])(x)
    torch.testing.assert_close(ours.feature_map(x), expected)


def test_an_encoder_starts_from_weights_in_a_file(tmp_path: Path) -> None:
    source = ResNet18Encoder((32, 32), 4, 8)
    weights = {name: value * 0 + 0.5 for name, value in source.state_dict().items()}
    classifier = {"fc.weight": torch.ones(1000, 512), "bn1.running_mean": torch.ones(64)}
    save_file({**weights, **classifier}, tmp_path / "weights.safetensors")
    config = EncoderConfig("resnet18", resize=(32, 32), num_keypoints=5, num_features=8)
    vision = Vision(config, {FRONT: SHAPE})
    load_encoder_weights(vision, tmp_path / "weights.safetensors")
    assert (vision.encoders[0].layer4[1].conv2.weight == 0.5).all()
    assert (vision.encoders[0].keypoints.maps.weight != 0.5).any(), "of another size: its own"
    other = Vision(ENCODER, {FRONT: SHAPE})
    with pytest.raises(ValueError, match=r"another encoder than ConvEncoder.*layers\.0\.weight"):
        load_encoder_weights(other, tmp_path / "weights.safetensors")
    with pytest.raises(ValueError, match="is a folder; name a file of weights"):
        load_encoder_weights(vision, tmp_path)
    with pytest.raises(ValueError, match="pickle"):
        load_encoder_weights(vision, tmp_path / "resnet18.pth")
