"""LeRobot's Diffusion Policy: its own actions, recorded, from its own folders; what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from lerobot_folders import as_before_0_4, edit_json, golden_folder, replayed

from hotloop.policies.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from hotloop.policies.diffusion.policy import DiffusionPolicy
from hotloop.policies.lerobot.given import Given
from hotloop.policies.networks.config import EncoderConfig
from hotloop.policies.networks.vision import Vision
from hotloop.policies.programs.rows import RowNoise

GIVEN = Given(dt=0.1, action_low=(-1e4, -1e4), action_high=(1e4, 1e4))  # LeRobot clips nothing
STATE, FRONT = "observation.state", "observation.images.front_left"
Weights = dict[str, np.ndarray]


class RecordedNoise(RowNoise):
    """What LeRobot drew: a window per plan, and of DDPM one per step but the last."""

    def __init__(self, noise: np.ndarray) -> None:
        super().__init__()
        self._noise = iter(noise)

    def reset(self, seeds: np.ndarray, rows: np.ndarray | None) -> None:
        pass

    def fill(self, rows: np.ndarray, out: np.ndarray) -> None:
        windows = out.reshape(-1, *out.shape[-2:])
        for window in windows[: len(windows) - (out.ndim > 3)]:
            window[...] = next(self._noise)
        if out.ndim > 3:
            windows[-1] = 1e9  # which is multiplied by 0


def with_its_noise(folder: Path, checkpoint: Checkpoint, engine: str = "eager") -> DiffusionPolicy:
    """The policy, which draws what LeRobot drew."""
    trace = np.load(folder / "trace.npz")
    return DiffusionPolicy(
        checkpoint.model,
        checkpoint.action_spec,
        checkpoint.sampling,
        engine,
        RecordedNoise(trace["noise"]),
    )


def difference(
    folder: Path, checkpoint: Checkpoint, policy: DiffusionPolicy | None = None
) -> float:
    """Largest difference to LeRobot's actions, in normalised units."""
    policy = policy or with_its_noise(folder, checkpoint)
    found, expected = replayed(folder, policy, checkpoint.model.observation_shapes)
    scale = checkpoint.model.action_normalizer.scale.numpy()
    return float(np.abs((found - expected) * scale).max())


@pytest.mark.parametrize(
    "name",
    [
        "dp_state_ddpm",
        "dp_state_ddim10",
        "dp_state_ddim7",
        "dp_variants",
        "dp_linear_noclip",
        "dp_image_bn_crop",
        "dp_image_gn_shared_resize",
    ],
)
def test_it_acts_as_lerobot_does(name: str, tmp_path: Path) -> None:
    """Recorded with LeRobot 0.6.1; what was imported is stored in hotloop's own form."""
    folder = golden_folder(name, tmp_path)
    save_checkpoint(tmp_path / "own", load_checkpoint(folder, GIVEN))
    assert difference(folder, load_checkpoint(tmp_path / "own")) < 1e-5


def test_engines_act_as_lerobot_does(tmp_path: Path) -> None:
    folder = golden_folder("dp_state_ddim7", tmp_path)
    checkpoint = load_checkpoint(folder, GIVEN)
    engines = ("onnx", "openvino")
    # Made before either acts: programs share their exports as long as they live.
    policies = {name: with_its_noise(folder, checkpoint, name) for name in engines}
    for name, policy in policies.items():
        assert difference(folder, checkpoint, policy) < 1e-5, name


def test_a_folder_from_before_0_4_has_its_statistics_among_the_weights(tmp_path: Path) -> None:
    """And a camera whose name has an underscore, which LeRobot's own migration loses."""
    folder = golden_folder("dp_image_bn_crop", tmp_path)
    as_before_0_4(folder, {"observation.state": ("min", "max"), "action": ("min", "max")})
    config = json.loads((folder / "config.json").read_text())
    for name in ("resize_shape", "crop_ratio", "compile_model", "compile_mode"):
        del config[name]
    (folder / "config.json").write_text(json.dumps({**config, "use_separate_key": 1}))
    checkpoint = load_checkpoint(folder, GIVEN)
    assert difference(folder, checkpoint) < 1e-5
    assert checkpoint.provenance["ignored"] == ["use_separate_key"]


def test_weights_of_a_compiled_network_have_its_names(tmp_path: Path) -> None:
    folder = golden_folder("dp_state_ddim10", tmp_path)
    edit_json(folder / "config.json", compile_model=True)
    edit_weights(folder, lambda weights: rename(weights, "diffusion.unet", "_orig_mod"))
    assert difference(folder, load_checkpoint(folder, GIVEN)) < 1e-5


def test_what_is_said_nowhere_is_asked_for(tmp_path: Path) -> None:
    folder = golden_folder("dp_state_ddim10", tmp_path)
    with pytest.raises(ValueError, match=r"does not say how often .* lerobot.dt=0.1, or its data"):
        load_checkpoint(folder)
    spec = load_checkpoint(folder, Given(dt=0.1)).action_spec
    # The ends of the training data, 1e-6 of their range wider.
    assert spec.low == pytest.approx((-2 - 4e-6, -5e-6))
    assert spec.high == pytest.approx((2 + 4e-6, 5 + 5e-6))
    with pytest.raises(ValueError, match=r"lerobot.action_low must have 2 entries, .* got 1"):
        load_checkpoint(folder, Given(dt=0.1, action_low=(0,), action_high=(1, 1)))


def test_what_never_varied_is_not_looked_at(tmp_path: Path) -> None:
    """LeRobot divides its deviation by 1e-8: a policy in training has never seen that."""
    folder = golden_folder("dp_state_ddim10", tmp_path)
    normalizer = load_checkpoint(folder, GIVEN).model.observation_normalizer
    assert normalizer.scale[2] == 0
    assert normalizer.offset[2] == -1


def test_the_middle_of_an_odd_margin_is_rounded_as_lerobot_does(tmp_path: Path) -> None:
    """Half of 3 pixels is 2 there, to the nearest even number, and 1 of hotloop's own."""
    folder = golden_folder("dp_image_bn_crop", tmp_path)
    edit_json(folder / "config.json", crop_shape=[93, 84])
    edit_weights(folder, lambda weights: None)
    encoder = load_checkpoint(folder, GIVEN).model.config.encoder
    assert encoder.crop_at == (2, 6)
    vision = Vision(EncoderConfig(crop=(32, 32), crop_at=(2, 0)), {FRONT: (35, 35, 3)})
    frames = np.random.default_rng(0).integers(0, 256, (1, 1, 35, 35, 3), np.uint8)
    import torch

    cropped = vision.crop({FRONT: torch.from_numpy(frames)}, None)
    np.testing.assert_array_equal(cropped[0, 0].numpy(), frames[0, 0, 2:34, :32].ravel())


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"vision_backbone": "resnet50"}, "vision_backbone: expected one of 'resnet18', got"),
        ({"noise_scheduler_type": "EULER"}, "noise_scheduler_type: expected one of 'DDPM', 'DDIM'"),
        ({"prediction_type": "v_prediction"}, "prediction_type: expected one of 'epsilon'"),
        ({"beta_schedule": "sigmoid"}, "one of squaredcos_cap_v2, linear, scaled_linear, got 'sig"),
        ({"n_action_steps": 16}, "num_execute must be between 1 and 15, got 16"),
        ({"num_inference_steps": 101}, "calls must be between 1 and 100 .* got 101"),
        ({"num_inference_steps": 0}, "calls_per_step must be at least 1"),
        ({"kernel_size": 4}, "kernel_size must be odd, got 4"),
        ({"n_groups": 5}, "dims must be positive multiples of 5"),
        ({"down_dims": [32]}, r"down_modules.1.0.conv1.block.0.weight is unknown; .* is unknown"),
        ({"down_dims": "big"}, "down_dims: expected .*, got 'big'"),
        ({"horizon": None}, "horizon: expected int, got None"),
        ({"use_film_scale_modulation": False}, r"shape \(64, 48\), expected \(32, 48\); .*; .*"),
        ({"use_peft": True}, "adapter"),
        ({"input_features": {}}, "input_features must name what goes in"),
        ({"type": "smolvla"}, "policies of type 'smolvla' are not read; there are act, diffusion"),
        ({"input_features": {STATE: {"type": "STATE", "shape": [3, 3]}}}, "must be a vector"),
        ({"input_features": {FRONT: {"type": "VISUAL", "shape": [96, 96, 3]}}}, "red, green and"),
        ({"input_features": {STATE: {"type": "TOUCH", "shape": [3]}}}, "type: expected one of"),
    ],
)
def test_another_policy_is_refused(values: dict, message: str, tmp_path: Path) -> None:
    folder = golden_folder("dp_state_ddim10", tmp_path)
    edit_json(folder / "config.json", **values)
    with pytest.raises(ValueError, match=message) as raised:
        load_checkpoint(folder, GIVEN)
    assert str(folder) in str(raised.value)


def test_all_wrong_weights_are_told_at_once(tmp_path: Path) -> None:
    folder = golden_folder("dp_state_ddim10", tmp_path)

    def change(weights: Weights) -> None:
        weights["diffusion.spare"] = weights.pop("diffusion.unet.final_conv.1.bias")
        name = "diffusion.unet.diffusion_step_encoder.3.weight"
        weights[name] = weights[name][:, :-1].copy()

    edit_weights(folder, change)
    with pytest.raises(ValueError, match="does not hold the weights") as raised:
        load_checkpoint(folder, GIVEN)
    for fault in ("final_conv.1.bias is missing", "spare is unknown", "(32, 127), expected (32, 1"):
        assert fault in str(raised.value)


def test_a_grid_of_other_pictures_is_refused(tmp_path: Path) -> None:
    folder = golden_folder("dp_image_bn_crop", tmp_path)
    name = "diffusion.rgb_encoder.0.pool.pos_grid"
    edit_weights(folder, lambda weights: weights.update({name: weights[name][::-1].copy()}))
    with pytest.raises(ValueError, match="grid of another shape of pictures"):
        load_checkpoint(folder, GIVEN)


def test_timesteps_of_diffusion_policy_are_embedded_as_it_does() -> None:
    import torch

    from hotloop.policies.networks.levels import TimestepEmbedding

    timestep = torch.arange(100)
    angle = timestep[:, None] * torch.exp(torch.arange(4) * -(np.log(10000) / 3))
    expected = torch.cat([angle.sin(), angle.cos()], dim=1)
    found = TimestepEmbedding(8, 100)((timestep + 1) / 100)
    torch.testing.assert_close(found, expected.float(), rtol=0, atol=1e-5)


def rename(weights: Weights, part: str, inner: str) -> None:
    for name in list(weights):
        weights[name.replace(part, f"{part}.{inner}")] = weights.pop(name)


def edit_weights(folder: Path, change: Callable[[Weights], object]) -> None:
    file = folder / "model.safetensors"
    weights = safetensors.numpy.load_file(file)
    change(weights)
    safetensors.numpy.save_file(weights, file)
