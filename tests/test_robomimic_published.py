"""robomimic's published files: read by a task's name, replayed, and refused where they differ."""

import re

import h5py
import numpy as np
import pytest
from robomimic_files import CAMERAS, LENGTH, change_env_args, write_published

from hotloop.envs import make_task
from hotloop.envs.robosuite_arm import CONTROLLER, FRAME, make_arguments
from hotloop.train import compose_training, train
from hotloop.train.cli import main
from hotloop.train.data import read_episodes
from hotloop.train.data.matching import check_actions, check_matches_task
from hotloop.train.demonstrations.replay import replay_dataset

ARM = "env_kwargs.controller_configs.body_parts.right"
HAND = {"observation.robot0_eef_pos", "observation.robot0_eef_quat"} | {
    "observation.robot0_gripper_qpos"
}


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    return write_published(tmp_path_factory.mktemp("published") / "image_v15.hdf5", images=True)


def read_for(task_name, path, *overrides):
    """Read as `hotloop train` does, and hold it against the task."""
    task = make_task(task_name)
    config = compose_training([f"task={task_name}", f"task.dataset={path}", *overrides]).task
    episodes = read_episodes(config.dataset, config.keys, config.options)
    check_matches_task(episodes, task)
    check_actions(episodes, task.action_spec)
    return episodes


@pytest.mark.parametrize("suffix", ["", "-abs", "-image", "-abs-image"])
def test_a_task_finds_what_it_observes_and_takes(published, suffix):
    episodes = read_for(f"lift{suffix}", published)
    pictures = {f"observation.{camera}_image" for camera in CAMERAS}
    seen = pictures if "image" in suffix else {"observation.object"}
    assert set(episodes.observations) == HAND | seen
    with h5py.File(published) as file:
        column = file[f"data/demo_0/actions{'_abs' if 'abs' in suffix else ''}"][:]
    np.testing.assert_allclose(episodes.actions[:LENGTH], column, rtol=1e-6)
    for key in pictures & seen:
        assert episodes.observations[key].shape == (2 * LENGTH, 84, 84, 3)
        assert episodes.observations[key].dtype == np.uint8


@pytest.mark.parametrize("task", ["", "lift-abs"])
def test_deltas_and_absolute_actions_replay_state_by_state(published, task):
    replay = replay_dataset(published, task)
    assert (replay.task, replay.notes) == (task or "lift", ())
    assert [episode.num_steps for episode in replay.episodes] == [LENGTH, LENGTH]
    assert max(episode.state_error for episode in replay.episodes) < 1e-6


def test_a_file_of_a_controller_that_took_poses_replays_as_such(published, tmp_path):
    changes = {f"{ARM}.input_type": "absolute"}
    path = change_env_args(published, tmp_path / "a.hdf5", changes)
    with h5py.File(path, "r+") as file:
        for demo in file["data"].values():
            demo["actions"][...] = demo["actions_abs"][...]
            del demo["actions_abs"]
    replay = replay_dataset(path)
    assert replay.task == "lift-abs"
    assert replay.reproduced
    episodes = read_for("lift-abs", path, "task.keys.action=action")
    assert episodes.actions.shape == (2 * LENGTH, 7)
    with pytest.raises(ValueError, match="task 'lift' takes deltas; choose 'lift-abs'"):
        replay_dataset(path, "lift")


@pytest.mark.parametrize(
    ("changes", "task", "overrides", "message"),
    [
        ({"env_version": "1.4.1"}, "lift", (), "recorded with robosuite 1.4.1, but 1.5"),
        (
            {"env_kwargs.robots": ["Sawyer"]},
            "lift",
            (),
            "env_args.env_kwargs.robots is ['Sawyer'], but task 'lift' has 'Panda'",
        ),
        (
            {f"{ARM}.type": "JOINT_POSITION"},
            "lift-image",
            (),
            f"env_args.{ARM}.type is 'JOINT_POSITION', but task 'lift-image' runs with 'OSC_POSE'",
        ),
        (
            {f"{ARM}.kp": [300] * 6},
            "lift",
            (),
            f"env_args.{ARM}.kp is [300, 300, 300, 300, 300, 300], but task 'lift' runs with 150",
        ),
        ({f"{ARM}.damping": 2}, "lift", (), f"env_args.{ARM}.damping is 2, but task 'lift' runs"),
        (
            {f"{ARM}.input_ref_frame": "base"},
            "lift-abs",
            (),
            f"env_args.{ARM}.input_ref_frame is 'base', but absolute actions of task 'lift-abs' "
            "are in the frame 'world'",
        ),
        (
            {},
            "lift",
            ("task.keys.action=actions_abs",),
            "the actions are absolute hand poses, but task 'lift' takes deltas; choose 'lift-abs'",
        ),
        (
            {},
            "lift-image",
            ("task.options.absolute_actions=true",),
            "the actions are absolute hand poses, but task 'lift-image' takes deltas; choose "
            "'lift-abs-image'",
        ),
        (
            {},
            "lift-abs-image",
            ("task.keys.action=actions",),
            "the actions are deltas, but task 'lift-abs-image' takes absolute hand poses; choose "
            "'lift-image', or task.keys.action=actions_abs",
        ),
        ({}, "can", (), "recorded in 'Lift', but it is to be trained for 'can'"),
        ({"env_kwargs.control_freq": 10}, "lift", (), "was recorded at 10 Hz, but 'lift' runs at"),
    ],
)
def test_what_would_do_something_else_is_refused(
    published, tmp_path, changes, task, overrides, message
):
    path = change_env_args(published, tmp_path / "a.hdf5", changes)
    with pytest.raises(ValueError, match=re.escape(message)):
        read_for(task, path, *overrides)


def test_poses_that_are_not_where_the_hand_is_are_refused(published, tmp_path):
    """Even if nothing says what the actions are."""
    path = change_env_args(published, tmp_path / "a.hdf5", {"env_kwargs": {}})
    keys = ("task.keys.action=actions",)
    with pytest.raises(
        ValueError, match=r"positions are [01]\.\d\d m away from 'observation\.robot0"
    ):
        read_for("lift-abs", path, *keys)
    assert read_for("lift-abs", path).num_steps == 2 * LENGTH
    with h5py.File(path, "r+") as file:
        for demo in file["data"].values():
            demo["actions_abs"][:, 0] += 0.56
    with pytest.raises(ValueError, match=r"are 0\.5\d m away .*poses in another frame\?"):
        read_for("lift-abs", path)


@pytest.mark.parametrize(("task", "problem"), [("lift", 0), ("lift-abs", 0), ("can", 1)])
def test_an_inspection_holds_a_file_against_either_form(published, task, problem, capsys):
    assert main(["data", "inspect", str(published), "--task", task]) == problem
    assert ("runs in 'robosuite PickPlaceCan" in capsys.readouterr().out) == bool(problem)


def test_absolute_actions_are_trained_on_by_the_tasks_name(published, tmp_path):
    overrides = ["policy=dp", "task=lift-abs", f"task.dataset={published}", "steps=1"]
    small = ["policy.model.network.width=16", "batch_size=4", f"output_dir={tmp_path / 'run'}"]
    folder = train(compose_training([*overrides, *small]))
    assert folder.is_dir()


@pytest.mark.parametrize("absolute", [False, True])
def test_the_settings_that_files_are_held_against_are_what_runs(absolute):
    arm = make_arguments(images=False, absolute=absolute)["controller_configs"]["body_parts"]
    found = {name: arm["right"][name] for name in [*CONTROLLER, "input_ref_frame", "input_type"]}
    kind = "absolute" if absolute else "delta"
    assert found == {**CONTROLLER, "input_ref_frame": FRAME, "input_type": kind}
