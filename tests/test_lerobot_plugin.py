"""`lerobot_policy_hotloop` in LeRobot's control loop; `test_compat_lerobot.py` has the real one."""

from __future__ import annotations

import ast
import logging
import re
from collections.abc import Generator
from pathlib import Path
from types import SimpleNamespace

import lerobot_stub
import numpy as np
import pytest
import torch
from lerobot_folders import golden_folder
from tiny import SHAPES, SPEC, tiny_model
from tiny_lerobot import (
    DISTRIBUTION,
    NAME,
    Batch,
    acted,
    expected,
    features,
    frames,
    loaded_plugin,
    tiny_checkpoint,
)

from hotloop.decoding import Observation
from hotloop.envs.pusht import PushT
from hotloop.envs.registry import make_task
from hotloop.envs.rollout import evaluate
from hotloop.policies import Checkpoint, DiffusionSampling, load_checkpoint, save_checkpoint
from hotloop.policies.programs.engines import engine as engines


@pytest.fixture(scope="module")
def plugin() -> Generator[SimpleNamespace, None, None]:
    with loaded_plugin() as found:
        yield found


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> str:
    return tiny_checkpoint(tmp_path_factory.mktemp("checkpoint") / "sdp")


def test_lerobot_finds_the_distribution_and_its_parts() -> None:
    """By names: its own with underscores, the module's, the files', the classes'."""
    project = (DISTRIBUTION / "pyproject.toml").read_text()
    assert re.search(r'^name = "(.*)"$', project, re.MULTILINE)[1] == NAME  # pyright: ignore[reportOptionalSubscript]
    for part, name in (
        ("configuration", "class HotloopConfig"),
        ("modeling", "class HotloopPolicy"),
        ("processor", "def make_hotloop_pre_post_processors"),
    ):
        assert name in (DISTRIBUTION / NAME / f"{part}_hotloop.py").read_text()


@pytest.mark.parametrize(
    "part", ["__init__", "configuration_hotloop", "processor_hotloop", "pusht"]
)
def test_every_lerobot_command_can_afford_the_import(part: str) -> None:
    """What the package imports at once leaves hotloop out."""
    tree = ast.parse((DISTRIBUTION / NAME / f"{part}.py").read_text())
    imports = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    assert not any("hotloop." in ast.unparse(node) for node in imports)
    assert part != "__init__" or "processor_hotloop" in ast.unparse(tree)


def test_actions_are_those_of_the_executor_and_seeds_count_on(
    plugin: SimpleNamespace, checkpoint: str
) -> None:
    policy = plugin.Policy(plugin.Config(checkpoint=checkpoint, seed=5, input_features=features()))
    np.testing.assert_array_equal(acted(policy, 9, 3), expected(checkpoint, [5, 6, 7], 9))
    # Another number of rows, and the next seeds.
    np.testing.assert_array_equal(acted(policy, 6, 2), expected(checkpoint, [8, 9], 6))


def test_choices_reach_the_policy(plugin: SimpleNamespace, checkpoint: str) -> None:
    config = plugin.Config(
        checkpoint=checkpoint, seed=1, calls_per_step=1, sampling={"num_execute": 2}
    )
    found = acted(plugin.Policy(config), 5, 1)
    np.testing.assert_array_equal(
        found, expected(checkpoint, [1], 5, calls_per_step=1, num_execute=2)
    )
    with pytest.raises(ValueError, match="no sampling choices"):
        plugin.Policy(plugin.Config(checkpoint=checkpoint, sampling={"speed": 2}))


def test_a_policy_of_lerobots_own_is_imported_first(
    plugin: SimpleNamespace, tmp_path: Path
) -> None:
    """Its folder does not say the period, and the plugin has no setting for it."""
    folder = golden_folder("act_state", tmp_path)
    with pytest.raises(ValueError, match=r"`hotloop import .*act_state FOLDER dt=0.1`"):
        plugin.Policy(plugin.Config(checkpoint=str(folder)))


def test_nothing_is_built_inside_the_control_loop(
    plugin: SimpleNamespace, checkpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = plugin.Policy(plugin.Config(checkpoint=checkpoint))

    def refuse(*_: object) -> None:
        raise AssertionError("an engine is built")

    monkeypatch.setattr(engines, "_build", refuse)
    acted(policy, 5, 1)


def test_a_chunk_is_what_the_executor_would_do_with_the_same_frames(
    plugin: SimpleNamespace, checkpoint: str
) -> None:
    policy = plugin.Policy(plugin.Config(checkpoint=checkpoint, seed=4))
    policy.reset()
    direct = load_checkpoint(checkpoint).policy()
    direct.reset(np.array([4, 5]))
    for step in (0, 4):
        pair = [frames(step - 1, 2), frames(step, 2)] if step else [frames(0, 2)] * 2
        stacked = {key: torch.stack([one[key] for one in pair], dim=1) for key in SHAPES}
        chunk = policy.predict_action_chunk(stacked).numpy()
        arrays = {key: value.numpy() for key, value in stacked.items()}
        steps = np.full(2, step)
        plan = direct.plan(Observation(arrays, steps, np.arange(2)), steps)
        np.testing.assert_array_equal(chunk, plan.actions[:, :4])
    with pytest.raises(ValueError, match="needs the newest 2 frames"):
        policy.predict_action_chunk(frames(0, 2))


def test_a_policy_of_one_frame_takes_it_as_it_is(plugin: SimpleNamespace, tmp_path: Path) -> None:
    model = tiny_model(num_obs_steps=1, ladders=())
    sampling = DiffusionSampling(num_execute=4, calls_per_step=2)
    save_checkpoint(tmp_path / "dp", Checkpoint("dp", model, SPEC, sampling, {}))
    policy = plugin.Policy(plugin.Config(checkpoint=str(tmp_path / "dp"), seed=1))
    policy.reset()
    chunk = policy.predict_action_chunk(frames(0, 2)).numpy()
    policy = plugin.Policy(plugin.Config(checkpoint=str(tmp_path / "dp"), seed=1))
    np.testing.assert_array_equal(chunk[:, 0], acted(policy, 1, 2)[0])
    assert chunk.shape == (2, 4, 2)


def test_exporters_are_quiet_where_lerobot_logs_everything(
    plugin: SimpleNamespace, checkpoint: str, caplog: pytest.LogCaptureFixture
) -> None:
    """LeRobot sets the root logger to INFO, and each export then told of dozens of passes."""
    caplog.set_level(logging.INFO)
    policy = plugin.Policy(plugin.Config(checkpoint=checkpoint, engine="onnx", seed=1))
    assert [one for one in caplog.records if one.name.split(".")[0].startswith("onnx")] == []
    np.testing.assert_allclose(acted(policy, 5, 1), expected(checkpoint, [1], 5), atol=1e-4)


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        ({"observation.goal": torch.zeros(1, 3)}, r"reads 'observation\.position'"),
        ({**frames(0, 1), "observation.goal": torch.zeros(1, 4)}, r"observation\.goal"),
        (frames(0, 3), "the episode has 1 rows, the frame 3"),
    ],
)
def test_a_batch_that_does_not_fit_is_refused(
    plugin: SimpleNamespace, checkpoint: str, batch: Batch, message: str
) -> None:
    policy = plugin.Policy(plugin.Config(checkpoint=checkpoint))
    policy.reset()
    policy.select_action(frames(0, 1))
    with pytest.raises(ValueError, match=message):
        policy.select_action(batch)
    with pytest.raises(ValueError, match="take no noise"):
        policy.select_action(frames(0, 1), noise=torch.zeros(1))


def test_pictures_arrive_as_the_bytes_that_they_were(plugin: SimpleNamespace) -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (2, 3, 8, 9, 3), np.uint8)
    theirs = torch.from_numpy(pictures).movedim(-1, -3).float() / 255
    found = plugin.frames.picture_bytes(theirs, "observation.image")
    np.testing.assert_array_equal(found.numpy(), pictures)
    for wrong in (theirs * 2 - 1, torch.full_like(theirs, torch.nan)):
        with pytest.raises(ValueError, match=r"must lie within \[0, 1\]"):
            plugin.frames.picture_bytes(wrong, "observation.image")


def test_gym_pushts_corners_are_the_points_that_policies_know(plugin: SimpleNamespace) -> None:
    corners, keypoints = [], []
    env = PushT()
    for seed in range(5):
        keypoints.append(env.reset(seed)["observation.environment_state"])
        simulator = env._env.unwrapped
        corners.append(simulator.get_keypoints(simulator._block_shapes).ravel())
    env.close()
    theirs = torch.from_numpy(np.array(corners)).float()
    found = plugin.pusht.keypoints_of(theirs)
    np.testing.assert_allclose(found.numpy(), keypoints, atol=1e-4)
    one = {key: lerobot_stub.PolicyFeature("ENV", (16,)) for key in [plugin.pusht.KEY]}
    config = plugin.Config(checkpoint="pusht-sdp", input_features=one)
    before, after = plugin.processors(config)
    assert [str(step).split("(")[0] for step in before] == [
        "rename",
        "PushTKeypointsStep",
        "batch",
        "device",
        "normalize",
    ]
    assert after == ["unnormalize", "to_cpu"]


def test_the_score_of_lerobots_rollout_is_that_of_an_evaluation(plugin: SimpleNamespace) -> None:
    """Its loop: rows that are done go on until the last one is."""
    task = make_task("pusht")
    policy = load_checkpoint("pusht-sdp").policy({"calls_per_step": 1})
    ours = evaluate(policy, task, [1000, 1001], 2)
    theirs = plugin.Policy(plugin.Config(checkpoint="pusht-sdp", calls_per_step=1, seed=1000))
    envs = [task.make() for _ in range(2)]
    observed = [env.reset(seed) for env, seed in zip(envs, (1000, 1001), strict=True)]
    theirs.reset()
    rewards = np.zeros((2, task.max_steps))
    done = np.zeros(2, bool)
    for step in range(task.max_steps):
        batch = {key: np.stack([one[key] for one in observed]) for key in observed[0]}
        action = theirs.select_action({key: torch.from_numpy(a) for key, a in batch.items()})
        for row in np.flatnonzero(~done):
            observed[row], rewards[row, step], done[row] = envs[row].step(action[row].numpy())
    for env in envs:
        env.close()
    np.testing.assert_allclose(
        rewards.max(axis=1), [one.max_reward for one in ours.episodes], atol=1e-3
    )
