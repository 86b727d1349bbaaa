"""Checkpoints: what comes back, what is refused, and that a failed save costs nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from tiny import SPEC, stream, tiny_model

from hotloop.policies import checkpoint as checkpoint_module
from hotloop.policies.checkpoint import (
    CONFIG_FILE,
    WEIGHTS_FILE,
    Checkpoint,
    find_checkpoint,
    load_checkpoint,
    save_checkpoint,
)
from hotloop.policies.diffusion.config import DiffusionSampling, StreamingSampling

SAMPLING = StreamingSampling(num_execute=4, calls_per_step=3)
DP_SAMPLING = DiffusionSampling(num_execute=4, calls_per_step=3)
Edit = Callable[[dict[str, Any]], object]


def tiny_checkpoint(kind: str = "sdp", **choices: Any) -> Checkpoint:
    sampling = SAMPLING if kind == "sdp" else DP_SAMPLING
    return Checkpoint(kind, tiny_model(**choices), SPEC, sampling, {"task": "toy", "steps": 7})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_checkpoint(tmp_path / "toy", tiny_checkpoint())
    return tmp_path / "toy"


def edit(folder: Path, change: Edit) -> None:
    config = json.loads((folder / CONFIG_FILE).read_text())
    change(config)
    (folder / CONFIG_FILE).write_text(json.dumps(config))


@pytest.mark.parametrize("kind", ["dp", "sdp"])
@pytest.mark.parametrize("jump", [False, True])
def test_a_loaded_policy_makes_the_same_plans(tmp_path: Path, kind: str, jump: bool) -> None:
    saved = tiny_checkpoint(kind, jump=jump, prediction="sample" if jump else "velocity")
    save_checkpoint(tmp_path / "toy", saved)
    loaded = load_checkpoint(tmp_path / "toy")
    plans = [stream(each.policy(), [1, 2], 3) for each in (saved, loaded)]
    for one, other in zip(*plans, strict=True):
        np.testing.assert_array_equal(one.actions, other.actions)
        np.testing.assert_array_equal(one.noise_level, other.noise_level)


def test_everything_else_comes_back_too(folder: Path) -> None:
    loaded, saved = load_checkpoint(folder), tiny_checkpoint()
    assert loaded.kind == "sdp"
    assert loaded.action_spec == SPEC
    assert loaded.sampling == SAMPLING
    assert loaded.provenance == {"task": "toy", "steps": 7}
    assert loaded.model.config == saved.model.config
    assert list(loaded.model.observation_shapes.items()) == list(
        saved.model.observation_shapes.items()
    )
    assert not loaded.model.training
    assert not any(parameter.requires_grad for parameter in loaded.model.parameters())


def test_single_sampling_choices_can_be_overridden(folder: Path) -> None:
    policy = load_checkpoint(folder).policy({"num_execute": 2, "calls_per_step": 1})
    assert (policy.num_execute, policy.program.num_calls) == (2, 1)


def test_the_files_are_json_and_safetensors_only(folder: Path) -> None:
    assert sorted(file.name for file in folder.iterdir()) == [CONFIG_FILE, WEIGHTS_FILE]
    assert json.loads((folder / CONFIG_FILE).read_text())["format_version"] == 2
    weights = safetensors.torch.load_file(folder / WEIGHTS_FILE)
    assert "action_normalizer.scale" in weights, "normalisation belongs to the checkpoint"


@pytest.mark.parametrize("name", ["model.ckpt", "model.pt", "a/b.pth", "policy.pkl", "x.bin"])
def test_a_pickle_is_refused_without_being_opened(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"cos\nsystem\n(S'exit 1'\ntR.")
    with pytest.raises(ValueError, match=rf"{path.name} looks like a pickle.*config\.json"):
        load_checkpoint(path)


def remove(*keys: str) -> Edit:
    def change(config: dict[str, Any]) -> None:
        for key in keys[:-1]:
            config = config[key]
        del config[keys[-1]]

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda c: c.update(format_version=3),
            "checkpoint format 3 cannot be read, expected 1 to 2",
        ),
        (remove("format_version"), "checkpoint format None cannot be read, expected 1 to 2"),
        (
            lambda c: c.update(kind="none"),
            r"no kind of policy 'none'.*; choose from .*diffuser, dp, lerobot, sdp",
        ),
        (remove("model"), "model has no default"),
        (remove("observation_shapes"), "observation_shapes has no default"),
        (remove("action_spec", "dt"), r"action_spec\.dt has no default"),
        (lambda c: c.update(weights={}), "unknown key 'weights'"),
        (
            lambda c: c["model"].update(hoziron=9),
            r"unknown key 'model\.hoziron'; did you mean model\.horizon\?",
        ),
        (lambda c: c["sampling"].update(eta=1), r"unknown key 'sampling\.eta'; did you mean"),
        (lambda c: c["sampling"].update(calls_per_step="1"), r"calls_per_step: expected int"),
        (lambda c: c.update(model=[1]), r"model: expected dict\[str, .*got \[1\]"),
        (lambda c: c.update(format_version=[2]), r"checkpoint format \[2\] cannot be read"),
        (lambda c: c.update(kind="os:system"), r"kind of policy 'os:system' is no hotloop\.poli"),
        (
            lambda c: c["model"]["network"].update(kind="os:system"),
            r"network 'os:system' is .*; a network must be a subclass of .*Denoiser",
        ),
        (
            lambda c: c["model"]["network"].update(kind="subprocess:Popen"),
            r"network 'subprocess:Popen' is .*; a network must be a subclass of .*Denoiser",
        ),
        (
            lambda c: c["model"]["network"].update(level_embedding="per_position"),
            r"network 'mlp' has no choice network\.level_embedding, got 'per_position'",
        ),
        (
            lambda c: c["model"]["network"].update(options={"heads": 4}),
            r"network 'mlp' has no choice network\.options, got \{'heads': 4\}",
        ),
        (lambda c: c["model"]["network"].update(width=0), r"network\.width .* at least 1, got 0"),
        (lambda c: c["model"].update(ladders=["3x3"]), "3 chunks of 3 actions do not fit"),
        (lambda c: c["model"].update(prediction="noise"), "prediction must be one of"),
        (lambda c: c["action_spec"].update(low=[9, 9]), "low must be below high"),
    ],
)
def test_a_wrong_config_is_answered_with_the_file_and_the_fault(
    folder: Path, change: Edit, message: str
) -> None:
    edit(folder, change)
    with pytest.raises(ValueError, match=rf"toy/config\.json: .*{message}"):
        load_checkpoint(folder)


@pytest.mark.parametrize("text", ["", "{", "[1, 2]", "null"])
def test_a_config_that_is_no_json_object_is_named(folder: Path, text: str) -> None:
    (folder / CONFIG_FILE).write_text(text)
    with pytest.raises(ValueError, match=r"toy/config\.json"):
        load_checkpoint(folder)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def drop_a_tensor(path: Path) -> None:
    weights = safetensors.torch.load_file(path)
    weights.pop("action_normalizer.scale")
    safetensors.torch.save_file(weights, path)


def change_a_shape(path: Path) -> None:
    weights = safetensors.torch.load_file(path)
    weights["action_normalizer.scale"] = torch.ones(7)
    safetensors.torch.save_file(weights, path)


@pytest.mark.parametrize(
    ("damage", "found"),
    [
        (truncate, ""),
        (lambda path: path.write_bytes(b"not weights"), ""),
        (drop_a_tensor, r"action_normalizer\.scale has shape none, but by config\.json it is"),
        (change_a_shape, r"action_normalizer\.scale has shape \(7,\).* and 0 more differ"),
    ],
)
def test_damaged_weights_are_named(
    folder: Path, damage: Callable[[Path], object], found: str
) -> None:
    damage(folder / WEIGHTS_FILE)
    message = rf"model\.safetensors does not hold the weights it should: .*{found}"
    with pytest.raises(ValueError, match=message) as caught:
        load_checkpoint(folder)
    assert "\n" not in str(caught.value)


def test_weights_that_are_no_numbers_are_refused(folder: Path) -> None:
    """A training that diverged, or a damaged file: the robot would have heard of it first."""
    weights = safetensors.torch.load_file(folder / WEIGHTS_FILE)
    weights["action_normalizer.scale"][0] = float("nan")
    safetensors.torch.save_file(weights, folder / WEIGHTS_FILE)
    with pytest.raises(ValueError, match=r"action_normalizer\.scale holds NaN or infinite"):
        load_checkpoint(folder)


def test_missing_weights_are_named(folder: Path) -> None:
    (folder / WEIGHTS_FILE).unlink()
    with pytest.raises(FileNotFoundError, match=r"model\.safetensors"):
        load_checkpoint(folder)


@pytest.mark.parametrize("failure", [OSError("disk full"), KeyboardInterrupt()])
def test_an_interrupted_save_leaves_the_old_checkpoint(
    folder: Path, monkeypatch: pytest.MonkeyPatch, failure: BaseException
) -> None:
    before = {file.name: file.read_bytes() for file in folder.iterdir()}

    def half_written(tensors: object, path: Path) -> None:
        Path(path).write_bytes(b"half")
        raise failure

    monkeypatch.setattr(checkpoint_module.safetensors.torch, "save_file", half_written)
    with pytest.raises(type(failure)):
        save_checkpoint(folder, tiny_checkpoint("dp"))
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before
    assert [child.name for child in folder.parent.iterdir()] == ["toy"]


def test_saving_again_replaces_the_checkpoint(folder: Path) -> None:
    save_checkpoint(folder, tiny_checkpoint("dp"))
    assert load_checkpoint(folder).kind == "dp"
    assert [child.name for child in folder.parent.iterdir()] == ["toy"]


def test_a_run_folder_stands_for_its_last_checkpoint(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "run" / "checkpoints" / "last", tiny_checkpoint())
    assert find_checkpoint(tmp_path / "run") == tmp_path / "run" / "checkpoints" / "last"


def test_an_unknown_name_is_answered_by_the_included_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint_module, "INCLUDED", tmp_path / "included")
    with pytest.raises(FileNotFoundError, match="included checkpoints: none"):
        load_checkpoint("pusht-sdp")
    for name in ("pusht-dp", "pusht-sdp", "maze"):
        save_checkpoint(tmp_path / "included" / name, tiny_checkpoint())
    assert load_checkpoint("pusht-sdp").kind == "sdp"
    with pytest.raises(FileNotFoundError, match=r"included checkpoints: pusht-sdp, pusht-dp$"):
        load_checkpoint("push-sdp")
    with pytest.raises(FileNotFoundError, match="included checkpoints: maze, pusht-dp, pusht-sdp"):
        load_checkpoint("zzzz")


def test_absent_fields_have_their_defaults(folder: Path) -> None:
    """A field that is added later must not break what is stored."""
    for keys in (("model", "network", "max_angle"), ("model", "jump"), ("sampling", "update")):
        edit(folder, remove(*keys))
    edit(folder, remove("provenance"))
    edit(folder, remove("hotloop_version"))
    loaded = load_checkpoint(folder)
    assert loaded.model.config == tiny_model().config
    assert loaded.sampling == SAMPLING
    assert (loaded.provenance, loaded.hotloop_version) == ({}, "")


def test_a_checkpoint_says_which_version_wrote_it(folder: Path) -> None:
    assert load_checkpoint(folder).hotloop_version == version("hotloop")


def test_a_checkpoint_that_was_being_replaced_is_found(tmp_path: Path) -> None:
    """Its writer was killed when the old one had left its name and the new one had not got it."""
    save_checkpoint(tmp_path / ".replaced-99999999-toy", tiny_checkpoint())
    save_checkpoint(tmp_path / ".partial-99999999-toy", tiny_checkpoint("dp"))
    assert load_checkpoint(tmp_path / "toy").kind == "dp"
    assert [child.name for child in tmp_path.iterdir()] == ["toy"]


@pytest.mark.parametrize("name", [CONFIG_FILE, WEIGHTS_FILE])
def test_a_file_that_git_lfs_has_not_downloaded_is_named(folder: Path, name: str) -> None:
    (folder / name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:1\n")
    with pytest.raises(ValueError, match=rf"{name} is a git-lfs pointer.*git lfs pull"):
        load_checkpoint(folder)


@pytest.mark.parametrize("content", [b"\xff\xfe", b"[" * 100_000])
def test_a_config_that_is_no_text_or_endless_is_named(folder: Path, content: bytes) -> None:
    (folder / CONFIG_FILE).write_bytes(content)
    with pytest.raises(ValueError, match=r"toy/config\.json is not valid JSON"):
        load_checkpoint(folder)
