"""LeRobot's policies in LeRobot and in hotloop: the same weights, the same noise, the same machine.

    python tests/benchmarks/benchmark_lerobot.py OUTPUT.json [--cases NAME ...] [--rounds 30]

In an environment with LeRobot 0.6, its extra ``diffusion``, and hotloop's ``[runtime]``. Each case
builds LeRobot's policy with random weights, saves it, and opens the folder as hotloop's policy on
every engine. Both answer the same observation with the same noise; then they take turns, one
thread, batch 1, at a control step that plans. LeRobot's time is that of `select_action` on a frame
that its preprocessor has normalised, and of its postprocessor; hotloop's is that of `Executor.act`,
normalisation and limits included. Differences are in units of half an action's range, over a whole
plan; `inside` is the share of its actions that are not at a bound, where all would be equal;
`parity` compares an engine with eager PyTorch.
"""

from __future__ import annotations

import argparse
import gc
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from lerobot.configs import PreTrainedConfig
from lerobot.policies import make_pre_post_processors
from lerobot.policies.factory import get_policy_class
from lerobot_cases import CASES, PICTURE, Case
from result_rows import Results

from hotloop.decoding import Executor
from hotloop.policies import load_checkpoint
from hotloop.policies.lerobot.given import Given
from hotloop.train.distillation.student import student_of

HALF_RANGE = 256.0  # of every action
# Where LeRobot and diffusers draw noise.
DRAWS = ("torch.randn", "diffusers.schedulers.scheduling_ddpm.randn_tensor")


class Noise:
    """The same numbers for both: LeRobot and diffusers draw them, hotloop's rows are filled."""

    def __init__(self) -> None:
        self._left: list[torch.Tensor] = []

    def rewind(self, seed: int = 0, shape: tuple[int, ...] = (16, 2), num: int = 101) -> None:
        """Begin again."""
        drawn = np.random.default_rng(seed).standard_normal((num, 1, *shape), np.float32)
        self._left = list(torch.from_numpy(drawn))

    def theirs(self, *_: object, **__: object) -> torch.Tensor:
        """The next ones, shape (1, H, D)."""
        return self._left.pop(0)

    def reset(self, *_: object) -> None:
        """As `RowNoise`."""

    def fill(self, rows: np.ndarray, out: np.ndarray) -> None:
        """As `RowNoise`."""
        del rows
        out[...] = self.theirs().numpy()

    def draw(self, rows: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """As `RowNoise`."""
        del rows
        return np.stack([self.theirs().numpy() for _ in range(shape[0])], axis=1)


@dataclass
class Contender:
    """One way to the next action.

    Attributes:
        begin: Starts an episode; not timed.
        act: The first control step, shape (D,).
        parity: Largest difference from eager PyTorch that its engine was built with.
        times: How long `act` took [s].
    """

    begin: Callable[[], None]
    act: Callable[[], np.ndarray]
    parity: float = 0.0
    times: list[float] = field(default_factory=list)


def statistics(case: Case) -> dict[str, dict[str, torch.Tensor]]:
    """Of data that nobody recorded: positions on a field of 512 pixels, pictures as ImageNet's."""
    vectors = {
        **{k: s[0] for k, s in case.inputs.items() if len(s) == 1},
        "action": case.action_size,
    }
    values = {"min": 0.0, "max": 512.0, "mean": 256.0, "std": 128.0}
    stats = {
        key: {name: torch.full((size,), value) for name, value in values.items()}
        for key, size in vectors.items()
    }
    if PICTURE in case.inputs:
        mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
        stats[PICTURE] = {"mean": mean.view(3, 1, 1), "std": std.view(3, 1, 1)}
    return stats


def frames(case: Case) -> dict[str, np.ndarray]:
    """One frame as hotloop's executor takes it."""
    rng = np.random.default_rng(0)
    return {
        key: rng.integers(0, 256, (1, *shape[1:], 3), np.uint8)
        if len(shape) == 3
        else rng.uniform(0, 512, (1, *shape)).astype(np.float32)
        for key, shape in case.inputs.items()
    }


def lerobot(case: Case, folder: Path) -> Contender:
    """LeRobot's policy, saved to `folder` as its training would."""
    config = PreTrainedConfig.get_choice_class(case.type)(
        **case.features(), **case.settings, device="cpu", push_to_hub=False
    )
    torch.manual_seed(0)
    policy = get_policy_class(case.type)(config).eval()
    if case.type == "diffusion":
        # Predictions of unit variance, as those of noise have after training. From smaller ones
        # every action ends at a bound, where all networks are equal.
        policy.diffusion.unet.final_conv[1].weight.data *= 3
    policy.save_pretrained(folder)
    before, after = make_pre_post_processors(config, dataset_stats=statistics(case))
    before.save_pretrained(folder)
    after.save_pretrained(folder)
    seen = {
        key: torch.from_numpy(array[0]).movedim(-1, 0).float() / 255
        if array.ndim == 4
        else torch.from_numpy(array[0])
        for key, array in frames(case).items()
    }
    batch = before(seen)

    @torch.inference_mode()
    def act() -> np.ndarray:
        return after(policy.select_action(dict(batch))).numpy()[0]

    return Contender(policy.reset, act)


def hotloop(case: Case, folder: Path, engine: str, noise: Noise) -> Contender:
    """The same folder in hotloop, with bounds that LeRobot's actions keep."""
    low, high = ((end,) * case.action_size for end in case.bounds)
    given = Given(dt=0.1, action_low=low, action_high=high)
    checkpoint = load_checkpoint(folder, given)
    if case.distilled:
        checkpoint = replace(checkpoint, model=student_of(checkpoint.model, seed=0))
    policy = checkpoint.policy({"calls_per_step": 1} if case.distilled else {}, engine=engine)
    executor, frame = Executor(policy), frames(case)
    if case.type == "diffusion":
        policy._noise = noise
    return Contender(
        lambda: executor.reset([0]), lambda: executor.act(frame)[0], parity=policy.parity
    )


def measure(case: Case, rounds: int) -> Iterator[dict[str, Any]]:
    """A row for each engine: hotloop's policy and LeRobot's, taking turns.

    Large networks fill the memory, so one engine is there at a time.
    """
    noise = Noise()
    with tempfile.TemporaryDirectory() as name:
        theirs = lerobot(case, Path(name))
        for engine in case.engines:
            theirs.times.clear()
            ours = hotloop(case, Path(name), engine, noise)
            with ExitStack() as stack:
                for target in DRAWS:
                    stack.enter_context(mock.patch(target, noise.theirs))
                own, other = chunk(ours, noise), chunk(theirs, noise)  # also the warm-up
                same = {} if case.distilled else agreement(own, other)
                for one in [ours, theirs] * max(round(rounds * case.share), 1):
                    step(one, noise)
            own, other = (1e3 * np.array(one.times[1:]) for one in (ours, theirs))
            yield {
                "engine": engine,
                "median_ms": float(np.median(own)),
                "p99_ms": float(np.quantile(own, 0.99)),
                "lerobot_median_ms": float(np.median(other)),
                "lerobot_p99_ms": float(np.quantile(other, 0.99)),
                "speedup": float(np.median(other) / np.median(own)),
                "rounds": len(own),
                **same,
                "parity": ours.parity,
            }
            del ours
            gc.collect()


def agreement(own: np.ndarray, other: np.ndarray) -> dict[str, float]:
    """How far two plans are apart, and how much of them is not at a bound."""
    inside = (other > 1e-3) & (other < 2 * HALF_RANGE - 1e-3)
    difference = np.abs(own - other).max() / HALF_RANGE
    return {"difference": float(difference), "inside": float(np.mean(inside))}


def chunk(contender: Contender, noise: Noise) -> np.ndarray:
    """The actions of the first plan, shape (8, D)."""
    return np.stack([step(contender, noise), *(contender.act() for _ in range(7))])


def step(contender: Contender, noise: Noise) -> np.ndarray:
    """The first control step of an episode, timed."""
    noise.rewind()
    contender.begin()
    began = time.perf_counter()
    action = contender.act()
    contender.times.append(time.perf_counter() - began)
    return action


def main() -> None:
    """Measure all cases that the file lacks."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("output", type=Path)
    parser.add_argument("--cases", nargs="+", default=list(CASES), choices=CASES)
    parser.add_argument("--rounds", type=int, default=30)
    options = parser.parse_args()
    torch.set_num_threads(1)
    results = Results(options.output)
    for name in options.cases:
        if results.has({"case": name}):
            continue
        for row in measure(CASES[name], options.rounds):
            results.add({"case": name, "engine": row["engine"]}, row)


if __name__ == "__main__":
    main()
