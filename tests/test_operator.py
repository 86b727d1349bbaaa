"""The operator always gets through: whatever becomes of the output, and however often Ctrl-C."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import select
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from hotloop.real_robot.runtime import operator
from hotloop.real_robot.runtime.guards import SILENCE
from hotloop.real_robot.runtime.operator import Printer, write_line

pytestmark = pytest.mark.realtime

F_SETPIPE_SZ = 1031
COMMAND = [sys.executable, "-m", "hotloop.train.cli", "control", "robot=mujoco-arm"]


def test_lines_that_nobody_reads_are_dropped_and_counted(monkeypatch) -> None:
    monkeypatch.setattr(operator, "LINES", 5)
    reading, shown = threading.Event(), []

    def slow(line: str) -> None:
        reading.wait()
        shown.append(line)

    with Printer(slow) as say:
        began = time.monotonic()
        for number in range(100):
            say(f"line {number}")
        assert time.monotonic() - began < 1.0, "nobody waited"
        reading.set()
    assert shown[0] == "line 0" and len(shown) <= 8
    assert sum("lines were not shown" in line for line in shown) == 1


def test_a_printer_that_is_stuck_for_good_ends_all_the_same(monkeypatch) -> None:
    monkeypatch.setattr(operator, "PATIENCE", 0.2)
    stuck = threading.Event()
    began = time.monotonic()
    with Printer(lambda line: stuck.wait(30)) as say:
        say("nobody reads this")
    assert time.monotonic() - began < 5.0
    stuck.set()


def test_a_terminal_that_is_gone_is_no_error() -> None:
    calls: list[str] = []

    def gone(line: str) -> None:
        calls.append(line)
        raise BrokenPipeError

    with Printer(gone) as say:
        for number in range(3):
            say(str(number))
    assert calls == ["0"]


def test_what_a_policy_says_does_not_command_the_terminal() -> None:
    shown: list[str] = []
    with Printer(shown.append) as say:
        say("\x1b[2Jgrüße\rnobody")
    assert shown == [" [2Jgrüße nobody"]


def test_a_line_is_written_whole_into_a_pipe_that_does_not_wait(monkeypatch) -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    text = "é" * 50_000
    with os.fdopen(writer, "w") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        thread = threading.Thread(target=write_line, args=(text,))
        thread.start()
        got = b""
        while not got.endswith(b"\n"):
            got += os.read(reader, 1 << 16)
        thread.join()
    os.close(reader)
    assert got.decode() == text + "\n"


SIGNALLED = """
import os, signal
from hotloop.real_robot.runtime.operator import Signals
signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
signal.signal(signal.SIGINT, signal.SIG_IGN)  # as a shell does with "&"
with Signals() as signals:
    os.kill(os.getpid(), signal.SIGHUP)
    assert signals.asked == ""
    os.kill(os.getpid(), signal.SIGTSTP)
    os.kill(os.getpid(), signal.SIGINT)
    assert signals.asked == "SIGTSTP"
with Signals() as signals:
    os.kill(os.getpid(), signal.SIGINT)
    assert signals.asked == "SIGINT"
assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
"""


def test_signals_are_noted_the_first_one_counts_and_nohup_is_respected() -> None:
    # In a process of its own: libraries that other tests load change how this one takes signals.
    subprocess.run([sys.executable, "-c", SIGNALLED], check=True)


def wait_until_it_runs(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        if "ARMED -> RUN" in line:
            return


def summary_of(folder: Path) -> dict:
    return json.loads((folder / "summary.json").read_text())


def test_a_full_pipe_neither_keeps_the_run_from_ending_nor_the_summary_from_being_written(
    tmp_path,
) -> None:
    reader, writer = os.pipe()
    fcntl.fcntl(writer, F_SETPIPE_SZ, 4096)
    os.set_blocking(writer, False)
    os.write(writer, bytes(4096))
    os.set_blocking(writer, True)
    command = [*COMMAND, "duration=1", f"output_dir={tmp_path}"]
    with subprocess.Popen(command, stdout=writer) as process:
        assert process.wait(60) == 0
    os.close(reader)
    os.close(writer)
    assert summary_of(tmp_path)["ended_by"] == "duration"


def test_a_second_interrupt_while_it_brakes_still_gives_a_summary(tmp_path) -> None:
    command = [*COMMAND, "duration=60", f"output_dir={tmp_path}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        wait_until_it_runs(process)
        time.sleep(0.5)
        for _ in range(5):
            process.send_signal(signal.SIGINT)
            time.sleep(0.03)
        rest = process.stdout.read()
        assert process.wait() == 130
    assert "ended by SIGINT" in rest.splitlines()[-1]
    assert summary_of(tmp_path)["clean_end"]


class Terminal:
    """The command on a terminal of its own."""

    def __init__(self, *arguments: str) -> None:
        self.pid, self.file = pty.fork()
        if self.pid == 0:
            os.execv(sys.executable, [*COMMAND, *arguments])

    def read_until(self, text: bytes, seconds: float = 60.0) -> None:
        heard, ends = b"", time.monotonic() + seconds
        while text not in heard:
            assert time.monotonic() < ends, heard.decode(errors="replace")
            if select.select([self.file], [], [], 0.1)[0]:
                heard += os.read(self.file, 1 << 16)

    def press(self, keys: bytes) -> None:
        os.write(self.file, keys)

    def wait(self, seconds: float) -> int | None:
        """The exit code, None if it does not end in time."""
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.05)
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        return None


@pytest.mark.parametrize("way", ["Ctrl-S", "closed"])
def test_a_terminal_that_stops_reading_or_is_closed_changes_nothing(way, tmp_path) -> None:
    terminal = Terminal("duration=2", f"output_dir={tmp_path}")
    terminal.read_until(b"ARMED -> RUN")
    if way == "Ctrl-S":
        terminal.press(b"\x13")
        time.sleep(0.7)
        # The stop key gets through, and then the end of `duration` does.
        terminal.press(b" ")
        assert terminal.wait(30) == 0
        os.close(terminal.file)
        assert summary_of(tmp_path)["ended_by"] == "duration"
    else:
        os.close(terminal.file)
        # The system says so with a SIGHUP: nobody is there any more.
        assert terminal.wait(30) == 130
        assert summary_of(tmp_path)["ended_by"] == "SIGHUP"
    from hotloop.real_robot.core.events import Mode
    from hotloop.real_robot.logs.reader import read_log

    log = read_log(tmp_path / "log.mcap")
    mode, now = log.column("mode"), log.column("now")
    moved = now[mode == Mode.RUN]
    assert moved[-1] - moved[0] < 1.9, "it stopped long before the duration was over"
    assert log.cycles[-1]["mode"] == Mode.STOP and log.dropped == 0


def test_a_supervisor_that_is_stopped_stops_the_robot(tmp_path) -> None:
    command = [*COMMAND, "duration=60", f"output_dir={tmp_path}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        wait_until_it_runs(process)
        process.send_signal(signal.SIGSTOP)
        time.sleep(SILENCE + 0.5)
        process.send_signal(signal.SIGCONT)
        process.stdout.read()
        assert process.wait() == 1
    summary = summary_of(tmp_path)
    assert summary["ended_by"] == "stop"
    assert summary["stop_reason"].startswith("the supervisor was not heard for")
