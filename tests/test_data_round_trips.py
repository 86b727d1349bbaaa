"""What is written is read back, from any format to any other, and never half of it."""

import os
import re
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from example_episodes import assert_equal, assert_same, make_episodes

from hotloop.decoding.plumbing.files import replacing
from hotloop.train.data import ReadOptions, WriteOptions, read_episodes, write_episodes
from hotloop.train.data.convert import Target, convert_dataset
from hotloop.train.data.inspect import inspect_dataset

NAMES = {
    "d4rl": "a.hdf5",
    "robomimic": "a.h5",
    "zarr": "a.zarr",
    "lerobot": "a",
    "minari": "reach/scripted-v0",
}
LOST = {"lerobot": {"final_observations"}}
FINAL = "final_observations, what was seen after the last action of each episode"
IMAGES = [name for name in NAMES if name != "d4rl"]


def write(folder, layout, episodes):
    return write_episodes(folder / NAMES[layout], episodes, layout)


@pytest.mark.parametrize("layout", NAMES)
def test_what_is_written_is_read_back(tmp_path, layout):
    episodes = make_episodes()
    path = write(tmp_path, layout, episodes)
    assert_same(read_episodes(path, everything=True), episodes, LOST.get(layout, ()))


@pytest.mark.parametrize("layout", IMAGES)
def test_images_are_read_back_bit_for_bit_but_only_when_asked_for(tmp_path, layout):
    episodes = make_episodes(images=True)
    path = write(tmp_path, layout, episodes)
    assert_same(read_episodes(path, everything=True), episodes, LOST.get(layout, ()))
    assert set(read_episodes(path).observations) == {"observation.state", "observation.goal"}
    assert read_episodes(path).infos == {}


def test_a_zip_of_zarr_is_read_back_too(tmp_path):
    episodes = make_episodes(images=True)
    path = write_episodes(tmp_path / "a.zarr.zip", episodes)
    assert_same(read_episodes(path, everything=True), episodes, ())


@pytest.mark.parametrize("layout", NAMES)
def test_what_is_not_known_is_not_invented(tmp_path, layout):
    known = make_episodes(final=False, infos=False)
    episodes = replace(known, rewards=None, terminated=np.zeros(3, bool))
    found = read_episodes(write(tmp_path, layout, episodes), everything=True)
    assert found.rewards is None
    assert not found.terminated.any()
    assert_equal(found.actions, episodes.actions)
    assert found.final_observations is None
    assert "final_observations" not in found.metadata


@pytest.mark.parametrize("layout", NAMES)
def test_a_written_dataset_has_no_problems(tmp_path, layout):
    path = write(tmp_path, layout, make_episodes(images=layout in IMAGES))
    report = inspect_dataset(path)
    assert report.problems == ()
    assert (report.layout, report.num_episodes, report.num_steps) == (layout, 3, 12)
    assert report.episode_length == (3, 4, 5)
    assert report.metadata["task"] == "reach"
    assert report.metadata["num_terminated"] == 2


@pytest.mark.parametrize("source", NAMES)
@pytest.mark.parametrize("layout", NAMES)
def test_any_format_converts_to_any_other(tmp_path, source, layout):
    episodes = make_episodes()
    path = write(tmp_path / "from", source, episodes)
    target = Target(tmp_path / "to" / NAMES[layout], layout)
    result = convert_dataset(path, target)
    assert (result.path, result.layout, result.num_steps) == (target.path, layout, 12)
    lost = LOST.get(source, set()) | LOST.get(layout, set())
    found = read_episodes(result.path, everything=True)
    assert_same(found, episodes, lost)
    assert found.metadata["converted_from"] == {"name": path.name, "layout": source}
    has_final = source not in LOST
    assert result.dropped == (() if not has_final or layout not in LOST else (FINAL,))


def test_a_conversion_takes_columns_and_options(tmp_path):
    path = write(tmp_path, "d4rl", make_episodes())
    keys = {"observation.first": "observations[:1]", "action": "actions", "reward": "rewards"}
    target = Target(tmp_path / "b", "lerobot", WriteOptions(fps=25, task="push it"))
    found = read_episodes(convert_dataset(path, target, keys).path)
    assert {key: array.shape for key, array in found.observations.items()} == {
        "observation.first": (12, 1)
    }
    assert (found.metadata["fps"], found.metadata["tasks"]) == (25, ["push it"])
    assert found.metadata["columns"] == keys


def test_a_large_conversion_goes_through_files_that_do_not_stay(tmp_path):
    episodes = make_episodes()
    path = write(tmp_path / "from", "robomimic", episodes)
    convert_dataset(path, Target(tmp_path / "to" / "a.hdf5"), max_memory=0)
    assert_same(read_episodes(tmp_path / "to" / "a.hdf5", everything=True), episodes)
    assert [child.name for child in (tmp_path / "to").iterdir()] == ["a.hdf5"]


def test_images_do_not_go_into_the_flat_layout(tmp_path):
    path = write(tmp_path, "zarr", make_episodes(images=True))
    message = "D4RL's flat layout holds no images, but observation.images.top are; choose columns"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        convert_dataset(path, Target(tmp_path / "b.hdf5"))
    assert sorted(child.name for child in tmp_path.iterdir()) == ["a.zarr"]


def test_an_unknown_frame_rate_is_asked_for(tmp_path):
    unknown = replace(make_episodes(), metadata={})
    with pytest.raises(ValueError, match=r"states its frame rate, .* give fps"):
        write_episodes(tmp_path / "a", unknown, "lerobot")


@pytest.mark.parametrize(
    ("name", "layout", "message"),
    [
        (
            "a",
            "",
            "the name does not say which format to write; name one of d4rl, lero",
        ),
        ("a.npz", "zarr", "a zarr dataset must end in .zarr or .zarr.zip, got '.npz'"),
        ("a", "minari", "the name of a Minari dataset ends in its version, e.g. '-v0'"),
    ],
)
def test_a_name_that_does_not_fit_its_format_is_refused(tmp_path, name, layout, message):
    with pytest.raises(ValueError, match=f"^{re.escape(f'{tmp_path / name}: {message}')}"):
        write_episodes(tmp_path / name, make_episodes(), layout)


@pytest.mark.parametrize("layout", NAMES)
def test_an_existing_dataset_is_kept_unless_told_otherwise(tmp_path, layout):
    path = write(tmp_path, layout, make_episodes())
    other = replace(make_episodes(), rewards=np.zeros(12, np.float32))
    with pytest.raises(FileExistsError, match="exists already; choose another name or overwrite"):
        write(tmp_path, layout, other)
    write_episodes(path, other, layout, overwrite=True)
    found = read_episodes(path)
    assert found.rewards is not None
    assert not found.rewards.any()


@pytest.mark.parametrize("layout", NAMES)
def test_a_failed_write_leaves_nothing(tmp_path, layout):
    def interrupted(num_steps):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_episodes(tmp_path / NAMES[layout], make_episodes(), layout, advance=interrupted)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


KILLED = """
import sys, time
from pathlib import Path
from example_episodes import make_episodes
from hotloop.train.data import write_episodes

def stall(num_steps):
    print("writing", flush=True)
    time.sleep(60)

write_episodes(Path(sys.argv[1]), make_episodes(), sys.argv[2], overwrite=True, advance=stall)
"""


@pytest.mark.parametrize("layout", ["d4rl", "lerobot"])
def test_a_killed_write_leaves_no_target_and_its_remains_are_removed(tmp_path, layout):
    """SIGKILL runs no clean-up: the target must not exist, or be what it was."""
    path = tmp_path / NAMES[layout]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent)}
    words = [sys.executable, "-c", KILLED, str(path), layout]
    for existing in (False, True):
        if existing:
            write(tmp_path, layout, make_episodes())
        with subprocess.Popen(words, stdout=subprocess.PIPE, env=environment) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"writing\n"
            process.send_signal(signal.SIGKILL)
        assert path.exists() is existing
        assert len(list(tmp_path.glob(".partial-*"))) == 1
    assert_same(read_episodes(path, everything=True), make_episodes(), LOST.get(layout, ()))
    write_episodes(path, make_episodes(), layout, overwrite=True)
    assert list(tmp_path.glob(".partial-*")) == []


def test_the_unfinished_work_of_a_running_process_is_left_alone(tmp_path):
    running = tmp_path / f".partial-{os.getppid()}-a.txt"
    running.touch()
    with replacing(tmp_path / "a.txt") as partial:
        partial.write_text("new")
    assert running.exists()
    assert (tmp_path / "a.txt").read_text() == "new"


def test_an_option_of_another_format_is_refused(tmp_path):
    path = write(tmp_path, "d4rl", make_episodes())
    message = "d4rl files have no option 'subset'; they take max_episode_steps, shift_rewards"
    with pytest.raises(ValueError, match=re.escape(message)):
        read_episodes(path, options=ReadOptions(subset="train"))
