"""What the operator and the policy of a run say to each other."""

from __future__ import annotations

import os
import sys
from dataclasses import replace

import pytest
from robot_runs import DRY, JOB

from hotloop.real_robot.runtime.channels import Channels, Sizes
from hotloop.real_robot.runtime.console import PolicyConsole
from hotloop.real_robot.runtime.keyboard import Keyboard
from hotloop.real_robot.runtime.supervisor import supervise
from hotloop.train.cli import main
from hotloop.train.commands import ExitCode
from hotloop.train.commands.control import exit_code

pytestmark = pytest.mark.realtime

TALKING = """
from hotloop.real_robot.policies.reach import ReachPolicy

class Talking:
    cameras, period = (), 0.05

    def __init__(self, robot, options):
        self.inner = ReachPolicy(robot)

    def attach(self, console):
        self.console = console

    def reset(self, seed):
        self.console.say(f"attached before reset({seed})")
        self.inner.reset(seed)

    def plan(self, snapshot):
        for key in self.console.keys():
            self.console.say(f"heard {key}")
            if key == "n":
                self.console.finish("five episodes")
        return self.inner.plan(snapshot)
"""


class Pressing(Keyboard):
    """Presses keys, one after another, when a line was heard."""

    active = True

    def __init__(self, plan: list[tuple[str, str]]) -> None:
        self.lines: list[str] = []
        self.plan = plan

    def keys(self) -> str:
        if self.plan and any(self.plan[0][0] in line for line in self.lines):
            return self.plan.pop(0)[1]
        return ""


def test_keys_reach_the_policy_and_its_lines_the_operator(tmp_path, monkeypatch) -> None:
    (tmp_path / "talking.py").write_text(TALKING)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}")
    keyboard = Pressing([("-> RUN", "k←"), ("heard ←", "n")])
    job = replace(JOB, policy="talking:Talking", duration=30.0)
    summary = supervise(DRY, job, keyboard.lines.append, keyboard)
    assert "attached before reset(0)" in keyboard.lines
    assert [line for line in keyboard.lines if line.startswith("heard")] == [
        "heard k", "heard ←", "heard n"
    ]  # fmt: skip
    assert summary["ended_by"] == "five episodes" and summary["mode"] == "STOP"
    assert exit_code(summary) is ExitCode.SUCCESS


def test_a_console_that_nobody_reads_holds_nobody_up(close_later) -> None:
    asked: list[str] = []
    channels = close_later(Channels(Sizes(1, 0, 0.01)))
    console = PolicyConsole(channels, asked.append)
    for number in range(1000):
        console.say(f"line {number} " + "é" * 600)
        channels.press("x")
    lines = channels.messages.pop()
    assert 0 < len(lines) < 1000 and lines[0]["text"].decode(errors="ignore").startswith("line 0 é")
    assert set(console.keys()) == {"x"} and console.keys() == ""
    console.finish("")
    assert asked == ["policy"]


@pytest.fixture
def terminal(monkeypatch):
    master, slave = os.openpty()
    with os.fdopen(slave) as file:
        monkeypatch.setattr(sys, "stdin", file)
        yield master


def test_all_keys_come_from_a_terminal_in_order_and_only_from_there(terminal) -> None:
    assert Keyboard().keys() == "" and not Keyboard().active
    with Keyboard() as keyboard:
        assert keyboard.active and keyboard.keys() == ""
        os.write(terminal, b" ab\x1b[A\x1b[D\x1b[3~L")
        assert keyboard.keys() == " ab↑←L"
        assert keyboard.keys() == ""
    assert not keyboard.active
    os.close(terminal)


def test_a_terminal_that_is_closed_presses_no_key(terminal) -> None:
    with Keyboard() as keyboard:
        os.close(terminal)
        assert keyboard.keys() == "" and not keyboard.active


def test_an_operator_at_a_terminal_is_told_the_keys_first(terminal, capfd) -> None:
    assert main(["control", "robot=mujoco-arm", "duration=0.2"]) in {0, 1}
    assert capfd.readouterr().out.startswith("space stops, r resets, a arms again, q ends")
    os.close(terminal)
