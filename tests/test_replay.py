"""Replay of demonstrations in the simulator."""

import json
import re
from contextlib import closing
from importlib import metadata

import h5py
import numpy as np
import pytest

from hotloop.envs import SCRIPTED_EXPERTS, make_task, record_episode
from hotloop.train.cli import main
from hotloop.train.demonstrations.replay import replay_dataset


def generate(path, *words):
    assert main(["data", "generate", words[0], str(path), *map(str, words[1:])]) == 0
    return path


@pytest.fixture(scope="module")
def solved(tmp_path_factory):
    path = tmp_path_factory.mktemp("replay") / "pointmaze.hdf5"
    return generate(path, "pointmaze-umaze", "--num-episodes", 2)


def test_a_generated_dataset_replays_exactly(solved, capsys):
    assert main(["data", "replay", str(solved)]) == 0
    assert "2 of 2 solved, 2 with the recorded states" in capsys.readouterr().out


def test_changed_actions_are_noticed(solved, tmp_path, capsys):
    changed = tmp_path / "changed.hdf5"
    changed.write_bytes(solved.read_bytes())
    with h5py.File(changed, "r+") as file:
        file["actions"][0] = -file["actions"][0]
    assert main(["data", "replay", str(changed)]) == 1
    output = capsys.readouterr().out
    assert "1 with the recorded states" in output
    assert "NOT reproduced" in output


@pytest.mark.parametrize("name", ["maze2d-umaze", "pointmaze-umaze"])
def test_every_generated_dataset_replays_from_its_seed(name, tmp_path):
    """maze2d hides its robot, which once ended in a crash."""
    path = generate(tmp_path / "a.hdf5", name, "--num-episodes", 2, "--seed", 5)
    replay = replay_dataset(path)
    assert [episode.state_error for episode in replay.episodes] == [0, 0]
    assert [episode.return_error for episode in replay.episodes] == pytest.approx([0, 0], abs=1e-5)
    assert all(episode.success for episode in replay.episodes)


@pytest.mark.parametrize(("name", "other"), [("maze2d-umaze", "maze2d-medium")])
def test_a_file_without_seed_starts_from_joint_states(name, other, tmp_path):
    path = generate(tmp_path / "a.hdf5", name, "--num-episodes", 1)
    with h5py.File(path, "r+") as file:
        del file.attrs["metadata"]
    with pytest.raises(ValueError, match="does not say its task: give it with --task"):
        replay_dataset(path)
    assert replay_dataset(path, name).reproduced
    assert not replay_dataset(path, other).reproduced
    with h5py.File(path, "r+") as file:
        del file["infos/qvel"]
    with pytest.raises(ValueError, match="neither infos/qpos and infos/qvel nor the seed"):
        replay_dataset(path, name)


def test_actions_that_noise_was_added_to_are_told(tmp_path, capsys):
    words = ("pointmaze-umaze", "--num-episodes", 1, "--action-noise", 0.3)
    path = generate(tmp_path / "a.hdf5", *words)
    assert main(["data", "replay", str(path)]) == 1
    assert "note: the actions are what the expert intended" in capsys.readouterr().out


def test_a_simulator_of_another_version_is_told(solved, tmp_path, capsys):
    old = tmp_path / "old.hdf5"
    old.write_bytes(solved.read_bytes())
    with h5py.File(old, "r+") as file:
        facts = json.loads(file.attrs["metadata"])
        facts["versions"] |= {"mujoco": "3.1.0", "numpy": "1.0"}
        file.attrs["metadata"] = json.dumps(facts)
    (note,) = replay_dataset(old).notes
    installed = metadata.version("mujoco")
    assert note == f"recorded with mujoco 3.1.0, but {installed} is installed"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--task", "lift"), r"task 'lift' takes 7 action dimensions, .* \(\d+, 2\): another task"),
        (("--num-episodes", "-1"), "num_episodes must be 0 .* got -1"),
    ],
)
def test_what_cannot_be_replayed_is_refused(solved, words, message, capsys):
    assert main(["data", "replay", str(solved), *words]) == 2
    assert re.search(message, capsys.readouterr().err)


@pytest.fixture(scope="module")
def robomimic_file(tmp_path_factory):
    """A file as robomimic writes them: states, the model of the episode, no seed."""
    path, task = tmp_path_factory.mktemp("robomimic") / "lift.hdf5", make_task("lift")
    with closing(task.make()) as env:
        expert = SCRIPTED_EXPERTS["lift"].make(env)
        episode = record_episode(task, env, expert, seed=1)
        model = env.model_xml
    env_args = {"env_name": "Lift", "env_version": metadata.version("robosuite"), "type": 1}
    with h5py.File(path, "w") as file:
        file.create_group("data").attrs["env_args"] = json.dumps({**env_args, "env_kwargs": {}})
        demo = file.create_group("data/demo_0")
        demo.attrs["model_file"] = model
        demo["states"], demo["actions"] = episode.infos["states"], episode.actions
    return path


def shorten(demo):
    """Keep the first steps, which say as much where it is not asked how the episode ends."""
    for name in ("states", "actions"):
        first = demo[name][:5]
        del demo[name]
        demo[name] = first


def test_a_robomimic_file_replays_state_by_state(robomimic_file):
    """robosuite's controllers keep goal and posture of their own reset: the hand jumped 0.7."""
    replay = replay_dataset(robomimic_file)
    assert (replay.task, replay.notes) == ("lift", ())
    (episode,) = replay.episodes
    assert episode.success
    assert episode.state_error < 1e-4


def test_robomimic_files_that_do_not_fit_are_told(robomimic_file, tmp_path):
    path = tmp_path / "other.hdf5"
    path.write_bytes(robomimic_file.read_bytes())
    kwargs = {"control_freq": 10, "controller_configs": {"control_delta": False}}
    with h5py.File(path, "r+") as file:
        env_args = json.loads(file["data"].attrs["env_args"])
        file["data"].attrs["env_args"] = json.dumps({**env_args, "env_kwargs": kwargs})
        shorten(file["data/demo_0"])
    replay = replay_dataset(path, num_episodes=1)
    assert replay.task == "lift-abs"
    assert replay.notes == ("recorded at 10 Hz, but the task runs at 20 Hz",)
    with pytest.raises(ValueError, match="absolute hand poses, but task 'lift' takes deltas"):
        replay_dataset(path, "lift")
    with h5py.File(path, "r+") as file:
        file["data/demo_0/actions"][3] = np.nan
    with pytest.raises(ValueError, match="data/demo_0: the actions hold NaN"):
        replay_dataset(path)
    with h5py.File(path, "r+") as file:
        file["data"].attrs["env_args"] = json.dumps({**env_args, "env_name": "Door"})
    with pytest.raises(ValueError, match="robosuite's 'Door', which no task here is"):
        replay_dataset(path)


def test_pusht_demonstrations_replay_from_their_states(shared_data):
    replay = replay_dataset(shared_data / "pusht_columbia/pusht_lowdim.npz", num_episodes=2)
    assert replay.task == "pusht"
    assert replay.reproduced
    assert max(episode.state_error for episode in replay.episodes) < 1e-5


def test_another_robosuite_version_is_named(shared_data, tmp_path):
    path = tmp_path / "demo.hdf5"
    path.write_bytes((shared_data / "robosuite_demos/v1.0.1/lift/panda/demo.hdf5").read_bytes())
    with h5py.File(path, "r+") as file:
        shorten(file["data/demo_1"])
    replay = replay_dataset(path)
    (note,) = replay.notes
    assert "recorded with robosuite 1.0.0" in note
    assert "install robosuite==1.0.0 if the replay fails" in note
