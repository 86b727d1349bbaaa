"""`hotloop distill`: from a teacher to its student, and what is said about both."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from test_report import Page
from tiny import write_pusht_file

from hotloop.envs.rollout import Episode, Evaluation
from hotloop.policies.checkpoint import load_checkpoint
from hotloop.policies.programs.engines import bound
from hotloop.train.cli import main
from hotloop.train.commands import ExitCode
from hotloop.train.distillation.methods import METHODS
from hotloop.train.distillation.page import render
from hotloop.train.distillation.report import ParityReport, Row
from hotloop.train.distillation.run import compose_distillation
from hotloop.train.measure.diversity import Diversity

pytest.importorskip("pymunk")
SMALL = ("policy.model.network.width=16", "policy.model.network.depth=1", "steps=2", "batch_size=8")
BRIEFLY = ("steps=2", "save_every=2", "batch_size=8", "report.engines=[eager]", "report.steps=2")
FEW = ("report.episodes=2", "report.states=2", "report.samples=4")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with demonstrations and a tiny teacher of Push-T."""
    folder = tmp_path_factory.mktemp("distill")
    data = write_pusht_file(folder / "demos.npz")
    run = [f"task.dataset={data}", f"output_dir={folder / 'teacher'}"]
    assert main(["train", "policy=sdp", *SMALL, *run]) == ExitCode.SUCCESS
    return folder


def distill(folder: Path, output: str, *overrides: str) -> int:
    data, run = f"task.dataset={folder / 'demos.npz'}", f"output_dir={folder / output}"
    return main(["distill", str(folder / "teacher"), data, run, *BRIEFLY, *FEW, *overrides])


def test_a_student_comes_with_its_report(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    visits = ("distill.num_visits=8", "distill.refresh_every=2")
    assert distill(folder, "student", "calls=1,2", *visits) == ExitCode.SUCCESS
    printed = capsys.readouterr().out
    student = load_checkpoint(folder / "student")
    assert (student.sampling.calls_per_step, student.sampling.update) == (1, "ddim")
    assert student.provenance["distill"]["calls_per_step"] == [1, 2]
    told = json.loads((folder / "student" / "report.json").read_text())
    assert told["sentence"] in printed and "report.html" in printed
    rows = told["rows"]
    assert [row["role"] for row in rows] == ["teacher", *2 * ["not distilled"], *2 * ["student"]]
    assert [row["num_calls"] for row in rows] == [rows[0]["num_calls"], 1, 2, 1, 2]
    assert all(row["scores"]["seeds"] == [100_000, 100_001] for row in rows)
    assert all(row["latency"]["eager"]["median_ms"] > 0 and row["jerk"] > 0 for row in rows)
    assert rows[0]["minus_teacher"] is None and rows[0]["diversity_ratio"] is None
    assert all(row["minus_teacher"]["num_episodes"] == 2 for row in rows[1:])
    assert all(row["diversity_ratio"] > 0 for row in rows[1:])
    page = Page((folder / "student" / "report.html").read_text(encoding="utf-8"))
    assert not page.links and told["sentence"] in page.text


def test_a_finished_student_is_only_reported_anew(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    visits = ("distill.num_visits=8", "distill.refresh_every=2", "report.undistilled=false")
    assert distill(folder, "again", "report=false", *visits[:2]) == ExitCode.SUCCESS
    assert not (folder / "again" / "report.json").exists()
    weights = (folder / "again/checkpoints/last/model.safetensors").read_bytes()
    assert distill(folder, "again", *visits) == ExitCode.USAGE
    assert "continue it with resume=true" in capsys.readouterr().err
    assert distill(folder, "again", "resume=true", *visits) == ExitCode.SUCCESS
    assert (folder / "again/checkpoints/last/model.safetensors").read_bytes() == weights
    rows = json.loads((folder / "again" / "report.json").read_text())["rows"]
    assert [row["role"] for row in rows] == ["teacher", "student", "student"]


def test_without_episodes_the_report_says_that_success_is_not_known(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And on which engine it ran where that was left to the machine, which has PyTorch alone."""
    monkeypatch.setattr(bound, "find_spec", lambda package: None)
    monkeypatch.setenv("HOTLOOP_CACHE", str(folder / "cache"))
    few = ("report.episodes=0", "distill.num_visits=8", "distill.refresh_every=2", "calls=1")
    few = (*few, "report.engines=[auto]")
    assert distill(folder, "unseen", *few) == ExitCode.SUCCESS
    told = json.loads((folder / "unseen" / "report.json").read_text())
    assert "what that does to its success was not measured" in told["sentence"]
    assert all(row["scores"] is None and row["jerk"] is None for row in told["rows"])
    assert all(row["latency"]["auto"]["engine"] == "eager" for row in told["rows"])
    assert "No episodes were run" in (folder / "unseen" / "report.html").read_text()


def test_kind_sizes_sampling_and_task_are_the_teachers(folder: Path) -> None:
    given = ("task.dataset=demos.npz", "calls=2,4", "seed=7", "report.engines=[onnx]")
    work = compose_distillation("pusht-sdp", given)
    teacher = load_checkpoint("pusht-sdp")
    assert work.config.policy.model == teacher.model.config  # type: ignore[attr-defined]
    expected = replace(teacher.sampling, calls_per_step=2, update="ddim", start_calls=None)
    assert work.config.policy.sampling == expected
    assert (work.config.task.name, work.config.seed, work.calls) == ("pusht", 7, (2, 4))
    assert work.config.task.keys["action"] == "action"
    assert work.report is not None and work.report.engines == ("onnx",)
    assert compose_distillation("pusht-sdp", [*given, "report=false"]).report is None
    fitted = compose_distillation("pusht-dp", ["task.dataset=demos.npz", "method=sampler"])
    assert fitted.config.steps == 300
    assert (
        compose_distillation(
            "pusht-dp", ["task.dataset=demos.npz", "method=sampler", "steps=7"]
        ).config.steps
        == 7
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "distill needs the teacher first, by name or path"),
        (["calls=1"], "distill needs the teacher first, by name or path"),
        (["--list", "pusht-dp"], "--list takes no other arguments"),
        (["pusht-nothing"], "no checkpoint at pusht-nothing"),
        (["tabletop-vla"], "which no method distils.*hotloop jacobi --help"),
        (["pusht-dp", "method=segmnt"], "segmnt"),
        (["pusht-dp", "method=guidance"], "distils diffuser.*not dp"),
        (
            ["pusht-dp", "method=mean-flow"],
            r"learned from \(pusht_lowdim.npz\); name them with task.dataset=PATH",
        ),
        (["pusht-dp", "task.dataset=gone.npz"], "gone.npz"),
        (["pusht-dp", "task=lift", "task.dataset=x"], "trained for 'pusht', and its.*'lift'"),
        (["pusht-dp", "calls=0", "task.dataset=x"], "calls must be at least 1, got 0"),
        (["pusht-dp", "calls=1,1", "task.dataset=x"], "each number once"),
        (["pusht-dp", "calls=few", "task.dataset=x"], "calls"),
        (["pusht-dp", "policy=sdp"], "a student is of its teacher's kind"),
        (["pusht-dp", "distill.calls_per_step=[1]"], "write calls="),
        (["pusht-dp", "report.episodes=-1"], "report.episodes must be at least 0"),
        (["pusht-dp", "report.episods=1"], "did you mean report.episodes"),
        (["pusht-dp", "stpes=1", "task.dataset=x"], "unknown key 'stpes'; did you mean steps"),
        (
            ["pusht-dp", "policy.model.network.width=9", "task.dataset=x"],
            "takes over its teacher's network",
        ),
        # What was once said only after hours of training, or of the teacher's episodes.
        (["pusht-dp", "task.dataset=x", "report.engines=[onxx]"], "there is no engine 'onxx'"),
        (["pusht-dp", "task.dataset=x", "report.engines=[auto-x]"], "engine 'auto-x' is chosen"),
        (["pusht-dp", f"report.seed={10**23}"], r"report\.seed must be below 2\^62, got 1e"),
        (["pusht-dp", f"seed={10**23}"], r"seed must be below 2\^62, got 1e"),
        (["pusht-dp", "policy.sampling.num_execute=99"], "num_execute must be between 1 and 16"),
        (["pusht-dp-fast"], "pusht-dp-fast is a student itself"),
        (["pusht-dp", "calls=121"], "must be at most 120, the noise levels of"),
        (["pusht-dp", "method=sampler", "calls=10"], "must be fewer than the 10 steps"),
        (
            ["pusht-sdp", "calls=1,9"],
            r"calls_per_step \[1, 9\] must be at most 8, the noise levels",
        ),
        (["pusht-dp", "method=mean-flow", "calls=1,500", "task.dataset=x"], "at most 120, the noi"),
        (["pusht-dp", "method=sampler", "distill.teacher_steps=0"], "must be at least 1, got 0"),
        (
            ["pusht-dp", "method=sampler", "distill.teacher_steps=121"],
            "teacher_steps must be at most 120",
        ),
        (
            ["pusht-sdp-latency", "distill.num_visits=1"],
            r"num_visits must be at least \d+, the lat",
        ),
        (["pusht-sdp", "save_every=7"], "save_every 7 must be a multiple of"),
    ],
)
def test_mistakes_are_told_before_anything_is_made(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["distill", *arguments]) == ExitCode.USAGE
    told = capsys.readouterr().err
    assert told.startswith("hotloop: error: ") and told.count("\n") == 1
    assert re.search(message, told), told
    assert list(tmp_path.iterdir()) == []


def test_a_report_that_is_not_the_run_s_own_is_not_written_over(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    visits = ("distill.num_visits=8", "distill.refresh_every=2")
    for name in ("report.html", "report.json"):
        (folder / name).mkdir()
        (folder / name / name).write_text("mine")
        assert distill(folder, name, *visits) == ExitCode.USAGE
        assert f"{name} exists, but" in capsys.readouterr().err
        assert [path.name for path in (folder / name).iterdir()] == [name]
        assert (folder / name / name).read_text() == "mine"


def test_a_teacher_may_lie_where_a_sweep_left_it(folder: Path) -> None:
    """And a student in a folder with blanks; the commands of its report can be pasted."""
    teacher, student = folder / "lr=0.1", folder / "my student"
    shutil.copytree(folder / "teacher", teacher, symlinks=True)
    few = (f"task.dataset={folder / 'demos.npz'}", f"output_dir={student}", *BRIEFLY, *FEW)
    few = (*few, "report.episodes=0", "distill.num_visits=8", "distill.refresh_every=2")
    assert main(["distill", str(teacher), *few, "calls=1"]) == ExitCode.SUCCESS
    page = Page((student / "report.html").read_text(encoding="utf-8"))
    assert f"hotloop eval '{student}' compare={teacher} eval.n_episodes=200" in page.text
    assert f"hotloop bench {teacher} '{student}' threads=[1,2]" in page.text


def test_the_list_names_every_method_with_cost_and_source(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["distill", "--list"]) == ExitCode.SUCCESS
    printed = capsys.readouterr().out
    for name in METHODS.included:
        method = METHODS.get(name)
        for text in (f"{name}: {method.summary}", method.cost, method.source, *method.teachers):
            assert text in printed


def row(role: str, calls: int, scores: list[float], ratio: float | None, ms: float) -> Row:
    episodes = [Episode(i, i, score, score > 0.9, 0, 0, 9) for i, score in enumerate(scores)]
    evaluation = Evaluation("pusht", "coverage", tuple(episodes), 1.0, 1.0)
    diversity = None if ratio is None else Diversity(ratio, 0.01, 2, 4)
    latency = {"eager": np.full(9, 5 * ms), "onnx": np.full(9, ms)}
    return Row(f"{role}, {calls}", role, calls, 8, evaluation, 1.0, latency, diversity)


def report(*students: Row) -> ParityReport:
    header = {
        "command": "hotloop distill <script>",
        "commit": None,
        "date": "2026-01-01",
        "processor": "CPU",
        "cores": 2,
        "versions": {"torch": "2"},
    }
    rows = [row("teacher", 10, [0.9] * 20, None, 1.0), *students]
    training = {"steps": 2, "batch_size": 8, "seed": 0, "samples_over_teacher": 0.5}
    return ParityReport(header, "pusht", "dp", "flow-map", training, rows)


EQUAL, WORSE, WILD = [0.9] * 20, [0.7, 0.8] * 10, [0.4] * 2 + [0.95] * 18


def test_the_sentence_is_of_the_fewest_calls_that_lose_nothing() -> None:
    told = report(
        row("student", 1, WORSE, 1.0, 0.1),
        row("student", 2, EQUAL, 0.9, 0.2),
        row("student", 4, EQUAL, 1.0, 0.4),
    )
    assert told.sentence == (
        "2 network calls per plan instead of 10, 5.0 times as fast (0.2 ms instead of 1 ms, onnx); "
        "score 0.900 instead of 0.900 (difference +0.000, 95 % interval +0.000 to +0.000): "
        "on a par."
    )


@pytest.mark.parametrize(
    ("scores", "ratio", "said"),
    [
        (WORSE, 1.0, "score 0.750 instead of 0.900 (difference -0.150"),
        (WORSE, 1.0, "): a loss."),
        (WILD, 1.0, "): not shown to be on a par."),
        (EQUAL, 0.79, "on a par; its actions are only 79% as varied as its teacher's, below 80%."),
    ],
)
def test_the_sentence_hides_no_loss(scores: list[float], ratio: float, said: str) -> None:
    told = report(row("student", 1, scores, ratio, 0.1))
    assert said in told.sentence
    assert told.sentence.startswith("1 network call per plan instead of 10, 10 times as fast")


def test_few_episodes_show_nothing() -> None:
    teacher, student = (row(role, 1, [0.9], 1.0, 0.1) for role in ("teacher", "student"))
    told = replace(report(), rows=[teacher, student])
    assert told.sentence.endswith("interval +0.000 to +0.000): not shown to be on a par.")


def test_a_collapsed_student_is_marked_whatever_its_score() -> None:
    told = report(row("student", 1, EQUAL, 0.5, 0.1), row("student", 4, WORSE, 1.0, 0.4))
    assert told.best.num_calls == 1, "no student is good, so the best score is told"
    page = Page(render(told))
    assert "0.50 less varied" in page.text and "1.00 less varied" not in page.text
    assert [one["collapsed"] for one in told.to_json()["rows"]] == [False, True, False]
    assert "hotloop distill <script>" in page.text and "script" not in page.tags
