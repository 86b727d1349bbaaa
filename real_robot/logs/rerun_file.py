"""A log as a Rerun recording: joints, timing and events over the log's time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ...decoding.plumbing.extras import require
from ...decoding.plumbing.files import replacing
from ..core.events import EventKind
from .reader import ControlLog

TIMELINE = "robot_time"
SERIES = {"measured": "state.position", "reference": "reference", "command": "command"}
RERUN_START = b"RRF"
WAKE = "/wake_error_us"
GRAVE = ("STOPPED", "LIMIT_VIOLATION")


def write_rerun(log: ControlLog, path: Path) -> None:
    """Write a recording for Rerun's viewer; the file appears when it is complete.

    Joint i is ``joints/NAME/measured``, ``.../reference`` and ``.../command``, the lateness of each
    cycle ``wake_error_us``, and events are text under ``events``. Times are the log's own, in
    seconds on the robot's monotonic clock.

    Raises:
        ValueError: If the log holds no cycle.
        OSError: If the file cannot be written.
        ImportError: If rerun-sdk is not installed.
    """
    rerun: Any = require("rerun", "rerun")
    if not log.cycles:
        raise ValueError("the log holds no cycle, so there is nothing to export")
    with rerun.RecordingStream("hotloop", recording_id=log.robot.name) as recording:
        # Into memory: the SDK writes files in a thread of its own, and where the disk is full that
        # thread leaves the others hanging or ends the process.
        stream = recording.binary_stream()
        _send(rerun, recording, log)
        content = stream.read()
    try:
        with replacing(path) as partial:
            partial.write_bytes(content)
    except OSError as error:
        raise OSError(f"{path} could not be written completely; is there space?") from error


def _send(rerun: Any, recording: Any, log: ControlLog) -> None:
    now, sent = log.column("now"), log.column("has_command").astype(bool)

    def scalars(entity: str, times: Any, values: Any) -> None:
        recording.send_columns(
            entity,
            indexes=[rerun.TimeColumn(TIMELINE, duration=times)],
            columns=rerun.Scalars.columns(scalars=values),
        )

    _send_joints(log, now, sent, scalars)
    if log.events:
        kinds = [EventKind(event["kind"]).name for event in log.events]
        texts = [f"{kind}: {event['text']}" for kind, event in zip(kinds, log.events, strict=True)]
        recording.send_columns(
            "events",
            indexes=[rerun.TimeColumn(TIMELINE, duration=[event["time"] for event in log.events])],
            columns=rerun.TextLog.columns(
                text=texts, level=["ERROR" if kind in GRAVE else "INFO" for kind in kinds]
            ),
        )
    scalars(WAKE.strip("/"), now, 1e6 * (log.column("wake") - now))


def _send_joints(
    log: ControlLog, now: Any, sent: Any, scalars: Callable[[str, Any, Any], None]
) -> None:
    num_joints = log.robot.control.limits.num_joints
    names = log.robot.joints or tuple(f"joint_{index}" for index in range(num_joints))
    for series, column in SERIES.items():
        values = log.column(column)
        # Without a command there is nothing to draw.
        rows = sent if series == "command" else np.ones(len(now), bool)
        for index, name in enumerate(names):
            scalars(f"joints/{name}/{series}", now[rows], values[rows, index])
