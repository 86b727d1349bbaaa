"""Gamepads and keyboards, as records that come through a pipe."""

from __future__ import annotations

import os
import struct

import pytest

from hotloop.real_robot.inputs.joystick import Joystick
from hotloop.real_robot.inputs.keys import Keys


@pytest.fixture
def pipe(tmp_path):
    """A device's path and the end that its events are written to."""
    path = tmp_path / "device"
    os.mkfifo(path)
    end = os.open(path, os.O_RDWR | os.O_NONBLOCK)
    yield str(path), end
    os.close(end)


def joystick(value: int, kind: int, number: int) -> bytes:
    return struct.pack("=IhBB", 12345, value, kind, number)


def key(kind: int, code: int, value: int) -> bytes:
    return struct.pack("@llHHi", 1, 2, kind, code, value)


def test_a_gamepad_tells_its_axes_and_which_buttons_are_held_and_were_pressed(pipe) -> None:
    path, end = pipe
    pad = Joystick(path)
    pad.open()
    os.write(end, joystick(0, 0x82, 0) + joystick(-32767, 0x82, 5) + joystick(1, 0x81, 7))
    first = pad.read()
    assert first.axes == {0: 0.0, 5: -1.0} and first.buttons == {7} and first.pressed == ()
    os.write(end, joystick(16384, 2, 0) + joystick(1, 1, 2) + joystick(0, 1, 7))
    os.write(end, joystick(0, 1, 2) + joystick(1, 1, 2) + joystick(-32768, 2, 1))
    second = pad.read()
    assert second.buttons == {2} and second.pressed == (2, 2)
    assert second.axis(0, dead=0.0) == pytest.approx(0.5, abs=1e-4)
    assert (second.axis(1), second.axis(5), second.axis(9)) == (-1.0, -1.0, 0.0)
    assert pad.read().pressed == () and pad.read().buttons == {2}
    pad.close()
    pad.close()


@pytest.mark.parametrize(
    ("raw", "value"), [(0.1, 0.0), (0.05, 0.0), (0.55, 0.5), (-0.55, -0.5), (1.0, 1.0)]
)
def test_a_stick_at_rest_moves_nothing(pipe, raw, value) -> None:
    path, end = pipe
    pad = Joystick(path)
    pad.open()
    os.write(end, joystick(int(32767 * raw), 2, 3))
    assert pad.read().axis(3) == pytest.approx(value, abs=1e-4)
    pad.close()


def test_keys_are_held_until_they_are_let_go(pipe) -> None:
    path, end = pipe
    keys = Keys(path)
    keys.open()
    assert keys.read() == (frozenset(), ())
    os.write(end, key(1, 57, 1) + key(0, 0, 0) + key(1, 30, 1) + key(1, 57, 2) + key(1, 240, 1))
    assert keys.read() == ({"space", "a", "240"}, ("space", "a", "240"))
    os.write(end, key(1, 30, 0))
    assert keys.read() == ({"space", "240"}, ())
    os.write(end, key(0, 3, 0))
    assert keys.read() == (frozenset(), ()), "events were lost: a release perhaps"
    keys.close()


def test_a_press_that_was_lost_is_found_where_events_were_dropped(pipe, monkeypatch) -> None:
    path, end = pipe
    keys = Keys(path)
    keys.open()

    def held(file, request, bits) -> None:
        bits[57 // 8] = 1 << 57 % 8

    monkeypatch.setattr("fcntl.ioctl", held)
    os.write(end, key(0, 3, 0))
    assert keys.read() == ({"space"}, ("space",))
    keys.close()


@pytest.mark.parametrize("device", [Joystick, Keys])
def test_a_device_that_is_unplugged_or_is_none_says_so(device, tmp_path) -> None:
    path = tmp_path / "device"
    os.mkfifo(path)
    end = os.open(path, os.O_RDWR | os.O_NONBLOCK)
    there = device(str(path))
    there.open()
    os.close(end)
    with pytest.raises(ConnectionError, match="device is lost"):
        there.read()
    there.close()
    with pytest.raises(ConnectionError, match="device is lost"):
        there.read()
    with pytest.raises(ConnectionError, match="is it plugged in"):
        device(str(tmp_path / "none")).open()
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ConnectionError, match="is no input device"):
        device(str(tmp_path / "file")).open()
