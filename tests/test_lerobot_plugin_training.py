"""`lerobot_policy_hotloop` trained, saved and opened again, by LeRobot and by hotloop."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from types import SimpleNamespace

import lerobot_stub
import numpy as np
import pytest
import torch
from tiny import demonstrations
from tiny_lerobot import (
    Batch,
    acted,
    expected,
    features,
    loaded_plugin,
    tiny_checkpoint,
)

from hotloop.policies import load_checkpoint
from hotloop.train.average import WeightAverage
from hotloop.train.config.training import OptimConfig


@pytest.fixture(scope="module")
def plugin() -> Generator[SimpleNamespace, None, None]:
    with loaded_plugin() as found:
        yield found


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> str:
    return tiny_checkpoint(tmp_path_factory.mktemp("checkpoint") / "sdp")


def test_a_saved_folder_needs_no_other_and_is_hotloops_too(
    plugin: SimpleNamespace, checkpoint: str, tmp_path: Path
) -> None:
    config = plugin.Config(checkpoint=checkpoint, seed=3, input_features=features())
    config.output_features = {"action": lerobot_stub.PolicyFeature("ACTION", (2,))}
    policy = plugin.Policy(config)
    policy.save_pretrained(tmp_path)
    assert (tmp_path / "model.safetensors").stat().st_mode & 0o777 == (
        tmp_path / "config.json"
    ).stat().st_mode & 0o777
    loaded = plugin.Policy.from_pretrained(tmp_path)
    assert (loaded.config.checkpoint, loaded.config.n_obs_steps) == ("", 2)
    np.testing.assert_array_equal(acted(loaded, 6, 2), expected(checkpoint, [3, 4], 6))
    np.testing.assert_array_equal(expected(str(tmp_path), [3], 6), expected(checkpoint, [3], 6))
    changed = plugin.Policy.from_pretrained(tmp_path, calls_per_step=1)
    np.testing.assert_array_equal(
        acted(changed, 5, 1), expected(checkpoint, [3], 5, calls_per_step=1)
    )
    with pytest.raises(ValueError, match="would replace the policy that the folder holds"):
        plugin.Policy.from_pretrained(tmp_path, checkpoint=checkpoint)


def test_weights_that_do_not_fit_are_refused(
    plugin: SimpleNamespace, checkpoint: str, tmp_path: Path
) -> None:
    """LeRobot itself would log a warning and run with random ones."""
    plugin.Policy(plugin.Config(checkpoint=checkpoint)).save_pretrained(tmp_path)
    weights = tmp_path / "model.safetensors"
    state = lerobot_stub.safetensors.torch.load_file(weights)
    state.pop("model.action_normalizer.scale")
    lerobot_stub.safetensors.torch.save_file(state, weights)
    with pytest.raises(RuntimeError, match=r"action_normalizer\.scale"):
        plugin.Policy.from_pretrained(tmp_path)


def test_training_averages_and_runs_what_it_has_learnt(
    plugin: SimpleNamespace, checkpoint: str, tmp_path: Path
) -> None:
    config = plugin.Config(checkpoint=checkpoint, seed=2, input_features=features())
    policy = plugin.Policy(config)
    assert config.observation_delta_indices == [-1, 0]
    assert config.action_delta_indices == list(range(-1, 8))
    before = acted(policy, 5, 1)
    policy.train()
    optimizer = torch.optim.AdamW(policy.get_optim_params(), lr=1e-2)
    losses = []
    for step in range(20):
        torch.manual_seed(step % 2)
        loss, _ = policy.forward(windows())
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        policy.update()
    assert losses[-1] < 0.9 * losses[1]
    policy.eval()
    after = acted(policy, 5, 1)
    assert np.abs(after - before).max() > 1e-3
    config.output_features = {"action": lerobot_stub.PolicyFeature("ACTION", (2,))}
    policy.save_pretrained(tmp_path)
    # The average, not the last step's weights, is what both run.
    loaded = plugin.Policy.from_pretrained(tmp_path, seed=3)
    np.testing.assert_array_equal(acted(loaded, 5, 1), expected(str(tmp_path), [3], 5))
    average = load_checkpoint(tmp_path).model.state_dict()
    last = policy.model.state_dict()
    assert any(not torch.equal(average[name], last[name]) for name in last)


def test_an_average_that_is_stored_or_moved_goes_on_as_the_training_loops(
    plugin: SimpleNamespace,
) -> None:
    model, config = torch.nn.Linear(2, 3), OptimConfig()
    expected, found = WeightAverage(model, config), plugin.average.StoredAverage(model, config)
    assert set(found.state_dict()) == {"n_averaged", "module.weight", "module.bias"}
    for step in range(6):
        torch.nn.init.constant_(model.weight, step)
        expected.update()
        found.update(model)
        if step == 1:  # as LeRobot's processes do when they go on
            stored, found = found.state_dict(), plugin.average.StoredAverage(model, config)
            found.load_state_dict(stored)
        if step == 3:
            found.to(torch.float64)
            found.to(torch.float32)
    assert found.n_averaged == 6
    assert torch.equal(found.module.weight, expected.module.weight)


def windows() -> Batch:
    episodes = demonstrations()
    starts = range(0, 20, 5)
    batch = {
        key: torch.stack([torch.from_numpy(array[k : k + 2]) for k in starts])
        for key, array in episodes.observations.items()
    }
    actions = torch.from_numpy(episodes.actions)
    return {**batch, "action": torch.stack([actions[k : k + 9] for k in starts])}


def test_a_new_policy_takes_everything_from_the_data_set(plugin: SimpleNamespace) -> None:
    episodes = demonstrations()
    arrays = {**episodes.observations, "action": episodes.actions}
    statistics = {
        key: {name: getattr(array, name)(axis=0) for name in ("min", "max", "mean", "std")}
        for key, array in arrays.items()
    }
    meta = SimpleNamespace(
        fps=20, repo_id="lab/data", features={"action": {"names": ["x.pos", "y.pos"]}}
    )
    recipe = ["policy.model.network.width=16", "policy.model.network.depth=1"]
    config = plugin.Config(kind="dp", recipe=recipe, input_features=features())
    assert config.action_delta_indices == list(range(-1, 16))
    policy = plugin.Policy(config, dataset_stats=statistics, dataset_meta=meta)
    model, stored = policy.model, config.stored
    for key, normalizer in (("action", model.action_normalizer),):
        ends = normalizer(torch.from_numpy(arrays[key]))
        np.testing.assert_allclose([ends.min(), ends.max()], [-1, 1], atol=1e-5)
    spec = stored["action_spec"]
    assert (spec["names"], spec["dt"]) == (("x.pos", "y.pos"), 0.05)
    assert (np.array(spec["low"]) < episodes.actions.min(axis=0)).all()
    np.testing.assert_allclose(spec["high"], episodes.actions.max(axis=0), rtol=1e-5)
    assert stored["provenance"] == {"task": "recorded", "dataset": "lab/data"}
    assert acted(policy, 3, 2).shape == (3, 2, 2)
    with pytest.raises(ValueError, match="without a data set there is no policy to make"):
        plugin.Policy(plugin.Config(input_features=features()))


def test_features_that_do_not_fit_are_refused(plugin: SimpleNamespace, checkpoint: str) -> None:
    with pytest.raises(ValueError, match=r"'observation\.goal' of shape \(3,\), LeRobot's .*\(5,"):
        config = plugin.Config(
            checkpoint=checkpoint, input_features=features(observation_goal=(5,))
        )
        plugin.Policy(config)
    config = plugin.Config(checkpoint=checkpoint, input_features=features())
    config.output_features = {"action": lerobot_stub.PolicyFeature("ACTION", (6,))}
    with pytest.raises(ValueError, match="commands 2 numbers"):
        plugin.Policy(config)
    with pytest.raises(ValueError, match=r"policy\.kind must be one of"):
        plugin.Config(kind="act")
    with pytest.raises(ValueError, match="not 'trajectory_diffuser'"):
        plugin.Config(checkpoint="maze2d-trajectory-diffuser").training()
