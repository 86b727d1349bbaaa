"""One distillation from the teacher's name to the parity report."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from ...policies.checkpoint import Checkpoint
from ...policies.programs.engines.engine import PRECISIONS, find_obstacle, is_auto
from ..config.compose import compose
from ..config.groups import merged
from ..config.parity import DistillOptions, ReportConfig
from ..config.training import TrainConfig
from ..processes import is_main_process
from ..resume import check_output
from ..training import demonstrations, train_on
from .method import Method
from .methods import method_of
from .page import write_report
from .parity import measure_parity
from .report import ParityReport
from .rollouts import check_source
from .student import load_teacher

FEW = (1, 2, 4)  # calls that students are measured with who learn jumps of any length
OWN = ("method", "calls", "report")
REPORT_FILE = "report.html"
# What is said in another way here than to `hotloop train`.
_ELSEWHERE = {
    "policy": "a student is of its teacher's kind; leave it out",
    "policy.kind": "a student is of its teacher's kind; leave it out",
    "distill.teacher": "the teacher is the first argument; leave it out",
    "distill.method": "write method=…",
    "distill.calls_per_step": "write calls=…",
}


@dataclass(frozen=True)
class Distillation:
    """What is to be done.

    Attributes:
        config: The student's run.
        method: How it learns.
        calls: Numbers of network calls that it is measured with; none for its own choice.
        report: What is measured; None for no report.
    """

    config: TrainConfig
    method: Method
    calls: tuple[int, ...]
    report: ReportConfig | None


def compose_distillation(teacher: str, overrides: Sequence[str] = ()) -> Distillation:
    """Build the configuration of a student's run from its teacher and what a user typed.

    What the teacher says of itself (kind, sizes, sampling, task) refines the shipped YAML, the
    method's own settings refine that, and what is typed wins.

    Args:
        teacher: Checkpoint to distil, by name or path.
        overrides: ``method=…``, ``calls=1,2,4``, ``report.…=…``, and what `hotloop train` takes.

    Raises:
        FileNotFoundError: If there is no such checkpoint.
        ValueError: If no method distils it, the method does not offer the calls, or a setting is
            unknown, or contradicts the teacher.
    """
    own, others = _sorted_out(overrides)
    options = compose("distill", own, DistillOptions)
    checkpoint = load_teacher(teacher)
    method = _method(teacher, checkpoint, options.method)
    calls = options.calls or _default_calls(method, checkpoint)
    method.check(checkpoint.kind, calls)
    _check_levels(teacher, checkpoint, calls)
    beneath = merged(_told(teacher, checkpoint, method, calls), method.settings)
    task = str(checkpoint.provenance.get("task") or "")
    if not task and not any(one.startswith(("task=", "task.name=")) for one in others):
        raise ValueError(
            f"{teacher} does not say which task it was trained for; name it with task=…"
        )
    chosen = [f"policy={checkpoint.kind}", *([f"task={task}"] if task else [])]
    config = compose("train", [*chosen, *others], TrainConfig, beneath=beneath)
    _check_task(teacher, checkpoint, config)
    method.check_student(config, checkpoint)
    check_source(config, checkpoint, method)
    report = ReportConfig() if options.report is True else options.report
    return Distillation(config, method, calls, report or None)


def run_distillation(work: Distillation) -> tuple[Path, ParityReport | None]:
    """Train the student, then compare it with its teacher.

    Args:
        work: What is to be done; with ``resume`` a finished run is only reported anew.

    Returns:
        Folder of the student's last checkpoint; and what the report says, on the main process.

    Raises:
        ValueError: As `train`, or if an engine cannot run here.
        FileExistsError: As `train`, or if the report would overwrite another file.
    """
    check_output(work.config)
    if work.report is not None:
        _check_engines(work.report.engines)
        _check_room(work.config)
    episodes, spec = demonstrations(work.config)
    folder = train_on(work.config, episodes, spec)
    if work.report is None or not is_main_process():
        return folder, None
    report = measure_parity(work.config, work.method, work.calls, work.report, folder, episodes)
    write_report(Path(work.config.output_dir) / REPORT_FILE, report)
    return folder, report


def _check_engines(engines: Sequence[str]) -> None:
    """Raise what an engine lacks that the report is to time, before hours of training."""
    for engine in engines:
        chosen_here = is_auto(engine) and (engine.partition("-")[2] or PRECISIONS[0]) in PRECISIONS
        if not chosen_here and (obstacle := find_obstacle(engine)):
            raise obstacle


def _check_room(config: TrainConfig) -> None:
    """Raise FileExistsError if a new run's report would overwrite what is none of its own."""
    page = Path(config.output_dir) / REPORT_FILE
    for path in () if config.resume else (page, page.with_suffix(".json")):
        if path.exists():
            raise FileExistsError(
                f"{path} exists, but {page.parent} is no run, and the report would overwrite it; "
                "choose another output_dir, or report=false"
            )


def _sorted_out(overrides: Sequence[str]) -> tuple[list[str], list[str]]:
    """Split what is typed into own settings and those of the training run."""
    own: list[str] = []
    others: list[str] = []
    for override in overrides:
        key, _, value = override.partition("=")
        if key in _ELSEWHERE:
            raise ValueError(f"{key} is not set here: {_ELSEWHERE[key]}")
        if key == "calls" and re.fullmatch(r"\d+(,\d+)*", value):
            own.append(f"calls=[{value}]")
        elif key.partition(".")[0] in OWN:
            own.append(override)
        else:
            others.append(override)
    return own, others


def _method(teacher: str, checkpoint: Checkpoint, name: str) -> Method:
    method = method_of(checkpoint.kind, name)
    if method is None:
        other = "; token policies are distilled as `hotloop jacobi --help` says"
        raise ValueError(
            f"{teacher} is a {checkpoint.kind}, which no method distils: `hotloop distill --list` "
            f"says what each does{other if checkpoint.kind == 'vla' else ''}"
        )
    return method


def _default_calls(method: Method, teacher: Checkpoint) -> tuple[int, ...]:
    """Numbers of calls that a method's students learn unless they are told otherwise."""
    if method.default_calls is not None:
        return method.default_calls(teacher)
    learned = getattr(method.config(), "calls_per_step", None)
    return (method.calls or FEW) if learned is None else tuple(learned)


def _check_levels(teacher: str, checkpoint: Checkpoint, calls: tuple[int, ...]) -> None:
    """Raise ValueError for more calls than there are noise levels, which nobody could measure."""
    num_levels = getattr(getattr(checkpoint.model, "config", None), "num_levels", None)
    if num_levels is not None and max(calls, default=1) > num_levels:
        raise ValueError(
            f"calls must be at most {num_levels}, the noise levels of {teacher}, got {max(calls)}"
        )


def _told(
    teacher: str, checkpoint: Checkpoint, method: Method, calls: tuple[int, ...]
) -> dict[str, Any]:
    """What the teacher says of its student's run."""
    distill: dict[str, Any] = {"teacher": teacher, "method": method.name}
    if "calls_per_step" in {field.name for field in fields(method.config)}:
        distill["calls_per_step"] = list(calls)
    policy = {
        "kind": checkpoint.kind,
        "model": checkpoint.model.config_dict(),
        "sampling": student_sampling(checkpoint.sampling, method, calls),
    }
    return {"policy": policy, "distill": distill, "output_dir": "outputs/distill"}


def student_sampling(sampling: Any, method: Method, calls: tuple[int, ...]) -> dict[str, Any]:
    """What a student does unless it is told otherwise: the fewest calls, else as its teacher."""
    stored = asdict(sampling)
    changed: Mapping[str, Any] = method.sampling
    if calls:
        changed = {**changed, "calls_per_step": min(calls)}
    return {**stored, **{name: value for name, value in changed.items() if name in stored}}


def _check_task(teacher: str, checkpoint: Checkpoint, config: TrainConfig) -> None:
    """Raise ValueError unless the run is of the teacher's task."""
    task = str(checkpoint.provenance.get("task") or config.task.name)
    if config.task.check and config.task.name != task:
        raise ValueError(
            f"{teacher} was trained for {task!r}, and its student is to be for "
            f"{config.task.name!r}; leave task out, or insist with task.check=false"
        )
