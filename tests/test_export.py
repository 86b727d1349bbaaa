"""Exported policies: the same actions, bit for bit, without PyTorch."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from tiny_joints import save_tiny

from hotloop.decoding import Executor, Policy
from hotloop.decoding.exported import ExportedPolicy
from hotloop.policies import load_checkpoint
from hotloop.policies.export.write import export_policy

STATE = "observation.state"
NUM_STEPS = 60


def export(folder: Path, kind: str, format_name: str = "onnx", **sampling) -> Path:
    """Export a tiny checkpoint; returns the exported folder beside it."""
    checkpoint = load_checkpoint(save_tiny(folder / "checkpoint", kind, **sampling))
    export_policy(checkpoint, folder / "out", format_name, num_steps=8)
    return folder / "out"


def frames(policy: Policy, seed: int = 0):
    """Observations of `NUM_STEPS` control steps, without an axis of rows."""
    generator = np.random.default_rng(seed)
    for _ in range(NUM_STEPS):
        yield {
            key: generator.integers(0, 256, shape, np.uint8)
            if len(shape) == 3
            else generator.uniform(-0.5, 0.5, shape).astype(np.float32)
            for key, shape in policy.observation_spec.shapes.items()
        }


def acted(policy: Policy, latency: int = 0) -> np.ndarray:
    executor = Executor(policy, latency=latency)
    executor.reset([7])
    return np.concatenate(
        [executor.act({k: v[None] for k, v in one.items()}) for one in frames(policy)]
    )


def runtime_of(folder: Path) -> ModuleType:
    """The runtime that lies in an exported folder."""
    spec = importlib.util.spec_from_file_location("hotloop_runtime", folder / "hotloop_runtime.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


CASES = {
    "dp": {"num_execute": 4, "calls_per_step": 3},
    "dp-ddpm": {"calls_per_step": 3, "update": "ddpm"},
    "dp-long": {"calls_per_step": 24, "update": "ddpm"},
    "sdp": {"num_execute": 2, "calls_per_step": 1},
    "sdp-zero": {"num_execute": 1, "calls_per_step": 2, "start": "zero"},
    "sdp-constant": {"start": "constant", "start_key": STATE, "calls_per_step": 1},
    "dp-image": {"calls_per_step": 2},
    "sdp-image": {"calls_per_step": 1},
}


@pytest.mark.parametrize("case", CASES)
def test_the_runtime_acts_bit_for_bit_as_the_engine_does(case, tmp_path) -> None:
    kind = case if case.endswith("image") else case.partition("-")[0]
    folder = export(tmp_path, kind, **CASES[case])
    policy = load_checkpoint(tmp_path / "checkpoint").policy(engine="onnx")
    expected = acted(policy)
    robot = runtime_of(folder).Runtime(folder)
    robot.reset(7)
    found = np.stack([robot.act(frame) for frame in frames(policy)])
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(acted(ExportedPolicy(folder)), expected)
    assert np.ptp(expected, axis=0).min() > 1e-3
