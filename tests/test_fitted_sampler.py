"""Fitted steps: at their initial values the samplers they generalise; stored, exported, refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny import SPEC, constant_network, plan_at, stream, tiny_model

from hotloop.decoding.conformance import PolicyConformance
from hotloop.decoding.fitted import (
    FITTED,
    check_falling,
    ddim_scalars,
    fitted_coefficients,
    fitted_step,
)
from hotloop.decoding.samplers import PREDICTIONS
from hotloop.decoding.schedules import NoiseSchedule
from hotloop.policies.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from hotloop.policies.diffusion.config import DiffusionSampling, ModelConfig
from hotloop.policies.diffusion.model import DiffusionModel
from hotloop.policies.diffusion.policy import DiffusionPolicy
from hotloop.policies.export.write import export_policy
from hotloop.policies.programs.engines.engine import installed_engines

SCHEDULE = NoiseSchedule(100)
FOUR = DiffusionSampling(4, 4, FITTED)
every_prediction = pytest.mark.parametrize("prediction", PREDICTIONS)


def fitted_model(shifted: bool = True, **choices) -> DiffusionModel:
    """A tiny model with fitted steps for 1 and 4 calls, at their initial values or elsewhere."""
    plain = tiny_model(ladders=(), **choices)
    model = DiffusionModel(
        replace(plain.config, fitted_calls=(1, 4)), plain.observation_shapes, SPEC.size
    )
    model.network = plain.network
    model.load_state_dict({**model.state_dict(), **plain.state_dict()})
    if shifted:
        model.solver.get_buffer("4").copy_(
            torch.tensor([[23.5, 14.2, 7.0, 0.6], [1.1, 0.9, 1.0, 1.05], [0.0, 0.5, -0.3, 0.4]])
        )
    return model.eval().requires_grad_(False)


class TestFittedPolicyContract(PolicyConformance):
    @pytest.fixture
    def policy(self) -> DiffusionPolicy:
        return DiffusionPolicy(fitted_model(), SPEC, FOUR)


@every_prediction
@pytest.mark.parametrize("jump", [False, True])
@pytest.mark.parametrize("calls", [1, 4])
def test_initial_scalars_are_ddim_bit_for_bit(prediction: str, jump: bool, calls: int) -> None:
    model = fitted_model(shifted=False, prediction=prediction, jump=jump)
    plans = [
        stream(DiffusionPolicy(model, SPEC, DiffusionSampling(4, calls, update)), [1, 2], 2)
        for update in (FITTED, "ddim")
    ]
    for fitted, ddim in zip(*plans, strict=True):
        np.testing.assert_array_equal(fitted.actions, ddim.actions)


def multistep_memory(level: torch.Tensor) -> torch.Tensor:
    """h_i / (2 h_(i-1)), but 0 in the first step and in the last, to level 0."""
    signal, sigma = SCHEDULE.between(level)
    length = (signal / sigma).log().diff()
    memory = torch.zeros(len(level), dtype=torch.float64)
    memory[1:-1] = length[1:] / (2 * length[:-1])
    return memory


@every_prediction
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # theirs
def test_multistep_memory_is_the_two_step_solver_of_diffusers(prediction: str) -> None:
    from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler

    names: dict[str, Any] = {"velocity": "v_prediction"}
    theirs = DPMSolverMultistepScheduler(
        100,
        beta_schedule="squaredcos_cap_v2",
        prediction_type=names.get(prediction, prediction),
        timestep_spacing="trailing",
        final_sigmas_type="zero",
    )
    theirs.set_timesteps(5)
    levels = theirs.timesteps.numpy() + 1
    scalars = ddim_scalars(np.append(levels, 0))
    scalars[2] = multistep_memory(scalars[0])
    coefficients = fitted_coefficients(SCHEDULE, scalars, prediction)
    generator = torch.Generator().manual_seed(0)
    x = last = expected = torch.randn(2, 4, 3, generator=generator, dtype=torch.float64)
    for timestep, step in zip(theirs.timesteps, coefficients, strict=True):
        output = 0.3 * torch.sin(5 * x) + 0.1
        x, last = fitted_step(x, output, last, step, clip=None)
        expected = theirs.step(output, int(timestep), expected, return_dict=False)[0]
        torch.testing.assert_close(x, expected, rtol=1e-4, atol=1e-4)


def test_gain_and_memory_change_the_clean_estimate_as_they_say() -> None:
    """One step of a network that knows the clean action lands where gain and memory say."""
    clean, last = torch.full((1, 1, 1), 0.4), torch.full((1, 1, 1), 0.1)
    scalars = torch.tensor([[60.0], [1.5], [0.25]])
    (step,) = fitted_coefficients(SCHEDULE, scalars, "sample").float()
    x = torch.full((1, 1, 1), -0.7)
    landed, remembered = fitted_step(x, clean, last, step, predicts_sample=True)
    assert float(landed) == pytest.approx(1.5 * 0.4 + 0.25 * (0.4 - 0.1), abs=1e-6)
    assert float(remembered) == pytest.approx(0.4)


def test_levels_between_integers_lie_between_them_and_have_a_gradient() -> None:
    level = torch.tensor([0.0, 0.5, 37.0, 37.25, 100.0], requires_grad=True)
    signal, sigma = SCHEDULE.between(level)
    at_integers = [0, 2, 4]
    np.testing.assert_array_equal(
        signal[at_integers].detach().numpy(), SCHEDULE.signals[[0, 37, 100]]
    )
    np.testing.assert_array_equal(
        sigma[at_integers].detach().numpy(), SCHEDULE.sigmas[[0, 37, 100]]
    )
    assert SCHEDULE.signals[38] < signal[3] < SCHEDULE.signals[37]
    torch.testing.assert_close(signal**2 + sigma**2, torch.ones(5, dtype=torch.float64))
    (gradient,) = torch.autograd.grad(signal.sum(), level)
    assert (gradient < 0).all()


def test_a_plan_makes_as_many_calls_as_it_says_and_asks_at_the_fitted_levels() -> None:
    network = constant_network(24)
    policy = DiffusionPolicy(fitted_model(network=network), SPEC, FOUR)
    stream(policy, [0], num_plans=1)
    assert [float(call.level[0, 0]) for call in network.calls] == [24, 14, 7, 1]
    assert policy.program.num_calls == 4


def checkpoint_of(model: DiffusionModel) -> Checkpoint:
    return Checkpoint("dp", model, SPEC, FOUR, {"task": "own"})


def test_fitted_steps_are_stored_with_the_weights(tmp_path: Path) -> None:
    model = fitted_model()
    save_checkpoint(tmp_path / "stored", checkpoint_of(model))
    loaded = load_checkpoint(tmp_path / "stored")
    assert loaded.model.config.fitted_calls == (1, 4)
    torch.testing.assert_close(loaded.model.fitted_scalars(4), model.fitted_scalars(4))
    plans = [stream(DiffusionPolicy(one, SPEC, FOUR), [3], 2) for one in (model, loaded.model)]
    for expected, found in zip(*plans, strict=True):
        np.testing.assert_array_equal(expected.actions, found.actions)


def test_every_engine_remembers_the_last_estimate() -> None:
    model, rows = fitted_model(prediction="epsilon"), np.arange(2)
    engines = [name for name in installed_engines() if name != "compile"]
    policies = {name: DiffusionPolicy(model, SPEC, FOUR, name) for name in engines}
    plans = {}
    for name, policy in policies.items():
        policy.reset(rows)
        plans[name] = plan_at(policy, 0, rows).actions
    for name in engines:
        np.testing.assert_allclose(plans[name], plans["eager"], atol=1e-4, err_msg=name)


def test_fitted_steps_are_exported(tmp_path: Path) -> None:
    parity = export_policy(checkpoint_of(fitted_model()), tmp_path / "out", num_steps=20)
    assert max(parity["graphs"]["max_difference"].values()) < 1e-3


def test_what_was_not_fitted_is_refused_in_one_sentence() -> None:
    plain = checkpoint_of(tiny_model(ladders=()))
    with pytest.raises(ValueError, match="this model has none; fit them with `hotloop distill"):
        plain.policy()
    fitted = checkpoint_of(fitted_model())
    for calls in (None, 2):
        with pytest.raises(ValueError, match=f"calls_per_step 1, 4, got {calls}; choose"):
            fitted.policy({"calls_per_step": calls})
    with pytest.raises(ValueError, match="spacing 'leading' has no effect with update 'fitted'"):
        fitted.policy({"spacing": "leading"})
    with pytest.raises(ValueError, match="real-time chunking needs update=ddim, got 'fitted'"):
        fitted.policy({"prefix_guidance": "vjp"})


@pytest.mark.parametrize("calls", [(0,), (25,), (2, 2)])
def test_numbers_of_calls_that_cannot_be_are_refused(calls: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="fitted_calls must be different numbers from 1 to 24"):
        ModelConfig(num_levels=24, fitted_calls=calls)


def test_levels_that_do_not_fall_are_refused() -> None:
    with pytest.raises(ValueError, match="must fall from at most 100 to above 0"):
        check_falling(SCHEDULE, torch.tensor([20.0, 30.0]))
