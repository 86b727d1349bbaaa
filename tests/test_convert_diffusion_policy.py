"""Diffusion Policy's checkpoints, converted in their environment: the same network afterwards."""

from __future__ import annotations

import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from diffusion_policy_stub import DiffusionUnetLowdimPolicy

from hotloop.decoding import Executor
from hotloop.policies.checkpoint import Checkpoint, load_checkpoint
from hotloop.policies.lerobot.given import Given

SCRIPT = (
    Path(__file__).parents[1] / "real_robot/integrations/diffusion_policy/convert_checkpoint.py"
)
KEYPOINTS = ("observation.environment_state=0:18", "observation.state=18:20")
convert: Callable[..., None]


def run(
    monkeypatch: pytest.MonkeyPatch, policy: Any, *arguments: str, averaged: bool = True
) -> None:
    """The script's command line, where `policy` is what their code makes of the checkpoint."""
    names = "diffusion_policy", "workspace", "train_diffusion_unet_lowdim_workspace"
    for depth in range(1, 4):
        monkeypatch.setitem(sys.modules, ".".join(names[:depth]), ModuleType("their code"))

    class Workspace:
        @classmethod
        def create_from_checkpoint(cls, path: str) -> SimpleNamespace:
            assert path == "latest.ckpt"
            cfg = SimpleNamespace(training=SimpleNamespace(use_ema=averaged))
            other = DiffusionUnetLowdimPolicy(obs_dim=policy.obs_dim)
            models = (other, policy) if averaged else (policy, other)
            return SimpleNamespace(cfg=cfg, model=models[0], ema_model=models[1])

    workspace: Any = sys.modules[".".join(names)]
    workspace.TrainDiffusionUnetLowdimWorkspace = Workspace
    monkeypatch.setattr(sys, "argv", ["convert_checkpoint.py", "latest.ckpt", *arguments])
    runpy.run_path(str(SCRIPT), run_name="__main__")


def assert_same_network(policy: DiffusionUnetLowdimPolicy, checkpoint: Checkpoint) -> None:
    """From the same physical observation and noisy window, in normalised units."""
    generator = torch.Generator().manual_seed(1)
    observed = torch.rand(3, 2, policy.obs_dim, generator=generator) * 100
    observed[..., 1] = policy.normalizer.params_dict["obs"]["input_stats"]["min"][1]  # type: ignore
    x = torch.randn(3, 8, 2, generator=generator)
    shapes = checkpoint.model.observation_shapes
    frames = {"observation.state": observed}
    if len(shapes) > 1:
        frames = {key: observed[..., part] for key, part in _parts().items()}
    for timestep in (0, 7, 19):
        with torch.no_grad():
            condition = policy.normalizer.normalize("obs", observed).flatten(1)
            expected = policy.model(x, torch.full((3,), timestep), condition)
            found = checkpoint.model.predict(
                x, torch.full((3, 8), timestep + 1), checkpoint.model.flatten(frames)
            )
        np.testing.assert_allclose(found, expected, atol=1e-5, rtol=1e-5)


def _parts() -> dict[str, slice]:
    return {"observation.environment_state": slice(0, 18), "observation.state": slice(18, 20)}


@pytest.mark.parametrize("names", [(), KEYPOINTS])
@pytest.mark.parametrize("scale", [True, False])
def test_the_network_is_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, names: tuple[str, ...], scale: bool
) -> None:
    policy, out = DiffusionUnetLowdimPolicy(scale=scale), tmp_path / "out"
    run(monkeypatch, policy, str(out), *names, averaged=scale)
    checkpoint = load_checkpoint(out, Given(dt=0.1))
    assert set(checkpoint.model.observation_shapes) == (
        set(_parts()) if names else {"observation.state"}
    )
    np.testing.assert_allclose(checkpoint.action_spec.low, [-3, 10], atol=1e-4)
    np.testing.assert_allclose(checkpoint.action_spec.high, [5, 12], atol=1e-4)
    sampling = checkpoint.sampling
    assert (sampling.num_execute, sampling.calls_per_step, sampling.update) == (4, 5, "ddpm")
    assert checkpoint.provenance["ignored"] == []
    assert_same_network(policy, checkpoint)
    # From normalised actions back to physical ones, as theirs: (x - offset) / scale.
    normalised = checkpoint.model.action_normalizer(torch.tensor([[-3.0, 10.0], [5.0, 12.0]]))
    np.testing.assert_allclose(normalised, [[-1, -1], [1, 1]], atol=1e-5)
    executor = Executor(checkpoint.policy())
    executor.reset([0])
    frame = {
        key: np.ones((1, *shape), np.float32)
        for key, shape in checkpoint.model.observation_shapes.items()
    }
    assert executor.act(frame).shape == (1, 2)


@pytest.mark.parametrize(
    ("change", "arguments", "message"),
    [
        ({"obs_as_global_cond": False}, (), "obs_as_global_cond must be True to be converted"),
        ({"pred_action_steps_only": True}, (), "pred_action_steps_only must be False"),
        ({"oa_step_convention": False}, (), "oa_step_convention must be True"),
        ({"model": torch.nn.Linear(1, 1)}, (), "its network must be ConditionalUnet1D .* Linear"),
        ({}, ("observation.state=0:19",), "cover each of the 20 columns once, observation.state"),
        ({}, ("observation.environment_state=0:20",), "observation.state among them, got observ"),
        ({}, ("state=0:20",), "columns are named observation.state or .*; got state=0:20"),
        ({}, ("b", "c"), "usage: convert_checkpoint.py CHECKPOINT OUT"),
    ],
)
def test_what_the_folder_cannot_say_is_refused(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    change: dict[str, Any],
    arguments: tuple[str, ...],
    message: str,
) -> None:
    policy = DiffusionUnetLowdimPolicy()
    for name, value in change.items():
        setattr(policy, name, value)
    with pytest.raises(SystemExit, match=message):
        run(monkeypatch, policy, str(tmp_path / "out"), *arguments)
    assert not (tmp_path / "out").exists()


def test_another_noise_scheduler_and_an_existing_folder_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = DiffusionUnetLowdimPolicy(prediction_type="v_prediction")
    with pytest.raises(SystemExit, match="prediction_type must be epsilon or sample"):
        run(monkeypatch, policy, str(tmp_path / "out"))
    with pytest.raises(SystemExit, match="exists already; name a new folder"):
        run(monkeypatch, DiffusionUnetLowdimPolicy(), str(tmp_path))
