"""Compiled planners plan what eager ones do."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
from tiny_planner import SPEC, tiny_planner

from hotloop.decoding import Observation
from hotloop.policies.planners.config import DrafterConfig, PlannerSampling
from hotloop.policies.planners.planner import Planner
from hotloop.policies.programs.engines.engine import find_obstacle

WARM = PlannerSampling(draft="rollout", calls_per_step=1, guidance=1.2, reuse=2, candidates=2)
GUIDED = PlannerSampling(
    calls_per_step=2, update="ddpm", guidance=0.0, value_steps=2, candidates=2, select="value"
)
TOWARDS_A_GOAL = PlannerSampling(calls_per_step=2, guidance=0.0)
SMALL = DrafterConfig(width=8, depth=1, num_heads=2)
CASES: dict[str, tuple[dict[str, Any], PlannerSampling]] = {
    "drafted, warm, by the critic": ({"drafter": SMALL}, replace(WARM, select="critic")),
    "guided by values": ({"joint": True, "value": True, "drafter": None}, GUIDED),
    "goal": ({"goal_key": "observation.goal", "drafter": None}, TOWARDS_A_GOAL),
    "drafted goal, warm": (
        {"goal_key": "observation.goal", "critic": False, "stride": 3, "drafter": SMALL},
        replace(WARM, candidates=1),
    ),
}


def plans(policy: Planner, rows: int) -> list[np.ndarray]:
    """Two plans in a row, the second warm where the policy reuses plans."""
    policy.reset(np.arange(rows))
    result = []
    for step in range(2):
        generator = np.random.default_rng(step)
        shapes = policy.observation_spec.shapes
        frames = {
            key: generator.uniform(0, 1, (rows, 1, *shape)).astype(np.float32)
            for key, shape in shapes.items()
        }
        steps = np.full(rows, step)
        policy.plan(Observation(frames, steps, np.arange(rows)), steps)
        result.append(policy.states(np.arange(rows)))
    return result


@cache
def planner_of(case: str) -> Planner:
    """With eager PyTorch; kept, because programs share their exports as long as they live."""
    choices, sampling = CASES[case]
    return Planner(tiny_planner(horizon=3, **choices), SPEC, sampling)


@pytest.mark.parametrize(
    ("case", "engine"), [*((case, "onnx") for case in CASES), ("goal", "openvino")]
)
def test_an_engine_plans_what_eager_pytorch_plans(case: str, engine: str) -> None:
    assert find_obstacle(engine) is None
    eager = planner_of(case)
    compiled = Planner(eager.model, SPEC, CASES[case][1], engine)
    assert 0 < compiled.parity < 1e-4
    assert eager.parity == 0
    for rows in (1, 3):
        for one, other in zip(plans(compiled, rows), plans(eager, rows), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4)
