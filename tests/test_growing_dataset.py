"""A dataset that grows: every episode that was added is there, whole, whatever happens."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hotloop.train.data.formats.lerobot.grow import GrowingDataset, Header
from hotloop.train.data.formats.lerobot.statistics import statistics
from hotloop.train.data.formats.registry import read_episodes
from hotloop.train.data.inspect import inspect_dataset
from hotloop.train.recording.episode import EpisodeBuilder, Frame
from hotloop.train.recording.pictures import PictureStatistics, declare_pictures
from hotloop.train.recording.recorder import Recorder

FPS, PERIOD = 10, 0.1
JOINTS = ["pan [rad]", "lift [rad]"]
CAMERA = "observation.images.top"


def column(size: int, names: list[str] | None = None, dtype: str = "float32") -> dict:
    return {"dtype": dtype, "shape": [size], "names": names, "fps": FPS}


def header(encoding: str = "png", size: tuple[int, int] = (12, 16), **changes) -> Header:
    flags = ("info.filled", "intervention", "next.done", "next.truncated")
    features = {
        "observation.state": column(2, JOINTS),
        "action": column(2, JOINTS),
        "info.measured_at": column(2, ["joints [s]", "top [s]"]),
        **{name: column(1, None, "bool") for name in flags},
        CAMERA: declare_pictures(size, FPS, encoding),
    }
    return replace(Header(FPS, "arm", features, {"source": "a test"}), **changes)


def picture(index: int, size: tuple[int, int] = (12, 16)) -> np.ndarray:
    image = np.full((*size, 3), (10 * index) % 250, np.uint8)
    image[: size[0] // 2, :, 1] = 7 * index % 250
    return image


def frame(index: int, time: float | None = None, size=(12, 16), person: bool = False) -> Frame:
    moment = 50.0 + (index * PERIOD if time is None else time)
    numbers = {
        "observation.state": np.array([index, -index], float),
        "action": np.array([index + 0.5, 1.0]),
        "info.measured_at": np.array([moment, moment - 0.02]),
    }
    return Frame(moment, numbers, {CAMERA: picture(index, size)}, person)


def record(path: Path, lengths: list[int], encoding="png", size=(12, 16), task="push") -> list[str]:
    recorder = Recorder(path, header(encoding, size), encoding)
    for length in lengths:
        for index in range(length):
            recorder.add(frame(index, size=size))
        recorder.keep(task, truncated=False)
    return recorder.close()


@pytest.mark.parametrize(("encoding", "tolerance"), [("png", 0), ("video", 12)])
def test_what_was_recorded_is_read_again(tmp_path: Path, encoding: str, tolerance: int) -> None:
    path = tmp_path / "data"
    assert record(path, [5, 3], encoding)[1] == f"episode 1 kept: 3 frames; 2 in {path}"
    record(path, [4], encoding, task="pull")
    found = read_episodes(path, everything=True)
    assert inspect_dataset(path).problems == ()
    assert found.episode_ends.tolist() == [5, 8, 12]
    assert found.observations["observation.state"][5:8, 0].tolist() == [0, 1, 2]
    assert found.actions[:3, 0].tolist() == [0.5, 1.5, 2.5]
    assert found.metadata["tasks"] == ["push", "pull"]
    assert found.infos["task_index"].reshape(-1).tolist() == [0] * 8 + [1] * 4
    assert found.metadata["action_names"] == JOINTS and found.metadata["fps"] == FPS
    images = np.asarray(found.observations[CAMERA][:]).astype(int)
    expected = np.stack([picture(i) for i in (*range(5), *range(3), *range(4))]).astype(int)
    assert images.shape == expected.shape
    assert np.abs(images - expected).mean() <= tolerance
    measured = found.infos["measured_at"]
    assert np.allclose(measured[:5], 0.1 * np.arange(5)[:, None] + [0, -0.02], atol=1e-5)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["data"], "something is left over"


@pytest.mark.parametrize("size", [(11, 15), (2, 2)])
def test_pictures_of_any_size_become_videos(tmp_path: Path, size: tuple[int, int]) -> None:
    record(tmp_path / "data", [4], "video", size)
    assert inspect_dataset(tmp_path / "data").problems == ()


def test_statistics_are_those_of_all_frames(tmp_path: Path) -> None:
    record(tmp_path / "data", [5, 9, 30])
    stored = json.loads((tmp_path / "data/meta/stats.json").read_text())
    found = read_episodes(tmp_path / "data", everything=True)
    whole = statistics({"observation.state": found.observations["observation.state"]})
    for name in ("min", "max", "mean", "std", "count"):
        expected = whole["observation.state"][name]
        assert np.allclose(stored["observation.state"][name], expected), name
    images = np.asarray(found.observations[CAMERA][:])
    for name in ("min", "max", "mean", "std"):
        expected = statistics({CAMERA: images})[CAMERA][name]
        assert np.allclose(stored[CAMERA][name], expected), name


def test_quantiles_of_pictures_are_counted_as_they_go_by() -> None:
    images = np.random.default_rng(0).integers(0, 256, (9, 20, 30, 3)).astype(np.uint8)
    found = PictureStatistics()
    for image in images:
        found.add(image)
    expected = statistics({"x": images})["x"]
    for name, values in found.result().items():
        assert np.allclose(values, expected[name], atol=1.5 / 255), name


ENDLESS = """
import sys
sys.path.insert(0, sys.argv[2])
from test_growing_dataset import *
recorder = Recorder(Path(sys.argv[1]), header("video"), "video")
while True:
    for index in range(4):
        recorder.add(frame(index))
    recorder.keep("push", truncated=False)
    for text in recorder.messages():
        print(text, flush=True)
"""


def test_kill_9_at_any_instant_loses_no_episode_that_was_kept(tmp_path: Path) -> None:
    path, kept = tmp_path / "data", 0
    generator = np.random.default_rng(0)
    for _ in range(6):
        command = [sys.executable, "-c", ENDLESS, str(path), str(Path(__file__).parent)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(generator.uniform(0, 0.3))
        os.kill(process.pid, signal.SIGKILL)
        told = 1 + sum("kept" in line for line in process.communicate()[0].splitlines())
        report = inspect_dataset(path)
        assert report.problems == (), report.problems
        assert report.num_episodes is not None and report.num_episodes >= kept + told
        assert report.num_steps == 4 * report.num_episodes
        kept = report.num_episodes
    record(path, [4], "video")
    assert inspect_dataset(path).num_episodes == kept + 1
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["data"], "something is left over"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fps": 30}, "has 10 frames per second, this recording 30"),
        ({"robot_type": "other"}, "was recorded on robot 'arm', this is 'other'"),
        ({"features": {"action": column(2, JOINTS)}}, "other columns: it has .*top"),
        (
            {"features": {**header().features, "action": column(2, ["pan [deg]", "lift [deg]"])}},
            "'action' has the names .*rad.*, in this recording .*deg",
        ),
    ],
)
def test_episodes_of_another_kind_are_refused(tmp_path: Path, changes, message) -> None:
    record(tmp_path / "data", [3])
    with pytest.raises(ValueError, match=message):
        Recorder(tmp_path / "data", header(**changes), "png")
    assert inspect_dataset(tmp_path / "data").num_episodes == 1


def test_what_is_no_dataset_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    with pytest.raises(FileExistsError, match="is there and no LeRobotDataset"):
        GrowingDataset(tmp_path / "notes", header())


def test_a_place_where_nothing_can_be_written_is_not_taken_for_one_in_use() -> None:
    with pytest.raises(OSError, match="nothing can be written into /proc"):
        Recorder(Path("/proc/data"), header(), "png")


def test_two_recordings_into_one_dataset_are_refused(tmp_path: Path) -> None:
    first = Recorder(tmp_path / "data", header(), "png")
    with pytest.raises(ValueError, match="another process is recording into"):
        Recorder(tmp_path / "data", header(), "png")
    first.close()
    Recorder(tmp_path / "data", header(), "png").close()
    assert list(tmp_path.iterdir()) == []


def test_an_episode_that_was_dropped_leaves_nothing(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "data", header("video"), "video")
    for index in range(3):
        recorder.add(frame(index))
    recorder.drop("as you wished")
    for index in range(2):
        recorder.add(frame(index))
    recorder.keep("push", truncated=True)
    assert recorder.close() == [
        "episode dropped: as you wished",
        f"episode 0 kept: 2 frames; 1 in {tmp_path / 'data'}",
    ]
    assert read_episodes(tmp_path / "data").terminated.tolist() == [False]


def test_a_dataset_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "data", header(), "png")
    (tmp_path / "data").write_text("in the way")
    recorder.add(frame(0))
    recorder.keep("push", truncated=False)
    with pytest.raises(OSError, match="was changed by somebody else while it was recorded"):
        recorder.close()
    assert (tmp_path / "data").read_text() == "in the way"


def build(tmp_path: Path, frames: list[Frame]) -> tuple[EpisodeBuilder, dict[str, np.ndarray]]:
    builder = EpisodeBuilder(PERIOD, "png", tmp_path)
    for one in frames:
        builder.add(one)
    return builder, builder.finish("push", truncated=False).columns


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_an_episode_that_a_defect_keeps_from_the_dataset_is_told(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "data", header(), "png")
    recorder.add(Frame(0.0, {}, {}))  # without what every frame has
    recorder.keep("wave", truncated=False)
    with pytest.raises(OSError, match="ended by an error of its own"):
        recorder.close()


def test_frames_come_to_lie_on_a_steady_grid(tmp_path: Path) -> None:
    """Some come early, one comes twice, two are missing."""
    times = [0.0, 0.12, 0.18, 0.21, 0.5, 0.61]
    builder, columns = build(tmp_path, [frame(i, time) for i, time in enumerate(times)])
    states = columns["observation.state"][:, 0]
    assert np.allclose(states, [0, 1, 2, 2 + 2 / 3, 2 + 4 / 3, 4, 5])
    assert columns["info.filled"].tolist() == [False] * 3 + [True] * 2 + [False] * 2
    assert (builder.num_frames, builder.num_filled) == (7, 2)
    assert np.allclose(columns["info.measured_at"][5], [0.5, 0.48], atol=1e-6)


def test_led_by_hand_the_action_is_where_the_robot_went(tmp_path: Path) -> None:
    frames = [frame(index) for index in range(3)]
    bare = [
        one._replace(numbers={k: v for k, v in one.numbers.items() if k != "action"})
        for one in frames
    ]
    _, columns = build(tmp_path, bare)
    assert columns["action"][:, 0].tolist() == [1, 2, 2]


def test_interventions_are_marked(tmp_path: Path) -> None:
    _, columns = build(tmp_path, [frame(i, person=i in (1, 2)) for i in range(4)])
    assert columns["intervention"].tolist() == [False, True, True, False]
