"""`lerobot_policy_hotloop` as LeRobot uses it; `test_compat_lerobot.py` has the real one."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Generator
from importlib import import_module
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import lerobot_stub
import numpy as np
import pytest
import torch
from tiny import SHAPES, SPEC, demonstrations, tiny_model

from hotloop.decoding import Executor, Observation
from hotloop.envs.pusht import PushT
from hotloop.envs.registry import make_task
from hotloop.envs.rollout import evaluate
from hotloop.policies import Checkpoint, StreamingSampling, load_checkpoint, save_checkpoint
from hotloop.policies.programs.engines import engine as engines

DISTRIBUTION = Path(__file__).parents[1] / "real_robot" / "integrations" / "lerobot_policy_hotloop"
NAME = "lerobot_policy_hotloop"
Batch = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def plugin() -> Generator[SimpleNamespace, None, None]:
    with pytest.MonkeyPatch.context() as patch:
        for name, module in lerobot_stub.modules().items():
            patch.setitem(sys.modules, name, module)
        patch.syspath_prepend(str(DISTRIBUTION))
        import_module(NAME)
        parts = ("configuration_hotloop", "modeling_hotloop", "processor_hotloop")
        modules: list[ModuleType] = [import_module(f"{NAME}.{part}") for part in parts]
        others = {part: import_module(f"{NAME}.{part}") for part in ("frames", "pusht", "training")}
        yield SimpleNamespace(
            Config=modules[0].HotloopConfig,
            Policy=modules[1].HotloopPolicy,
            processors=modules[2].make_hotloop_pre_post_processors,
            **others,
        )
        for name in [name for name in sys.modules if name.startswith(NAME)]:
            del sys.modules[name]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("checkpoint") / "sdp"
    sampling = StreamingSampling(num_execute=4, calls_per_step=2)
    save_checkpoint(path, Checkpoint("sdp", tiny_model(), SPEC, sampling, {"task": "recorded"}))
    return str(path)


def features(**shapes: tuple[int, ...]) -> dict[str, Any]:
    known = {**{key.replace(".", "_"): shape for key, shape in SHAPES.items()}, **shapes}
    return {
        key.replace("_", ".", 1): lerobot_stub.PolicyFeature("STATE", shape)
        for key, shape in known.items()
    }


def frames(step: int, num_rows: int) -> Batch:
    """What LeRobot's preprocessor hands over: more than the policy reads, float32 tensors."""
    generator = torch.Generator().manual_seed(step)
    batch = {
        key: torch.rand(num_rows, *shape, generator=generator) for key, shape in SHAPES.items()
    }
    return {**batch, "observation.other": torch.zeros(num_rows, 7)}


def acted(policy: Any, num_steps: int, num_rows: int) -> np.ndarray:
    """Actions of an episode as LeRobot's rollout has them, (T, R, D)."""
    policy.reset()
    return np.stack([policy.select_action(frames(k, num_rows)).numpy() for k in range(num_steps)])


def expected(checkpoint: str, seeds: list[int], num_steps: int, **sampling: Any) -> np.ndarray:
    executor = Executor(load_checkpoint(checkpoint).policy(sampling))
    executor.reset(seeds)
    rows = len(seeds)
    return np.stack(
        [
            executor.act({key: frames(k, rows)[key].numpy() for key in SHAPES})
            for k in range(num_steps)
        ]
    ).astype(np.float32)


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


def test_nothing_is_built_inside_the_control_loop(
    plugin: SimpleNamespace, checkpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = plugin.Policy(plugin.Config(checkpoint=checkpoint))

    def refuse(*_: object) -> None:
        raise AssertionError("an engine is built")

    monkeypatch.setattr(engines, "_build", refuse)
    acted(policy, 5, 1)


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
