"""Engines: the same numbers as eager PyTorch from every runtime, or no numbers at all."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
import torch._inductor.config
from tiny import tiny_model

from hotloop.decoding.samplers import apply_step, spaced_levels, step_coefficients
from hotloop.policies.engines import engine as engine_module
from hotloop.policies.engines.eager import EagerEngine
from hotloop.policies.engines.engine import (
    ENGINES,
    Engine,
    find_obstacle,
    installed_engines,
    make_engine,
    max_difference,
)
from hotloop.policies.model import DiffusionModel, ModelConfig
from hotloop.policies.networks.build import NetworkConfig
from hotloop.policies.program import ReverseProgram

RUNTIMES = ("onnx", "openvino")


@pytest.fixture(scope="module")
def model() -> DiffusionModel:
    return tiny_model()


def program_of(model: DiffusionModel, num_calls: int, update: str = "ddim") -> ReverseProgram:
    levels = spaced_levels(model.config.num_levels, 0, num_calls)
    return ReverseProgram(model, [np.full(model.config.horizon, k) for k in levels], update)


def inputs_of(
    program: ReverseProgram, rows: int, seed: int = 1
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Observation, x and, for a program that adds it, noise."""
    generator, model = np.random.default_rng(seed), program.model
    size = len(model.observation_normalizer.scale)
    window = (rows, model.config.horizon, model.action_dim)
    observation = generator.standard_normal((rows, model.config.num_obs_steps, size), np.float32)
    x = generator.standard_normal(window, np.float32)
    if program.noise_scale is None:
        return observation, x, None
    return observation, x, generator.standard_normal((program.num_calls, *window), np.float32)


class Constant:
    """An engine that answers `value` whatever it is asked."""

    def __init__(self, value: float) -> None:
        self.parity, self.value = 0.0, value

    def __call__(
        self, observation: np.ndarray, x: np.ndarray, noise: np.ndarray | None = None
    ) -> np.ndarray:
        return np.full_like(x, self.value)


@pytest.mark.parametrize(("num_calls", "update"), [(1, "ddim"), (4, "ddim"), (4, "ddpm")])
def test_eager_follows_the_sampler_step_by_step(
    model: DiffusionModel, num_calls: int, update: str
) -> None:
    """The program's tables are those of `decoding.samplers`, looked up once instead of per call."""
    program = program_of(model, num_calls, update)
    observation, x, noise = inputs_of(program, rows=2)
    frames = model.observation_normalizer(torch.from_numpy(observation)).flatten(1)
    expected = torch.from_numpy(x)
    for call, (level, next_level) in enumerate(
        zip(program.levels[:-1], program.levels[1:], strict=True)
    ):
        output = model.predict(expected, torch.from_numpy(level).expand(2, -1), frames)
        step = step_coefficients(model.schedule, level, next_level, "sample", update)
        draw = None if noise is None else torch.from_numpy(noise[call])
        expected = apply_step(expected, output, step, draw)
    np.testing.assert_allclose(EagerEngine(program)(observation, x, noise), expected, atol=1e-5)


@pytest.mark.parametrize("name", RUNTIMES)
@pytest.mark.parametrize(
    ("num_calls", "update"), [(1, "ddim"), (2, "ddim"), (3, "ddim"), (3, "ddpm")]
)
def test_runtimes_agree_with_eager_for_any_number_of_rows(
    model: DiffusionModel, name: str, num_calls: int, update: str
) -> None:
    program = program_of(model, num_calls, update)
    engine, eager = make_engine(name, program), EagerEngine(program)
    assert engine.parity < 1e-5
    for rows in (1, 2, 5, 1):
        inputs = inputs_of(program, rows)
        np.testing.assert_allclose(engine(*inputs), eager(*inputs), atol=1e-5)


@pytest.mark.parametrize("name", RUNTIMES)
def test_runtimes_follow_a_ladder_whose_tail_stands_still(model: DiffusionModel, name: str) -> None:
    """In a streaming buffer each position has its own coefficients."""
    program = ReverseProgram(model, model.ladder(2).control_step(1), "ddpm")
    assert program.num_calls == 1
    assert program.noise_scale is not None
    inputs = inputs_of(program, rows=2)
    np.testing.assert_allclose(
        make_engine(name, program)(*inputs), EagerEngine(program)(*inputs), atol=1e-5
    )


@pytest.mark.parametrize(
    ("kind", "level_embedding"),
    [("unet", "concatenated"), ("unet", "per_position"), ("transformer", "per_position")],
)
def test_every_network_runs_on_every_runtime(kind: str, level_embedding: str) -> None:
    config = ModelConfig(
        horizon=8, num_levels=12, network=NetworkConfig(kind, 16, 2, level_embedding)
    )
    model = DiffusionModel(config, {"position": (2,)}, 2).eval().requires_grad_(False)
    for parameter in model.network.parameters():
        parameter.data += 0.1  # transformer blocks start at zero
    for name in RUNTIMES:
        for num_calls in (1, 2):
            assert make_engine(name, program_of(model, num_calls)).parity < 1e-5


@pytest.mark.skipif(find_obstacle("compile") is not None, reason="needs a C++ compiler")
def test_torch_compile_agrees_with_eager(model: DiffusionModel) -> None:
    program = program_of(model, 1)
    # Parallel compilation would start worker processes that outlive the test.
    with torch._inductor.config.patch(compile_threads=1):
        engine = make_engine("compile", program)
    inputs = inputs_of(program, rows=2)
    assert engine.parity < 1e-5
    np.testing.assert_allclose(engine(*inputs), EagerEngine(program)(*inputs), atol=1e-5)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
@pytest.mark.parametrize(("num_calls", "update"), [(1, "ddim"), (5, "ddpm")])
def test_cuda_graph_agrees_with_eager(model: DiffusionModel, num_calls: int, update: str) -> None:
    program = program_of(model, num_calls, update)
    engine, eager = make_engine("cuda-graph", program), EagerEngine(program)
    for rows in (1, 4, 1):
        inputs = inputs_of(program, rows)
        np.testing.assert_allclose(engine(*inputs), eager(*inputs), atol=1e-4)


@pytest.mark.parametrize("name", ["eager", *RUNTIMES])
@pytest.mark.parametrize("num_calls", [1, 2])
def test_nan_in_an_observation_reaches_the_actions(
    model: DiffusionModel, name: str, num_calls: int
) -> None:
    """Clipping must not turn NaN into an admissible action, or no later check would see it."""
    program = program_of(model, num_calls)
    observation, x, _ = inputs_of(program, rows=2)
    observation[1, -1, 0] = np.nan
    actions = make_engine(name, program)(observation, x)
    assert np.isnan(actions[1]).all()
    assert np.isfinite(actions[0]).all()


@pytest.mark.parametrize("name", ["eager", *RUNTIMES])
@pytest.mark.parametrize("num_calls", [1, 2])
def test_engines_keep_neither_inputs_nor_results(
    model: DiffusionModel, name: str, num_calls: int
) -> None:
    program = program_of(model, num_calls)
    engine = make_engine(name, program)
    first, second = inputs_of(program, 1, seed=1), inputs_of(program, 1, seed=2)
    before = [array.copy() for array in first[:2]]
    result = engine(*first)
    kept = result.copy()
    assert not np.allclose(engine(*second), kept)
    np.testing.assert_array_equal(result, kept)
    np.testing.assert_array_equal(first[0], before[0])
    np.testing.assert_array_equal(first[1], before[1])
    np.testing.assert_array_equal(engine(*first), kept)


@pytest.mark.parametrize("name", ["eager", *RUNTIMES])
def test_bare_forward_is_the_networks_output(model: DiffusionModel, name: str) -> None:
    program = program_of(model, 3, "ddpm").bare_forward()
    assert (program.num_calls, program.noise_scale) == (1, None)
    observation, x, _ = inputs_of(program, rows=2)
    frames = model.observation_normalizer(torch.from_numpy(observation)).flatten(1)
    level = torch.full((2, model.config.horizon), model.config.num_levels)
    expected = model.predict(torch.from_numpy(x), level, frames)
    np.testing.assert_allclose(make_engine(name, program)(observation, x), expected, atol=1e-5)


def test_new_weights_are_never_served_from_an_old_export() -> None:
    model = tiny_model()
    make_engine("onnx", program_of(model, 1))
    with torch.no_grad():
        model.network.head.bias += 0.5  # type: ignore[union-attr, operator]
    program = program_of(model, 1)
    engine, inputs = make_engine("onnx", program), inputs_of(program, rows=1)
    np.testing.assert_allclose(engine(*inputs), EagerEngine(program)(*inputs), atol=1e-5)


def test_a_model_is_exported_once(model: DiffusionModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exporting takes seconds; the start of an episode and the control step share one export."""
    make_engine("onnx", program_of(model, 1))

    def export(*args: object, **kwargs: object) -> None:
        raise AssertionError("exported again")

    monkeypatch.setattr(torch.onnx, "export", export)
    assert make_engine("onnx", program_of(model, 5)).parity < 1e-5
    assert make_engine("openvino", program_of(model, 1)).parity < 1e-5


def test_building_an_engine_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    make_engine("onnx", program_of(tiny_model(), 1))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("value", [0.5, np.nan])
def test_an_engine_with_other_results_is_refused(
    model: DiffusionModel, monkeypatch: pytest.MonkeyPatch, value: float
) -> None:
    monkeypatch.setattr(engine_module, "_build", lambda name, program: Constant(value))
    with pytest.raises(ValueError, match=r"'onnx' differs from eager PyTorch by (nan|\d)"):
        make_engine("onnx", program_of(model, 1))


def test_the_difference_covers_several_rows(model: DiffusionModel) -> None:
    """An engine that is right for one row and wrong for three has to be found out."""
    program = program_of(model, 1)
    eager = EagerEngine(program)

    def wrong_for_three(
        observation: np.ndarray, x: np.ndarray, noise: np.ndarray | None = None
    ) -> np.ndarray:
        return eager(observation, x, noise) + (len(x) == 3)

    engine: Engine = wrong_for_three  # type: ignore[assignment]
    assert max_difference(engine, eager, program) == pytest.approx(1.0, abs=1e-6)
    assert max_difference(eager, eager, program) == 0.0


def test_an_unknown_engine_gets_the_nearest_name(model: DiffusionModel) -> None:
    with pytest.raises(ValueError, match=r"got 'openvin'; did you mean 'openvino'\?"):
        make_engine("openvin", program_of(model, 1))


@pytest.mark.parametrize("name", RUNTIMES)
def test_a_missing_runtime_names_the_extra(
    model: DiffusionModel, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(engine_module, "find_spec", lambda package: None)
    with pytest.raises(ImportError, match=r"pip install 'hotloop\[runtime\]'"):
        make_engine(name, program_of(model, 1))
    assert name not in installed_engines()


def test_torch_compile_without_a_compiler_says_so(
    model: DiffusionModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(ValueError, match=r"needs a C\+\+ compiler, and 'no-such-compiler'"):
        make_engine("compile", program_of(model, 1))


def test_cuda_graph_without_a_gpu_says_so(
    model: DiffusionModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="needs an NVIDIA GPU"):
        make_engine("cuda-graph", program_of(model, 1))


def test_eager_always_runs() -> None:
    assert find_obstacle("eager") is None
    installed: Sequence[str] = installed_engines()
    assert installed[0] == "eager"
    assert set(installed) <= set(ENGINES)
