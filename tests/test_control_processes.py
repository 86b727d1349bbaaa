"""The control loop with real processes, and what happens when one of them dies."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from dataclasses import asdict, replace

import numpy as np
import pytest
from robot_runs import ARM, CONTROL, DRY, JOB, REACH, run, spy_on
from robots import assert_log_within_limits, commands

from hotloop.real_robot.config import RobotConfig
from hotloop.real_robot.core.events import Mode
from hotloop.real_robot.drivers.playback import PlaybackDriver
from hotloop.real_robot.emulator.bus import ServoBus
from hotloop.real_robot.emulator.dynamixel import BUS_WATCHDOG, TRIGGERED, DynamixelServos
from hotloop.real_robot.emulator.plant import Plant
from hotloop.real_robot.logs.reader import read_log
from hotloop.real_robot.logs.recompute import recompute
from hotloop.real_robot.runtime import supervisor
from hotloop.real_robot.runtime.channels import RING_SECONDS, Channels, Sizes
from hotloop.real_robot.runtime.keyboard import Keyboard
from hotloop.real_robot.runtime.supervisor import RunConfig, supervise

pytestmark = pytest.mark.realtime


def test_a_run_with_bad_chunks_keeps_all_limits_and_recomputes_bit_for_bit(tmp_path) -> None:
    import torch

    assert torch.__version__, "this process has torch, the control process must not"
    path = tmp_path / "log.mcap"
    job = replace(JOB, inject="nan", duration=1.2, log=path)
    summary, lines = run(ARM, job)
    assert summary["ended_by"] == "duration" and summary["clean_end"]
    assert summary["mode"] == "STOP"
    assert not summary["torch_in_control_process"]
    assert summary["limit_violations"] == 0 and summary["rejected_chunks"] >= 1
    assert summary["accepted_chunks"] >= 8
    assert any("CHUNK_REJECTED  chunk 9: not finite" in line for line in lines)
    assert any(" Hz  wake " in line for line in lines)
    log = read_log(path)
    assert log.robot == ARM and log.dropped == 0
    assert len(log.cycles) == summary["cycles"]
    result = recompute(log)
    assert (result.cycles, result.different) == (summary["cycles"], 0)
    assert_log_within_limits(log)
    # Beside the record, nothing moves and the loop works all the same.
    beside = RobotConfig("record", "playback", CONTROL, {"log": str(path)})
    instants = iter([0.0, 1.0])
    driver = PlaybackDriver(beside, lambda: next(instants))
    driver.connect()
    now = [float(cycle["state"]["time"]) for cycle in log.cycles]
    index = np.searchsorted(np.array(now) - now[0], 1.0, side="right") - 1
    np.testing.assert_array_equal(driver.read().position, log.cycles[index]["state"]["position"])
    # The very last command stands still: the run ended with a braked stop.
    assert not np.any(log.cycles[-1]["command_velocity"])
    assert np.ptp(np.stack(commands(log)), axis=0).max() > 0.05, "the arm did move"


def test_a_run_without_a_log_misses_no_records() -> None:
    """Nobody takes the loop's records then, and they fill their ring."""
    summary, _ = run(DRY, replace(JOB, duration=RING_SECONDS + 0.5))
    assert summary["cycles"] > RING_SECONDS / CONTROL.dt and summary["failures"] == []


def test_a_record_that_does_not_fit_the_robot_is_refused(tmp_path) -> None:
    with pytest.raises(ValueError, match="needs the option log"):
        PlaybackDriver(RobotConfig("record", "playback", CONTROL))
    with pytest.raises(FileNotFoundError):
        PlaybackDriver(RobotConfig("record", "playback", CONTROL, {"log": str(tmp_path / "none")}))


def test_after_the_policy_is_killed_the_robot_brakes_in_time(tmp_path) -> None:
    path = tmp_path / "log.mcap"
    summary, lines = run(DRY, replace(JOB, inject="kill", duration=20, log=path))
    assert summary["ended_by"] == "policy died" and summary["clean_end"]
    assert any("policy process ended: SIGKILL" in line for line in lines)
    assert summary["failures"] == ["policy died: the policy process ended: SIGKILL"]
    log = read_log(path)
    last_observation = log.chunks[-1]["observed_at"]
    speed = np.abs(log.column("command_velocity")).max(axis=1)
    now, mode = log.column("now"), log.column("mode")
    resting = (speed == 0) & (mode == Mode.HOLD)
    assert speed[mode == Mode.RUN].max() > 0.1
    braking = 2.0 / 10.0 + 10.0 / 400.0
    assert now[resting][0] - last_observation <= CONTROL.stale_timeout + braking + 2 * CONTROL.dt
    assert_log_within_limits(log)


def test_a_killed_logger_does_not_disturb_the_loop(tmp_path, monkeypatch) -> None:
    started = spy_on(monkeypatch)
    lines: list[str] = []

    def say(line: str) -> None:
        lines.append(line)
        if "ARMED -> RUN" in line:
            started["log_process"].kill()

    summary = supervise(DRY, replace(JOB, log=tmp_path / "log.mcap"), say)
    assert any("log process ended: SIGKILL" in line for line in lines)
    assert summary["ended_by"] == "duration" and summary["clean_end"]
    assert summary["accepted_chunks"] > 4
    # The robot went on, and the run is a failure all the same.
    assert summary["log_failure"] == "the log process ended: SIGKILL"
    assert any("the log is not complete" in reason for reason in summary["failures"])


def test_a_disk_that_fills_up_ends_the_log_and_not_the_run(tmp_path, monkeypatch) -> None:
    started = spy_on(monkeypatch)
    lines: list[str] = []

    def say(line: str) -> None:
        lines.append(line)
        if "ARMED -> RUN" in line:
            limit = resource.RLIMIT_FSIZE
            resource.prlimit(started["log_process"].pid, limit, (9000, 9000))

    path = tmp_path / "log.mcap"
    summary = supervise(DRY, replace(JOB, log=path), say)
    assert any("log process ended: exit code 1" in line for line in lines)
    assert summary["ended_by"] == "duration" and summary["clean_end"]
    assert summary["log_failure"] == f"{path}: File too large"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupting_the_command_ends_in_a_braked_stop(tmp_path, number) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "hotloop.train.cli", "control", "robot=mujoco-arm",
         "robot.control.slow_start=0.0", "duration=60", f"output_dir={tmp_path}"],
        stdout=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    assert process.stdout is not None
    for line in process.stdout:
        if "ARMED -> RUN" in line:
            break
    time.sleep(0.7)
    process.send_signal(number)
    process.communicate(timeout=20)
    assert process.returncode == 130
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["ended_by"] == number.name and summary["clean_end"]
    log = read_log(tmp_path / "log.mcap")
    stop = log.column("mode") == Mode.STOP
    speed = np.abs(log.column("command_velocity")).max(axis=1)
    assert speed[~stop][-1] > 0.05, "it was moving"
    assert speed[-1] == 0.0
    assert_log_within_limits(log)


def test_a_killed_supervisor_takes_the_loop_along_in_a_braked_stop(tmp_path) -> None:
    path = tmp_path / "log.mcap"
    code = (
        "import json, sys; from pathlib import Path; "
        "from hotloop.decoding.plumbing.schema import build; "
        "from hotloop.real_robot.config import RobotConfig; "
        "from hotloop.real_robot.runtime.supervisor import RunConfig, supervise; "
        "robot = build(RobotConfig, json.loads(sys.argv[1])); "
        f"supervise(robot, RunConfig({REACH!r}, duration=60.0, log=Path(sys.argv[2])))"
    )
    process = subprocess.Popen(
        [sys.executable, "-uc", code, json.dumps(asdict(DRY)), str(path)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    for line in process.stdout:
        if "ARMED -> RUN" in line:
            break
    time.sleep(0.5)
    process.kill()
    process.communicate()
    deadline = time.monotonic() + 10
    while True:
        try:
            log = read_log(path)
        except ValueError:
            log = None
        if log is not None and log.dropped == 0:
            break
        assert time.monotonic() < deadline, "the log process did not finish its file"
        time.sleep(0.1)
    assert log.cycles[-1]["mode"] == Mode.STOP
    assert np.abs(log.column("command_velocity")).max() > 0.05, "it was moving"
    assert not np.any(log.cycles[-1]["command_velocity"])


def test_after_the_controller_is_killed_the_servos_stop_by_themselves(close_later) -> None:
    plant = Plant("arm6")
    servos = DynamixelServos(plant, range(1, 7))
    going = threading.Event()
    going.set()
    with ServoBus(servos) as bus:
        thread = threading.Thread(target=bus.serve, args=(going.is_set,))
        thread.start()
        robot = RobotConfig(
            "bus", "dynamixel", replace(CONTROL, dt=0.02), {"port": bus.port, "watchdog": 0.1}
        )
        killed: list[str] = []

        def kill_when_moving(line: str) -> None:
            if "RUN " in line and not killed and np.abs(plant.velocity).max() > 0.1:
                os.kill(run.processes["control"].pid, signal.SIGKILL)
                killed.append(line)

        channels = close_later(Channels(Sizes(6, 0, 0.02)))
        run = supervisor.Run(
            robot, RunConfig(REACH, duration=20), channels, kill_when_moving, Keyboard()
        )
        summary = run.execute()
        time.sleep(0.5)
        going.clear()
        thread.join()
    assert killed and summary["ended_by"] == "control died" and not summary["clean_end"]
    assert {table[BUS_WATCHDOG] for table in servos.tables.values()} == {TRIGGERED}
    assert np.abs(plant.velocity).max() < 0.02


class Operator(Keyboard):
    """Presses a key whenever its moment has come."""

    active = True

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.plan = [("-> RUN", " "), ("-> STOP", "r"), ("-> IDLE", "a"), ("STOP -> IDLE", "q")]

    def keys(self) -> str:
        heard = "\n".join(self.lines)
        if self.plan and self.plan[0][0] in heard:
            time.sleep(0.4)
            return self.plan.pop(0)[1]
        return ""


def test_an_operator_can_stop_reset_and_arm_again() -> None:
    operator = Operator()
    summary = supervise(DRY, replace(JOB, duration=30), operator.lines.append, operator)
    text = "\n".join(operator.lines)
    for change in ("RUN -> STOP: requested", "STOP -> IDLE: reset", "IDLE -> ARMED"):
        assert change in text
    assert text.count("IDLE -> ARMED") == 2
    assert summary["ended_by"] == "operator" and summary["clean_end"]
