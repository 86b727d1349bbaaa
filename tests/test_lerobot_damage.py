"""LeRobot folders that are damaged, half copied or edited by hand: one sentence, no traceback."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from lerobot_folders import edit_json, golden_folder

from hotloop.policies.checkpoint import load_checkpoint
from hotloop.policies.lerobot.given import Given
from hotloop.train.cli import main

GIVEN = Given(dt=0.1)
BEFORE, AFTER = "policy_preprocessor.json", "policy_postprocessor.json"
WEIGHTS = "model.safetensors"
STATE, ENVIRONMENT = "observation.state", "observation.environment_state"
Tensors = dict[str, torch.Tensor]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return golden_folder("dp_state_ddim10", tmp_path)


def edit_step(folder: Path, name: str, **values: object) -> None:
    """Change the configuration of a step of the preprocessor."""
    file = folder / BEFORE
    steps = json.loads(file.read_text())["steps"]
    (step,) = (one for one in steps if one["registry_name"] == name)
    step["config"] |= values
    edit_json(file, steps=steps)


def edit_tensors(folder: Path, pattern: str, change: Callable[[str, torch.Tensor], Any]) -> None:
    """Change every tensor of a file; None leaves it out."""
    (file,) = folder.glob(pattern)
    found = {key: change(key, value) for key, value in safetensors.torch.load_file(file).items()}
    kept = {key: value for key, value in found.items() if value is not None}
    safetensors.torch.save_file(kept, file)


@pytest.mark.parametrize(
    "name", [WEIGHTS, BEFORE, AFTER, "policy_preprocessor_step_3_normalizer_processor.safetensors"]
)
@pytest.mark.parametrize("instead", ["nothing", "a folder", "a link to nothing"])
def test_a_file_that_is_not_there_is_named(folder: Path, name: str, instead: str) -> None:
    """LeRobot 0.4 and later writes all of them; what it wrote before has none of the processors."""
    (folder / name).unlink()
    if instead == "a folder":
        (folder / name).mkdir()
    elif instead == "a link to nothing":
        (folder / name).symlink_to("../../blobs/0")
    with pytest.raises(FileNotFoundError, match=f"has no file '{name}'; copy the whole"):
        load_checkpoint(folder, GIVEN)


@pytest.mark.parametrize("name", ["..", "/etc/passwd", "a\0b", "a" * 5000, "\ud800"])
def test_a_state_file_is_beside_its_step(folder: Path, name: str) -> None:
    steps = json.loads((folder / BEFORE).read_text())["steps"]
    edit_json(folder / BEFORE, steps=[{**steps[-1], "state_file": name}])
    with pytest.raises(FileNotFoundError, match="has no file"):
        load_checkpoint(folder, GIVEN)


@pytest.mark.parametrize(
    "dtype", [torch.bfloat16, torch.float8_e4m3fn, torch.int8, torch.bool, torch.complex64]
)
def test_weights_are_float32(folder: Path, dtype: torch.dtype) -> None:
    """Integers and complex numbers loaded without a word, and eight bits ended in a traceback."""
    edit_tensors(folder, WEIGHTS, lambda _, value: value.to(dtype))
    with pytest.raises(ValueError, match=f"of type {dtype}; expected float32"):
        load_checkpoint(folder, GIVEN)


def test_statistics_may_be_of_any_precision(folder: Path) -> None:
    """numpy has no bfloat16."""
    edit_tensors(folder, "policy_pre*.safetensors", lambda _, value: value.bfloat16())
    normalizer = load_checkpoint(folder, GIVEN).model.observation_normalizer
    assert torch.isfinite(normalizer.scale).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda _, value: value * np.nan, "the statistic 'min' of observation.state is not finite"),
        (lambda _, value: value[:-1].clone(), "must have 3 entries, got shape"),
        (lambda _, value: value.sum(), r"must have 3 entries, got shape \(\)"),
        (lambda key, value: -value if "min" in key or "max" in key else value, "not above the gre"),
        (lambda key, value: None if key.endswith("max") else value, "lack 'max', which its norm"),
        (lambda _, value: value.to(torch.complex64), "must hold real numbers"),
    ],
)
def test_statistics_that_are_none_are_refused(
    folder: Path, change: Callable[..., Any], message: str
) -> None:
    """A range that is upside down was taken for a constant."""
    edit_tensors(folder, "policy_pre*.safetensors", change)
    with pytest.raises(ValueError, match=message):
        load_checkpoint(folder, GIVEN)


def test_a_deviation_below_zero_is_refused(folder: Path) -> None:
    edit_step(folder, "normalizer_processor", norm_map={"STATE": "MEAN_STD"})
    edit_tensors(folder, "policy_pre*.safetensors", lambda _, value: -value.abs() - 1)
    with pytest.raises(ValueError, match="a deviation of at least 0"):
        load_checkpoint(folder, GIVEN)


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("normalizer_processor", {"eps": np.nan}, "a positive eps"),
        ("normalizer_processor", {"eps": np.inf}, "a positive eps"),
        ("normalizer_processor", {"normalize_observation_keys": 3}, "a list of names, got 3"),
        ("normalizer_processor", {"normalize_observation_keys": STATE}, "a list of names, got 'o"),
        ("rename_observations_processor", {"rename_map": {"a": [1]}}, "map names to others"),
        ("rename_observations_processor", {"rename_map": {"a": None}}, "map names to others"),
        (
            "rename_observations_processor",
            {"rename_map": {ENVIRONMENT: STATE}},
            "makes two of .* from one observation",
        ),
    ],
)
def test_steps_that_mean_nothing_are_refused(
    folder: Path, name: str, values: dict[str, Any], message: str
) -> None:
    edit_step(folder, name, **values)
    with pytest.raises(ValueError, match=message):
        load_checkpoint(folder, GIVEN)


@pytest.mark.parametrize(
    ("golden", "values", "message"),
    [
        ("dp_state_ddim10", {"down_dims": [10**7] * 2}, "down_dims is 10000000, but no side of"),
        ("dp_state_ddim10", {"diffusion_step_embed_dim": 10**30}, "no side of the weights"),
        ("dp_state_ddim10", {"horizon": 10**30}, "horizon must be between 1 and 1000000"),
        ("dp_state_ddim10", {"num_train_timesteps": 10**30}, "num_levels and horizon must be"),
        ("dp_state_ddim10", {"clip_sample_range": 1e308}, r"clip must be between 0 and 1e\+30"),
        (
            "dp_state_ddim10",
            {"input_features": {STATE: {"type": "STATE", "shape": [10**9]}}},
            "at most 65536 a side",
        ),
        ("act_state", {"dim_model": 10**6}, "dim_model is 1000000, but no side of the weights"),
        ("act_state", {"chunk_size": 10**30}, "no side of the weights"),
        ("act_state", {"n_encoder_layers": 10**9}, "no side of the weights"),
    ],
)
def test_sizes_that_would_fill_the_memory_are_refused_before(
    tmp_path: Path, golden: str, values: dict[str, Any], message: str
) -> None:
    folder = golden_folder(golden, tmp_path)
    edit_json(folder / "config.json", **values)
    with pytest.raises(ValueError, match=message) as raised:
        load_checkpoint(folder, GIVEN)
    assert str(folder / "config.json") in str(raised.value)


def test_all_missing_fields_are_told_at_once(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    del config["horizon"], config["kernel_size"]
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="lacks horizon, kernel_size, which LeRobot writes"):
        load_checkpoint(folder, GIVEN)


def test_a_number_of_thousands_of_digits_is_no_json(folder: Path) -> None:
    (folder / "config.json").write_text('{"type": ' + "9" * 5000 + "}")
    with pytest.raises(ValueError, match=r"config.json is not valid JSON"):
        load_checkpoint(folder, GIVEN)


def test_what_lacks_statistics_is_told_when_imported(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """LeRobot leaves it as it is without a word; so do we, with one."""
    edit_tensors(
        folder, "policy_pre*.safetensors", lambda key, value: None if STATE in key else value
    )
    assert main(["import", str(folder), str(tmp_path / "own"), "dt=0.1"]) == 0
    assert f"not normalised  {STATE}: the folder has no statistics" in capsys.readouterr().out
    assert (load_checkpoint(tmp_path / "own").model.observation_normalizer.scale == 1).all()


def test_names_of_any_language_and_blanks_are_paths(folder: Path, tmp_path: Path) -> None:
    odd = tmp_path / "mit Leer ü" / "模型 = a,b"
    odd.parent.mkdir()
    folder.rename(odd)
    out = tmp_path / "aus gabe 出"
    assert main(["import", str(odd), str(out), "dt=0.1"]) == 0
    assert load_checkpoint(out).kind == "dp"


def test_a_name_of_the_hub_is_downloaded_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["import", "lerobot/diffusion_pusht", str(tmp_path / "own"), "dt=0.1"]) == 2
    assert "hf download lerobot/diffusion_pusht --local-dir FOLDER" in capsys.readouterr().err
