"""LeRobotDataset v3.0: its files as its own code expects them, videos, and what is refused."""

import json
import re
import sys
from dataclasses import replace

import av
import numpy as np
import pyarrow.parquet as pq
import pytest
from example_episodes import LENGTHS, assert_same, make_episodes

from hotloop.train.data import WriteOptions, read_episodes, write_episodes
from hotloop.train.data.formats.lerobot.write import write_lerobot_folder
from hotloop.train.data.inspect import inspect_dataset


@pytest.fixture
def folder(tmp_path):
    return write_episodes(tmp_path / "a", make_episodes(images=True), "lerobot")


def change_info(folder, **changes):
    path = folder / "meta/info.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def assert_error(message, folder, **options):
    with pytest.raises(ValueError, match="^" + re.escape(f"{folder}: {message}")):
        read_episodes(folder, **options)


def test_the_metadata_is_what_lerobot_declares(folder):
    info = json.loads((folder / "meta/info.json").read_text())
    assert (info["codebase_version"], info["fps"], info["total_frames"]) == ("v3.0", 10, 12)
    assert info["features"]["observation.state"]["shape"] == [4]
    assert info["features"]["observation.images.top"]["dtype"] == "image"
    assert info["features"]["index"] == {"dtype": "int64", "shape": [1], "names": None, "fps": 10}
    stats = json.loads((folder / "meta/stats.json").read_text())
    names = {"min", "max", "mean", "std", "count", "q01", "q10", "q50", "q90", "q99"}
    assert set(stats["action"]) == names
    assert np.shape(stats["observation.images.top"]["std"]) == (3, 1, 1)
    assert stats["observation.state"]["count"] == [12]


def test_statistics_are_those_of_the_data(tmp_path):
    episodes = make_episodes()
    write_lerobot_folder(tmp_path / "a", episodes, lambda n: None)
    stats = json.loads((tmp_path / "a/meta/stats.json").read_text())["observation.state"]
    state = episodes.observations["observation.state"].astype(np.float64)
    np.testing.assert_allclose(stats["mean"], state.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(stats["std"], state.std(axis=0), rtol=1e-12)
    np.testing.assert_allclose(stats["q90"], np.quantile(state, 0.9, axis=0), rtol=1e-12)
    np.testing.assert_array_equal(stats["max"], state.max(axis=0))


def test_episodes_say_where_their_frames_are(folder):
    rows = pq.read_table(folder / "meta/episodes/chunk-000/file-000.parquet").to_pylist()
    assert [row["dataset_from_index"] for row in rows] == [0, 3, 7]
    assert [row["dataset_to_index"] for row in rows] == [3, 7, 12]
    assert [row["tasks"] for row in rows] == [["reach"]] * 3
    assert rows[1]["stats/action/count"] == [4]
    with pq.ParquetFile(folder / "data/chunk-000/file-000.parquet") as file:
        groups = range(file.metadata.num_row_groups)
        assert [file.metadata.row_group(group).num_rows for group in groups] == [3, 4, 5]
        assert file.read()["timestamp"].to_pylist()[:4] == pytest.approx([0, 0.1, 0.2, 0])


def test_pandas_would_find_the_tasks_as_its_index(folder):
    schema = pq.read_schema(folder / "meta/tasks.parquet")
    pandas = json.loads(schema.metadata[b"pandas"])
    assert pandas["index_columns"] == ["__index_level_0__"]
    assert {column["field_name"] for column in pandas["columns"]} == set(schema.names)


def test_several_tasks_are_kept_for_each_step(tmp_path):
    index = np.repeat([1, 0, 1], LENGTHS)
    metadata = {"tasks": ["reach", "push"], "fps": 20}
    episodes = replace(make_episodes(), infos={"task_index": index}, metadata=metadata)
    path = write_episodes(tmp_path / "a", episodes, "lerobot")
    rows = pq.read_table(path / "meta/episodes/chunk-000/file-000.parquet").to_pylist()
    assert [row["tasks"] for row in rows] == [["push"], ["reach"], ["push"]]
    assert_same(read_episodes(path, everything=True), episodes, {"final_observations"})
    one = write_episodes(tmp_path / "b", episodes, "lerobot", WriteOptions(task="both"))
    assert read_episodes(one, everything=True).metadata["tasks"] == ["both"]


@pytest.mark.parametrize(
    ("infos", "message"),
    [
        ({}, "the source has 2 tasks, but no infos['task_index'] to say which at each step"),
        ({"task_index": np.full(12, 2)}, "infos['task_index'] must be one of the 2 tasks of the"),
    ],
)
def test_tasks_that_cannot_be_told_apart_are_refused(tmp_path, infos, message):
    metadata = {"tasks": ["reach", "push"], "fps": 20}
    episodes = replace(make_episodes(), infos=infos, metadata=metadata)
    with pytest.raises(ValueError, match="^" + re.escape(message)):
        write_episodes(tmp_path / "a", episodes, "lerobot")


def test_frames_go_on_in_new_files_when_one_is_full(tmp_path):
    episodes = make_episodes()
    write_lerobot_folder(tmp_path / "a", episodes, lambda n: None, file_megabytes=0)
    names = [path.name for path in sorted((tmp_path / "a/data/chunk-000").iterdir())]
    assert names == ["file-000.parquet", "file-001.parquet", "file-002.parquet"]
    rows = pq.read_table(tmp_path / "a/meta/episodes/chunk-000/file-000.parquet").to_pylist()
    assert [row["data/file_index"] for row in rows] == [0, 1, 2]
    assert_same(read_episodes(tmp_path / "a", everything=True), episodes, {"final_observations"})


@pytest.mark.parametrize(
    ("columns", "terminated"),
    [
        ({"next.done": [1] * 3, "next.truncated": [0, 1, 0]}, [True, False, True]),
        ({"next.done": [1] * 3, "next.success": [1, 0, 0]}, [True, False, False]),
        ({"next.done": [1] * 3}, [False] * 3),
    ],
)
def test_a_done_flag_is_an_end_but_no_terminal_state(folder, columns, terminated):
    """lerobot/pusht sets next.done on every last frame, also of demonstrations that just stop."""
    path = folder / "data/chunk-000/file-000.parquet"
    table = pq.read_table(path).drop_columns(["next.done", "next.truncated"])
    info = json.loads((folder / "meta/info.json").read_text())
    features = {k: f for k, f in info["features"].items() if not k.startswith("next.")}
    for name, last in columns.items():
        flags = np.zeros(12, bool)
        flags[[2, 6, 11]] = last
        table = table.append_column(name, [flags])
        features[name] = {"dtype": "bool", "shape": [1], "names": None}
    pq.write_table(table, path)
    change_info(folder, features=features)
    assert read_episodes(folder).terminated.tolist() == terminated


def add_video(folder, name="observation.images.wrist", first_frame=2):
    """A video whose frame i has the brightness 10 i; the episodes begin at its frame 2."""
    path = folder / f"videos/{name}/chunk-000/file-000.mp4"
    path.parent.mkdir(parents=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 32, 16, "yuv420p"
        for index in range(14):
            picture = np.full((16, 32, 3), 10 * index, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    info = json.loads((folder / "meta/info.json").read_text())
    feature = {"dtype": "video", "shape": [16, 32, 3], "names": ["height", "width", "channels"]}
    change_info(folder, features={**info["features"], name: feature})
    meta = folder / "meta/episodes/chunk-000/file-000.parquet"
    table = pq.read_table(meta)
    for column, values in {
        "chunk_index": [0, 0, 0],
        "file_index": [0, 0, 0],
        "from_timestamp": [(first_frame + start) / 10 for start in (0, 3, 7)],
    }.items():
        table = table.append_column(f"videos/{name}/{column}", [values])
    pq.write_table(table, meta)
    return name


def test_videos_are_decoded_frame_by_frame(folder):
    keys = {"observation.image": add_video(folder), "action": "action"}
    images = read_episodes(folder, keys).observations["observation.image"]
    assert (images.shape, images.dtype) == ((12, 16, 32, 3), np.uint8)
    brightness = images.reshape(12, -1).mean(axis=1)
    np.testing.assert_allclose(brightness, 10 * np.arange(2, 14), atol=3)


def test_a_video_is_decoded_only_when_asked_for(folder, monkeypatch):
    name = add_video(folder)
    monkeypatch.setitem(sys.modules, "av", None)
    assert set(read_episodes(folder).observations) == {"observation.state", "observation.goal"}
    with pytest.raises(ImportError, match=re.escape("pip install 'hotloop[lerobot]'")):
        read_episodes(folder, {"observation.image": name, "action": "action"})


def test_a_video_that_is_too_short_is_named(folder):
    name = add_video(folder, first_frame=4)
    message = f"column {name!r} cannot be decoded at steps 0 to 11 of 12"
    assert_error(message, folder, keys={"observation.image": name, "action": "action"})


def test_missing_pyarrow_names_the_extra(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(ImportError, match=re.escape("pip install 'hotloop[lerobot]'")):
        read_episodes(folder)


def test_an_older_format_names_the_converter(folder):
    change_info(folder, codebase_version="v2.1")
    assert_error(
        "cannot be opened: LeRobotDataset v3.0 is expected, meta/info.json says 'v2.1'; convert it",
        folder,
    )


def test_a_feature_without_a_column_is_named(folder):
    path = folder / "data/chunk-000/file-000.parquet"
    pq.write_table(pq.read_table(path).drop_columns(["action"]), path)
    assert_error("column 'action' cannot be opened: the parquet file has no column 'act", folder)


def test_a_truncated_parquet_file_is_named(folder):
    path = folder / "data/chunk-000/file-000.parquet"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ValueError, match=re.escape(f"{path}: cannot be opened: ")):
        read_episodes(folder)


def test_frames_without_a_place_in_the_metadata_are_named(folder):
    meta = folder / "meta/episodes/chunk-000/file-000.parquet"
    pq.write_table(pq.read_table(meta).slice(0, 2), meta)
    assert_error("meta/episodes says that episodes end at [3, 7]..., but the frames' ", folder)
    assert "meta/info.json says total_episodes 3, found 2" in inspect_dataset(folder).problems


def test_missing_statistics_are_a_problem(folder):
    (folder / "meta/stats.json").unlink()
    assert inspect_dataset(folder).problems == ("meta/stats.json is missing",)


@pytest.mark.parametrize("part", ["info.json", "stats.json", "tasks.parquet", "episodes"])
def test_a_pointer_in_place_of_metadata_is_named(folder, part):
    path = folder / "meta" / (f"{part}/chunk-000/file-000.parquet" if part == "episodes" else part)
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 12\n")
    problems = inspect_dataset(folder).problems
    assert any(str(path.relative_to(folder)) in p and "git lfs pull" in p for p in problems)


@pytest.mark.parametrize("name", ["meta/tasks.parquet", "data/chunk-000/file-000.parquet"])
def test_damaged_parquet_is_named(folder, name):
    (folder / name).write_bytes(b"")
    assert any(name in problem for problem in inspect_dataset(folder).problems)


def test_json_may_begin_with_a_byte_order_mark(folder):
    path = folder / "meta/info.json"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert not inspect_dataset(folder).problems


@pytest.mark.parametrize("splits", [{"train": "0:9"}, {"train": "a:b"}, {"train": "2:1"}, [1]])
def test_splits_are_ranges_of_the_episodes(folder, splits):
    change_info(folder, splits=splits)
    assert any("split" in problem for problem in inspect_dataset(folder).problems)


@pytest.mark.parametrize("entry", [{"mean": [0, 0, 0, 0, 0]}, {"std": "x"}])
def test_statistics_have_the_size_of_their_feature(folder, entry):
    path = folder / "meta/stats.json"
    stats = json.loads(path.read_text())
    stats["observation.state"] |= entry
    path.write_text(json.dumps(stats))
    (problem,) = inspect_dataset(folder).problems
    assert f"the {next(iter(entry))} of the 4 numbers of 'observation.state'" in problem
