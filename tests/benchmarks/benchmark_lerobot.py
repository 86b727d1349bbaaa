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
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from lerobot.configs import FeatureType, PolicyFeature, PreTrainedConfig
from lerobot.policies import make_pre_post_processors
from lerobot.policies.factory import get_policy_class
from result_rows import Results

from hotloop.decoding import Executor
from hotloop.policies import load_checkpoint
from hotloop.policies.lerobot.given import Given

STATE, ENVIRONMENT, PICTURE = (
    "observation.state",
    "observation.environment_state",
    "observation.images.top",
)
HALF_RANGE = 256.0  # of every action
# Where LeRobot and diffusers draw noise.
DRAWS = ("torch.randn", "diffusers.schedulers.scheduling_ddpm.randn_tensor")
ENGINES = ("eager", "onnx", "openvino")


@dataclass(frozen=True)
class Case:
    """One policy of LeRobot.

    Attributes:
        type: LeRobot's name of its kind.
        settings: Its configuration, where it is not LeRobot's default.
        inputs: Shape of each feature that it reads.
        action_size: D.
        engines: hotloop's engines that are timed.
        bounds: What actions keep without being clipped: a sampler's are clipped by itself.
        share: Of the rounds that are asked for: slow cases take fewer.
    """

    type: str
    settings: Mapping[str, Any]
    inputs: Mapping[str, tuple[int, ...]]
    action_size: int = 2
    engines: tuple[str, ...] = ENGINES
    bounds: tuple[float, float] = (0.0, 512.0)
    share: float = 1.0

    def features(self) -> dict[str, dict[str, PolicyFeature]]:
        """What goes in and out, as LeRobot declares it."""
        kinds = {
            STATE: FeatureType.STATE,
            ENVIRONMENT: FeatureType.ENV,
            PICTURE: FeatureType.VISUAL,
        }
        inputs = {key: PolicyFeature(kinds[key], shape) for key, shape in self.inputs.items()}
        action = PolicyFeature(FeatureType.ACTION, (self.action_size,))
        return {"input_features": inputs, "output_features": {"action": action}}


SMALL = {"horizon": 16, "n_action_steps": 8, "down_dims": (64, 128, 256)}
LARGE = {**SMALL, "down_dims": (512, 1024, 2048)}
DDIM = {"noise_scheduler_type": "DDIM", "num_inference_steps": 10}
PUSHT = {STATE: (2,), ENVIRONMENT: (16,)}
CASES = {
    "unet-64-128-256-ddpm-100": Case("diffusion", SMALL, PUSHT, share=0.5),
    "unet-64-128-256-ddim-10": Case("diffusion", {**SMALL, **DDIM}, PUSHT),
    "unet-512-1024-2048-ddim-10": Case(
        "diffusion", {**LARGE, **DDIM}, PUSHT, engines=("openvino", "openvino-bf16"), share=0.5
    ),
    "act-480x640": Case(
        "act",
        {"pretrained_backbone_weights": None},
        {STATE: (14,), PICTURE: (3, 480, 640)},
        action_size=14,
        bounds=(-4864.0, 5376.0),
    ),
}


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
    policy = load_checkpoint(folder, given).policy(engine=engine)
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
                difference = np.abs(own - other).max() / HALF_RANGE
                inside = np.mean((other > 1e-3) & (other < 2 * HALF_RANGE - 1e-3))
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
                "difference": float(difference),
                "inside": float(inside),
                "parity": ours.parity,
            }
            del ours
            gc.collect()


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
