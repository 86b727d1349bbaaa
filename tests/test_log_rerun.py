"""A log for Rerun's viewer, read back with Rerun's own reader."""

from __future__ import annotations

import resource
from pathlib import Path

import numpy as np
import pytest

from hotloop.real_robot.config import RobotConfig
from hotloop.real_robot.core.controller import ControllerConfig
from hotloop.real_robot.core.events import EventKind
from hotloop.real_robot.core.limits import Limits
from hotloop.real_robot.logs.reader import ControlLog
from hotloop.real_robot.logs.rerun_file import write_rerun

LIMITS = Limits((-1.0,) * 2, (1.0,) * 2, (2.0,) * 2, (10.0,) * 2, (400.0,) * 2)
ROBOT = RobotConfig("arm", "dry-run", ControllerConfig(LIMITS, 0.01), joints=("pan", "lift"))
NUM = 300
EVENTS = [
    {"time": 5.05, "kind": int(EventKind.CHUNK_REJECTED), "text": "chunk 3: not finite"},
    {"time": 5.5, "kind": int(EventKind.STOPPED), "text": "RUN -> STOP: requested"},
]


def cycle(index: int) -> dict:
    return {
        "now": 5 + 0.01 * index, "wake": 5 + 0.01 * index + 3e-5, "has_command": int(index > 2),
        "command": [0.1 * index, 0.5], "reference": [0.2 * index, 0.6],
        "state": {"position": [0.3 * index, 0.7]},
    }  # fmt: skip


LOG = ControlLog(ROBOT, [cycle(index) for index in range(NUM)], [], EVENTS, 0)


@pytest.fixture(scope="module")
def columns(tmp_path_factory) -> dict[str, dict]:
    """Columns of each entity of a written file."""
    chunk = pytest.importorskip("rerun.chunk")
    path = tmp_path_factory.mktemp("rerun") / "deep" / "run.rrd"
    write_rerun(LOG, path)
    assert [file.name for file in path.parent.iterdir()] == ["run.rrd"]
    chunks = chunk.RrdReader(path).stream().to_chunks()
    found = {}
    for one in chunks:
        batch = one.to_record_batch()
        found[one.entity_path] = {
            name: values.cast("int64").to_numpy() if name == "robot_time" else values.to_pylist()
            for name, values in zip(batch.schema.names, batch.columns, strict=True)
        }
    return found


def series(columns: dict[str, dict], entity: str) -> tuple[np.ndarray, np.ndarray]:
    found = columns[entity]
    return 1e-9 * found["robot_time"], np.array(found["Scalars:scalars"])[:, 0]


def test_joints_and_lateness_are_there_at_the_logs_times(columns) -> None:
    index = np.arange(NUM)
    for entity, expected in (
        ("/joints/pan/measured", 0.3 * index),
        ("/joints/lift/measured", np.full(NUM, 0.7)),
        ("/joints/pan/reference", 0.2 * index),
        ("/wake_error_us", np.full(NUM, 30.0)),
    ):
        times, values = series(columns, entity)
        np.testing.assert_allclose(times, 5 + 0.01 * index, atol=1e-6)
        np.testing.assert_allclose(values, expected, rtol=1e-6)


def test_where_nothing_was_sent_there_is_no_command(columns) -> None:
    times, values = series(columns, "/joints/pan/command")
    assert times[0] == pytest.approx(5.03) and len(times) == NUM - 3
    np.testing.assert_allclose(values, 0.1 * np.arange(3, NUM))


def test_events_are_text_with_their_gravity(columns) -> None:
    events = columns["/events"]
    assert events["TextLog:text"] == [
        ["CHUNK_REJECTED: chunk 3: not finite"],
        ["STOPPED: RUN -> STOP: requested"],
    ]
    assert events["TextLog:level"] == [["INFO"], ["ERROR"]]
    assert events["robot_time"][0] == pytest.approx(5.05e9)


def test_a_log_without_cycles_and_a_full_disk_leave_no_file(tmp_path: Path, capfd) -> None:
    pytest.importorskip("rerun")
    with pytest.raises(ValueError, match="the log holds no cycle"):
        write_rerun(ControlLog(ROBOT), tmp_path / "run.rrd")
    (tmp_path / "run.rrd").write_text("the one before")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        with pytest.raises(OSError, match=r"run\.rrd could not be written completely"):
            write_rerun(LOG, tmp_path / "run.rrd")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [file.name for file in tmp_path.iterdir()] == ["run.rrd"]
    assert (tmp_path / "run.rrd").read_text() == "the one before"
