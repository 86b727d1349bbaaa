"""Evaluation of a checkpoint in its simulator."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from ..envs.registry import make_task
from ..envs.rollout import Evaluation
from ..envs.rollout import evaluate as run_episodes
from ..envs.task import Task
from ..envs.video import Video
from ..envs.workers import environments
from ..policies.checkpoint import Checkpoint
from ..policies.place import find_device
from ..policies.programs.engines.engine import engine_name
from .config.evaluation import EvalConfig
from .config.lerobot import load, load_for_task, refuse_unread
from .config.sampling import ran_on, sampled_policy
from .families import FAMILIES, family_of
from .training import RECORDED

DEFAULTS = EvalConfig()


def evaluate(name_or_path: str | Path, config: EvalConfig = DEFAULTS) -> Evaluation:
    """Run a checkpoint in its simulator, over many seeds.

    Args:
        name_or_path: An included checkpoint, a checkpoint's folder, or a run's.
        config: Episodes, sampling choices and engine; with ``eval.videos`` a ``video.mp4`` is
            written to ``output_dir``.

    Returns:
        Score and success of every episode, see `hotloop.envs.summary`.

    Raises:
        FileNotFoundError: If there is no such checkpoint.
        ValueError: If a sampling choice is unknown, or no simulator belongs to the checkpoint.
        ImportError: If the simulator is not installed.
        ChildProcessError: If a process that simulates ends before its time.
    """
    find_device(config.device)  # before anything is loaded
    engine = engine_name(config.engine, config.precision)
    torch.set_num_threads(config.num_threads)
    names = [name_or_path, *([config.compare] if config.compare else [])]
    refuse_unread(names, config.lerobot)
    if config.task:
        spec = make_task(config.task).action_spec
        checkpoint = load_for_task(name_or_path, config.lerobot, spec)
    else:
        checkpoint = load(name_or_path, config.lerobot)
    task = task_of(checkpoint, str(name_or_path), config)
    policy = sampled_policy(checkpoint.to(config.device), config.sampling, engine)
    comparison = None
    if checkpoint.kind in FAMILIES:  # one that nothing here trains can still be scored
        comparison = family_of(checkpoint.kind).comparison(policy)
    options, video = config.eval, None
    if options.videos:
        video = Video(Path(config.output_dir or ".") / "video.mp4", options.videos)
    side_by_side = min(options.batch_size or task.side_by_side, options.n_episodes)
    with environments(task, side_by_side, options.num_workers) as envs:
        evaluation = run_episodes(
            policy,
            task,
            range(options.seed, options.seed + options.n_episodes),
            envs,
            latency=options.latency,
            progress=Path(name_or_path).name,
            video=video,
        )
    run = {"engine_asked": engine, "engine": ran_on(policy, engine), "device": config.device}
    run |= {"threads": config.num_threads}
    if comparison is not None:
        run |= {"equal_tokens": comparison.share, "compared_tokens": comparison.num_tokens}
    return replace(evaluation, run=run)


def task_of(checkpoint: Checkpoint, name: str, config: EvalConfig) -> Task:
    """The task that an evaluation runs: the one that is chosen, or the checkpoint's own.

    Raises:
        ValueError: If no simulator belongs to it.
    """
    task = config.task or str(checkpoint.provenance.get("task") or "")
    if task == RECORDED:
        raise ValueError(
            f"{name} was trained on recordings of a robot, to which no simulator belongs; run it "
            f"with `hotloop control robot=… checkpoint={name}`, or name one with task=NAME"
        )
    if not task:
        raise ValueError(f"{name} does not say which task it was trained for; name it with task=…")
    return make_task(task)
