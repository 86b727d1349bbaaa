"""Policies on another device run there wholly, and plan what they plan on the CPU.

The other device is `SecondDevice`, so that a machine without a GPU notices what a GPU would refuse.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_vla
import torch
from second_device import DEVICE, SecondDevice
from test_fitted_sampler import FOUR, fitted_model
from test_pictures import OTHERS, SAMPLING, seeing
from test_pictures import SPEC as SEEING_SPEC
from test_planner import POLICIES as PLANNERS
from test_vla_policy import DECODINGS
from tiny import SPEC, tiny_model
from tiny_act import tiny_act
from tiny_planner import SPEC as PLANNER_SPEC
from tiny_planner import tiny_planner

from hotloop.decoding import ActionSpec, Policy
from hotloop.decoding.conformance import PolicyConformance
from hotloop.decoding.instruction import INSTRUCTION_KEY, encode_instruction
from hotloop.policies.act.config import ActSampling
from hotloop.policies.checkpoint import Checkpoint, load_checkpoint
from hotloop.policies.diffusion.config import DiffusionSampling, StreamingSampling
from hotloop.policies.place import find_device, moved, place_of
from hotloop.policies.programs.engines.engine import make_engine
from hotloop.real_robot.config import PolicyOptions
from hotloop.train.cli import main
from hotloop.train.commands.opening import open_policy
from hotloop.train.processes import check_place

DENOISE: dict[str, Any] = {"start": "denoise"}
ZERO: dict[str, Any] = {"start": "zero"}
CONSTANT: dict[str, Any] = {"start": "constant", "start_key": "observation.position"}
DIFFUSION: dict[str, tuple[dict[str, Any], DiffusionSampling]] = {
    "all calls": ({}, DiffusionSampling(4, 3)),
    "ancestral": ({"prediction": "epsilon"}, DiffusionSampling(4, 3, "ddpm")),
    "student": ({"jump": True}, DiffusionSampling(4, 1)),
    "chunking": ({}, DiffusionSampling(4, 3, prefix_guidance="identity")),
    "guided chunking": ({"jump": True}, DiffusionSampling(4, 3, prefix_guidance="vjp")),
}
STREAMING: dict[str, tuple[dict[str, Any], StreamingSampling]] = {
    f"{start['start']}, chunks of {chunk}{', late' * late}": (
        {"max_latency": late, "num_obs_steps": 4, "horizon": 12},
        StreamingSampling(chunk, 1, update, **start),
    )
    for start in (DENOISE, ZERO, CONSTANT)
    for chunk, late, update in ((1, 0, "ddim"), (2, 1, "ddpm"), (4, 0, "ddim"), (8, 0, "ddpm"))
}
CASES: dict[str, tuple[str, Any, ActionSpec, Any]] = {}
for name, (choices, sampling) in DIFFUSION.items():
    CASES[f"dp, {name}"] = "dp", (tiny_model, choices), SPEC, sampling
CASES["dp, fitted"] = "dp", (fitted_model, {}), SPEC, FOUR
CASES["dp, fitted student"] = "dp", (fitted_model, {"jump": True}), SPEC, FOUR
for name, (choices, sampling) in STREAMING.items():
    CASES[f"sdp, {name}"] = "sdp", (tiny_model, choices), SPEC, sampling
for name, (kind, sampling) in {**{one: (one, SAMPLING[one]) for one in SAMPLING}, **OTHERS}.items():
    CASES[f"pictures, {name}"] = kind, (seeing, {}), SEEING_SPEC, sampling
for name, (choices, sampling) in PLANNERS.items():
    CASES[f"planner, {name}"] = "diffuser", (tiny_planner, choices), PLANNER_SPEC, sampling
for name, sampling in {"chunks": ActSampling(4), "averaged": ActSampling(1, 0.3)}.items():
    CASES[f"act, {name}"] = "act", (tiny_act, {"pictures": True}), SPEC, sampling
for name, sampling in DECODINGS.items():
    CASES[f"vla, {name}"] = "vla", (tiny_vla.tiny_model, {}), tiny_vla.SPEC, sampling


class Frames(PolicyConformance):
    """Seeded observations of any policy."""

    def frame(self, policy: Policy, scenes: np.ndarray, steps: np.ndarray) -> dict[str, np.ndarray]:
        drawn = super().frame(policy, scenes, steps)
        if INSTRUCTION_KEY in drawn:
            texts = [encode_instruction(tiny_vla.TEXTS[scene]) for scene in scenes]
            drawn[INSTRUCTION_KEY] = np.stack(texts).astype(np.float32)
        return drawn


def plans(policy: Any) -> list[np.ndarray]:
    """An episode of two rows; the third plan begins a step after its observation."""
    frames, rows = Frames(), np.arange(2)
    policy.reset(np.array([5, 6]))
    found, step = [], np.zeros(2, np.int64)
    for index in range(4):
        observed = step - (index == 2 and policy.num_execute > 1)
        if hasattr(policy, "observe"):
            policy.observe(frames.observation(policy, rows, observed, rows))
        plan = policy.plan(frames.observation(policy, rows, observed, rows), step)
        found.append(plan.actions.copy())
        step = step + policy.num_execute
    if hasattr(policy, "actions"):
        found.append(policy.actions(rows))
    return found


@pytest.mark.parametrize("name", CASES)
def test_what_is_moved_runs_wholly_there_and_plans_the_same(name: str) -> None:
    kind, (make, choices), spec, sampling = CASES[name]
    checkpoint = Checkpoint(kind, make(**choices), spec, sampling, {})
    expected = plans(checkpoint.policy())
    with SecondDevice() as device:
        there = replace(checkpoint, model=moved(checkpoint.model, DEVICE))
        policy = there.policy()
        before = device.num_operations
        found = plans(policy)
    assert device.num_operations - before > 20, "nothing ran there"
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_the_second_device_refuses_what_a_gpu_refuses() -> None:
    with SecondDevice():
        there, here = torch.ones(2).to(DEVICE), torch.ones(2)
        assert there.device == (there + torch.ones(())).device == DEVICE
        with pytest.raises(RuntimeError, match="same device"):
            _ = there + here
        with pytest.raises((RuntimeError, TypeError)):
            there.numpy()


def test_a_policy_made_before_its_model_is_moved_stays_where_it_is() -> None:
    checkpoint = Checkpoint("sdp", tiny_model(), SPEC, StreamingSampling(2, 1), {})
    policy = checkpoint.policy()
    expected = plans(policy)
    with SecondDevice():
        there = moved(checkpoint.model, DEVICE)
        assert place_of(there) == DEVICE and place_of(checkpoint.model).type == "cpu"
        assert {one.device for one in (*there.parameters(), *there.buffers())} == {DEVICE}
        assert moved(there, DEVICE) is there
        for one, other in zip(plans(policy), expected, strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("engine", ["onnx", "openvino"])
def test_engines_of_the_cpu_refuse_weights_elsewhere(engine: str) -> None:
    with SecondDevice():
        model = moved(tiny_model(), DEVICE)
        policy = Checkpoint("dp", model, SPEC, DiffusionSampling(4, 1), {}).policy()
        with pytest.raises(ValueError, match="runs on the CPU, these weights are on 'meta'"):
            make_engine(engine, policy.program)


def test_the_default_device_is_where_the_weights_are() -> None:
    checkpoint = load_checkpoint("pusht-sdp")
    assert checkpoint.to("cpu").model is checkpoint.model
    assert checkpoint.policy(device="cpu").model is checkpoint.policy().model is checkpoint.model


@pytest.mark.parametrize("name", ["gpu", "cuda:", "cuda:-1", "", "mps"])
def test_no_name_of_a_device_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="device must be cpu, cuda or cuda:N"):
        find_device(name)


def test_a_device_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match=r"needs an NVIDIA GPU .* choose device=cpu"):
        load_checkpoint("pusht-sdp").policy(device="cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert find_device("cuda:1") == torch.device("cuda", 1)
    with pytest.raises(ValueError, match="GPUs are cuda:0 to cuda:1"):
        find_device("cuda:2")


@pytest.mark.parametrize(
    "command",
    [
        "eval nothing device=cuda",
        "bench nothing device=cuda",
        "serve nothing port=0 device=cuda",
        "train policy=sdp task=pusht task.dataset=nothing output_dir={folder} device=cuda",
    ],
)
def test_commands_say_so_before_anything_else(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert main(command.format(folder=tmp_path / "run").split())
    told = capsys.readouterr().err
    assert told.count("\n") == 1 and "device 'cuda' needs an NVIDIA GPU" in told
    assert main([*command.format(folder=tmp_path / "run").split()[:-1], "device=gpu"])
    assert "device must be cpu, cuda or cuda:N" in capsys.readouterr().err


def test_a_robot_policy_says_so_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="device 'cuda' needs an NVIDIA GPU"):
        open_policy("nothing", device="cuda")
    with pytest.raises(ValueError, match="runs where it is served; leave device=cuda out"):
        open_policy("ws://nowhere:1", device="cuda")
    with pytest.raises(ValueError, match="device must be cpu, cuda or cuda:N"):
        PolicyOptions(device="gpu")


def test_one_gpu_is_not_for_several_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match="each of 2 processes takes its own"):
        check_place("cuda:0")
