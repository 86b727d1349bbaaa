"""Cameras: drawn ones, and OpenCV's on video files and fake devices."""

from __future__ import annotations

import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hotloop.decoding.plumbing.schema import build
from hotloop.real_robot.cameras import make_camera, open_cameras
from hotloop.real_robot.cameras.opencv import OpenCvCamera
from hotloop.real_robot.config import CameraConfig, RobotConfig
from hotloop.real_robot.core.controller import ControllerConfig
from hotloop.real_robot.core.events import RobotState
from hotloop.real_robot.core.limits import Limits

DRAWN = CameraConfig("mujoco", (48, 64), 0.02, {"model": "arm6", "view": "front"})
LIMITS = Limits((-1.0,) * 2, (1.0,) * 2, (2.0,) * 2, (10.0,) * 2, (400.0,) * 2)


def posed(*position: float, time: float = 8.0) -> RobotState:
    return RobotState(time, np.array(position), np.zeros(6), "", np.zeros(0))


def test_a_drawn_picture_shows_the_robot_where_it_was_measured() -> None:
    states: list[RobotState | None] = [None]
    camera = make_camera(DRAWN, lambda: states[0])
    camera.open()
    assert camera.read() is None, "nothing was measured yet"
    pictures = []
    for state in (posed(*[0.0] * 6), posed(0.0, 0.9, 0, 0, 0, 0), posed(*[0.0] * 6)):
        states[0] = state
        picture = camera.read()
        assert picture is not None and picture.time == pytest.approx(8.0 - 0.02)
        assert picture.image.shape == (48, 64, 3) and picture.image.dtype == np.uint8
        pictures.append(picture.image)
    np.testing.assert_array_equal(pictures[0], pictures[2])
    assert (pictures[0] != pictures[1]).any(axis=2).mean() > 0.01
    camera.close()
    camera.close()


def test_a_drawing_of_another_scene_than_is_measured_is_refused() -> None:
    state = replace(posed(*[0.0] * 6), sensors=np.zeros(4))
    camera = make_camera(DRAWN, lambda: state)
    camera.open()
    message = r"'arm6' of 6 joints and 0 numbers of the scene, the robot measures 6 and 4; set"
    with pytest.raises(ValueError, match=message):
        camera.read()
    camera.close()


@pytest.fixture(scope="module")
def video(tmp_path_factory) -> Path:
    """Half a second at 20 Hz that turns from red to blue in its middle."""
    cv2 = pytest.importorskip("cv2")
    path = tmp_path_factory.mktemp("video") / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 20.0, (64, 48))
    assert writer.isOpened()
    for index in range(10):
        blue_first = (0, 0, 250) if index < 5 else (250, 0, 0)
        writer.write(np.full((48, 64, 3), blue_first, np.uint8))
    writer.release()
    return path


def test_a_video_file_plays_at_its_own_pace_and_grows_old_at_its_end(video) -> None:
    config = CameraConfig("opencv", (24, 32), 0.01, {"source": str(video)})
    camera = OpenCvCamera(config)
    before = time.monotonic()
    camera.open()
    first = camera.read()
    assert first is not None and first.image.shape == (24, 32, 3)
    assert first.image[0, 0, 0] > 200 > 60 > first.image[0, 0, 2], "red comes first"
    assert before - 0.01 <= first.time <= time.monotonic() - 0.01
    assert camera._thread is not None
    camera._thread.join(5)
    last = camera.read()
    assert last is not None and last.image[0, 0, 2] > 200, "the newest picture is blue"
    assert last.time - first.time > 0.3
    assert camera.read() is last, "an old picture says how old it is"
    camera.close()
    with pytest.raises(EOFError, match=r"clip\.avi has ended"):
        camera.open()


class FakeDevice:
    """What OpenCV gives for a device: `images` in turn, then nothing."""

    def __init__(self, images: list[np.ndarray], opened: bool = True) -> None:
        self.images, self.opened, self.asked, self.released = images, opened, {}, False

    def isOpened(self) -> bool:
        return self.opened

    def get(self, key: int) -> float:
        return 0.0

    def set(self, key: int, value: float) -> None:
        self.asked[key] = value

    def read(self):
        return (True, self.images.pop(0)) if self.images else (False, None)

    def release(self) -> None:
        self.released = True


def test_a_device_is_asked_for_its_format_and_given_back(monkeypatch) -> None:
    cv2 = pytest.importorskip("cv2")
    device = FakeDevice([np.full((8, 8, 3), 7, np.uint8)])
    monkeypatch.setattr(cv2, "VideoCapture", lambda source: device)
    config = CameraConfig("opencv", (8, 8), 0.0, {"source": 0, "fps": 60, "height": 8, "width": 8})
    robot = RobotConfig(
        "arm", "dry-run", ControllerConfig(LIMITS, 0.01), cameras={"wrist": config, "top": DRAWN}
    )
    with open_cameras(robot, ("wrist",), lambda: None) as cameras:
        assert list(cameras) == ["wrist"] and cameras["wrist"].read().image[0, 0, 0] == 7
    assert device.released
    expected = {cv2.CAP_PROP_FPS: 60, cv2.CAP_PROP_FRAME_HEIGHT: 8, cv2.CAP_PROP_FRAME_WIDTH: 8}
    assert device.asked == expected


def test_a_device_that_hangs_does_not_hang_its_user(monkeypatch) -> None:
    cv2 = pytest.importorskip("cv2")
    stuck = threading.Event()

    class Hanging(FakeDevice):
        def read(self):
            if not self.images:
                stuck.wait(20)
            return super().read()

    device = Hanging([np.full((8, 8, 3), 7, np.uint8)])
    monkeypatch.setattr(cv2, "VideoCapture", lambda source: device)
    camera = OpenCvCamera(CameraConfig("opencv", (8, 8), 0.0, {"source": 3}))
    camera.open()
    began = time.monotonic()
    camera.close()
    with pytest.raises(ConnectionError, match="camera 3 does not answer"):
        camera.open()
    assert time.monotonic() - began < 5
    stuck.set()
    camera.close()
    device.images.append(np.full((8, 8, 3), 9, np.uint8))
    camera.open()
    assert camera.read().image[0, 0, 0] == 9, "it is back"
    camera.close()


@pytest.mark.parametrize(
    ("device", "message"),
    [
        (FakeDevice([], opened=False), "camera 3 cannot be opened"),
        (FakeDevice([]), "camera 3 gives no picture"),
    ],
)
def test_a_camera_without_pictures_is_an_error(monkeypatch, device, message) -> None:
    cv2 = pytest.importorskip("cv2")
    monkeypatch.setattr(cv2, "VideoCapture", lambda source: device)
    camera = OpenCvCamera(CameraConfig("opencv", (8, 8), 0.0, {"source": 3}))
    with pytest.raises(ConnectionError, match=message):
        camera.open()


@pytest.mark.parametrize(
    ("driver", "options", "message"),
    [
        ("film", {}, "no camera 'film'; choose from mujoco, opencv"),
        ("mujoco", {}, "camera mujoco needs the option model"),
        ("mujoco", {"model": "arm6", "view": "moon"}, r"no camera 'moon' but \['front'\]"),
        ("opencv", {}, "camera opencv needs the option source"),
        ("opencv", {"source": 0, "zoom": 2}, "unknown camera option 'zoom'"),
        ("opencv", {"source": 0, "fps": 0}, "camera option fps must be positive, got 0"),
        ("opencv", {"source": 0, "height": 8.5}, "camera option height must be a whole number"),
    ],
)
def test_mistakes_in_a_cameras_configuration_are_explained(driver, options, message) -> None:
    with pytest.raises(ValueError, match=message):
        make_camera(CameraConfig(driver, (8, 8), 0.0, options), lambda: None).open()


def test_impossible_cameras_and_joints_are_refused(monkeypatch) -> None:
    with pytest.raises(ValueError, match="size of a camera must be"):
        CameraConfig("opencv", (0, 8))
    with pytest.raises(ValueError, match="latency of a camera must be between"):
        CameraConfig("opencv", (8, 8), float("nan"))
    control = ControllerConfig(LIMITS, 0.01)
    for joints, message in (
        (("one",), "joints needs 2 names or none"),
        (("pan", "pan"), "got 'pan' twice"),
        (("Shoulder_Pan.pos", "shoulder pan"), "got 'shoulder pan' twice"),
        (("pan", ""), "got '' as a name"),
    ):
        with pytest.raises(ValueError, match=message):
            RobotConfig("arm", "dry-run", control, joints=joints)
    with pytest.raises(
        ValueError, match=r"cameras\.top\.latency 0\.6 s must be below .*max_age 0\.5"
    ):
        RobotConfig("arm", "dry-run", control, cameras={"top": replace(DRAWN, latency=0.6)})
    with pytest.raises(ValueError, match=r"observation_latency 0\.2 s must be below"):
        RobotConfig("arm", "dry-run", control, observation_latency=0.2)
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(ImportError, match=r"pip install 'hotloop\[camera\]'"):
        make_camera(CameraConfig("opencv", (8, 8), 0.0, {"source": 0}), lambda: None)


def test_a_robots_cameras_come_back_from_json() -> None:
    import json
    from dataclasses import asdict

    robot = RobotConfig("arm", "dry-run", ControllerConfig(LIMITS, 0.01), cameras={"top": DRAWN})
    assert build(RobotConfig, json.loads(json.dumps(asdict(robot)))) == robot
