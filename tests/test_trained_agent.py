"""Trained agents, and the D4RL-style datasets that they collect."""

import json
from contextlib import closing

import numpy as np
import pytest

from hotloop.envs import make_task, record_episode, trained_expert
from hotloop.envs.trained_agent import TrainedAgent, load_agent
from hotloop.train.data.formats.registry import read_episodes
from hotloop.train.demonstrations.behaviors import BEHAVIORS, Behavior, behaviors
from hotloop.train.demonstrations.generate import Collection, generate_demonstrations

RNG = np.random.default_rng(0)


def arrays(**others):
    """A network from 3 observations over 4 hidden numbers to 2 actions."""
    weights = {
        "W0": RNG.standard_normal((4, 3)),
        "b0": RNG.standard_normal(4),
        "W1": RNG.standard_normal((2, 4)),
        "b1": RNG.standard_normal(2),
    }
    return weights | {name: np.array(value) for name, value in others.items()}


def test_an_agents_actions_follow_its_formula():
    a = arrays(
        activation="relu",
        squash="clip",
        obs_mean=[1.0, 2.0, 3.0],
        obs_var=[4.0, 9.0, 16.0],
        obs_clip=1.5,
    )
    x = np.array([9.0, 2.5, 1.0])
    clipped = np.clip((x - a["obs_mean"]) / [2, 3, 4], -1.5, 1.5)
    expected = np.clip(a["W1"] @ np.maximum(a["W0"] @ clipped + a["b0"], 0) + a["b1"], -1, 1)
    actions = TrainedAgent(a).act({"observation.state": x})
    np.testing.assert_allclose(actions, expected, rtol=1e-5)
    plain = arrays(activation="tanh", squash="tanh")
    expected = np.tanh(plain["W1"] @ np.tanh(plain["W0"] @ x + plain["b0"]) + plain["b1"])
    both = TrainedAgent(plain).act({"observation.state": np.stack([x, x])})
    np.testing.assert_allclose(both, [expected, expected], rtol=1e-5)


def test_a_dapg_agent_scales_what_goes_in_and_comes_out():
    shifts = {"in_shift": [1.0, 0.0, 2.0], "in_scale": [2.0, 1.0, 0.5]}
    a = arrays(**shifts, out_shift=[0.1, 0.0], out_scale=[0.2, 0.3])
    x = np.array([0.5, -0.5, 2.0])
    hidden = np.tanh(a["W0"] @ ((x - a["in_shift"]) / a["in_scale"]) + a["b0"])
    expected = np.clip((a["W1"] @ hidden + a["b1"]) * a["out_scale"] + a["out_shift"], -1, 1)
    actions = TrainedAgent(a).act({"observation.state": x})
    np.testing.assert_allclose(actions, expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        ({}, "not an agent; it has no or an unknown 'W0'"),
        (arrays(squash="clip"), "no or an unknown 'activation'"),
        (arrays(squash="clip", activation="gelu"), "no or an unknown 'gelu'"),
        (arrays(squash="clip", activation="relu", W1=np.ones((2, 5))), "do not connect"),
        (
            arrays(squash="clip", activation="relu", obs_mean=np.ones(2), obs_var=np.ones(2)),
            "normalisation of",
        ),
    ],
)
def test_a_file_that_is_no_agent_is_refused(tmp_path, contents, message):
    path = tmp_path / "agent.npz"
    np.savez(path, **contents)
    with pytest.raises(ValueError, match=rf"agent\.npz.*{message}"):
        load_agent(path)


def test_a_damaged_or_missing_file_is_refused(tmp_path):
    (tmp_path / "agent.npz").write_bytes(b"PK\x03\x04 not a zip")
    with pytest.raises(ValueError, match=r"agent\.npz: not an agent"):
        load_agent(tmp_path / "agent.npz")
    with pytest.raises(FileNotFoundError, match=r"no such agent; in .* are agent\.npz"):
        load_agent(tmp_path / "other.npz")


def test_an_agent_of_another_environment_is_refused(shared_data):
    agents = shared_data / "mujoco_agents_npz"
    with pytest.raises(ValueError, match=r"reads 11 numbers and returns 3, but task 'walker2d'"):
        trained_expert("walker2d", agents / "Hopper_trpo.npz")


def test_every_behavior_has_an_agent_that_fits(shared_data):
    folders = shared_data / "mujoco_agents_npz", shared_data / "adroit_dapg" / "policies"
    for task, levels in BEHAVIORS.items():
        for behavior in {one for level in levels.values() for one in level}:
            (path,) = (f / behavior.agent for f in folders if (f / behavior.agent).exists())
            trained_expert(task, path)


@pytest.mark.parametrize(
    ("task_name", "file"),
    [
        ("halfcheetah", "mujoco_agents_npz/HalfCheetah_tqc.npz"),
        ("door", "adroit_dapg/policies/door-v0.npz"),
    ],
)
def test_agents_earn_what_was_measured_when_they_were_stored(shared_data, task_name, file):
    path = shared_data / file
    manifest = json.loads((path.parent / "manifest.json").read_text())
    if task_name == "door":
        measured = manifest["door"]
    else:
        measured = next(a["v4"] for a in manifest["agents"] if a["file"] == path.name)
    task = make_task(task_name)
    with closing(task.make()) as env:
        episode = record_episode(task, env, trained_expert(task_name, path), seed=0)
    spread = 4 * measured["return_std"]
    assert episode.rewards.sum() == pytest.approx(measured["return_mean"], abs=spread)


def test_levels_are_made_of_the_experts_that_their_names_say():
    assert behaviors("hopper", "medium-expert") == (
        *behaviors("hopper", "medium"),
        *behaviors("hopper", "expert"),
    )
    assert len(behaviors("walker2d", "medium-replay")) > 2
    assert behaviors("door", "expert") == (Behavior("door-v0.npz", 0.05),)
    with pytest.raises(ValueError, match="task 'door' has no level 'medium'; Levels: expert"):
        behaviors("door", "medium")


def test_a_generated_dataset_tells_falls_from_time_limits_and_where_it_comes_from(
    shared_data, tmp_path
):
    agents = shared_data / "mujoco_agents_npz"
    path = tmp_path / "hopper.hdf5"
    collection = Collection("hopper", num_steps=1500, level="medium-expert", agents=agents)
    written = generate_demonstrations(path, collection)
    episodes = read_episodes(path, everything=True)
    lengths = np.diff(episodes.episode_ends, prepend=0)
    np.testing.assert_array_equal(episodes.terminated, lengths < 1000)
    # Half of the steps are the medium agent's, which falls; the expert's episode is whole.
    medium, expert = episodes.metadata["experts"]
    assert (medium["expert"], expert["expert"]) == ("Hopper_sac.npz", "Hopper_trpo.npz")
    assert lengths[: medium["num_episodes"]].sum() >= 750
    assert lengths[: medium["num_episodes"] - 1].sum() < 750
    assert expert["first_seed"] == medium["num_episodes"]
    assert lengths[-1] == 1000
    assert episodes.metadata["simulator"] == "Hopper-v4"
    assert "D4RL-style" in episodes.metadata["generator"]
    assert set(episodes.observations) == {"observation.state"}
    # Heights and angles are observed as the simulator has them; the place along the way is not.
    state, qpos = episodes.observations["observation.state"], episodes.infos["qpos"]
    np.testing.assert_allclose(state[:, :5], qpos[:, 1:], atol=1e-6)
    assert written.final_observations is not None
    assert episodes.final_observations is not None
    np.testing.assert_array_equal(
        episodes.final_observations["observation.state"],
        written.final_observations["observation.state"],
    )
    assert episodes.rewards is not None
    returns = [episodes.rewards[rows].sum() for rows in episodes.episode_slices]
    assert episodes.metadata["mean_return"] == pytest.approx(np.mean(returns), rel=1e-5)
    task = make_task("hopper")
    assert task.reference is not None
    score = 100 * task.reference.normalized(float(np.mean(returns)))
    assert episodes.metadata["mean_score"] == pytest.approx(score, rel=1e-4)
