"""The real robomimic, LeRobot and zarr 2 on files of ours, and ours on theirs.

None of them can be installed beside the other packages, so each gets an environment of its own,
made of the running one and the packages that it lacks. That needs a package index and minutes, so
the tests run only when HOTLOOP_COMPAT is set.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from example_episodes import make_episodes
from test_growing_dataset import picture, record

from hotloop.train.data import ReadOptions, read_episodes, write_episodes
from hotloop.train.data.inspect import inspect_dataset
from hotloop.train.demonstrations.generate import Collection, generate_demonstrations

pytestmark = [pytest.mark.compat, pytest.mark.timeout(1200)]

FOLDER = Path(__file__).parent / "compat"
Run = Callable[..., Any]


def build(folder: Path, script: str, packages: Sequence[str], without_deps: Sequence[str]) -> Run:
    """Make an environment; return what runs `script` in it and parses its last line."""
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    (site,) = folder.glob("lib/python*/site-packages")
    shared = [path for path in sys.path if path.endswith("site-packages")]
    (site / "shared.pth").write_text("\n".join(shared) + "\n")
    pip = [python, "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    if packages:
        subprocess.run([*pip, *packages], check=True)
    subprocess.run([*pip, "--no-deps", *without_deps], check=True)

    def run(*words: object) -> Any:
        environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(folder / "huggingface")}
        command = [python, FOLDER / script, *words]
        process = subprocess.run(command, capture_output=True, text=True, env=environment)
        assert process.returncode == 0, process.stderr
        return json.loads(process.stdout.splitlines()[-1])

    return run


@pytest.fixture(scope="module")
def robomimic(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("robomimic")
    packages = ["tensorboardX==2.6.5", "termcolor==3.3.0", "matplotlib", "psutil", "imageio"]
    return build(folder, "use_robomimic.py", packages, ["robomimic==0.3.0"])


@pytest.fixture(scope="module")
def lerobot(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("lerobot")
    packages = ["datasets", "pandas", "jsonlines", "deepdiff", "draccus"]
    # Newer numpy no longer takes an array of one number for a number, as its writer does.
    return build(folder, "use_lerobot.py", packages, ["lerobot==0.4.4", "numpy==2.2.6"])


@pytest.fixture(scope="module")
def zarr2(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("zarr2")
    packages = ["zarr==2.18.3", "numcodecs==0.13.1", "asciitree==0.3.3", "fasteners==0.20"]
    return build(folder, "use_zarr2.py", [], packages)


def test_robomimic_trains_on_what_is_written(robomimic: Run, tmp_path: Path) -> None:
    episodes = make_episodes()
    path = write_episodes(tmp_path / "a.hdf5", episodes, "robomimic")
    found = robomimic("train", path, "state", "goal")
    assert (found["num_demos"], found["num_sequences"], found["action_dim"]) == (3, 12, 2)
    assert found["env"] == {"env_name": "reach", "type": 2, "env_kwargs": {}}
    assert np.isfinite(found["loss"])
    np.testing.assert_array_equal(np.float32(found["first_action"]), episodes.actions[0])
    following = episodes.observations["observation.state"][1]
    np.testing.assert_array_equal(np.float32(found["next_obs"]["state"]), following)


def test_robomimic_trains_on_generated_demonstrations(robomimic: Run, tmp_path: Path) -> None:
    path = tmp_path / "a.hdf5"
    generate_demonstrations(path, Collection("lift", num_episodes=2))
    found = robomimic("train", path, "object", "robot0_eef_pos", "robot0_eef_quat")
    episodes = read_episodes(path)
    assert (found["num_demos"], found["num_sequences"]) == (2, episodes.num_steps)
    assert found["action_dim"] == 7
    assert (found["env"]["env_name"], found["env"]["type"]) == ("Lift", 1)
    assert np.isfinite(found["loss"])
    np.testing.assert_array_equal(np.float32(found["first_action"]), episodes.actions[0])


def test_what_robomimic_writes_is_read_and_kept(robomimic: Run, tmp_path: Path) -> None:
    """robomimic's training step on its own file and on our copy of it is the same."""
    path = tmp_path / "theirs.hdf5"
    theirs = robomimic("write", path)
    assert inspect_dataset(path).problems == ()
    assert read_episodes(path, options=ReadOptions(subset="train")).num_episodes == 2
    episodes = read_episodes(path, everything=True)
    assert episodes.num_episodes == theirs["num_demos"]
    assert set(episodes.observations) == {"observation.object", "observation.robot0_eef_pos"}
    copy = write_episodes(tmp_path / "ours.hdf5", episodes, "robomimic")
    ours = robomimic("train", copy, "object", "robot0_eef_pos")
    assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-6)
    assert ours["env"] == theirs["env"]


def test_lerobot_trains_on_what_is_written(lerobot: Run, tmp_path: Path) -> None:
    episodes = make_episodes(images=True)
    path = write_episodes(tmp_path / "a", episodes, "lerobot")
    found = lerobot("load", path)
    assert (found["num_frames"], found["num_episodes"], found["task"]) == (12, 3, "reach")
    state = episodes.observations["observation.state"]
    np.testing.assert_array_equal(np.float32(found["state"]), state)
    np.testing.assert_allclose(found["mean"], state.mean(axis=0, dtype=float), rtol=1e-6)
    pixels = episodes.observations["observation.images.top"][:, 2, 3, 1]
    np.testing.assert_allclose(found["pixel"], pixels, atol=1e-3)
    assert found["image_mean_shape"] == [3, 1, 1]
    # Windows of three actions stop at the end of the first episode, which has three steps.
    np.testing.assert_array_equal(np.float32(found["action"])[0], episodes.actions[:3])
    assert found["padded"][:3] == [[False] * 3, [False, False, True], [False, True, True]]


def test_lerobot_trains_on_what_grew_episode_by_episode(lerobot: Run, tmp_path: Path) -> None:
    """Videos and parquet files of one episode each, one of them added by a second process."""
    path = tmp_path / "grown"
    record(path, [5, 3], "video", (64, 96))
    record(path, [4], "video", (64, 96), task="pull")
    found = lerobot("load", path)
    assert (found["num_frames"], found["num_episodes"], found["task"]) == (12, 3, "push")
    assert [row[0] for row in found["state"]] == [*range(5), *range(3), *range(4)]
    expected = [picture(index, (64, 96))[2, 3, 1] for index in (*range(5), *range(3), *range(4))]
    np.testing.assert_allclose(found["pixel"], expected, atol=12)
    assert found["image_mean_shape"] == [3, 1, 1]


def test_what_lerobot_records_is_read(lerobot: Run, tmp_path: Path) -> None:
    """Its video has every frame at its step, also after the border of two episodes in one file."""
    path = tmp_path / "recorded"
    lerobot("record", path)
    assert inspect_dataset(path).problems == ()
    episodes = read_episodes(path, everything=True)
    assert episodes.episode_ends.tolist() == [4, 10, 15]
    assert episodes.terminated.tolist() == [False, True, False]
    assert (episodes.metadata["fps"], episodes.metadata["tasks"]) == (10, ["brighten"])
    assert episodes.rewards is not None
    assert episodes.rewards.tolist() == [*range(4), *range(6), *range(5)]
    brightness = episodes.observations["observation.state"][:, 0]
    still = episodes.observations["observation.images.still"].reshape(15, -1)
    np.testing.assert_array_equal(still.mean(axis=1), brightness)
    video = episodes.observations["observation.images.top"].reshape(15, -1)
    np.testing.assert_allclose(video.mean(axis=1), brightness, atol=2)


@pytest.mark.parametrize("name", ["a.zarr", "a.zarr.zip"])
def test_diffusion_policy_reads_replay_buffers_that_are_written(
    zarr2: Run, tmp_path: Path, name: str
) -> None:
    episodes = make_episodes(images=True)
    found = zarr2(write_episodes(tmp_path / name, episodes))
    assert found["version"] == "2.18.3"
    assert found["episode_ends"] == [3, 7, 12]
    np.testing.assert_array_equal(np.float32(found["action"]), episodes.actions)
    images = episodes.observations["observation.images.top"]
    np.testing.assert_array_equal(np.uint8(found["image"]), images)
    assert found["dtypes"]["images.top"] == "uint8"
