"""OpenVLA folders that are not its published layout, or damaged: one sentence each."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from tiny_openvla import TINY as NAME
from tiny_openvla import random_weights, write_folder
from torch import Tensor

from hotloop.policies.vla import BinStatistics
from hotloop.policies.vla.openvla.choices import OpenVlaChoices
from hotloop.policies.vla.openvla.reading import read_openvla
from hotloop.train.cli import main

INDEX = "model.safetensors.index.json"
FIRST_SHARD = "model-00001-of-00002.safetensors"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("openvla"))


@pytest.fixture
def copied(folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "copied"))


Weights = dict[str, Tensor]


def without(name: str) -> Callable[[Weights], Weights]:
    return lambda weights: {key: value for key, value in weights.items() if key != name}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without("projector.fc3.bias"), "projector.fc3.bias is missing"),
        (
            without("vision_backbone.featurizer.reg_token"),
            "featurizer.reg_token must have 3 sides, got no",
        ),
        (
            without("vision_backbone.fused_featurizer.patch_embed.proj.weight"),
            "patch_embed.proj.weight must have 4 sides, got no such weight",
        ),
        (lambda all_: all_ | {"odd.weight": torch.zeros(1)}, "odd.weight is unknown"),
        (
            lambda all_: all_ | {"projector.fc1.bias": torch.zeros(3)},
            r"fc1.bias has shape \(3,\), expected \(320,\)",
        ),
        (
            lambda all_: all_ | {"projector.fc1.bias": torch.full((320,), torch.nan).bfloat16()},
            "fc1.bias holds NaN or infinite",
        ),
        (
            lambda all_: all_ | {"projector.fc1.bias": torch.zeros(320, dtype=torch.int8)},
            "of type F32, BF16 or F16, got I8; quantised",
        ),
    ],
)
def test_other_weights_are_one_sentence(
    tmp_path: Path, change: Callable[[Weights], Weights], message: str
) -> None:
    odd = write_folder(tmp_path / "odd", change(random_weights()))
    with pytest.raises(ValueError, match=message):
        read_openvla(odd, OpenVlaChoices(NAME), 0.2)


def edit(file: Path, change: dict[str, Any]) -> None:
    values = json.loads(file.read_text(encoding="utf-8"))
    file.write_text(json.dumps({**values, **change}), encoding="utf-8")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"vision_backbone_id": "siglip-vit-so400m"}, "DINOv2 and SigLIP fused, got siglip"),
        (
            {"arch_specifier": "linear"},
            "arch_specifier must be no-align.fused-gelu-mlp, got linear",
        ),
        ({"n_action_bins": 128}, "n_action_bins must be 256, got 128"),
        ({"text_config": {"model_type": "phi"}}, "text_config must be a Llama's"),
        ({"image_sizes": ["28", "28"]}, "image_sizes must be one whole number twice"),
        ({"text_config": {"model_type": "llama", "vocab_size": "a"}}, "vocab_size must be a whole"),
        ({"pad_token_id": 40_000}, "pad_token_id must be a whole number from 0 to 32063"),
        ({"image_sizes": [28, 42]}, r"must be one whole number twice, got \[28, 42\]"),
        ({"image_sizes": [42, 42]}, r"pos_embed has shape \(1, 4, 32\), expected \(1, 9, 32\)"),
        ({"pad_to_multiple_of": 0}, "pad_to_multiple_of must be the ids behind"),
        ({"norm_stats": None}, "has no norm_stats"),
        ({"norm_stats": {NAME: {"action": {"q01": [0.0]}}}}, "tiny_orig.action: .*q99"),
        ({"norm_stats": {NAME: {"action": {"q01": [0], "q99": [1, 2]}}}}, "tiny_orig.action: bin"),
        ({"norm_stats": {NAME: 3}}, "tiny_orig.action must hold q01, q99 and mask, got None"),
    ],
)
def test_other_configurations_are_one_sentence(
    copied: Path, change: dict[str, Any], message: str
) -> None:
    edit(copied / "config.json", change)
    with pytest.raises(ValueError, match=message):
        read_openvla(copied, OpenVlaChoices(NAME), 0.2)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("tiny_oirg", r"'tiny_oirg' \(do you mean 'tiny_orig'\?\); .* one of other, tiny_orig"),
        ("", "statistics of 2 data sets; choose one with openvla.norm_key=NAME: other, tiny_orig"),
    ],
)
def test_a_wrong_data_set_names_those_that_there_are(folder: Path, name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_openvla(folder, OpenVlaChoices(name), 0.2)


def test_a_tuned_models_own_statistics_come_first(copied: Path) -> None:
    own = {"mine": {"action": {"q01": [-3.0], "q99": [3.0]}}}
    (copied / "dataset_statistics.json").write_text(json.dumps(own))
    found = read_openvla(copied, OpenVlaChoices(), 0.2)
    assert found.model.config.actions == BinStatistics((-3.0,), (3.0,), (True,))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: (path / "tokenizer.json").unlink(), "tokenizer.json is missing"),
        (
            lambda path: (path / "model-00002-of-00002.safetensors").unlink(),
            "00002-of-00002.safetensors is missing; copy the whole folder",
        ),
        (
            lambda path: (path / "model-00002-of-00002.safetensors").write_bytes(b"no weights"),
            "is damaged, it holds no weights",
        ),
        (
            lambda path: edit(path / INDEX, {"weight_map": {"a": "../x.safetensors"}}),
            "shards lie in the folder itself, got '../x.safetensors'",
        ),
        (
            lambda path: edit(
                path / INDEX, {"weight_map": {"a": "model-00001-of-00002.safetensors"}}
            ),
            "says that a is in model-00001-of-00002.safetensors, which does not hold it",
        ),
        (
            lambda path: edit(path / "preprocessor_config.json", {"means": [[0.5, 0.5]]}),
            "means must be three numbers per tower",
        ),
        (
            lambda path: (path / "action_head--1.pt").touch(),
            r"action head of its own \(OpenVLA-OFT\)",
        ),
        (
            lambda path: edit(
                path / "tokenizer.json",
                {"model": {"type": "WordLevel", "vocab": {"<s>": 1, "a": 2}, "unk_token": "a"}},
            ),
            "id 29871 must be '▁', as in Llama 2's tokenizer",
        ),
    ],
)
def test_damaged_folders_are_one_sentence(
    copied: Path, damage: Callable[[Path], object], message: str
) -> None:
    damage(copied)
    with pytest.raises((ValueError, OSError), match=message):
        read_openvla(copied, OpenVlaChoices(NAME), 0.2)


def test_one_file_of_weights_needs_no_index(copied: Path) -> None:
    for file in [copied / INDEX, *copied.glob("model-*")]:
        file.unlink()
    weights = {name: value.contiguous() for name, value in random_weights().items()}
    safetensors.torch.save_file(weights, copied / "model.safetensors")
    assert read_openvla(copied, OpenVlaChoices(NAME), 0.2).model.host.weight.dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ((), "does not say how often actions are sent; give dt=0.2"),
        (("dt=0.2", "check=true"), "check is of LeRobot's folders"),
        (("dt=0.2", "action_low=[0]"), "action_low is of LeRobot's folders"),
        (("dt=0.2", "openvla.num_actions=0"), "openvla.num_actions must be at least 1"),
    ],
)
def test_the_command_says_what_it_lacks(
    folder: Path,
    tmp_path: Path,
    settings: tuple[str, ...],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["import", str(folder), str(tmp_path / "own"), *settings]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "own").exists()
