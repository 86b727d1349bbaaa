"""precision=: fewer digits in an engine's products, within stated bounds of float32."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from test_devices import plans
from test_pictures import SAMPLING, seeing
from test_pictures import SPEC as SEEING_SPEC
from tiny import SPEC, tiny_model
from tiny_act import tiny_act
from tiny_planner import DIFFUSER, tiny_planner
from tiny_planner import SPEC as PLANNER_SPEC

from hotloop.policies.act.config import ActSampling
from hotloop.policies.checkpoint import Checkpoint
from hotloop.policies.diffusion.config import DiffusionSampling, StreamingSampling
from hotloop.policies.programs.engines.arithmetic import arithmetic
from hotloop.policies.programs.engines.engine import engine_class, engine_name, installed_engines
from hotloop.policies.programs.engines.precision import EagerBfloat16Engine
from hotloop.train.cli import main

# Actions at their bounds show no difference.
WIDE = replace(SPEC, low=(-30.0, -30.0), high=(30.0, 30.0))
CHECKPOINTS = {
    "sdp": Checkpoint("sdp", tiny_model(), SPEC, StreamingSampling(2, 1), {}),
    "dp": Checkpoint("dp", tiny_model(), SPEC, DiffusionSampling(4, 3), {}),
    "pictures": Checkpoint("sdp", seeing(), SEEING_SPEC, SAMPLING["sdp"], {}),
    "act": Checkpoint("act", tiny_act(pictures=True), WIDE, ActSampling(4), {}),
    "planner": Checkpoint(
        "diffuser",
        tiny_planner(joint=True, value=True, drafter=None),
        PLANNER_SPEC,
        DIFFUSER,
        {},
    ),
}


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@pytest.mark.parametrize("name", CHECKPOINTS)
def test_fewer_digits_differ_within_their_bound_and_leave_float32_alone(
    name: str, precision: str
) -> None:
    checkpoint = CHECKPOINTS[name]
    exact = checkpoint.policy()
    expected = plans(exact)
    policy = checkpoint.policy(precision=precision)
    bound = engine_class(f"eager-{precision}").tolerance  # pyright: ignore
    assert 1e-6 < policy.parity <= bound and exact.parity == 0
    spread = checkpoint.action_spec.float32_bounds
    unit = (spread[1] - spread[0]).max() / 2
    found = plans(policy)
    assert 0 < np.abs(found[0] - expected[0]).max() <= 2 * bound * unit
    for one, other in zip(plans(exact), expected, strict=True):
        np.testing.assert_array_equal(one, other)


def test_beyond_the_bound_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(EagerBfloat16Engine, "tolerance", 1e-6)
    with pytest.raises(ValueError, match=r"'eager-bf16' differs from eager PyTorch by .* 1e-06 is"):
        CHECKPOINTS["sdp"].policy(precision="bf16")


def test_an_engine_without_a_precision_says_which_has_it() -> None:
    assert engine_name("openvino", "bf16") == "openvino-bf16"
    assert engine_name("onnx", "float32") == "onnx"
    with pytest.raises(ValueError, match=r"'onnx' has no precision bf16; .* or eager or"):
        CHECKPOINTS["sdp"].policy(engine="onnx", precision="bf16")
    with pytest.raises(ValueError, match="precision must be one of float32, tf32, bf16, fp16, got"):
        CHECKPOINTS["sdp"].policy(precision="int8")
    assert not any(name.endswith(("bf16", "fp16", "tf32")) for name in installed_engines())


def test_tf32_is_refused_without_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="tf32 is an NVIDIA GPU's, and none was found"):
        CHECKPOINTS["sdp"].policy(precision="tf32")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with pytest.raises(ValueError, match="weights are on the CPU; choose device=cuda"):
        CHECKPOINTS["sdp"].policy(precision="tf32")


def test_float32_on_a_gpu_has_all_its_digits_while_it_runs() -> None:
    products, convolutions = torch.backends.cuda.matmul, torch.backends.cudnn
    before = products.allow_tf32, convolutions.allow_tf32
    for tf32 in (False, True):
        with arithmetic(torch.device("cuda", 0), tf32):
            assert products.allow_tf32 == convolutions.allow_tf32 == tf32
        assert (products.allow_tf32, convolutions.allow_tf32) == before


def test_bench_shows_what_a_precision_differs_by(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    command = "bench pusht-sdp engines=[eager] precision=bf16 steps=2 calls=[1] output="
    assert main(f"{command}{tmp_path / 'out.json'}".split()) == 0
    line = next(one for one in capsys.readouterr().out.splitlines() if "eager-bf16" in one)
    assert "e-0" in line
