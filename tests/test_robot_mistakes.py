"""What cannot be run is refused in one sentence before a robot is touched or anything is called."""

from __future__ import annotations

import os

import pytest

from hotloop.real_robot.config import CameraConfig, ControlConfig
from hotloop.real_robot.core.limits import Chain
from hotloop.real_robot.core.trajectory import ChunkRules
from hotloop.real_robot.drivers.tracker import Tracker
from hotloop.real_robot.runtime.job import check_run
from hotloop.real_robot.runtime.policy_process import checked
from hotloop.train.cli import main
from hotloop.train.commands.control import prepare
from hotloop.train.config.compose import compose


def begun(*overrides: str) -> None:
    """Everything of a run before its first process."""
    config = compose("control", ["robot=mujoco-arm", *overrides], ControlConfig)
    _, robot, job = prepare(config, dry_run=False)
    check_run(robot, job)


CAMERA = "{driver: opencv, size: [48, 64], options: {source: %s}}"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("robot.driver=os:system", "a driver must be a class with connect, read, write"),
        ("robot.driver=builtins:dict", "a driver must be a class"),
        ("robot.driver=shutil:rmtree", "a driver must be a class"),
        ("policy=os:system", "it must be a PolicyKind, or a class or function"),
        ("policy=os:environ", "it must be a PolicyKind"),
        ("policy=os:path", "it must be a PolicyKind"),
        ("policy=builtins:dict", "it must be a PolicyKind"),
        ("robot.cameras={a: {driver: 'os:system', size: [4, 4]}}", "a camera must be a class"),
        ("robot.cameras={a: {driver: nope, size: [4, 4]}}", "cameras.a: there is no camera 'nope'"),
        ("robot.cameras={a: %s}" % (CAMERA % "-1"), "number of a device or path.*got -1"),
        ("robot.cameras={a: %s}" % (CAMERA % "true"), "number of a device or path.*got True"),
        (
            "robot.cameras={a: " + CAMERA % "0" + ", b: " + CAMERA % "/dev/video0" + "}",
            "cameras 'a' and 'b' of robot mujoco-arm have the same source /dev/video0",
        ),
        ("robot.control.dt=1e-9", "dt 1e-09 s is shorter than any loop keeps"),
        ("robot.control.action_latency=[2,0,0,0,0,0]", "action_latency must be at most 1.0 s"),
        ("robot.control.rules.max_age=inf", "rules.max_age must be a positive time"),
        ("robot.control.stitch.fade=inf", "fade must be a positive time"),
        ("seed=-1", "seed must be 0 or more, got -1"),
    ],
)  # fmt: skip
def test_what_cannot_be_run_is_refused_uncalled(override, message, monkeypatch) -> None:
    called: list[object] = []
    monkeypatch.setattr(os, "system", lambda command: called.append(command))
    with pytest.raises(ValueError, match=message):
        begun(override)
    assert not called


def test_two_cameras_may_play_the_same_file(tmp_path) -> None:
    video = tmp_path / "a.avi"
    video.touch()
    one = CAMERA % video
    begun(f"robot.cameras={{a: {one}, b: {one}}}")


def test_what_a_factory_made_has_to_be_a_policy() -> None:
    with pytest.raises(ValueError, match="made None, which is no robot policy: it has no cameras"):
        checked(None, "shutil:rmtree")  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["file", "link to nothing"])
def test_an_output_folder_that_is_none_is_named(kind, tmp_path, capsys) -> None:
    path = tmp_path / "there"
    path.write_text("mine") if kind == "file" else path.symlink_to(tmp_path / "nowhere")
    assert main(["control", "robot=mujoco-arm", f"output_dir={path}"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("is there and no folder; give a folder, which may be a new one")


def test_numbers_that_would_switch_a_check_off_are_refused() -> None:
    nan = float("nan")
    for chain in (((0.0, 0.0, nan), (0.0, 0.0, 0.0)), ((0.0, 0.0, 0.0), (nan, 0.0, 0.0))):
        with pytest.raises(ValueError, match="offsets and tool of a chain must be finite"):
            Chain((chain[0],), ((0.0, 0.0, 1.0),), chain[1])
    with pytest.raises(ValueError, match="max_ahead must be a positive time"):
        ChunkRules(max_ahead=float("inf"))
    with pytest.raises(ValueError, match=r"max_age must be at most 10.0 s, got 1000"):
        ChunkRules(max_age=1000.0)
    with pytest.raises(ValueError, match="tracker_size at most 8188 numbers"):
        Tracker(9000, 100_000)
    with pytest.raises(ValueError, match="at most 16384"):
        CameraConfig("opencv", (10**8, 4))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["doctor", "--rate", "1e9"], "at most 10000 Hz"),
        (["doctor", "--rate", "inf"], "at most 10000 Hz"),
        (["emulate", "servo-bus", "--tracker", "99999"], "tracker must be a UDP port"),
        (["emulate", "servo-bus", "--tracker", "-1"], "tracker must be a UDP port"),
        (["emulate", "servo-bus", "--latency", "nan"], "latency and delay must be from 0"),
        (["emulate", "servo-bus", "--delay", "inf"], "latency and delay must be from 0"),
        (["emulate", "servo-bus", "--duration", "nan"], "duration must be a positive time"),
        (["emulate", "servo-bus", "--seed", "-1"], "seed 0 or more"),
        (["emulate", "servo-bus", "--position", *["nan"] * 6], "positions must be finite"),
        (["emulate", "servo-bus", "--model", __file__], "is no MuJoCo model"),
    ],
)
def test_flags_that_mean_nothing_are_one_line(arguments, message, capsys) -> None:
    assert main(arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
