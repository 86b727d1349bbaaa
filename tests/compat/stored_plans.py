"""Record what the stored checkpoints do, and compare two versions of hotloop bit for bit.

    git worktree add ../old/hotloop 79f0633
    PYTHONPATH=../old python tests/compat/stored_plans.py record old.npz
    python tests/compat/stored_plans.py compare old.npz [PART]

Each included checkpoint is driven by an `Executor` on seeded frames, with several sampling choices
and engines. `compare` lists every case whose actions differ in any bit, and then exits with 1. A
case that only one side can run is a difference too. Real-time chunking, a choice that no checkpoint
stores, is compared up to rounding. PART picks cases by a part of their names,
``checkpoint/engine/case``, e.g. ``eager``. Run both on one machine with one thread
(OMP_NUM_THREADS=1): other processors multiply matrices in another order. The script only needs
`load_checkpoint` and `Executor`, and spells choices as old versions did where it has to, so that it
runs unchanged in all of them.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hotloop import policies
from hotloop.decoding import Executor
from hotloop.policies import load_checkpoint

CHECKPOINTS = Path(policies.__file__).parent / "checkpoints"
NUM_STEPS, NUM_ROWS, RESET_STEP = 18, 2, 4
OLD_NAMES = {"calls_per_step": "refine_steps", "max_calls": "max_forwards"}
# What a chosen None was called before it was None.
OLD_ALL = 0
# Real-time chunking adds its terms in another order since it takes the same step as the others.
REORDERED, ROUNDING = "/rtc_", 1e-6

Choices = dict[str, Any]

DP: dict[str, Choices] = {
    "as_stored": {},
    "all_calls": {"calls_per_step": None},
    "1_call": {"calls_per_step": 1},
    "3_calls_ddpm": {"calls_per_step": 3, "update": "ddpm", "num_execute": 3},
    "late": {"latency": 2, "num_execute": 4},
    "rtc_vjp": {"prefix_guidance": "vjp", "calls_per_step": 4, "num_execute": 3, "latency": 2},
    "rtc_identity": {"prefix_guidance": "identity", "num_execute": 2, "latency": 1},
}
SDP: dict[str, Choices] = {
    "as_stored": {},
    "all_calls": {"calls_per_step": None, "num_execute": 8},
    "1_call_1x15": {"calls_per_step": 1, "num_execute": 1},
    "2_calls_2x8": {"calls_per_step": 2, "num_execute": 2},
    "3_calls_ddpm": {"calls_per_step": 3, "update": "ddpm", "num_execute": 2},
    "zero": {"start": "zero", "num_execute": 2},
    "constant": {"start": "constant", "start_key": "observation.state", "num_execute": 1},
    "start_calls": {"start": "denoise", "start_calls": 5, "num_execute": 2},
    "late_1": {"latency": 1, "num_execute": 4},
    "late_3": {"latency": 3, "num_execute": 4, "start": "zero"},
}
PLANNER: dict[str, Choices] = {
    "as_stored": {},
    "noise": {"draft": "noise", "calls_per_step": 4, "reuse": 0},
    "ddpm": {"calls_per_step": 3, "update": "ddpm", "temperature": 0.5},
    "several": {"num_execute": 3, "candidates": 2},
    "late": {"latency": 1, "num_execute": 2},
}
ROLLOUT: dict[str, Choices] = {
    "draft": {"calls_per_step": 0},
    "fresh": {"reuse": 0},
    "sweeps": {"sweeps": 2, "num_execute": 2, "return_floor": 0.9},
    "refined": {"calls_per_step": 3, "draft_level": 20, "add_noise": False},
    "critic": {"select": "critic", "candidates": 4, "calls_per_step": 2},
}
VLA: dict[str, Choices] = {
    "as_stored": {},
    "greedy": {"method": "greedy", "max_calls": 0},
    "jacobi": {"method": "jacobi", "max_calls": 0, "num_execute": 3},
    "random": {"guess": "random", "max_calls": 2, "num_execute": 2},
    "repeat": {"guess": "repeat", "max_calls": 1, "num_execute": 2},
    "still": {"max_calls": 0, "max_move": 0.05, "num_execute": 2},
    "hold": {"unverified": "hold", "max_calls": 1, "num_execute": 4},
    "apart": {"fused": False, "num_execute": 4},
    "recomputed": {"cached": False, "num_execute": 4},
}
ONNX_CASES = ("as_stored", "all_calls", "2_calls_2x8", "late_1", "3_calls_ddpm", "ddpm", "draft")


def cases_of(name: str, kind: str) -> dict[str, Choices]:
    """The sampling choices that are tried on one checkpoint."""
    if kind in ("dp", "sdp"):
        return DP if kind == "dp" else SDP
    if kind == "vla":
        return VLA
    has_drafter = "trajectory" in name
    cases = PLANNER | (ROLLOUT if has_drafter else {})
    if name.startswith("hopper"):
        return cases
    # In a maze there is a goal, no return: no critic learns one, and nothing asks for one.
    return {
        case: {name: value for name, value in choices.items() if name != "return_floor"}
        for case, choices in cases.items()
        if case != "critic"
    }


def old_spelling(choices: Choices, known: set[str]) -> Choices:
    """The same choices as versions before the glossary wrote them."""
    spelled = {name if name in known else OLD_NAMES[name]: v for name, v in choices.items()}
    return {name: OLD_ALL if value is None else value for name, value in spelled.items()}


def make_policy(checkpoint: Any, choices: Choices, engine: str) -> Any:
    known = set(vars(checkpoint.sampling))
    if "calls_per_step" in choices or "max_calls" in choices:
        try:
            return checkpoint.policy(choices, engine)
        except (TypeError, ValueError):
            return checkpoint.policy(old_spelling(choices, known), engine)
    return checkpoint.policy(choices, engine)


def make_frames(name: str, checkpoint: Any) -> list[dict[str, np.ndarray]]:
    """Frames that wander near the training data, shape (R, *shape) per key."""
    rng = np.random.default_rng(sum(name.encode()))
    shapes = checkpoint.policy().observation_spec.shapes
    if checkpoint.kind == "vla":
        return [language_frame(rng, shapes, checkpoint) for _ in range(NUM_STEPS)]
    normalizer = checkpoint.model.observation_normalizer
    scale, offset = normalizer.scale.numpy(), normalizer.offset.numpy()
    centre, spread = -offset / scale, 0.5 / scale
    start, sizes = {}, {key: int(np.prod(shape)) for key, shape in shapes.items()}
    for key, size in sizes.items():
        noise = rng.standard_normal((NUM_ROWS, size))
        start[key] = np.resize(centre, size) + np.resize(spread, size) * noise
    frames = []
    for _ in range(NUM_STEPS):
        frame = {}
        for key, value in start.items():
            noise = rng.standard_normal(value.shape)
            moved = value + 0.05 * np.resize(spread, sizes[key]) * noise
            frame[key] = moved.reshape(NUM_ROWS, *shapes[key]).astype(np.float32)
        frames.append(frame)
    return frames


def language_frame(rng: np.random.Generator, shapes: Any, checkpoint: Any) -> dict[str, np.ndarray]:
    text = b"reach the red target"
    frame = {}
    for key, shape in shapes.items():
        if key == "observation.instruction":
            value = np.zeros((NUM_ROWS, *shape))
            value[:, : len(text)] = list(text)
        elif len(shape) == 3:
            value = rng.integers(0, 256, (NUM_ROWS, *shape))
        else:
            state = checkpoint.model.config.state
            value = rng.uniform(state.low, state.high, (NUM_ROWS, *shape))
        frame[key] = value.astype(np.float32)
    return frame


def drive(policy: Any, frames: list[dict[str, np.ndarray]], latency: int) -> np.ndarray:
    """Actions of all steps, shape (steps, R, D); one row starts again in the middle."""
    executor = Executor(policy, latency=latency)
    executor.reset(np.arange(NUM_ROWS) + 5)
    actions = []
    for step, frame in enumerate(frames):
        if step == RESET_STEP:
            executor.reset([99], rows=np.array([1]))
        actions.append(executor.act(frame))
    return np.array(actions)


def record(part: str) -> dict[str, np.ndarray]:
    """Actions by ``checkpoint/engine/case``; of a case that cannot run, what it raises."""
    found: dict[str, np.ndarray] = {}
    for folder in sorted(CHECKPOINTS.iterdir()):
        name = folder.name
        checkpoint = load_checkpoint(name)
        frames = make_frames(name, checkpoint)
        for engine in ("eager",) if checkpoint.kind == "vla" else ("eager", "onnx"):
            for case, all_choices in cases_of(name, checkpoint.kind).items():
                key = f"{name}/{engine}/{case}"
                if part not in key or (engine == "onnx" and case not in ONNX_CASES):
                    continue
                choices = dict(all_choices)
                latency = choices.pop("latency", 0)
                started = time.perf_counter()
                policy = make_policy(checkpoint, choices, engine)
                try:
                    found[key] = drive(policy, frames, latency)
                except ValueError as error:
                    found[key] = np.array(type(error).__name__)
                seconds = time.perf_counter() - started
                print(f"{key}: {found[key].shape or found[key]} in {seconds:.1f} s", flush=True)
    return found


def differing(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> dict[str, str]:
    """Cases that are not the same in every bit, and by how much."""
    wrong: dict[str, str] = {}
    for key in sorted(found.keys() | expected.keys()):
        if key not in found or key not in expected:
            wrong[key] = f"only in the {'record' if key in expected else 'present version'}"
        elif found[key].dtype != expected[key].dtype or found[key].shape != expected[key].shape:
            wrong[key] = f"{found[key]} instead of {expected[key]}"
        elif found[key].tobytes() != expected[key].tobytes():
            difference = np.abs(found[key] - expected[key]).max()
            if REORDERED not in key or difference > ROUNDING * np.abs(expected[key]).max():
                wrong[key] = f"largest difference {difference:.3g}"
    return wrong


def main(command: str, path: str, part: str = "") -> int:
    torch.set_num_threads(1)
    if command == "record":
        np.savez(path, **record(part))
        return 0
    with np.load(path, allow_pickle=False) as stored:
        expected = {key: value for key, value in stored.items() if part in key}
    wrong = differing(record(part), expected)
    print(json.dumps(wrong, indent=2) if wrong else "every case is the same in every bit")
    return 1 if wrong else 0


if __name__ == "__main__":
    if len(sys.argv) not in (3, 4) or sys.argv[1] not in ("record", "compare"):
        sys.exit("usage: python tests/compat/stored_plans.py (record | compare) FILE.npz [PART]")
    sys.exit(main(*sys.argv[1:]))
