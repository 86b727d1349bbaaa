"""How runs end, and that exit code and summary say so."""

from __future__ import annotations

import os
import threading
from dataclasses import replace

import numpy as np
import pytest
from robot_runs import CONTROL, DRY, JOB, LIMITS, run
from virtual_loop import ROBOT, World, move

from hotloop.real_robot.config import RobotConfig
from hotloop.real_robot.core.events import Mode, Request
from hotloop.real_robot.emulator.bus import ServoBus
from hotloop.real_robot.emulator.dynamixel import TABLE_SIZE, TORQUE, WRITABLE, DynamixelServos
from hotloop.real_robot.emulator.plant import Plant
from hotloop.real_robot.runtime.channels import HEARTBEAT
from hotloop.real_robot.runtime.release import release
from hotloop.real_robot.runtime.summary import failures
from hotloop.train.commands import ExitCode
from hotloop.train.commands.control import exit_code

pytestmark = pytest.mark.realtime

MEASURED = range(WRITABLE.stop, TABLE_SIZE)  # registers of a servo that only it writes
GOOD = {
    "ended_by": "duration", "finished": False, "stop_reason": "", "clean_end": True, "failure": "",
    "cycles": 1000, "skipped_cycles": 3, "unsent_commands": 2, "accepted_chunks": 30,
    "rejected_chunks": 2, "chunk_age": 0.1, "limit_violations": 0, "policy_failure": "",
    "log_failure": "", "log_records_dropped": 0, "lost_cameras": "",
}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "expected", "reason"),
    [
        ({}, ExitCode.SUCCESS, ""),
        ({"ended_by": "operator"}, ExitCode.SUCCESS, ""),
        ({"ended_by": "released"}, ExitCode.SUCCESS, ""),
        ({"ended_by": "five episodes", "finished": True}, ExitCode.SUCCESS, ""),
        ({"ended_by": "SIGHT LOST", "finished": True}, ExitCode.SUCCESS, ""),
        ({"ended_by": "the fire died", "finished": True}, ExitCode.SUCCESS, ""),
        ({"ended_by": "stop", "finished": True}, ExitCode.SUCCESS, ""),
        ({"ended_by": "SIGTERM"}, ExitCode.INTERRUPTED, ""),
        ({"ended_by": "stop"}, ExitCode.FAILED, "the robot was stopped"),
        ({"stop_reason": "joint 1 is away"}, ExitCode.FAILED, "stopped: joint 1 is away"),
        ({"ended_by": "SIGTERM", "stop_reason": "bus"}, ExitCode.FAILED, "stopped: bus"),
        ({"ended_by": "policy died"}, ExitCode.FAILED, "policy died"),
        (
            {"ended_by": "policy died", "policy_failure": "it is out of reach"},
            ExitCode.FAILED,
            "policy died: it is out of reach",
        ),
        ({"policy_failure": "disk full"}, ExitCode.FAILED, "policy failed at the end: disk full"),
        ({"accepted_chunks": 0}, ExitCode.FAILED, "all 2 chunks were refused"),
        ({"chunk_age": 4.0}, ExitCode.FAILED, "no good chunk came in the last 4.0 s"),
        ({"chunk_age": 4.0, "stop_reason": "bus"}, ExitCode.FAILED, "the robot stopped: bus"),
        ({"limit_violations": 1}, ExitCode.FAILED, "1 commands were beyond the limits"),
        ({"clean_end": False}, ExitCode.FAILED, "did not end by itself"),
        ({"failure": "a defect"}, ExitCode.FAILED, "failed: a defect"),
        ({"skipped_cycles": 300}, ExitCode.FAILED, "302 of 1300 cycles were left out"),
        ({"unsent_commands": 300}, ExitCode.FAILED, "303 of 1003 cycles were left out or sent no"),
        ({"skipped_cycles": 15, "cycles": 20}, ExitCode.SUCCESS, ""),
        ({"log_failure": "disk full"}, ExitCode.FAILED, "not complete: disk full"),
        ({"log_records_dropped": 7}, ExitCode.FAILED, "7 records never reached the log"),
        ({"lost_cameras": "no pictures from 'top'"}, ExitCode.FAILED, "no pictures from 'top'"),
    ],
)
def test_the_exit_code_and_the_reasons_tell_how_a_run_ended(change, expected, reason) -> None:
    summary = {**GOOD, **change}
    found = failures(summary, ROBOT)
    assert len(found) == (expected == ExitCode.FAILED) and reason in "".join(found)
    assert exit_code({**summary, "failures": found}) == expected


def test_a_loop_that_leaves_out_too_many_of_its_cycles_stops(close_later) -> None:
    world = close_later(World(replace(ROBOT, overrun_budget=0.05)))
    # Every second cycle takes three periods: 2 of 4 are left out.
    world.slow = {cycle: 0.03 for cycle in range(50, 2000, 2)}
    world.run(400, move)
    assert "RUN -> STOP: cycles of 0.5" in (text := world.events())
    assert "within 10 s, overrun_budget allows 5%" in text
    speed = np.abs(np.diff(np.stack(world.writes), axis=0)).max(axis=1)
    assert not speed[-200:].any(), "it did not go on like this"


def test_a_bus_that_loses_too_many_commands_stops_the_robot(close_later) -> None:
    """Never many in a row, so that no single failure is one of the robot."""
    world = close_later(World(replace(ROBOT, overrun_budget=0.05)))
    world.broken = range(20, 2000, 4)
    world.run(600, move)
    assert "RUN -> STOP: cycles of 0.5" in world.events()
    assert world.status()["unsent"] == world.loop.tally.unsent > 50


def test_a_stop_does_not_wait_for_a_robot_that_nothing_reaches(close_later) -> None:
    world = close_later(World())
    world.broken = range(60, 100_000)
    world.run(80, move)
    assert "RUN -> STOP: bus" in world.events()
    assert world.status()["resting"] and world.disconnected == [False]
    assert world.cycle - 60 < 2 / ROBOT.control.dt


def test_a_rare_hiccup_stops_nothing(close_later) -> None:
    world = close_later(World())
    world.slow = {cycle: 0.08 for cycle in range(100, 2000, 200)}
    world.run(1500, move)
    assert world.loop.tally.skipped > 40
    assert "overrun_budget" not in world.events()
    for budget in (0.0, 0.6, float("nan")):
        with pytest.raises(ValueError, match="overrun_budget must be a share"):
            replace(ROBOT, overrun_budget=budget)


def test_commands_are_never_closer_than_half_a_period_however_late_the_loop_wakes(
    close_later,
) -> None:
    world, generator = close_later(World()), np.random.default_rng(0)

    def late(seconds: float) -> None:
        world.now += seconds + generator.choice([1e-4, 3e-3, 6e-3, 9e-3, 14e-3])
        world.wakes.append(world.now)

    world.loop._sleep = late
    world.run(350, move)
    gaps = np.diff(world.wakes)
    assert gaps.min() >= 0.49 * 0.01
    cycles = world.channels.log_cycles.pop()
    on_grid = (cycles["now"] - cycles["now"][0]) / 0.01
    np.testing.assert_allclose(on_grid, np.rint(on_grid), atol=1e-6)
    assert (cycles["wake"] - cycles["now"]).max() < 0.02
    left_out = round(on_grid[-1]) + 1 - len(cycles)
    assert left_out <= world.loop.tally.skipped <= left_out + 1


def test_a_supervisor_that_is_not_heard_any_more_stops_the_robot(close_later) -> None:
    world = close_later(World())

    def beat() -> None:
        record = np.zeros((), HEARTBEAT)
        record["time"] = world.now
        world.channels.heartbeat.write(record)

    def plan(cycle: int) -> None:
        if cycle < 100:
            beat()
        if cycle == 2:
            world.channels.ask(Request.ARM)
        if cycle % 10 == 3:
            move(world, cycle)
        if cycle == 400:
            world.loop.end()

    world.plan = plan
    world.loop.run()
    assert "RUN -> STOP: the supervisor was not heard for 2." in world.events()


class Looked(World):
    """A robot that can be looked at before anything takes hold of it."""

    def __init__(self, position: tuple[float, float]) -> None:
        super().__init__(replace(ROBOT, options={"position": list(position)}, torque_off=True))
        self.calls: list[str] = []

    def inspect(self) -> None:
        self.calls.append("inspect")

    def read(self):
        self.calls.append("read")
        return super().read()

    def connect(self) -> None:
        self.calls.append("connect")


def test_a_robot_that_may_not_start_is_looked_at_and_not_touched(close_later) -> None:
    world = close_later(Looked((5.0, 0.0)))
    with pytest.raises(ConnectionError, match=r"arm: joint 0 .*nothing was switched.*release=true"):
        world.loop.run()
    assert world.calls == ["inspect", "read"]
    assert world.disconnected == [False], "it keeps its torque, although torque_off is set"
    assert world.writes == []


def test_a_robot_that_may_start_is_looked_at_before_it_is_taken_hold_of(close_later) -> None:
    world = close_later(Looked((0.1, 0.0)))
    world.run(20, move)
    assert world.calls[:4] == ["inspect", "read", "connect", "read"]
    assert world.disconnected == [True]


def test_a_release_brakes_and_leaves_the_joints_limp(close_later) -> None:
    world = close_later(World())
    plan = {2: Request.ARM, 60: Request.RELEASE}

    def each(cycle: int) -> None:
        if cycle in plan:
            world.channels.ask(plan[cycle])
        if cycle % 10 == 3:
            move(world, cycle)

    world.plan = each
    world.loop.run()
    assert world.disconnected == [True] and world.status()["mode"] == Mode.STOP
    assert not np.any(np.diff(np.stack(world.writes[-2:]), axis=0))


def test_chunks_that_are_all_refused_end_the_run_as_a_failure(tmp_path, monkeypatch) -> None:
    (tmp_path / "hopeless.py").write_text(
        "import numpy as np\n"
        "class Hopeless:\n"
        "    cameras, period = (), 0.05\n"
        "    def __init__(self, robot, options): pass\n"
        "    def reset(self, seed): pass\n"
        "    def plan(self, snapshot):\n"
        "        times = snapshot.time + np.array([0.1, 0.2])\n"
        "        return snapshot.chunk(times, np.full((2, 6), 9e9))\n"
    )
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}")
    monkeypatch.setattr("hotloop.real_robot.runtime.watch.ALL_REFUSED_AFTER", 0.5)
    summary, _ = run(DRY, replace(JOB, policy="hopeless:Hopeless", duration=60.0))
    assert summary["ended_by"] == "all chunks refused" and summary["accepted_chunks"] == 0
    assert "chunks were refused" in summary["failures"][0]


def test_letting_go_warns_first_and_an_interrupt_leaves_the_arm_as_it_is(
    monkeypatch, close_later
) -> None:
    world, said = close_later(Looked((5.0, 0.0))), []
    monkeypatch.setattr("hotloop.real_robot.runtime.release.make_driver", lambda robot: world)
    release(ROBOT, said.append, lambda seconds: said.append(f"waited {seconds}"))
    assert "may fall: hold it" in said[0] and said[1] == "waited 3"
    assert said[2] == "virtual: all joints are limp"
    assert world.calls == ["inspect"] and world.disconnected == [True] and world.writes == []

    def interrupt(seconds: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        release(ROBOT, said.append, interrupt)
    assert world.disconnected == [True, False]


def test_one_ill_servo_does_not_keep_the_others_stiff(monkeypatch, close_later) -> None:
    world = close_later(Looked((0.0, 0.0)))
    monkeypatch.setattr("hotloop.real_robot.runtime.release.make_driver", lambda robot: world)

    def ill() -> None:
        raise ConnectionError("servo 3 is too hot")

    world.inspect = ill
    with pytest.raises(ConnectionError, match=r"servo 3 is too hot.*try by hand which"):
        release(ROBOT, lambda line: None, lambda seconds: None)
    assert world.disconnected == [True]


def test_a_robot_that_cannot_be_let_go_says_so() -> None:
    with pytest.raises(ValueError, match="its driver 'dry-run' cannot reach it without"):
        release(ROBOT, lambda line: None)


def test_an_arm_that_may_not_start_keeps_every_register_and_can_be_let_go() -> None:
    plant = Plant("arm6")
    servos = DynamixelServos(plant, range(1, 7))
    for table in servos.tables.values():
        table[TORQUE] = 1
    before = {number: bytes(table) for number, table in servos.tables.items()}
    narrow = replace(LIMITS, low=(0.5,) * 6)
    control = replace(CONTROL, limits=narrow, dt=0.02)
    going = threading.Event()
    going.set()
    with ServoBus(servos) as bus:
        thread = threading.Thread(target=bus.serve, args=(going.is_set,))
        thread.start()
        robot = RobotConfig("bus", "dynamixel", control, {"port": bus.port})
        try:
            with pytest.raises(ConnectionError, match=r"arm: joint 0 .*nothing was switched"):
                run(robot, JOB)
            untouched = {number: bytes(table) for number, table in servos.tables.items()}
            said: list[str] = []
            release(robot, said.append, lambda seconds: None)
        finally:
            going.clear()
            thread.join()
    changed = {
        (number, address)
        for number, table in before.items()
        for address, (old, new) in enumerate(zip(table, untouched[number], strict=True))
        if old != new
    }
    assert not {address for _, address in changed} - set(MEASURED), changed
    assert said[-1] == "bus: all joints are limp"
    assert {table[TORQUE] for table in servos.tables.values()} == {0}
