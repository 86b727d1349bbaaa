"""LeRobot's ACT: its own actions, recorded, from its own folders; what is refused, and how."""

from __future__ import annotations

import json
import runpy
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from lerobot_folders import as_before_0_4, edit_json, golden_folder, replayed

from hotloop.policies.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from hotloop.policies.lerobot.given import Given
from hotloop.train.cli import main
from hotloop.train.commands import ExitCode

GIVEN = Given(dt=0.1, action_low=(-1e4, -1e4), action_high=(1e4, 1e4))  # LeRobot clips nothing
FRONT = "observation.images.front_left"


def difference(folder: Path, checkpoint: Checkpoint) -> float:
    """Largest difference to LeRobot's actions, in normalised units."""
    shapes = checkpoint.model.observation_shapes
    found, expected = replayed(folder, checkpoint.policy(), shapes)
    scale = checkpoint.model.action_scaling.scale.numpy()
    return float(np.abs((found - expected) / scale).max())


@pytest.mark.parametrize("name", ["act_state", "act_state_ensemble", "act_image_two"])
def test_it_acts_as_lerobot_does(name: str, tmp_path: Path) -> None:
    """Recorded with LeRobot 0.6.1: chunks, the average of chunks with pre-norm and GELU, pictures.

    What was imported is stored in hotloop's own form, and still does.
    """
    folder = golden_folder(name, tmp_path)
    checkpoint = load_checkpoint(folder, GIVEN)
    assert difference(folder, checkpoint) < 1e-5
    save_checkpoint(tmp_path / "own", checkpoint)
    assert difference(folder, load_checkpoint(tmp_path / "own")) < 1e-5


def test_a_folder_from_before_0_4_has_its_statistics_among_the_weights(tmp_path: Path) -> None:
    """And a camera whose name has an underscore, which LeRobot's own migration loses."""
    folder = golden_folder("act_image_two", tmp_path)
    expected = difference(folder, load_checkpoint(folder, GIVEN))
    as_before_0_4(folder, {})
    edit_json(folder / "config.json", n_obs_steps=1, use_amp=False, replaced_since=True)
    checkpoint = load_checkpoint(folder, GIVEN)
    assert difference(folder, checkpoint) == expected
    assert checkpoint.provenance["ignored"] == ["replaced_since"]


def test_a_vector_that_act_does_not_read_is_not_asked_for(tmp_path: Path) -> None:
    folder = golden_folder("act_state", tmp_path)
    inputs = json.loads((folder / "config.json").read_text())["input_features"]
    inputs["observation.effort"] = {"type": "STATE", "shape": [4]}
    edit_json(folder / "config.json", input_features=inputs)
    checkpoint = load_checkpoint(folder, GIVEN)
    assert "observation.effort" not in checkpoint.model.observation_shapes
    assert checkpoint.provenance["ignored"] == ["observation.effort"]
    assert difference(folder, checkpoint) < 1e-5


def test_a_renamed_camera_is_observed_by_the_robots_name(tmp_path: Path) -> None:
    folder = golden_folder("act_image_two", tmp_path)
    file = folder / "policy_preprocessor.json"
    steps = json.loads(file.read_text())["steps"]
    steps[0]["config"]["rename_map"] = {"observation.images.front": FRONT}
    edit_json(file, steps=steps)
    checkpoint = load_checkpoint(folder, GIVEN)
    assert list(checkpoint.model.observation_shapes) == [
        "observation.state", "observation.images.front", "observation.images.wrist",
    ]  # fmt: skip


def test_every_command_takes_the_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Timed as it is, with its chunks averaged, and as a checkpoint of hotloop's own."""
    folder, own = golden_folder("act_state", tmp_path), tmp_path / "own"
    averaged = ("sampling.num_execute=1", "sampling.temporal_ensemble=0.01")
    assert main(["import", str(folder), str(own), "dt=0.1"]) == ExitCode.SUCCESS
    assert "act, 0.04 M parameters" in capsys.readouterr().out
    for names in ([str(folder), str(own)], [str(folder), *averaged]):
        assert main(["bench", *names, "engines=[eager]", "steps=2"]) == ExitCode.SUCCESS
        assert capsys.readouterr().out.count("act-1 ") == 1 + (str(own) in names)
    for words, message in (
        (["bench", str(folder), averaged[1], "steps=2"], "set sampling.num_execute=1"),
        (["bench", str(folder), "sampling.ensemble=1"], "has num_execute, temporal_ensemble"),
        (
            ["train", "policy.kind=act"],
            "policy.kind=act is not trained here; train it with LeRobot",
        ),
    ):
        assert main(words) == ExitCode.USAGE
        assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"n_obs_steps": 2}, "n_obs_steps must be 1, got 2"),
        ({"vision_backbone": "resnet50"}, "vision_backbone must be 'resnet18', got 'resnet50'"),
        ({"replace_final_stride_with_dilation": True}, "dilation must be False, got True"),
        ({"feedforward_activation": "glu"}, r"activation must be one of .*, got 'glu'"),
        ({"n_action_steps": 13}, "between 1 and 12, the actions of a chunk, got 13"),
        ({"temporal_ensemble_coeff": 0.1}, "needs num_execute 1, got 5"),
        ({"dim_model": "wide"}, "dim_model: expected int, got 'wide'"),
        ({"n_heads": 5}, "dim must be a multiple of 4 and of num_heads 5, got 32"),
        ({"chunk_size": 14}, r"decoder_pos_embed.weight has shape \(12, 32\), expected \(14, 32\)"),
        ({"latent_dim": 8}, r"latent_input_proj.weight has shape \(32, 32\), expected \(32, 8\)"),
        ({"n_encoder_layers": 3}, r"layers.2.linear1.weight is missing; .*layers.2.norm2.bias"),
        ({"pre_norm": True}, r"model.encoder.norm.weight is missing"),
    ],
)
def test_another_network_is_refused(
    values: dict[str, object], message: str, tmp_path: Path
) -> None:
    folder = golden_folder("act_state", tmp_path)
    edit_json(folder / "config.json", **values)
    with pytest.raises(ValueError, match=message):
        load_checkpoint(folder, GIVEN)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda weights: weights.pop("model.action_head.bias"), "action_head.bias is missing"),
        (lambda weights: weights.update(spare=np.zeros(1, np.float32)), "spare is unknown"),
        (lambda weights: weights["model.action_head.bias"].fill(np.nan), "holds NaN or infinite"),
    ],
)
def test_other_weights_are_refused(
    change: Callable[[dict[str, np.ndarray]], object], message: str, tmp_path: Path
) -> None:
    folder = golden_folder("act_state", tmp_path)
    weights = safetensors.numpy.load_file(folder / "model.safetensors")
    change(weights)
    safetensors.numpy.save_file(weights, folder / "model.safetensors")
    with pytest.raises(ValueError, match=message):
        load_checkpoint(folder, GIVEN)


def test_what_observes_nothing_is_refused(tmp_path: Path) -> None:
    folder = golden_folder("act_state", tmp_path)
    edit_json(folder / "config.json", input_features={"effort": {"type": "STATE", "shape": [3]}})
    with pytest.raises(ValueError, match=r"must hold pictures, observation\.state or .*'effort'"):
        load_checkpoint(folder, GIVEN)


def test_an_exported_folder_acts_as_lerobot_does(tmp_path: Path) -> None:
    """Straight from LeRobot's folder to the runtime of one file, the averages carried along."""
    folder, out = golden_folder("act_state_ensemble", tmp_path), tmp_path / "exported"
    bounds = ("lerobot.action_low=[-1e4,-1e4]", "lerobot.action_high=[1e4,1e4]")
    words = ["export", str(folder), str(out), "lerobot.dt=0.1", *bounds, "steps=12"]
    assert main(words) == ExitCode.SUCCESS
    robot = runpy.run_path(str(out / "hotloop_runtime.py"))["Runtime"](out)
    trace = np.load(folder / "trace.npz")
    for step, expected in enumerate(trace["actions"]):
        frame = {key: trace[key][step] for key in trace if key.startswith("observation")}
        np.testing.assert_allclose(robot.act(frame), expected, atol=1e-5)
