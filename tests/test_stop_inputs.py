"""Dead-man switches, emergency stops and heartbeats, and what the loop makes of them."""

from __future__ import annotations

import os
import socket
import struct
import sys
import threading
import time
from dataclasses import replace
from types import SimpleNamespace

import pytest
from robot_runs import DRY, JOB
from virtual_loop import ROBOT, World, move

from hotloop.real_robot.config import StopInputConfig
from hotloop.real_robot.core.events import Mode, Request
from hotloop.real_robot.inputs import StopInputs, make_stop_input
from hotloop.real_robot.runtime.supervisor import supervise

pytestmark = pytest.mark.realtime


def stop_input(driver: str, **options):
    return make_stop_input(StopInputConfig(driver, options))


def pad(value: int, number: int) -> bytes:
    return struct.pack("=IhBB", 1, value, 0x01, number)


@pytest.fixture
def device(tmp_path):
    path = tmp_path / "device"
    os.mkfifo(path)
    end = os.open(path, os.O_RDWR | os.O_NONBLOCK)
    yield str(path), end
    os.close(end)


@pytest.fixture
def port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def send(port: int, *words: bytes) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        for word in words:
            one.sendto(word, ("127.0.0.1", port))


def test_a_dead_man_button_is_held_and_a_tap_on_the_stop_button_counts(device) -> None:
    path, end = device
    one = stop_input("joystick", device=path, hold=4, stop=1, reset=7)
    one.open()
    assert one.read(0.0) == ("button 4 is not held", False)
    os.write(end, pad(1, 4))
    assert one.read(0.0) == ("", False)
    os.write(end, pad(1, 7) + pad(0, 7))
    assert one.read(0.0) == ("", True) and one.read(0.0) == ("", False)
    os.write(end, pad(1, 1) + pad(0, 1))
    assert one.read(0.0).problem == "button 1 was pressed"
    os.write(end, pad(0, 4))
    assert one.read(0.0).problem == "button 4 is not held"
    one.close()


def test_a_pedal_that_is_a_keyboard_stops_as_well(device) -> None:
    path, end = device
    one = stop_input("keyboard", device=path, hold="space", reset="enter")
    one.open()
    os.write(end, struct.pack("@llHHi", 0, 0, 1, 57, 1))
    assert one.read(0.0) == ("", False)
    os.write(end, struct.pack("@llHHi", 0, 0, 1, 57, 0))
    assert one.read(0.0).problem == "key space is not held"
    one.close()


def test_a_heartbeat_lasts_a_while_and_a_stop_lasts_until_the_next_go(port) -> None:
    one = stop_input("udp", port=port, timeout=0.2)
    one.open()
    assert one.read(10.0).problem == f"no heartbeat came yet at port {port}"
    send(port, b"noise", b"go\n")
    assert one.read(10.0) == ("", False) and one.read(10.2).problem == ""
    assert one.read(10.21).problem == "no heartbeat for 0.21 s"
    send(port, b"go", b"stop")
    assert one.read(11.0).problem == one.read(11.1).problem == "stop was received"
    send(port, b"go", b"reset")
    assert one.read(12.0) == ("", True)
    send(port, *[b"go"] * 200)
    assert one.read(13.0).problem == "", "a flood is read piece by piece"
    other = stop_input("udp", port=port)
    with pytest.raises(ConnectionError, match=f"nothing can be received at 127.0.0.1:{port}"):
        other.open()
    one.close()
    stranger = stop_input("udp", port=port, sender="192.0.2.1")
    stranger.open()
    send(port, b"go")
    assert "no heartbeat came yet" in stranger.read(0.0).problem
    stranger.close()


class Lines:
    """Stands in for the `gpiod` of its maintainers, whose lines only a computer with pins has."""

    def __init__(self, levels: dict[int, str]) -> None:
        self.levels, self.settings = levels, None
        self.line = SimpleNamespace(
            Direction=SimpleNamespace(INPUT="input"),
            Bias=SimpleNamespace(PULL_DOWN="down", PULL_UP="up"),
            Value=SimpleNamespace(ACTIVE="active"),
        )

    def LineSettings(self, **settings):
        return settings

    def request_lines(self, chip, consumer, config):
        if chip != "/dev/gpiochip0":
            raise FileNotFoundError(2, "No such file or directory")
        self.settings = config
        return self

    def get_value(self, line):
        active = (self.levels[line] == "high") != self.settings[line]["active_low"]
        return "active" if active else "inactive"

    def release(self):
        self.settings = None


def test_a_cut_wire_at_a_pin_is_a_stop(monkeypatch) -> None:
    lines = Lines({17: "high", 27: "low"})
    monkeypatch.setitem(sys.modules, "gpiod", lines)
    one = stop_input("gpio", line=17, reset=27)
    one.open()
    assert lines.settings[17] == {"direction": "input", "bias": "down", "active_low": False}
    assert one.read(0.0) == ("", False)
    lines.levels[27] = "high"
    assert one.read(0.0) == ("", True) and one.read(0.0) == ("", False), "held is pressed once"
    lines.levels[17] = "low"
    assert one.read(0.0).problem == "line 17 is not high"
    one.close()
    with pytest.raises(ConnectionError, match=r"/dev/gpiochip9, lines .17.: No such file"):
        stop_input("gpio", line=17, chip="/dev/gpiochip9").open()
    inverted = stop_input("gpio", line=17, go="low")
    inverted.open()
    assert lines.settings[17]["bias"] == "up" and inverted.read(0.0).problem == ""


@pytest.mark.parametrize(
    ("driver", "options", "message"),
    [
        ("bell", {}, "there is no stop input 'bell'"),
        ("udp", {}, "port must be a UDP port"),
        ("udp", {"port": 5000, "timeout": 60.0}, "timeout must be between 0.02 and 2 s"),
        ("joystick", {"device": "/dev/input/js0"}, "give hold=…, what is held"),
        ("joystick", {"hold": 1, "reset": 1}, "hold, stop and reset must differ"),
        ("joystick", {"hold": "A"}, "option hold must be a whole number"),
        ("keyboard", {"hold": "space"}, "a keyboard needs its device"),
        ("keyboard", {"hold": "any", "device": "x"}, "there is no key 'any' for hold"),
    ],
)
def test_a_stop_input_that_makes_no_sense_is_refused(driver, options, message) -> None:
    robot = replace(ROBOT, stop_inputs={"pedal": StopInputConfig(driver, options)})
    with pytest.raises(ValueError, match=rf"^robot\.stop_inputs\.pedal: .*{message}"):
        StopInputs(robot)


class Guarded(World):
    """A robot with a dead-man button."""

    def __init__(self, path: str) -> None:
        options = {"device": path, "hold": 4, "reset": 7}
        inputs = {"pad": StopInputConfig("joystick", options)}
        super().__init__(replace(ROBOT, stop_inputs=inputs))
        self.modes: list[Mode] = []

    def follow(self, plan) -> None:
        """Run with a chunk every ten cycles and what `plan` does in some of them."""

        def each(cycle: int) -> None:
            self.modes.append(self.loop.controller.mode)
            if cycle % 10 == 3:
                move(self, cycle)
            plan.get(cycle, lambda: None)()

        self.plan = each
        self.loop.run()


def test_letting_go_stops_the_robot_and_a_button_resets_and_arms_it_again(
    device, close_later
) -> None:
    path, end = device
    world = close_later(Guarded(path))
    world.follow(
        {
            2: lambda: world.channels.ask(Request.ARM),
            8: lambda: os.write(end, pad(1, 4)),
            10: lambda: world.channels.ask(Request.ARM),
            60: lambda: os.write(end, pad(0, 4)),
            110: lambda: os.write(end, pad(1, 7) + pad(0, 7)),
            120: lambda: os.write(end, pad(1, 4)),
            130: lambda: os.write(end, pad(1, 7)),
            140: lambda: os.write(end, pad(0, 7) + pad(1, 7)),
            200: world.loop.end,
        }
    )
    text = world.events()
    assert "arm: stop input 'pad': button 4 is not held" in text
    assert "RUN -> STOP: stop input 'pad': button 4 is not held" in text
    assert world.modes[9] is Mode.IDLE and world.modes[50] is Mode.RUN
    assert world.modes[62] is Mode.STOP and world.modes[125] is Mode.STOP, "reset needs the hold"
    assert world.modes[135] is Mode.IDLE and world.modes[150] in (Mode.ARMED, Mode.RUN)
    assert world.status()["mode"] == Mode.STOP and world.disconnected == [False]


def test_a_stop_input_that_is_unplugged_stops_the_robot(tmp_path, close_later) -> None:
    path = tmp_path / "device"
    os.mkfifo(path)
    end = os.open(path, os.O_RDWR | os.O_NONBLOCK)
    os.write(end, pad(1, 4))
    world = close_later(Guarded(str(path)))
    world.follow(
        {
            5: lambda: world.channels.ask(Request.ARM),
            60: lambda: os.close(end),
            100: world.loop.end,
        }
    )
    assert "RUN -> STOP: stop input 'pad':" in world.events()
    assert world.modes[62] is Mode.STOP


def test_without_its_stop_input_the_robot_is_not_even_connected(tmp_path, close_later) -> None:
    world = close_later(Guarded(str(tmp_path / "none")))
    connected: list[bool] = []
    world.connect = lambda: connected.append(True)
    with pytest.raises(ConnectionError, match=r"stop input 'pad': .*none cannot be opened"):
        world.loop.run()
    assert not connected and "stop input 'pad'" in world.status()["failure"].decode()


def test_a_run_waits_for_its_heartbeat_and_ends_when_it_falls_silent(port) -> None:
    inputs = {"desk": StopInputConfig("udp", {"port": port, "timeout": 0.5})}
    lines: list[str] = []
    silent = threading.Event()

    def beat() -> None:
        while not any("waiting to begin" in line for line in lines):
            time.sleep(0.02)
        while not any("-> RUN" in line for line in lines):
            send(port, b"go")
            time.sleep(0.05)
        silent.set()

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    robot = replace(DRY, stop_inputs=inputs)
    summary = supervise(robot, replace(JOB, duration=60.0), lines.append)
    assert silent.is_set()
    assert f"waiting to begin: stop input 'desk': no heartbeat came yet at port {port}" in lines
    assert summary["ended_by"] == "stop"
    assert summary["stop_reason"].startswith("stop input 'desk': no heartbeat for 0.5")
    assert summary["failures"] == [f"the robot stopped: {summary['stop_reason']}"]
