"""A student beside its teacher: the same episodes, engines and states."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ...decoding import ObservationSpec
from ...envs.registry import make_task
from ...envs.rollout import Evaluation, evaluate
from ...envs.workers import environments
from ...policies.checkpoint import Checkpoint, load_checkpoint
from ...policies.programs.engines.engine import installed_engines
from ..config.lerobot import LeRobotConfig, load_for_task
from ..config.parity import ReportConfig
from ..config.sampling import ran_on, sampled_policy
from ..config.training import TrainConfig
from ..data.episodes import Episodes
from ..families import family_of
from ..measure.diversity import Diversity, action_samples, compare_samples
from ..measure.executed import Watched, rms_jerk
from ..measure.latency import time_interleaved
from ..measure.provenance import measurement_header
from ..training import RECORDED
from .method import Method
from .report import ParityReport, Row

TEACHER, UNDISTILLED, STUDENT = "teacher", "not distilled", "student"


@dataclass
class Contender:
    """One way of running teacher or student, and what was measured of it.

    Attributes:
        role: ``TEACHER`` by its own choices, ``UNDISTILLED`` by its student's, or ``STUDENT``.
        checkpoint: Whose network.
        sampling: Choices that differ from the checkpoint's.
        num_calls: Network calls per plan.
        evaluation: Its episodes, where there is a simulator.
        jerk: Of the executed actions, see `rms_jerk`.
        latency: Durations of planning control steps by engine that was asked for [ms].
        engines: What ran on, by engine that was asked for.
        samples: Actions at fixed states, see `action_samples`.
    """

    role: str
    checkpoint: Checkpoint
    sampling: Mapping[str, Any]
    num_calls: float = 0
    evaluation: Evaluation | None = None
    jerk: float | None = None
    latency: dict[str, np.ndarray] = field(default_factory=dict)
    engines: dict[str, str] = field(default_factory=dict)
    samples: np.ndarray | None = None

    def policy(self, engine: str = "eager") -> Any:
        """Ready to act."""
        return sampled_policy(self.checkpoint, self.sampling, engine)

    @property
    def name(self) -> str:
        """Role and number of calls."""
        return f"{self.role}, {self.num_calls:g} call{'s' * (self.num_calls != 1)}"


def measure_parity(
    config: TrainConfig,
    method: Method,
    calls: Sequence[int],
    report: ReportConfig,
    folder: Path,
    episodes: Episodes,
) -> ParityReport:
    """Roll out, time and sample teacher and student.

    Args:
        config: The student's run.
        method: How it learned.
        calls: Numbers of network calls to measure; none for the student's own choice.
        report: How much is measured.
        folder: The student's checkpoint.
        episodes: Where the states come from.
    """
    student = load_checkpoint(folder)
    teacher = load_for_task(config.distill.teacher, LeRobotConfig(), student.action_spec)
    contenders = list(_contenders(teacher, student, calls, report))
    _count_calls(contenders)
    if config.task.name != RECORDED and report.episodes:
        _roll_out(contenders, config.task.name, report)
    for engine in report.engines or installed_engines():
        _time(contenders, engine, report.steps)
    _sample(contenders, episodes, report)
    return ParityReport(
        header=measurement_header(shlex.join(["hotloop", *sys.argv[1:]])),
        task=config.task.name,
        teacher=Path(config.distill.teacher).name,
        method=method.name,
        training=_training(config, teacher),
        rows=[_row(one, contenders[0]) for one in contenders],
        commands=_next_commands(config),
    )


def _contenders(
    teacher: Checkpoint, student: Checkpoint, calls: Sequence[int], report: ReportConfig
) -> Iterator[Contender]:
    """Teacher, teacher at few calls, student at few calls."""
    yield Contender(TEACHER, teacher, {})
    own = getattr(teacher.sampling, "calls_per_step", None)
    # Few steps are DDIM's: DDPM's noise would be all that is left of them.
    few = {"update": "ddim"} if hasattr(teacher.sampling, "update") else {}
    for num in calls if report.undistilled else ():
        if own is None or num < own:
            yield Contender(UNDISTILLED, teacher, {"calls_per_step": num, **few})
    for choices in [{"calls_per_step": num} for num in calls] or [{}]:
        yield Contender(STUDENT, student, choices)


def _count_calls(contenders: Sequence[Contender]) -> None:
    """Ask every policy what its plans cost."""
    for one in contenders:
        family, policy = family_of(one.checkpoint.kind), one.policy()
        timer = family.timer(policy, "eager", family.frames(one.checkpoint))
        one.num_calls = family.costs(policy, timer).num_calls


def _roll_out(contenders: Sequence[Contender], name: str, report: ReportConfig) -> None:
    """The same episodes for all."""
    task, seeds = make_task(name), range(report.seed, report.seed + report.episodes)
    with environments(task, min(task.side_by_side, len(seeds)), 0) as envs:
        for one in contenders:
            watched = Watched(one.policy())
            one.evaluation = evaluate(watched, task, seeds, envs, progress=one.name)
            one.jerk = rms_jerk(watched.episodes(one.evaluation), task.action_spec)


def _time(contenders: Sequence[Contender], engine: str, num_steps: int) -> None:
    """Control steps on one engine, in turns; nothing where the family does not run on it."""
    family = family_of(contenders[0].checkpoint.kind)
    if not family.runs_on(engine):
        return
    timers = []
    for one in contenders:
        policy = one.policy(engine)
        one.engines[engine] = ran_on(policy, engine)
        timers.append(family.timer(policy, one.engines[engine], family.frames(one.checkpoint)))
    time_interleaved(timers, num_steps, label=engine)
    for one, timer in zip(contenders, timers, strict=True):
        one.latency[engine] = timer.plan_ms


def _sample(contenders: Sequence[Contender], episodes: Episodes, report: ReportConfig) -> None:
    """Actions at states of the demonstrations; each policy draws with seeds of its own."""
    num_seeds = report.states * report.samples
    for index, one in enumerate(contenders):
        policy = one.policy()
        frames = states_of(episodes, policy.observation_spec, report.states)
        one.samples = action_samples(policy, frames, report.samples, seed=index * num_seeds)


def states_of(episodes: Episodes, spec: ObservationSpec, num_states: int) -> dict[str, np.ndarray]:
    """What a policy sees at states spread evenly over demonstrations.

    Returns:
        Newest frames by key, shape (S, To, *shape); rewards, which no state has yet, are 0.
    """
    chosen = np.linspace(0, episodes.num_steps, num_states, endpoint=False).astype(np.int64)
    first = episodes.episode_starts[np.searchsorted(episodes.episode_ends, chosen, side="right")]
    history = chosen[:, None] + np.arange(spec.num_steps) - (spec.num_steps - 1)
    history = np.maximum(history, first[:, None])
    frames: dict[str, np.ndarray] = {}
    for key, shape in spec.shapes.items():
        frames[key] = np.zeros((*history.shape, *shape), spec.dtype(key))
        if key in episodes.observations:
            frames[key][...] = episodes.observations[key][history]
    return frames


def _row(one: Contender, teacher: Contender) -> Row:
    diversity: Diversity | None = None
    if one is not teacher:
        assert one.samples is not None and teacher.samples is not None
        diversity = compare_samples(teacher.samples, one.samples)
    return Row(
        name=one.name,
        role=one.role,
        num_calls=one.num_calls,
        num_execute=one.policy().num_execute,
        evaluation=one.evaluation,
        jerk=one.jerk,
        latency=one.latency,
        engines=one.engines,
        diversity=diversity,
    )


def _training(config: TrainConfig, teacher: Checkpoint) -> dict[str, Any]:
    """What the student cost; samples beside the teacher's, where that says how many it took."""
    told = teacher.provenance
    own = config.steps * config.batch_size
    others = int(told.get("steps") or 0) * int(told.get("batch_size") or 0)
    return {
        "steps": config.steps,
        "batch_size": config.batch_size,
        "seed": config.seed,
        "samples_over_teacher": own / others if others else None,
    }


def _next_commands(config: TrainConfig) -> dict[str, str]:
    """What a user may type next."""
    folder, teacher = config.output_dir, config.distill.teacher
    if config.task.name == RECORDED:
        driven = shlex.join(["robot=MY_ROBOT.yaml", f"checkpoint={folder}"])
        return {f"hotloop control {driven}": "Run it on the robot"}
    compared = shlex.join([folder, f"compare={teacher}", "eval.n_episodes=200"])
    return {
        f"hotloop eval {compared}": "Compare both on more episodes",
        f"hotloop bench {shlex.join([teacher, folder])} threads=[1,2]": "Time both",
        f"hotloop export {shlex.quote(folder)} OUT": "Make it a graph that needs no PyTorch",
    }
