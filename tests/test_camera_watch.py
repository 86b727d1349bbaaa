"""Cameras that stop during a run: stale pictures, lost cameras, and those that come back."""

from __future__ import annotations

import numpy as np
import pytest
from robots import Bench

from hotloop.real_robot.cameras import Picture
from hotloop.real_robot.core.events import EventKind, RobotState
from hotloop.real_robot.core.trajectory import Chunk
from hotloop.real_robot.policies.protocol import Snapshot
from hotloop.real_robot.runtime.camera_watch import GIVE_UP_AFTER, CameraWatch
from hotloop.real_robot.runtime.policy_process import look

BLACK = np.zeros((2, 2, 3), np.uint8)


class Device:
    """A camera that gives a picture of now while it works, and may fail to open again."""

    def __init__(self, world: World) -> None:
        self.world, self.working, self.refusal = world, True, None
        self.newest: Picture | None = None
        self.image = BLACK
        self.opened: list[float] = []

    def open(self) -> None:
        self.opened.append(self.world.now)
        if self.refusal is not None:
            raise self.refusal

    def read(self) -> Picture | None:
        if self.working:
            self.newest = Picture(self.world.now, self.image)
        return self.newest

    def close(self) -> None:
        pass


class World:
    """Virtual time, a working camera and one that may stop."""

    def __init__(self) -> None:
        self.now, self.told = 50.0, []
        self.wrist, self.top = Device(self), Device(self)
        cameras = {"wrist": self.wrist, "top": self.top}
        sizes = dict.fromkeys(cameras, (2, 2))
        self.watch = CameraWatch(cameras, sizes, 0.5, self.told.append, lambda: self.now)

    def state(self) -> RobotState:
        return RobotState(self.now, np.zeros(2), np.zeros(2), "", np.zeros(0))

    def run(self, seconds: float) -> list[Snapshot | None]:
        seen = []
        for _ in range(round(seconds / 0.1)):
            self.now += 0.1
            seen.append(look(self.watch, self.state, len(seen)))
        return seen


def test_a_camera_that_stops_is_named_once_and_nothing_is_planned_from_its_last_picture() -> None:
    world = World()
    assert all(world.run(1.0)) and world.told == []
    world.top.working, world.top.refusal = False, ConnectionError("not there")
    seen = world.run(5.0)
    assert [snapshot is not None for snapshot in seen[:4]] == [True] * 4, "half a second is allowed"
    assert not any(seen[6:])
    assert world.told == ["no pictures from camera 'top'; trying to open it again"]
    assert 3 <= len(world.top.opened) <= 5 and world.wrist.opened == []


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((2, 2), np.uint8), r"got \(2, 2\) and uint8: it is grey"),
        (np.zeros((2, 2, 4), np.uint8), r"got \(2, 2, 4\) and uint8: it has four channels"),
        (np.zeros((3, 2, 2), np.uint8), r"got \(3, 2, 2\) and uint8: its channels come first"),
        (np.zeros((4, 6, 3), np.uint8), r"got \(4, 6, 3\) and uint8: resize it to 2 x 2"),
        (np.zeros((2, 2, 3), np.float32), r"float32: give bytes from 0 to 255"),
    ],
)
def test_a_camera_that_begins_to_give_something_else_ends_the_policy(image, message) -> None:
    world = World()
    assert all(world.run(0.5))
    world.top.image = image
    expected = r"the picture of camera 'top' must have shape \(2, 2, 3\) and type uint8, .*"
    with pytest.raises(ValueError, match=expected + message):
        world.run(0.5)


def test_a_camera_that_comes_back_is_used_again() -> None:
    world = World()
    world.run(0.5)
    world.top.working, world.top.refusal = False, ConnectionError("not there")
    world.run(4.0)
    world.top.working, world.top.refusal = True, None
    seen = world.run(0.5)
    assert all(seen) and set(seen[0].pictures) == {"wrist", "top"}
    assert world.told[1:] == [""]


def test_a_camera_that_stays_away_ends_the_policy_with_its_name() -> None:
    world = World()
    world.run(0.5)
    world.top.working, world.top.refusal = False, ConnectionError("not there")
    with pytest.raises(ConnectionError, match=r"camera 'top' gave no fresh picture for 1[0-9] s"):
        world.run(GIVE_UP_AFTER + 3)


def test_a_video_that_has_ended_is_not_waited_for() -> None:
    world = World()
    world.run(0.5)
    world.top.working, world.top.refusal = False, EOFError("the video file a.mp4 has ended")
    with pytest.raises(ConnectionError, match=r"camera 'top' gives no pictures.*a\.mp4 has ended"):
        world.run(GIVE_UP_AFTER / 2)


def test_without_a_picture_or_a_measurement_nothing_is_planned() -> None:
    world = World()
    world.top.working = False
    assert look(world.watch, world.state, 0) is None, "the camera has no first picture yet"
    world.top.working = True
    assert look(world.watch, lambda: None, 0) is None
    assert look(world.watch, world.state, 7).sequence == 7


def test_a_chunk_is_as_old_as_the_oldest_picture_and_the_loop_refuses_a_stale_one() -> None:
    bench = Bench()

    def chunk(sequence: int, age: float) -> Chunk:
        picture = Picture(bench.now - age, BLACK)
        still = np.zeros(0)
        seen = Snapshot(bench.now, bench.position, still, still, {"top": picture}, sequence)
        assert seen.observed_at == bench.now - age
        return seen.chunk(bench.now + np.array([0.1, 0.2]), np.stack([bench.position] * 2))

    bench.send(chunk(0, age=0.05))
    assert bench.output.chunk == 0
    bench.send(chunk(1, age=0.4))
    assert bench.output.chunk == 0 and "age: observed 0.4" in bench.said(EventKind.CHUNK_REJECTED)
