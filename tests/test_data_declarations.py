"""What a LeRobot dataset declares, held against what it holds; and what is kept of it."""

import json
import logging
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from example_episodes import LENGTHS, make_episodes

from hotloop.decoding.instruction import INSTRUCTION_KEY, decode_instruction
from hotloop.train.data import read_episodes, write_episodes
from hotloop.train.data.convert import Target, convert_dataset
from hotloop.train.data.inspect import inspect_dataset
from hotloop.train.data.recorded_spec import recorded_action_spec

CAMERA = "observation.images.top"


@pytest.fixture
def folder(tmp_path):
    return write_episodes(tmp_path / "a", make_episodes(images=True), "lerobot")


def change_info(folder, change):
    path = folder / "meta/info.json"
    info = json.loads(path.read_text())
    change(info)
    path.write_text(json.dumps(info))


def change_frames(folder, **columns):
    path = next((folder / "data").rglob("*.parquet"))
    table = pq.read_table(path)
    for name, values in columns.items():
        table = table.set_column(table.column_names.index(name), name, pa.array(values))
    pq.write_table(table, path)


@pytest.mark.parametrize(
    ("shape", "names"),
    [
        ([3, 10, 12], ["channels", "height", "width"]),
        ([12, 10, 3], ["width", "height", "channels"]),
    ],
)
def test_pictures_are_what_the_files_hold_in_whatever_order_they_are_declared(folder, shape, names):
    change_info(folder, lambda i: i["features"][CAMERA].update(shape=shape, names=names))
    found = read_episodes(folder, everything=True).observations[CAMERA]
    np.testing.assert_array_equal(found, make_episodes(images=True).observations[CAMERA])
    assert inspect_dataset(folder).problems == ()


def test_a_size_that_no_picture_has_is_a_problem(folder):
    change_info(folder, lambda i: i["features"][CAMERA].update(shape=[480, 640, 3]))
    (problem,) = inspect_dataset(folder).problems
    assert problem.startswith("meta/info.json declares steps of shape (480, 640, 3)")


def test_pictures_that_are_left_out_are_named(folder, caplog):
    with caplog.at_level(logging.WARNING):
        assert CAMERA not in read_episodes(folder).observations
    assert f"the pictures of {CAMERA} are left out" in caplog.text
    caplog.clear()
    read_episodes(folder, {"action": "action", "observation.state": "observation.state"})
    assert caplog.text == ""


def test_a_rate_that_the_timestamps_contradict_is_an_error_for_a_robot(folder):
    frames = np.concatenate([np.arange(length) for length in LENGTHS])
    change_frames(folder, timestamp=(frames / 5).astype(np.float32))
    problem = "the declared rate is 10 Hz (0.1 s), but steps are 0.2 s apart (5 Hz)"
    assert inspect_dataset(folder).problems[0].startswith(problem)
    with pytest.raises(ValueError, match="a robot would move wrongly"):
        recorded_action_spec(read_episodes(folder))


def test_a_gap_in_time_is_an_error_for_a_robot(folder):
    frames = np.concatenate([np.arange(length) for length in LENGTHS])
    change_frames(folder, timestamp=(frames / 10 + (frames >= 2)).astype(np.float32))
    (fault,) = read_episodes(folder).faults
    assert fault.startswith("there are 3 gaps in time, the first before step 2, the longest 1.1 s")


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"frame_index": np.arange(12)}, "the frames are out of order: row 3 has frame_index 3"),
        ({"index": np.arange(12)[::-1]}, "the frames are out of order: row 0 has index 11"),
        ({"task_index": np.full(12, 4)}, "frames have task_index [4], but meta/tasks.parquet"),
    ],
)
def test_indices_that_point_elsewhere_are_problems(folder, change, problem):
    change_frames(folder, **change)
    assert any(text.startswith(problem) for text in inspect_dataset(folder).problems)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda i: i.update(fps=None), "meta/info.json: fps must be a number above 0, found None"),
        (lambda i: i.update(total_tasks=7), "meta/info.json says total_tasks 7, found 1"),
        (lambda i: i.update(total_episodes=89), "86 of 89 episodes are absent: meta/info.json"),
        (lambda i: i["features"]["action"].update(shape=[7]), "meta/info.json declares steps of"),
        (lambda i: i["features"]["action"].update(dtype="int64"), "meta/info.json declares int64"),
        (lambda i: i["features"]["action"].update(names=["a"]), "meta/info.json names 1 numbers"),
        (lambda i: i.update(features=None), "cannot be opened: meta/info.json must declare feat"),
        (lambda i: i["features"].update(action=None), "cannot be opened: meta/info.json: feature"),
    ],
)
def test_declarations_that_the_data_contradicts_are_problems(folder, change, problem):
    change_info(folder, change)
    assert any(text.startswith(problem) for text in inspect_dataset(folder).problems)


def test_statistics_of_other_data_are_a_problem(folder):
    path = folder / "meta/stats.json"
    stats = json.loads(path.read_text())
    stats["action"]["max"] = [9.0, 9.0]
    path.write_text(json.dumps(stats))
    (problem,) = inspect_dataset(folder).problems
    assert problem.startswith("meta/stats.json says max [9, 9] for 'action', found [")


def test_absent_episodes_are_told_to_who_trains(folder, caplog):
    change_info(folder, lambda i: i.update(total_episodes=89))
    with caplog.at_level(logging.WARNING):
        episodes = read_episodes(folder)
    assert "86 of 89 episodes are absent" in caplog.text
    assert any("86 of 89 episodes" in note for note in episodes.notes)


def test_an_absent_video_is_one_problem_and_what_is_missing_is_named(folder):
    feature = {"dtype": "video", "shape": [48, 64, 3], "names": ["height", "width", "channels"]}
    change_info(folder, lambda i: i["features"].update({"observation.images.side": feature}))
    problems = inspect_dataset(folder).problems
    text = "meta/episodes does not say where the video 'observation.images.side' of episodes 0 to 2"
    assert problems == (f"{text} is",)
    table = folder / "meta/episodes/chunk-000/file-000.parquet"
    rows, prefix = pq.read_table(table), "videos/observation.images.side/"
    for name, values in {"chunk_index": [0] * 3, "file_index": [0] * 3}.items():
        rows = rows.append_column(prefix + name, [values])
    pq.write_table(rows.append_column(prefix + "from_timestamp", [[0.0, 0.3, 0.7]]), table)
    (problem,) = inspect_dataset(folder).problems
    assert problem.startswith(f"{prefix}chunk-000/file-000.mp4 is absent: there are no pictures")
    video = folder / f"{prefix}chunk-000/file-000.mp4"
    video.parent.mkdir(parents=True)
    video.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    (problem,) = inspect_dataset(folder).problems
    assert problem.startswith(f"{prefix}chunk-000/file-000.mp4 is a git-lfs pointer")


def test_a_pointer_in_place_of_the_frames_is_named(folder):
    path = folder / "data/chunk-000/file-000.parquet"
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    with pytest.raises(ValueError, match=r"file-000\.parquet is a git-lfs pointer") as caught:
        read_episodes(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "names",
    [
        ["pan.pos", "grip.pos"],
        [["pan.pos", "grip.pos"]],
        {"motors": ["pan.pos", "grip.pos"]},
        {"pan.pos": 0, "grip.pos": 1},
    ],
)
def test_names_of_joints_survive_in_whatever_form(folder, tmp_path, names):
    change_info(folder, lambda i: i["features"]["action"].update(names=names))
    assert read_episodes(folder).metadata["action_names"] == ["pan.pos", "grip.pos"]
    assert recorded_action_spec(read_episodes(folder)).names == ("pan.pos", "grip.pos")
    between = convert_dataset(folder, Target(tmp_path / "b.h5", "robomimic")).path
    copy = convert_dataset(between, Target(tmp_path / "b", "lerobot")).path
    info = json.loads((copy / "meta/info.json").read_text())
    assert info["features"]["action"]["names"] == ["pan.pos", "grip.pos"]


def test_a_task_keeps_its_text_where_indices_have_a_gap(folder, tmp_path):
    table = {"task_index": [0, 2, 3], "task": ["open", "pick", "place"]}
    pq.write_table(pa.table(table), folder / "meta/tasks.parquet")
    change_info(folder, lambda i: i.update(total_tasks=3))
    change_frames(folder, task_index=np.repeat([0, 2, 3], LENGTHS))
    assert inspect_dataset(folder).problems == ()
    copy = convert_dataset(folder, Target(tmp_path / "copy", "lerobot")).path
    for path in (folder, copy):
        episodes = read_episodes(path, everything=True, instruction=True)
        tasks = episodes.metadata["tasks"]
        index = episodes.infos["task_index"]
        assert [tasks[int(index[step])] for step in (0, 3, 11)] == ["open", "pick", "place"]
        texts = [decode_instruction(row) for row in episodes.observations[INSTRUCTION_KEY]]
        assert texts == ["open"] * 3 + ["pick"] * 4 + ["place"] * 5


@pytest.mark.parametrize("layout", ["lerobot", "d4rl", "robomimic", "zarr", "minari"])
def test_instructions_survive_every_format(tmp_path, layout):
    names = {"lerobot": "a", "d4rl": "a.hdf5", "robomimic": "a.h5", "zarr": "a.zarr"}
    metadata = {"fps": 10, "tasks": ["open", "close"]}
    index = np.repeat([1, 0, 1], LENGTHS)
    source = replace(make_episodes(), infos={"task_index": index}, metadata=metadata)
    path = write_episodes(tmp_path / names.get(layout, "a-v0"), source, layout)
    found = read_episodes(path, instruction=True).observations[INSTRUCTION_KEY]
    assert [decode_instruction(row) for row in found[[0, 3, 7]]] == ["close", "open", "close"]


def test_a_constant_action_in_the_middle_can_be_left_out(tmp_path):
    actions = np.random.default_rng(0).normal(size=(12, 4)).astype(np.float32)
    actions[:, 1] = 0.5
    path = write_episodes(tmp_path / "a", replace(make_episodes(), actions=actions), "lerobot")
    keys = {"action": "action", "observation.state": "observation.state"}
    found = read_episodes(path, {**keys, "action": "action[0,2:]"})
    np.testing.assert_array_equal(found.actions, actions[:, [0, 2, 3]])
    assert recorded_action_spec(found).size == 3
