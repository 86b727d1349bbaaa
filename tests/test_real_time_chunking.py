"""Chunks that continue each other although inference takes time."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from benchmarks.synchronous import SynchronousPolicy
from tiny import SHAPES, SPEC, FakeNetwork, tiny_model

from hotloop.decoding import Executor, Observation
from hotloop.decoding.conformance import PolicyConformance
from hotloop.decoding.prefix_guidance import guided_clean, prefix_weights
from hotloop.decoding.schedules import NoiseSchedule
from hotloop.policies.checkpoint import load_checkpoint
from hotloop.policies.diffusion.config import DiffusionSampling
from hotloop.policies.diffusion.policy import DiffusionPolicy
from hotloop.policies.diffusion.real_time_chunking import RealTimeChunkingPolicy


class Gaussian(FakeNetwork):
    """A network that can be differentiated; the recorded calls are not needed."""

    def denoise(self, x, level_modulation, observation_modulation):
        level = (level_modulation * self.num_levels).round().long()
        return self.function(x, level, observation_modulation)


def observation(step: int, rows: int = 1) -> Observation:
    frames = {key: np.full((rows, 2, *shape), 0.3, np.float32) for key, shape in SHAPES.items()}
    return Observation(frames, np.full(rows, step), np.arange(rows))


def policy(guidance: str = "identity", calls: int = 10) -> RealTimeChunkingPolicy:
    torch.manual_seed(0)
    sampling = DiffusionSampling(num_execute=4, calls_per_step=calls, prefix_guidance=guidance)
    return RealTimeChunkingPolicy(tiny_model(), SPEC, sampling)


class TestRealTimeChunkingPolicy(PolicyConformance):
    @pytest.fixture(params=["identity", "vjp"])
    def policy(self, request):
        return policy(request.param)


class TestSynchronousPolicy(PolicyConformance):
    @pytest.fixture
    def policy(self):
        return SynchronousPolicy(policy(), latency=2)


def test_weights_are_one_during_inference_and_fall_to_zero() -> None:
    weights = prefix_weights(horizon=16, delay=3, num_execute=5)
    assert (weights[:3] == 1).all() and (weights[11:] == 0).all()
    assert (np.diff(weights[2:12]) < 0).all()
    # The formula of the paper, written out for one place.
    c = (16 - 5 - 7) / (16 - 5 - 3 + 1)
    assert weights[7] == pytest.approx(c * (np.exp(c) - 1) / (np.e - 1))


@pytest.mark.parametrize(("delay", "execute"), [(-1, 4), (13, 4), (0, 0), (0, 17)])
def test_a_delay_that_leaves_nothing_to_decide_is_refused(delay, execute) -> None:
    with pytest.raises(ValueError, match="0 <= delay <= horizon - num_execute"):
        prefix_weights(16, delay, execute)


def test_vjp_guidance_is_the_closed_form_of_a_gaussian() -> None:
    """For x0 ~ N(0, S) the clean estimate is M x, so the correction is w M^T W (old - M x)."""
    generator = torch.Generator().manual_seed(0)
    root = torch.randn(6, 6, generator=generator, dtype=torch.float64)
    covariance = root @ root.T / 6
    a = 0.8
    s2 = 1 - a * a
    M = a * covariance @ torch.linalg.inv(a * a * covariance + s2 * torch.eye(6))
    x, old = torch.randn(2, 3, 6, 1, generator=generator, dtype=torch.float64)
    weights = torch.tensor(prefix_weights(6, 2, 2)).expand(3, 6)[..., None]

    def predict(x: torch.Tensor) -> torch.Tensor:
        return torch.einsum("ij,bjd->bid", M, x)

    error = weights * (old - predict(x))
    expected = predict(x) + 1 / a * torch.einsum("ji,bjd->bid", M, error)
    found = guided_clean(predict, x, old, weights, a, "vjp")
    torch.testing.assert_close(found, expected)
    blended = guided_clean(predict, x, old, weights, a, "identity")
    torch.testing.assert_close(blended, (1 - weights) * predict(x) + weights * old)


def test_both_guidances_agree_for_a_unit_gaussian() -> None:
    a, x, old = 0.6, torch.randn(2, 8, 2), torch.randn(2, 8, 2)
    weights = torch.rand(2, 8, 1)
    results = [guided_clean(lambda x: a * x, x, old, weights, a, g) for g in ("identity", "vjp")]
    torch.testing.assert_close(*results)


def smooth_gaussian(guidance: str) -> tuple[RealTimeChunkingPolicy, np.ndarray]:
    """A policy that knows that actions are a smooth Gaussian process, and its covariance."""
    index = np.arange(9)
    covariance = 0.04 * np.exp(-(((index[:, None] - index) / 3) ** 2)) + 1e-4 * np.eye(9)
    alpha_bar = NoiseSchedule(24).alpha_bar

    def clean(x: torch.Tensor, level: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
        a2 = alpha_bar[int(level[0, 0])]
        M = np.sqrt(a2) * covariance @ np.linalg.inv(a2 * covariance + (1 - a2) * np.eye(9))
        return torch.einsum("ij,bjd->bid", torch.as_tensor(M, dtype=x.dtype), x)

    model = tiny_model(network=Gaussian(24, clean))
    sampling = DiffusionSampling(num_execute=4, calls_per_step=24, prefix_guidance=guidance)
    return RealTimeChunkingPolicy(model, SPEC, sampling), covariance


@pytest.mark.parametrize("guidance", ["identity", "vjp"])
def test_actions_that_run_during_inference_are_those_of_the_old_plan(guidance) -> None:
    one, _ = smooth_gaussian(guidance)
    one.reset(np.arange(20))
    rows = np.arange(20)
    first = one.plan(observation(0, 20), np.zeros(20, np.int64))
    second = one.plan(observation(4, 20), np.full(20, 7))
    gap = np.abs(second.actions[:, :3] - first.actions[:, 4:7])
    one.reset(rows + 100)
    free = one.plan(observation(4, 20), np.full(20, 7))
    unguided = np.abs(free.actions[:, :3] - first.actions[:, 4:7])
    assert gap.mean() < 0.2 * unguided.mean()


def test_only_the_vjp_carries_the_old_plan_on_to_the_actions_that_are_free() -> None:
    """Neighbours are correlated, so a free action beside a raised committed one has to rise."""
    index = torch.arange(6.0)
    covariance = torch.exp(-(((index[:, None] - index) / 2) ** 2))
    a = 0.7
    M = a * covariance @ torch.linalg.inv(a * a * covariance + (1 - a * a) * torch.eye(6))
    x, old = torch.zeros(1, 6, 1), torch.ones(1, 6, 1)
    weights = torch.tensor([1.0, 1, 1, 0, 0, 0])[None, :, None]

    def predict(x: torch.Tensor) -> torch.Tensor:
        return torch.einsum("ij,bjd->bid", M, x)

    moved = {
        guidance: guided_clean(predict, x, old, weights, a, guidance)[0, :, 0]
        for guidance in ("identity", "vjp")
    }
    assert (moved["identity"][3:] == 0).all() and (moved["identity"][:3] == 1).all()
    assert moved["vjp"][3] > 0.2 and moved["vjp"][3] > moved["vjp"][5]


def test_without_an_old_plan_it_is_a_diffusion_policy() -> None:
    torch.manual_seed(0)
    model, sampling = tiny_model(), DiffusionSampling(num_execute=4, calls_per_step=10)
    plans = []
    for made in (
        DiffusionPolicy(model, SPEC, sampling),
        RealTimeChunkingPolicy(model, SPEC, replace(sampling, prefix_guidance="vjp")),
    ):
        made.reset(np.array([1, 2]))
        plans.append(made.plan(observation(0, rows=2), np.zeros(2, np.int64)).actions)
    np.testing.assert_allclose(*plans, atol=1e-4)


def test_a_checkpoint_is_told_to_by_its_sampling_choices() -> None:
    checkpoint = load_checkpoint("pusht-dp")
    made = checkpoint.policy({"prefix_guidance": "vjp"})
    assert isinstance(made, RealTimeChunkingPolicy)
    assert type(checkpoint.policy({})) is DiffusionPolicy
    with pytest.raises(ValueError, match="real-time chunking runs on engine 'eager', got 'onnx'"):
        checkpoint.policy({"prefix_guidance": "vjp"}, "onnx")
    with pytest.raises(ValueError, match="real-time chunking needs update=ddim, got 'ddpm'"):
        checkpoint.policy({"prefix_guidance": "vjp", "update": "ddpm"})
    with pytest.raises(ValueError, match="num_execute must be between 1 and 16, got 17"):
        checkpoint.policy({"prefix_guidance": "vjp", "num_execute": 17})
    with pytest.raises(ValueError, match=r"'sdp' has no sampling choices \['prefix_guidance'\]"):
        load_checkpoint("pusht-sdp").policy({"prefix_guidance": "vjp"})


def test_an_unknown_guidance_is_refused() -> None:
    with pytest.raises(
        ValueError, match=r"prefix_guidance must be one of \('', .*'vjp'\), got 'magic'"
    ):
        policy("magic")
    with pytest.raises(ValueError, match="guidance must be one of"):
        guided_clean(lambda x: x, *[torch.zeros(1, 2, 1)] * 3, 1.0, "magic")


def test_a_synchronous_policy_stands_still_while_it_thinks() -> None:
    inner = policy()
    waiting = SynchronousPolicy(inner, latency=3)
    executor = Executor(waiting)
    executor.reset([5])
    frame = {key: value[:, -1] for key, value in observation(0).frames.items()}
    actions = np.concatenate([executor.act(frame) for _ in range(21)])
    # Four actions, three of standing still, then three still ones and four new ones.
    assert (actions[3:7] == actions[3]).all()
    assert (actions[7:10] == actions[6]).all() and (actions[10] != actions[9]).any()
    assert (actions[14:17] == actions[13]).all()
    with pytest.raises(ValueError, match="latency must be 0 or more"):
        SynchronousPolicy(inner, -1)


def test_without_latency_waiting_changes_nothing() -> None:
    frame = {key: value[:, -1] for key, value in observation(0).frames.items()}
    streams = []
    for wrap in (lambda p: p, lambda p: SynchronousPolicy(p, 0)):
        executor = Executor(wrap(policy()))
        executor.reset([5])
        streams.append(np.concatenate([executor.act(frame) for _ in range(12)]))
    np.testing.assert_array_equal(*streams)
