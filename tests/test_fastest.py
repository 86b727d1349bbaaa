"""``engine=auto``: the fastest engine here, and never a reason to fail."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny import SPEC, tiny_model
from tiny_act import tiny_act
from tiny_planner import DIFFUSER, tiny_planner
from tiny_planner import SPEC as PLANNER_SPEC
from tiny_vla import SPEC as VLA_SPEC
from tiny_vla import tiny_model as tiny_vla

from hotloop.decoding import ActionTrajectory, Observation, ObservationSpec
from hotloop.policies import fastest
from hotloop.policies.act.config import ActSampling
from hotloop.policies.checkpoint import Checkpoint
from hotloop.policies.diffusion.config import DiffusionSampling, StreamingSampling
from hotloop.policies.fastest import Choice, Contender, run_trial
from hotloop.policies.programs.engines import bound
from hotloop.policies.programs.engines.engine import (
    AUTO,
    engine_class,
    make_engine,
    tried_engines,
)
from hotloop.policies.programs.program import Program
from hotloop.policies.vla.decoding_config import TokenDecodingConfig

STREAMING = StreamingSampling(num_execute=2, calls_per_step=1)


@pytest.fixture(autouse=True)
def _briefly_and_not_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fastest, "TRIAL_SECONDS", 0.01)
    monkeypatch.setenv("HOTLOOP_CACHE", str(tmp_path))


@pytest.fixture
def streaming() -> Checkpoint:
    return Checkpoint("sdp", tiny_model(), SPEC, STREAMING, {})


class Clock:
    """Time that passes only where something takes time [s]."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(fastest, "time", made)
    return made


class Slow:
    """A policy whose plans take so long [s], and a second in an episode's beginning."""

    action_spec, num_execute = SPEC, 1
    observation_spec = ObservationSpec({"observation.position": (2,)}, 1)

    def __init__(self, clock: Clock, seconds: float) -> None:
        self.clock, self.seconds, self.num_plans = clock, seconds, 0

    def reset(self, seeds: np.ndarray, rows: np.ndarray | None = None) -> None:
        self.fresh = True

    def plan(self, observation: Observation, step: np.ndarray) -> ActionTrajectory:
        self.clock.now += 1.0 if self.fresh else self.seconds
        self.fresh, self.num_plans = False, self.num_plans + 1
        actions = np.tile(np.array(SPEC.low), (1, 1, 1))
        return ActionTrajectory.clean(actions, observation.step, observation.step, SPEC.dt)


def raising(errors: dict[str, Exception], policies: dict[str, Any]) -> Callable[[str], Any]:
    """Builds policies by engine, or raises."""

    def build(engine: str) -> Any:
        if engine in errors:
            raise errors[engine]
        return policies[engine]

    return build


def refuse(*names: str) -> Callable[[str], Exception | None]:
    """What engines lack, as `find_obstacle` says it."""
    return lambda name: ValueError(f"{name} lacks something") if name in names else None


def test_the_fastest_is_taken_and_hopeless_ones_are_not_looked_at_again(clock: Clock) -> None:
    """The first plan of an episode, which takes longest, does not count."""
    seconds = {"eager": 0.012, "onnx": 0.001, "openvino": 0.002}
    policies = {name: Slow(clock, one) for name, one in seconds.items()}
    policy, choice = run_trial(raising({}, policies), tuple(policies), seconds=0.3)
    assert policy is policies["onnx"] and choice.engine == "onnx" and not choice.left_out
    expected = {"onnx": 1.0, "openvino": 2.0, "eager": 12.0}
    assert choice.milliseconds == pytest.approx(expected)
    assert list(choice.milliseconds) == list(expected)
    assert policies["eager"].num_plans == 3
    assert policies["onnx"].num_plans == policies["openvino"].num_plans > 100
    assert choice.sentence(AUTO) == "engine auto: onnx 1 ms per plan, openvino 2 ms, eager 12 ms"


def test_an_engine_that_cannot_run_it_drops_out_with_the_reason(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever it raises: a gate that it fails, a runtime's own error, a full memory."""
    monkeypatch.setattr(fastest, "find_obstacle", refuse("lacking"))
    errors = {
        "onnx": ValueError("engine 'onnx' differs from eager PyTorch by 0.5"),
        "openvino": RuntimeError("no kernel\nfor this"),
        "cuda-graph": torch.OutOfMemoryError("CUDA out of memory"),
        "mine": KeyError("x"),
        "bare": MemoryError(),
    }
    build = raising(errors, {"eager": Slow(clock, 0.1)})
    policy, choice = run_trial(build, ("lacking", *errors, "eager"), seconds=0.0)
    assert isinstance(policy, Slow) and choice.engine == "eager"
    assert choice.milliseconds == {} and not policy.num_plans, "a single one is not timed"
    assert choice.left_out == {
        "lacking": "lacking lacks something",
        "onnx": "engine 'onnx' differs from eager PyTorch by 0.5",
        "openvino": "RuntimeError: no kernel for this",
        "cuda-graph": "OutOfMemoryError: CUDA out of memory",
        "mine": "KeyError: 'x'",
        "bare": "MemoryError",
    }
    assert "engine auto: eager, as no other can; lacking cannot run it: " in choice.sentence(AUTO)


def test_an_engine_that_fails_in_its_first_plans_drops_out_too(clock: Clock) -> None:
    """CUDA graphs and large groups are prepared when they are first run."""
    failing = Slow(clock, 0.1)
    failing.plan = lambda observation, step: [][1]  # type: ignore[method-assign]
    policies = {"eager": Slow(clock, 0.1), "onnx": failing}
    policy, choice = run_trial(raising({}, policies), tuple(policies), seconds=0.0)
    assert policy is policies["eager"]
    assert choice == Choice("eager", {}, {"onnx": "IndexError: list index out of range"})
    with pytest.raises(IndexError):
        run_trial(raising({}, {"eager": failing, "onnx": failing}), ("eager", "onnx"), seconds=0.0)


def test_if_none_runs_the_first_ones_error_is_raised() -> None:
    errors = {"eager": ValueError("num_execute is wrong"), "onnx": MemoryError()}
    with pytest.raises(ValueError, match="num_execute is wrong"):
        run_trial(raising(errors, {}), tuple(errors), seconds=0.0)


def test_engines_of_another_device_or_precision_are_not_tried() -> None:
    assert tried_engines("float32", "cpu") == ("eager", "onnx", "openvino")
    assert tried_engines("float32", "cuda:0") == ("eager", "cuda-graph")
    assert tried_engines("bf16", "cpu") == ("eager-bf16", "openvino-bf16")
    assert tried_engines("bf16", "cuda:0") == ("eager-bf16", "cuda-graph-bf16")


def test_its_choice_computes_what_the_engine_of_that_name_does(
    streaming: Checkpoint, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fastest, "tried_engines", lambda precision, device: ("eager", "onnx"))
    with caplog.at_level(logging.INFO, "hotloop.policies.fastest"):
        policy = streaming.policy(engine=AUTO)
    assert policy.engine in ("eager", "onnx") and policy.parity < 1e-3
    (told,) = caplog.messages
    assert told.startswith(f"engine auto: {policy.engine} ")
    frames = {key: np.ones((1, 2, *shape), np.float32) for key, shape in
              policy.observation_spec.shapes.items()}  # fmt: skip
    plans = []
    for one in (policy, streaming.policy(engine=policy.engine)):
        one.reset(np.array([3]))
        observation = Observation(frames, np.array([0]), np.array([0]))
        plans.append(one.plan(observation, np.array([0])).actions)
    np.testing.assert_array_equal(*plans)


OTHERS = {
    "dp": Checkpoint("dp", tiny_model(), SPEC, DiffusionSampling(4, 1), {}),
    "guided": Checkpoint(
        "dp", tiny_model(), SPEC, DiffusionSampling(4, 2, prefix_guidance="vjp"), {}
    ),
    "act": Checkpoint("act", tiny_act(pictures=True), SPEC, ActSampling(4), {}),
    "planner": Checkpoint(
        "diffuser", tiny_planner(joint=True, value=True, drafter=None), PLANNER_SPEC, DIFFUSER, {}
    ),
    "vla": Checkpoint("vla", tiny_vla(), VLA_SPEC, TokenDecodingConfig(num_execute=2), {}),
}


@pytest.mark.parametrize("name", OTHERS)
def test_every_kind_of_policy_has_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the engine that is always there; the others are missing, which is no error."""
    monkeypatch.setattr(bound, "find_spec", lambda package: None)
    policy = OTHERS[name].policy(engine=AUTO)
    assert policy.engine == "eager"
    Contender("eager", policy).warm_up()


def test_mistakes_name_it_among_the_choices(streaming: Checkpoint) -> None:
    with pytest.raises(ValueError, match=r"'atuo' \(did you mean auto\?\); choose from auto, comp"):
        streaming.policy(engine="atuo")
    with pytest.raises(ValueError, match=r"'onnx' has no precision bf16; .* or engine auto or"):
        streaming.policy(engine="onnx", precision="bf16")
    with pytest.raises(ValueError, match="chosen for a whole policy, by Checkpoint"):
        make_engine(AUTO, Program({}, {}, []))
    with pytest.raises(ValueError, match="chosen for a whole policy"):
        engine_class("auto-bf16")
