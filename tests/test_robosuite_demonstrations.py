"""Demonstrations of Lift, Can and Square: generated, replayed, drawn."""

import json
import shutil
from contextlib import closing
from dataclasses import replace

import h5py
import numpy as np
import pytest
import torch

from hotloop.envs import SCRIPTED_EXPERTS, make_task
from hotloop.policies.diffusion.actions import ActionNormalizer
from hotloop.policies.normalizer import Normalizer
from hotloop.train.cli import main
from hotloop.train.data import read_episodes
from hotloop.train.data.inspect import inspect_dataset
from hotloop.train.demonstrations.replay import replay_dataset

TASKS = ("lift", "can", "square")


def generate(path, *words):
    assert main(["data", "generate", words[0], str(path), *map(str, words[1:])]) == 0
    return path


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("robosuite")
    return {
        name: generate(folder / f"{name}.hdf5", name, "--num-episodes", 1, "--seed", 3)
        for name in TASKS
    }


@pytest.mark.parametrize("name", TASKS)
def test_a_file_holds_what_robomimics_files_hold(files, name):
    assert inspect_dataset(files[name]).problems == ()
    with h5py.File(files[name]) as file:
        env_args, demo = json.loads(file["data"].attrs["env_args"]), file["data/demo_0"]
        assert {"actions", "actions_abs", "states", "rewards", "dones", "obs"} <= set(demo)
        assert {"object", "robot0_eef_pos", "robot0_eef_quat"} <= set(demo["obs"])
        assert demo.attrs["model_file"].startswith("<mujoco")
        actions, goals, hand = (
            demo["actions"][:],
            demo["actions_abs"][:],
            demo["obs/robot0_eef_pos"],
        )
        assert demo["rewards"][-1] == demo["dones"][-1] == 1
        np.testing.assert_allclose(goals[:, :3], hand + 0.05 * actions[:, :3], atol=2e-3)
    assert (env_args["type"], env_args["env_kwargs"]["control_freq"]) == (1, 20)
    np.testing.assert_array_equal(goals[:, 6], actions[:, 6])
    # A person's: full speed is rare, and the fingers close only once in a while.
    assert np.abs(actions).max() <= 1
    assert (np.abs(actions[:, :6]) > 0.99).mean() < 0.05
    assert set(np.unique(actions[:, 6])) == {-1, 1}
    assert np.abs(np.diff(actions[:, :6], axis=0)).max() < 0.6


def test_deltas_and_absolute_poses_solve_the_task_again(files):
    (episode,) = replay_dataset(files["square"]).episodes
    assert (episode.success, episode.state_error) == (True, 0)
    (episode,) = replay_dataset(files["square"], "square-abs").episodes
    assert episode.success


def test_poses_solve_the_task_again_by_way_of_the_networks_six_numbers(files, tmp_path):
    copy = tmp_path / "copy.hdf5"
    shutil.copy(files["lift"], copy)
    with h5py.File(copy, "a") as file:
        poses = file["data/demo_0/actions_abs"]
        actions, normalizer = poses[:].astype(np.float32), ActionNormalizer(7, (3,))
        normalizer.scale_like(Normalizer.fit(actions, "min_max"))
        poses[...] = normalizer.inverse(normalizer(torch.from_numpy(actions))).numpy()
    (episode,) = replay_dataset(copy, "lift-abs").episodes
    assert episode.success


def test_people_approach_the_same_cube_from_both_sides_and_grasp_either_pair():
    with closing(make_task("lift").make()) as env:
        frame, expert = env.reset(3), SCRIPTED_EXPERTS["lift"].make(env)
    aims = []
    for person in range(20):
        expert.reset(frame, person)
        aims.append(next(expert.script()))
    beside = np.array([aim.position - frame["observation.object"][:3] for aim in aims])
    assert beside[:, 1].min() < -0.02
    assert beside[:, 1].max() > 0.02
    (one, other) = np.unique(np.round([aim.yaw for aim in aims], 3))
    assert other - one == pytest.approx(np.pi / 2, abs=2e-3)


class FirstSleeps:
    """Does nothing in the episode of seed 0, and lifts in the others."""

    def __init__(self, expert):
        self.expert, self.asleep = expert, False

    def reset(self, frame, seed):
        self.asleep = seed == 0
        self.expert.reset(frame, seed)

    def act(self, frame):
        return np.zeros(7) if self.asleep else self.expert.act(frame)


def test_episodes_that_fail_are_left_out_and_told(tmp_path, monkeypatch, capsys):
    lift = SCRIPTED_EXPERTS["lift"]
    sleepy = replace(lift, make=lambda env: FirstSleeps(lift.make(env)))
    monkeypatch.setitem(SCRIPTED_EXPERTS, "lift", sleepy)
    monkeypatch.setattr("hotloop.envs.robosuite_arm.HORIZON", 120)  # lifting takes 60
    path = generate(tmp_path / "a.hdf5", "lift", "--num-episodes", 1)
    assert "left out: 1 that did not solve the task" in capsys.readouterr().out
    episodes = read_episodes(path)
    assert (episodes.metadata["seeds"], episodes.metadata["num_failed"]) == ([1], 1)
    assert episodes.terminated.tolist() == [True]


def test_what_the_cameras_see_is_added_and_nothing_else_changes(files, tmp_path):
    words = ("lift", "--num-episodes", 1, "--seed", 3, "--pictures", "--num-workers", 1)
    path = generate(tmp_path / "a.hdf5", *words)
    plain, seen = read_episodes(files["lift"]), read_episodes(path, everything=True)
    np.testing.assert_array_equal(seen.actions, plain.actions)
    for key, array in plain.observations.items():
        np.testing.assert_array_equal(seen.observations[key], array)
    with closing(make_task("lift-image").make()) as env:
        frame = env.reset(3)
    for camera in ("agentview", "robot0_eye_in_hand"):
        pictures = seen.observations[f"observation.{camera}_image"]
        assert (pictures.dtype, pictures.shape[1:]) == (np.uint8, (84, 84, 3))
        live = frame[f"observation.{camera}_image"].astype(int)
        assert np.abs(live - pictures[0]).mean() < 0.5
        assert np.abs(live - pictures[-1]).mean() > 2
    with h5py.File(path) as file:
        env_args = json.loads(file["data"].attrs["env_args"])
    assert env_args["env_kwargs"]["use_camera_obs"] is True


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("lift-abs-image",), "'lift-abs-image' are those of 'lift': generate that, with pictures"),
        (("pillars", "--pictures"), "pictures on request are for lift, can, square, got task"),
        (("can", "--pictures", "--num-workers", "-1"), "0 or more, and 0 without pictures, got -1"),
        (("can", "--num-workers", "2"), "0 or more, and 0 without pictures, got 2"),
    ],
)
def test_what_cannot_be_generated_is_told(words, message, tmp_path, capsys):
    assert main(["data", "generate", words[0], str(tmp_path / "a.hdf5"), *words[1:]]) == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
