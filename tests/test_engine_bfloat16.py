"""OpenVINO in bfloat16: fewer digits, for who asks for them."""

from __future__ import annotations

import numpy as np
import pytest
from tiny import tiny_model

from hotloop.decoding.samplers import spaced_levels
from hotloop.policies.diffusion.reverse import reverse_program
from hotloop.policies.programs.engines.engine import find_obstacle, installed_engines, make_engine
from hotloop.policies.programs.engines.openvino_runtime import OpenVinoBfloat16Engine
from hotloop.policies.programs.program import Program

NAME = "openvino-bf16"


@pytest.fixture(scope="module")
def program() -> Program:
    model = tiny_model()
    levels = spaced_levels(model.config.num_levels, 0, 1)
    return reverse_program(model, [np.full(model.config.horizon, k) for k in levels], "ddim")


def test_it_has_to_be_asked_for_and_has_a_bound_of_its_own(
    program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert NAME not in installed_engines()
    if obstacle := find_obstacle(NAME):
        pytest.skip(str(obstacle))
    engine = make_engine(NAME, program)
    # Three digits, not seven.
    assert 1e-5 < engine.parity <= OpenVinoBfloat16Engine.tolerance
    monkeypatch.setattr(OpenVinoBfloat16Engine, "tolerance", engine.parity / 10)
    with pytest.raises(ValueError, match="differs from eager PyTorch"):
        make_engine(NAME, program)


def test_it_needs_a_processor_that_has_it(
    program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Core:
        def get_property(self, device: str, name: str) -> list[str]:
            return ["FP32"]

    monkeypatch.setattr("openvino.Core", Core)
    with pytest.raises(ValueError, match="needs a processor that computes in bfloat16"):
        make_engine(NAME, program)
