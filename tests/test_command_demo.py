"""`hotloop demo` in miniature: every stage runs, the report is complete, a miss is told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hotloop.train.cli import main
from hotloop.train.commands import ExitCode
from hotloop.train.demo import run as demo
from hotloop.train.demo.side_by_side import Training
from hotloop.train.demo.texts import measured_before

pytest.importorskip("mujoco")


def train_here(folder: Path, chains: list[list[Training]]) -> None:
    """Run the trainings in this process: two more imports of PyTorch would take longer."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for training in (one for chain in chains for one in chain):
            assert main(training.arguments) == ExitCode.SUCCESS


def test_a_demo_that_misses_its_goal_reports_every_row_and_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in {
        "NUM_DEMONSTRATIONS": 2,
        "STEPS": 4,
        "DISTILLATION_STEPS": 2,
        "NUM_PATHS": 2,
        "NUM_LATENCIES": 2,
    }.items():
        monkeypatch.setattr(demo, name, value)
    monkeypatch.setattr(demo, "train_side_by_side", train_here)
    code = main(["demo", "--output-dir", str(tmp_path / "demo"), "--num-episodes", "1"])
    said = capsys.readouterr()
    assert code == ExitCode.FAILED, said.err
    assert "report.html" in said.out
    html = (tmp_path / "demo" / "report.html").read_text()
    assert html.count("<svg") == 6 + 1 + 4  # paths, latencies, scores against latencies
    assert "data:video/mp4;base64," in html
    report = json.loads((tmp_path / "demo" / "report.json").read_text())
    names = [one.name for one in demo.CONTENDERS]
    assert [row["name"] for row in report["rows"]] == names
    assert list(report["panels"]) == ["Demonstrations", *names]
    assert all(0 <= row["success"] <= 1 and row["median_ms"] > 0 for row in report["rows"])
    assert all(len(panel["paths"]) == 2 for panel in report["panels"].values())
    assert 0 < report["seconds"]["training"] < report["seconds"]["everything"]


def test_a_folder_with_files_is_left_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.txt").write_text("keep")
    assert main(["demo", "--output-dir", str(tmp_path)]) == ExitCode.USAGE
    assert "is not empty; choose another output_dir" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize("wrong", [("--seed", "-1"), ("--num-episodes", "0")])
def test_numbers_out_of_range_are_told_before_anything_is_made(
    wrong: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["demo", "--output-dir", str(tmp_path / "new"), *wrong]) == ExitCode.USAGE
    assert "seed must be at least 0 and num_episodes at least 1" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_no_policy_is_evaluated_where_it_was_trained() -> None:
    demonstrations = {
        demo.FIRST_DEMONSTRATION + demo.NUM_DEMONSTRATIONS * seed + one
        for seed in range(3)
        for one in range(demo.NUM_DEMONSTRATIONS)
    }
    assert len(demonstrations) == 3 * demo.NUM_DEMONSTRATIONS
    assert demonstrations.isdisjoint(range(demo.FIRST_EPISODE, demo.FIRST_EPISODE + 10_000))


def test_both_policies_are_trained_for_as_many_steps() -> None:
    first, second = demo.trainings(seed=0)
    assert sum(one.steps for one in first) == sum(one.steps for one in second)


def test_what_was_measured_before_names_checkpoints_of_the_package_and_its_source() -> None:
    push_t, hopper, tabletop = measured_before()
    assert "pusht-sdp" in push_t.source
    assert "hopper-trajectory-diffuser" in hopper.source
    assert "tabletop-vla" in tabletop.source
    for one in (push_t, hopper, tabletop):
        assert "AMD EPYC" in one.source
        assert len({point.series for point in one.points}) == 3
        for point in one.points:
            assert one.shown[0] <= point.score <= one.shown[1]
            assert point.interval[0] <= point.score <= point.interval[1]
