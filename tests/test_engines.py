"""Engines: the same numbers as eager PyTorch from every runtime, or no numbers at all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from itertools import pairwise

import numpy as np
import pytest
import torch
import torch._inductor.config
from tiny import SPEC, tiny_model

from hotloop.decoding.samplers import apply_step, spaced_levels, step_coefficients
from hotloop.policies.diffusion.config import StreamingSampling
from hotloop.policies.diffusion.model import DiffusionModel, ModelConfig
from hotloop.policies.diffusion.reverse import bare_forward, noise_names, reverse_program
from hotloop.policies.diffusion.streaming import StreamingDiffusionPolicy
from hotloop.policies.networks.config import NetworkConfig
from hotloop.policies.programs.engines import bound as bound_module
from hotloop.policies.programs.engines import engine as engine_module
from hotloop.policies.programs.engines.eager import EagerEngine
from hotloop.policies.programs.engines.engine import (
    ENGINES,
    find_obstacle,
    installed_engines,
    make_engine,
    max_difference,
    run,
)
from hotloop.policies.programs.engines.memory import Memory
from hotloop.policies.programs.program import Port, Program

RUNTIMES = ("onnx", "openvino")


@pytest.fixture(scope="module")
def model() -> DiffusionModel:
    return tiny_model()


@cache
def program_of(model: DiffusionModel, num_calls: int, update: str = "ddim") -> Program:
    """Kept, because exporting takes seconds: programs share their modules as long as they live."""
    levels = spaced_levels(model.config.num_levels, 0, num_calls)
    return reverse_program(model, [np.full(model.config.horizon, k) for k in levels], update)


@cache
def streaming_program(model: DiffusionModel, num_calls: int, update: str) -> Program:
    """A control step of a streaming buffer; kept as those of `program_of` are."""
    sampling = StreamingSampling(num_execute=2, calls_per_step=num_calls, update=update)
    return StreamingDiffusionPolicy(model, SPEC, sampling).program


def inputs_of(program: Program, rows: int, seed: int = 1) -> dict[str, np.ndarray]:
    """Typical inputs: observation, x and, for a program that adds it, noise."""
    return program.draw(np.random.default_rng(seed), rows)


def assert_agree(name: str, program: Program, rows: int, atol: float = 1e-5) -> None:
    inputs = inputs_of(program, rows)
    found, expected = run(make_engine(name, program), inputs), run(EagerEngine(program), inputs)
    for output in program.outputs:
        np.testing.assert_allclose(found[output], expected[output], atol=atol)


class Changed:
    """Eager PyTorch whose outputs are changed after each run."""

    def __init__(self, program: Program, change: Callable[[np.ndarray], None]) -> None:
        self.parity, self._eager, self._change = 0.0, EagerEngine(program), change

    def memory(self, rows: int) -> Memory:
        memory = self._eager.memory(rows)

        def run_and_change() -> None:
            memory.run()
            for output in memory.outputs.values():
                self._change(output)

        return Memory(memory.inputs, memory.outputs, run_and_change)


@pytest.mark.parametrize("prediction", ["sample", "epsilon", "velocity"])
@pytest.mark.parametrize(("num_calls", "update"), [(1, "ddim"), (4, "ddim"), (4, "ddpm")])
def test_eager_follows_the_sampler_step_by_step(
    num_calls: int, update: str, prediction: str
) -> None:
    """The program's tables are those of `decoding.samplers`, looked up once instead of per call."""
    model = tiny_model(prediction=prediction)
    program = program_of(model, num_calls, update)
    inputs = inputs_of(program, rows=2)
    observation = torch.from_numpy(inputs["observation"])
    frames = model.observation_normalizer(observation).flatten(1)
    expected = torch.from_numpy(inputs["x"])
    levels = spaced_levels(model.config.num_levels, 0, num_calls)
    vectors = [np.full(model.config.horizon, level) for level in levels]
    for call, (level, next_level) in enumerate(pairwise(vectors)):
        output = model.predict(expected, torch.from_numpy(level).expand(2, -1), frames)
        step = step_coefficients(model.schedule, level, next_level, prediction, update)
        draw = torch.from_numpy(inputs[f"noise.{call}"]) if update == "ddpm" else None
        expected = apply_step(expected, output, step, draw)
    found = run(EagerEngine(program), inputs)["window"]
    np.testing.assert_allclose(found, expected, atol=1e-5)


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
        expected = run(eager, inputs)["window"]
        np.testing.assert_allclose(run(engine, inputs)["window"], expected, atol=1e-5)


@pytest.mark.parametrize("name", RUNTIMES)
@pytest.mark.parametrize("num_calls", [1, 3])
def test_runtimes_take_whole_control_steps_of_a_streaming_buffer(
    model: DiffusionModel, name: str, num_calls: int
) -> None:
    """Each position has its own levels, the tail stands still, and the buffer is shifted."""
    program = streaming_program(model, num_calls, "ddpm")
    assert program.num_calls == num_calls
    assert noise_names(program)
    assert_agree(name, program, rows=2)


@pytest.mark.parametrize(
    ("kind", "level_embedding"),
    [("unet", "concatenated"), ("unet", "per_position"), ("transformer", None)],
)
def test_every_network_runs_on_every_runtime(kind: str, level_embedding: str | None) -> None:
    # A window of 7 does not halve: the U-Net continues it to 8.
    config = ModelConfig(
        horizon=7, num_levels=12, network=NetworkConfig(kind, 16, 2, level_embedding)
    )
    model = DiffusionModel(config, {"position": (2,)}, 2).eval().requires_grad_(False)
    for parameter in model.network.parameters():
        if not parameter.any():  # transformer blocks start at zero
            torch.nn.init.normal_(parameter, std=0.1)
    for num_calls in (1, 2):
        program = program_of(model, num_calls)
        window = run(EagerEngine(program), inputs_of(program, rows=8))["window"]
        assert (np.abs(window) < 1).mean() > 0.5  # what is clipped is equal whatever came before
        for name in RUNTIMES:
            assert make_engine(name, program).parity < 1e-5


@pytest.mark.skipif(find_obstacle("compile") is not None, reason="needs a C++ compiler")
def test_torch_compile_agrees_with_eager(model: DiffusionModel) -> None:
    # Parallel compilation would start worker processes that outlive the test.
    with torch._inductor.config.patch(compile_threads=1):
        assert_agree("compile", program_of(model, 2), rows=2)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
@pytest.mark.parametrize(("num_calls", "update"), [(1, "ddim"), (5, "ddpm")])
def test_cuda_graph_agrees_with_eager(model: DiffusionModel, num_calls: int, update: str) -> None:
    for rows in (1, 4, 1):
        assert_agree("cuda-graph", program_of(model, num_calls, update), rows, atol=1e-4)


@pytest.mark.parametrize("name", ["eager", *RUNTIMES])
def test_nan_in_an_observation_reaches_the_actions(model: DiffusionModel, name: str) -> None:
    """Clipping must not turn NaN into an admissible action, or no later check would see it."""
    program = streaming_program(model, 2, "ddim")
    inputs = inputs_of(program, rows=2)
    inputs["observation"][1, -1, 0] = np.nan
    actions = run(make_engine(name, program), inputs)["actions"]
    assert np.isnan(actions[1]).any(axis=-1).all()
    assert np.isfinite(actions[0]).all()


@pytest.mark.parametrize("name", ["eager", *RUNTIMES])
@pytest.mark.parametrize("num_calls", [1, 2])
def test_a_run_depends_on_its_inputs_alone(
    model: DiffusionModel, name: str, num_calls: int
) -> None:
    program = program_of(model, num_calls)
    engine = make_engine(name, program)
    first, second = inputs_of(program, 1, seed=1), inputs_of(program, 1, seed=2)
    result = run(engine, first)["window"]
    assert not np.allclose(run(engine, second)["window"], result)
    memory = engine.memory(1)
    np.testing.assert_array_equal(memory.inputs["x"], second["x"])
    np.testing.assert_array_equal(run(engine, first)["window"], result)


@pytest.mark.parametrize("name", ["eager", *RUNTIMES])
def test_bare_forward_is_the_networks_output(model: DiffusionModel, name: str) -> None:
    level = torch.full((2, model.config.horizon), model.config.num_levels)
    program = bare_forward(model, level[0].numpy())
    inputs = inputs_of(program, rows=2)
    observation = torch.from_numpy(inputs["observation"])
    frames = model.observation_normalizer(observation).flatten(1)
    expected = model.predict(torch.from_numpy(inputs["x"]), level, frames)
    found = run(make_engine(name, program), inputs)["output"]
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_new_weights_are_never_served_from_an_old_export() -> None:
    model = tiny_model()
    make_engine("onnx", program_of(model, 1))
    with torch.no_grad():
        model.network.head.bias += 0.5  # type: ignore[union-attr, operator]
    assert_agree("onnx", program_of(model, 1), rows=1)


def test_a_model_is_exported_once(model: DiffusionModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exporting takes seconds; the start of an episode and the control step share one export."""
    kept = make_engine("onnx", program_of(model, 1))

    def export(*args: object, **kwargs: object) -> None:
        raise AssertionError("exported again")

    monkeypatch.setattr(torch.onnx, "export", export)
    assert make_engine("onnx", program_of(model, 5)).parity < 1e-5
    assert make_engine("openvino", program_of(model, 1)).parity < 1e-5
    assert kept.parity < 1e-5


def test_building_an_engine_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    make_engine("onnx", program_of(tiny_model(), 1))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("value", [0.5, np.nan])
def test_an_engine_with_other_results_is_refused(
    model: DiffusionModel, monkeypatch: pytest.MonkeyPatch, value: float
) -> None:
    def change(output: np.ndarray) -> None:
        output += value

    monkeypatch.setattr(engine_module, "_build", lambda name, program: Changed(program, change))
    with pytest.raises(ValueError, match=r"'onnx' differs from eager PyTorch by (nan|\d)"):
        make_engine("onnx", program_of(model, 1))


def test_the_difference_covers_several_rows_in_the_outputs_units(model: DiffusionModel) -> None:
    """An engine that is right for one row and wrong for three has to be found out."""
    program = program_of(model, 1)
    program = replace(program, outputs={"window": Port(program.outputs["window"].shape, scale=4)})

    def change(output: np.ndarray) -> None:
        output += 2 * (len(output) == 3)

    engine, eager = Changed(program, change), EagerEngine(program)
    assert max_difference(engine, EagerEngine(program), program) == pytest.approx(0.5, abs=1e-6)
    assert max_difference(eager, EagerEngine(program), program) == 0.0


def test_an_unknown_engine_gets_the_nearest_name(model: DiffusionModel) -> None:
    with pytest.raises(
        ValueError,
        match=r"no engine 'openvin' \(did you mean openvino\?\)",
    ):
        make_engine("openvin", program_of(model, 1))


@pytest.mark.parametrize("name", RUNTIMES)
def test_a_missing_runtime_names_the_extra(
    model: DiffusionModel, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(bound_module, "find_spec", lambda package: None)
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
    assert installed_engines()[0] == "eager"
    assert set(installed_engines()) <= set(ENGINES.names)
