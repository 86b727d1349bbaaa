"""The score of a LeRobot folder on Push-T, by hotloop and by LeRobot's own `select_action`.

    python tests/benchmarks/score_lerobot.py FOLDER OUTPUT.json [--engine openvino] [--shared 5]

In an environment with LeRobot 0.6, its extra ``diffusion``, and hotloop's ``[pusht,runtime]``;
`train_lerobot.py` makes such a folder. All rows are of one training. hotloop's score is that of
``hotloop eval FOLDER task=pusht``: 50 episodes, test seeds from 100000. In the first episodes
(`shared`) LeRobot's policy acts, too, from the same initial states with the same noise, each in a
simulator of its own; `difference` is the largest of hotloop's actions from LeRobot's on what
LeRobot's policy sees, in units of half an action's range.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from benchmark_lerobot import DRAWS, HALF_RANGE, Noise
from lerobot.configs import PreTrainedConfig
from lerobot.policies import make_pre_post_processors
from lerobot.policies.factory import get_policy_class
from result_rows import Results

from hotloop.decoding import Executor
from hotloop.envs.registry import make_task
from hotloop.envs.rollout import evaluate
from hotloop.envs.statistics import summary
from hotloop.train.config.lerobot import LeRobotConfig, load_for_task

FIRST_SEED, NUM_EPISODES = 100_000, 50
CASES = {"pusht-ddim-10": ("ddim", 10), "pusht-ddpm-100": ("ddpm", 100)}
Frame = Mapping[str, np.ndarray]
Act = Callable[[Frame, int], np.ndarray]


def lerobot(folder: Path, update: str, calls: int, noise: Noise) -> Act:
    """LeRobot's policy; at step 0 it forgets."""
    config: Any = PreTrainedConfig.from_pretrained(folder)
    config.noise_scheduler_type, config.num_inference_steps = update.upper(), calls
    policy: Any = get_policy_class(config.type).from_pretrained(folder, config=config).eval()
    before, after = make_pre_post_processors(config, pretrained_path=str(folder))

    @torch.inference_mode()
    def act(frame: Frame, step: int) -> np.ndarray:
        if step == 0:
            policy.reset()
        noise.rewind(step)
        batch = before({key: torch.from_numpy(array) for key, array in frame.items()})
        return after(policy.select_action(batch)).numpy()[0]

    return act


def hotloop(policy: Any, noise: Noise) -> Act:
    """hotloop's policy of the same folder, likewise."""
    policy._noise, executor = noise, Executor(policy)

    def act(frame: Frame, step: int) -> np.ndarray:
        if step == 0:
            executor.reset([0])
        noise.rewind(step)
        return executor.act({key: array[None] for key, array in frame.items()})[0]

    return act


def episode(task: Any, seed: int, act: Act, other: Act | None = None) -> tuple[float, float]:
    """Score of an episode, and how far another's actions on the same frames are at most."""
    difference = 0.0
    with closing(task.make()) as env:
        frame, done, step = env.reset(seed), False, 0
        while not done:
            action = act(frame, step)
            if other is not None:
                difference = max(difference, np.abs(other(frame, step) - action).max() / HALF_RANGE)
            frame, _, done = env.step(action)
            step += 1
        return env.score, float(difference)


def measure(folder: Path, update: str, calls: int, engine: str, shared: int) -> dict[str, Any]:
    """A row: all episodes by hotloop, the first ones by both."""
    task, noise = make_task("pusht"), Noise()
    checkpoint = load_for_task(folder, LeRobotConfig(), task.action_spec)
    sampling = {"update": update, "calls_per_step": calls}
    evaluation = evaluate(
        checkpoint.policy(sampling, engine), task, range(FIRST_SEED, FIRST_SEED + NUM_EPISODES), 50
    )
    result = summary(evaluation)
    policy, own = checkpoint.policy(sampling, engine), []
    ours, theirs = hotloop(policy, noise), lerobot(folder, update, calls, noise)
    with ExitStack() as stack:
        for target in DRAWS:
            stack.enter_context(mock.patch(target, noise.theirs))
        seeds = range(FIRST_SEED, FIRST_SEED + shared)
        own = [episode(task, seed, ours)[0] for seed in seeds]
        other = [episode(task, seed, theirs, ours) for seed in seeds]
    return {
        "engine": engine,
        **{name: result[name] for name in ("n", "mean_score", "ci95", "pc_success")},
        "scores": [round(one.score, 4) for one in evaluation.episodes],
        "shared_scores": [round(score, 4) for score in own],
        "lerobot_scores": [round(score, 4) for score, _ in other],
        "difference": max((one for _, one in other), default=None),
    }


def main() -> None:
    """Measure what the file lacks."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--engine", default="openvino")
    parser.add_argument("--shared", type=int, default=5)
    parser.add_argument("--cases", nargs="+", default=list(CASES), choices=CASES)
    options = parser.parse_args()
    torch.set_num_threads(1)
    results = Results(options.output, silent={"scores"})
    for case in options.cases:
        if not results.has({"case": case}):
            row = measure(options.folder, *CASES[case], options.engine, options.shared)
            results.add({"case": case, "engine": options.engine}, row)


if __name__ == "__main__":
    main()
