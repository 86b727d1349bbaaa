"""Configuration files of one's own, by path, that refine shipped ones or stand alone."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hotloop.real_robot.config import ControlConfig
from hotloop.train.config.compose import compose
from hotloop.train.config.training import TrainConfig


def robot(path: Path, *overrides: str) -> ControlConfig:
    return compose("control", [f"robot={path}", *overrides], ControlConfig)


def train(*overrides: str) -> TrainConfig:
    return compose("train", overrides, TrainConfig)


def written(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_a_robot_refines_a_shipped_one_key_by_key(tmp_path: Path) -> None:
    shipped = compose("control", ["robot=feetech"], ControlConfig)
    text = (
        "base: feetech\nname: mine\noptions: {port: /dev/ttyACM3}\n"
        "control: {limits: {velocity: [1, 1, 1, 1, 1, 1]}}\n"
    )
    mine = robot(written(tmp_path / "my arm=1.yaml", text))
    assert mine.robot.name == "mine"
    assert mine.robot.options == {**shipped.robot.options, "port": "/dev/ttyACM3"}
    assert mine.robot.control.limits.velocity == (1.0,) * 6
    assert mine.robot.control.limits.low == shipped.robot.control.limits.low
    assert mine.robot.driver == "feetech"


def test_a_copy_of_a_shipped_file_says_the_same_as_the_file_it_was_copied_from(
    tmp_path: Path,
) -> None:
    """Shipped robots also say which policy they run: those keys are the whole configuration's."""
    source = Path(__file__).parents[1] / "train/config/yaml/robot/dynamixel-table.yaml"
    copy = written(tmp_path / "table.yml", source.read_text())
    assert robot(copy) == compose("control", ["robot=dynamixel-table"], ControlConfig)


def test_what_is_typed_wins_over_files_and_files_over_their_base(tmp_path: Path) -> None:
    written(tmp_path / "base.yaml", "base: feetech\nrobot: {name: a, bus_budget: 7}\n")
    middle = written(tmp_path / "deep/middle.yaml", "base: ../base.yaml\nname: b\n")
    config = robot(middle, "robot.options.baud=500000").robot
    assert (config.name, config.bus_budget, config.options["baud"]) == ("b", 7, 500_000)


def test_a_file_without_base_begins_with_nothing(tmp_path: Path) -> None:
    """The group's default, a robot with a policy of its own, must not shine through."""
    text = (
        "name: bare\ndriver: mujoco\ncontrol:\n  dt: 0.01\n  limits: {low: [-1], high: [1], "
        "velocity: [1], acceleration: [1], jerk: [1]}\n"
    )
    config = robot(written(tmp_path / "bare.yaml", text))
    assert (config.policy, config.checkpoint, config.robot.options) == ("", "", {})


def test_a_task_and_a_policy_of_ones_own(tmp_path: Path) -> None:
    task = written(tmp_path / "t.yaml", "base: hopper\ndataset: mine.hdf5\n")
    policy = written(tmp_path / "p.yaml", "base: dp\nmodel: {horizon: 33}\noptim: {lr: 1e-3}\n")
    config = train(f"task={task}", f"policy={policy}", "policy.model.num_levels=50")
    assert (config.task.name, config.task.dataset) == ("hopper", "mine.hdf5")
    assert config.policy.kind == "dp"
    model = config.policy.model  # type: ignore[attr-defined]
    assert (model.horizon, model.num_levels, model.num_obs_steps) == (33, 50, 2)
    assert config.optim.lr == 0.001


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("base: feetech\nnaem: x\n", r"mine\.yaml: unknown key 'robot\.naem'; did you mean .*name"),
        ("base: feetech\nbus_budget: many\n", r"mine\.yaml: robot\.bus_budget: expected int, got"),
        ("base: feetec\n", r"mine\.yaml: base: .*no robot of that name \(did you mean feetech\?\)"),
        ("base: other.yaml\n", r"other\.yaml: there is no such file"),
        ("base: mine.yaml\n", r"its bases form a circle: .*mine\.yaml -> .*mine\.yaml"),
        ("base: [feetech]\n", r"mine\.yaml: base: expected the name of a robot or a file"),
        ("- feetech\n", r"mine\.yaml: expected names and values"),
        ("", r"mine\.yaml: expected names and values"),
        ("base: 'feetech\n", r"mine\.yaml is not valid YAML: .* line"),
        ("name: a\nname: b\n", r"mine\.yaml is not valid YAML: .*duplicate key name"),
        ("base:\nname: a\n", r"base: expected the name of a robot .* got None; leave base out"),
        ("base: ''\nname: a\n", r"base: expected the name of a robot or a file, got ''"),
        ("base: feetech\noptions: &a {x: *a}\n", r"line 2: the anchor &a contains itself"),
        ("base: feetech\njoints: &a [b, [*a]]\n", r"line 2: the anchor &a contains itself"),
        ("options: &a\n  x:\n    <<: *a\n", r"line 3: the anchor &a contains itself"),
        ("base: feetech\nname: ${\n", r"valid YAML: name: a reference .* is written \$\{key\}"),
        ("base: feetech\nname: 'a${robot.nam'\n", r"mine\.yaml is not valid YAML: .*robot\.nam"),
        ("base: feetech\nname: ${robot.name}\n", r"mine\.yaml: robot\.name: Recursive"),
        (f"a: {'[' * 40}1{']' * 40}\n", r"line 1: mappings or lists more than 32 deep"),
        (f"name: '{'${' * 33}a{'}' * 33}'\n", r"line 1: references \$\{\.\.\.\} more than 32 deep"),
        (f"name: '{'${' * 90_000}'\n", r"line 1: references .* more than 32 deep"),
        ("base: feetech\ncontrol:\n", r"mine\.yaml: robot\.control: expected Controller.*None"),
    ],
)
def test_a_wrong_file_is_answered_by_one_sentence_that_names_it(
    tmp_path: Path, text: str, message: str
) -> None:
    with pytest.raises(ValueError, match=message) as raised:
        robot(written(tmp_path / "mine.yaml", text))
    assert "\n" not in str(raised.value)


def test_aliases_of_aliases_are_counted_before_they_are_written_out(tmp_path: Path) -> None:
    """Ten lines that would be a billion values."""
    text = "a: &a [x, x, x, x, x, x, x, x, x, x]\n"
    for before, name in zip("abcdefgh", "bcdefghi", strict=True):
        text += f"{name}: &{name} [{', '.join([f'*{before}'] * 10)}]\n"
    with pytest.raises(ValueError, match=r"line \d: more than 100000 values with all aliases"):
        robot(written(tmp_path / "mine.yaml", text))


def test_an_anchor_that_is_used_elsewhere_is_welcome(tmp_path: Path) -> None:
    text = "base: feetech\njoints: &six [a, b, c, d, e, f]\noptions: {port: x, names: *six}\n"
    assert robot(written(tmp_path / "mine.yaml", text)).robot.options["names"] == list("abcdef")


def test_what_could_go_on_for_ever_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.yaml")
    for path in (tmp_path / "pipe.yaml", Path("/dev/zero")):
        with pytest.raises(ValueError, match="it is no file"):
            robot(path)
    with pytest.raises(ValueError, match="larger than any robot or task file"):
        robot(written(tmp_path / "mine.yaml", "#" * 2_000_000))


@pytest.mark.parametrize("value", ["'${'", "'a${robot.'", "'${robot.name}'"])
def test_a_half_written_reference_that_is_typed_is_one_sentence(value: str) -> None:
    with pytest.raises(
        ValueError, match=r"^robot\.name: (a reference .* in full|Recursive)"
    ) as raised:
        compose("control", ["robot=mujoco-arm", f"robot.name={value}"], ControlConfig)
    assert "\n" not in str(raised.value)


def test_a_circle_of_two_files_is_refused(tmp_path: Path) -> None:
    written(tmp_path / "a.yaml", "base: ./b.yaml\n")
    written(tmp_path / "b.yaml", "base: a.yaml\n")
    with pytest.raises(ValueError, match=r"form a circle: .*a\.yaml -> .*b\.yaml -> .*a\.yaml"):
        robot(tmp_path / "a.yaml")


@pytest.mark.parametrize("content", [b"\xff\xfe\x00x", b"a: \x00\n"])
def test_what_is_no_text_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "mine.yaml"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"mine\.yaml"):
        robot(path)
    with pytest.raises(ValueError, match="cannot be read as text"):
        robot(written(tmp_path / "folder.yaml" / "x", "").parent)


def test_a_task_needs_no_file_at_all() -> None:
    assert train("task=pointmaze-large").task.name == "pointmaze-large"
    assert train("task=hotloop.envs.pusht:PUSHT").task.name == "hotloop.envs.pusht:PUSHT"
    with pytest.raises(ValueError, match=r"no task of that name \(did you mean hopper\?\)"):
        train("task=hoper")


def test_a_policys_file_serves_teacher_and_student_alike(tmp_path: Path) -> None:
    policy = written(tmp_path / "p.yaml", "base: sdp\nmodel: {horizon: 33}\n")
    config = train(f"policy={policy}", "distill.teacher=outputs/teacher")
    assert config.distill.teacher == "outputs/teacher"
    with pytest.raises(ValueError, match=r"policy\.model\.horizon has no effect here"):
        train(f"policy={policy}", "distill.teacher=x", "policy.model.horizon=33")
