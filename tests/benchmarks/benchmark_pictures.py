"""Control steps of policies that see, from the picture to the action, on every engine.

    python tests/benchmarks/benchmark_pictures.py OUTPUT.json [--engines onnx] [--steps 200]

Random weights of the default network, random pictures, one row, one thread; DP with ten calls and
SDP with one, with each picture encoder. All contenders of an engine take turns. Beside a control
step that plans stand the encoder alone and the encoder with one call of the network, by the same
engine: ``overhead`` is what a step of one call takes beyond them. With PyTorch, the runs of the
encoder are counted.
"""

from __future__ import annotations

import argparse
import json
import math
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hotloop.decoding import ActionSpec, Executor
from hotloop.decoding.plumbing.files import write_text
from hotloop.policies.diffusion.config import DiffusionSampling, ModelConfig, StreamingSampling
from hotloop.policies.diffusion.encoding import frame_program
from hotloop.policies.diffusion.model import DiffusionModel
from hotloop.policies.diffusion.policy import DiffusionPolicy
from hotloop.policies.diffusion.reverse import bare_forward
from hotloop.policies.diffusion.streaming import StreamingDiffusionPolicy
from hotloop.policies.networks.config import EncoderConfig
from hotloop.policies.programs.engines.engine import installed_engines, make_engine
from hotloop.train.measure.latency import NUM_BLOCKS, ControlStepTimer, undisturbed
from hotloop.train.measure.provenance import measurement_header

# Pictures and vectors of the tasks: one camera of 96 px, two of 84 px.
SHAPES: dict[str, dict[str, tuple[int, ...]]] = {
    "pusht-image": {"observation.image": (96, 96, 3), "observation.state": (2,)},
    "lift-image": {
        "observation.agentview_image": (84, 84, 3),
        "observation.robot0_eye_in_hand_image": (84, 84, 3),
        "observation.robot0_eef_pos": (3,),
        "observation.robot0_eef_quat": (4,),
        "observation.robot0_gripper_qpos": (2,),
    },
}
CROPS = {"pusht-image": (84, 84), "lift-image": (76, 76)}
ACTION_SIZES = {"pusht-image": 2, "lift-image": 7}
ENCODERS = ("conv", "resnet18")
POLICIES = ("dp-10", "sdp-1")
NUM_EXECUTE = 8


def make_policy(task: str, encoder: str, policy: str, engine: str) -> Any:
    """A policy with random weights."""
    config = ModelConfig(
        ladders=("8x2",) if policy == "sdp-1" else (),
        encoder=EncoderConfig(encoder, crop=CROPS[task]),
    )
    size = ACTION_SIZES[task]
    spec = ActionSpec(tuple(f"a{i}" for i in range(size)), (-1.0,) * size, (1.0,) * size, 0.1)
    torch.manual_seed(0)
    model = DiffusionModel(config, SHAPES[task], size).eval()
    if policy == "sdp-1":
        sampling = StreamingSampling(NUM_EXECUTE, 1)
        return StreamingDiffusionPolicy(model, spec, sampling, engine)
    return DiffusionPolicy(model, spec, DiffusionSampling(NUM_EXECUTE, 10), engine)


class Contender:
    """One row: a policy's control step, and the encoder alone beside it.

    Args:
        task: Whose pictures.
        encoder: Kind of picture encoder.
        policy: One of `POLICIES`.
        engine: What runs it.
    """

    def __init__(self, task: str, encoder: str, policy: str, engine: str) -> None:
        self.key = {"task": task, "encoder": encoder, "policy": policy, "engine": engine}
        self.policy = make_policy(task, encoder, policy, engine)
        model = self.policy.model
        level = np.full(model.config.horizon, model.config.num_levels)
        forward = make_engine(engine, bare_forward(model, level)).memory(1).run
        self._encode = make_engine(engine, frame_program(model)).memory(1).run
        self._timer = ControlStepTimer(self.policy, forward)
        self._encode_blocks: list[list[float]] = []

    def run_block(self, num_plans: int) -> None:
        """Time some plans, as many calls of the network, and as many runs of the encoder."""
        self._timer.run_block(num_plans)
        self._encode()
        timed = len(self._timer.plan_blocks[-1])
        self._encode_blocks.append([_milliseconds(self._encode) for _ in range(timed)])

    def row(self) -> dict[str, Any]:
        """Milliseconds, and what they are made of; compared block by block as machines drift."""
        num_calls = self.policy.program.num_calls
        plans, encodes = (
            np.array([np.median(block) for block in blocks])
            for blocks in (self._timer.plan_blocks, self._encode_blocks)
        )
        median = float(np.median(self._timer.plan_ms))
        return {
            **self.key,
            "num_calls": num_calls,
            "median_ms": median,
            "p99_ms": float(np.quantile(self._timer.plan_ms, 0.99)),
            "control_rate_hz": 1000 / median,
            "per_action_ms": float(np.median(self._timer.action_ms)),
            "encoder_ms": float(np.median(encodes)),
            "encoder_share": float(np.median(encodes / plans)),
            "encoder_and_call_ms": float(np.median(self._timer.forward_ms)),
            # What else is done per plan; more calls than one are no overhead.
            "overhead": self._timer.overhead(1) if num_calls == 1 else None,
            "parity_max_abs": self.policy.parity,
            "n": len(self._timer.plan_ms),
        }


def encoder_runs(task: str, encoder: str, policy: str) -> dict[str, Any]:
    """How often PyTorch runs the encoder: in a control step that plans, and in all of a chunk."""
    contender = make_policy(task, encoder, policy, "eager")
    runs: list[int] = []
    contender.model.vision.register_forward_hook(lambda *_: runs.append(1))
    rng, executor = np.random.default_rng(0), Executor(contender)
    executor.reset([0])
    counts = []
    for _ in range(4 * NUM_EXECUTE):
        frame = {
            key: rng.integers(0, 256, (1, *shape)).astype(np.uint8 if len(shape) == 3 else "f4")
            for key, shape in SHAPES[task].items()
        }
        runs.clear()
        executor.act(frame)
        counts.append(len(runs))
    steps = counts[2 * NUM_EXECUTE : 3 * NUM_EXECUTE]  # the first plan may take more
    return {"planning_step": steps[0], "steps_of_a_chunk": steps}


def measure(
    engine: str, chosen: Sequence[tuple[str, str, str]], num_steps: int
) -> Iterator[dict[str, Any]]:
    """Rows of one engine, whose contenders take turns."""
    contenders = [Contender(*names, engine) for names in chosen]
    num_blocks = min(NUM_BLOCKS, num_steps)
    with undisturbed():
        for _ in range(num_blocks):
            for contender in contenders:
                contender.run_block(math.ceil(num_steps / num_blocks))
    for contender in contenders:
        yield contender.row()


def format_table(rows: list[dict[str, Any]]) -> str:
    """Markdown for the results page."""
    lines = [
        "| pictures | encoder | policy | engine | median / p99 [ms] | rate [Hz] | encoder [ms] | "
        "overhead |",
        "|---" * 8 + "|",
    ]
    for row in rows:
        lines.append(
            f"| {row['task']} | {row['encoder']} | {row['policy']} | {row['engine']} | "
            f"{row['median_ms']:.2f} / {row['p99_ms']:.2f} | {row['control_rate_hz']:.0f} | "
            f"{row['encoder_ms']:.2f} ({row['encoder_share']:.0%}) | "
            f"{'' if row['overhead'] is None else format(row['overhead'], '.0%')} |"
        )
    return "\n".join(lines)


def _milliseconds(call: Callable[[], object]) -> float:
    start = time.perf_counter_ns()
    call()
    return (time.perf_counter_ns() - start) / 1e6


def main() -> None:
    """Measure every engine and write the rows."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("output", type=Path)
    parser.add_argument("--engines", nargs="+", default=list(installed_engines()))
    parser.add_argument("--encoders", nargs="+", default=list(ENCODERS), choices=ENCODERS)
    parser.add_argument("--steps", type=int, default=200)
    args = parser.parse_args()
    torch.set_num_threads(1)
    result = measurement_header(shlex.join(["python", *sys.argv])) | {"threads": 1}
    chosen = [
        (task, encoder, policy)
        for task in SHAPES
        for encoder in args.encoders
        for policy in POLICIES
    ]
    result["encoder_runs"] = {", ".join(names): encoder_runs(*names) for names in chosen}
    result["rows"] = []
    for engine in args.engines:
        result["rows"] += measure(engine, chosen, args.steps)
        write_text(args.output, json.dumps(result, indent=1) + "\n")
    print(format_table(result["rows"]))


if __name__ == "__main__":
    main()
