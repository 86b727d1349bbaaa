"""Bugs B1 to B12 of the Streaming Diffusion Policy's official code, which must not come back.

Each test tells what the official code does and, where that fits in a few lines, runs it beside
ours, to show that the test would notice. B9 is in test_train_loop.py, B11 in test_windows.py.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import cycle

import numpy as np
import pytest
import torch
from tiny import (
    SPEC,
    FakeNetwork,
    constant_network,
    normalised,
    observe,
    plan_at,
    stream,
    support,
    tiny_model,
)
from torch import Tensor

from hotloop.decoding.rolling import Ladder, LevelMixture
from hotloop.decoding.schedules import NoiseSchedule
from hotloop.policies.diffusion.config import StreamingSampling
from hotloop.policies.diffusion.streaming import StreamingDiffusionPolicy
from hotloop.train.config.compose import choices, compose
from hotloop.train.config.training import TrainConfig

ZERO = StreamingSampling(num_execute=4, start="zero")
DENOISE = replace(ZERO, start="denoise")
CONSTANT = replace(ZERO, start="constant", start_key="observation.position")


def past_slot_variance(policy_class: type[StreamingDiffusionPolicy]) -> np.ndarray:
    """Variance of the past slots at the second control step, relative to what they are labelled."""
    network = constant_network(24)
    model = tiny_model(num_obs_steps=3, horizon=10, network=network, ladders=("4x2",))
    stream(policy_class(model, SPEC, DENOISE), list(range(500)), 2, num_obs_steps=3)
    second = network.calls[24]
    return second.x[:, :2].var(axis=0) / (1 - model.schedule.alpha_bar[second.level[0, 0]])


def test_b1_executed_actions_are_noised_again() -> None:
    """`add_noise` returns its result and the official code drops it.

    So the past slots hold clean actions while the network is told that they are half noise, at
    every control step: a mismatch with training that no shape or type reveals.
    """

    class DropsTheNoise(StreamingDiffusionPolicy):
        def __init__(self, *args: object) -> None:
            super().__init__(*args)  # type: ignore[arg-type]
            self.emit.signal, self.emit.sigma = 1.0, 0.0

    np.testing.assert_allclose(past_slot_variance(StreamingDiffusionPolicy), 1, atol=0.3)
    assert (past_slot_variance(DropsTheNoise) < 1e-3).all()


def test_b2_few_calls_still_start_from_the_levels_of_pure_noise() -> None:
    """With 16 inference steps the official buffer runs on levels 0 to 15 out of 100.

    The network, the alphas and the noise take these numbers for training timesteps, while DDIM
    jumps by 6 of them: pure noise is labelled as almost clean, and what comes out has a fifth of
    the spread of the data. Ours strides through the training levels.
    """
    mean, std, schedule = 0.1, 0.2, NoiseSchedule(100)

    def best(x: Tensor, level: Tensor) -> Tensor:
        alpha_bar = torch.from_numpy(schedule.alpha_bar).float()[level][..., None]
        gain = std**2 * alpha_bar.sqrt() / (alpha_bar * std**2 + 1 - alpha_bar)
        return mean + gain * (x - alpha_bar.sqrt() * mean)

    network = FakeNetwork(100, lambda x, level, observation: best(x, level))
    model = tiny_model(num_levels=100, ladders=("4x2",), network=network)
    policy = StreamingDiffusionPolicy(model, SPEC, replace(DENOISE, calls_per_step=8))
    plans = stream(policy, list(range(300)), 4)
    spread = normalised(model, plans[-1].actions[:, :4]).std()
    assert network.calls[-8].level.max() == 100
    assert 0.75 * std < spread < 1.1 * std

    generator = torch.Generator().manual_seed(0)
    x = emitted = torch.randn(1000, 2, 1, generator=generator)
    for _ in range(4):
        for call in range(8):
            level = torch.tensor([8, 16]) - call
            alpha_bar = torch.from_numpy(schedule.alpha_bar).float()
            signal, sigma = alpha_bar[level].sqrt(), (1 - alpha_bar[level]).sqrt()
            jumped = alpha_bar[(level - 6).clamp(0)]
            clean = best(x, level.expand(1000, 2))[..., 0]
            noise = (x[..., 0] - signal * clean) / sigma
            x = (jumped.sqrt() * clean + (1 - jumped).sqrt() * noise)[..., None]
        emitted, fresh = x[:, :1], torch.randn(1000, 1, 1, generator=generator)
        x = torch.cat([x[:, 1:], fresh], dim=1)
    assert emitted.std() < 0.25 * std


def second_episode_differs(policy: StreamingDiffusionPolicy) -> bool:
    first = [plan.actions for plan in stream(policy, [1, 2], 3)]
    second = [plan.actions for plan in stream(policy, [1, 2], 3)]
    return not np.array_equal(first, second)


def test_b3_resetting_the_policy_forgets_the_buffer() -> None:
    """Official runners call `policy.reset()`, but what forgets the buffer is `reset_buffer()`.

    On Robomimic the second half of the test episodes therefore starts from the last buffer of the
    first half.
    """

    class ResetsNothing(StreamingDiffusionPolicy):
        def reset(self, seeds: np.ndarray, rows: np.ndarray | None = None) -> None:
            stale = self._buffers.windows
            super().reset(seeds, rows)
            if len(stale) == len(seeds):
                self._buffers.windows = stale
                self._buffers.expect(list(range(len(seeds))), [0] * len(seeds))

    ours = StreamingDiffusionPolicy(tiny_model(), SPEC, ZERO)
    assert not second_episode_differs(ours)
    started = stream(ours, [1, 2], 1)[0].actions
    ours.reset(np.array([1, 2]), np.arange(2))
    ours.reset(np.array([3]), np.array([1]))
    again = ours.plan(observe([0, 0], np.arange(2)), np.array([4, 4]))  # where it left off
    np.testing.assert_array_equal(again.actions[0], started[0])
    assert not np.isclose(again.actions[1], started[1]).all()
    assert second_episode_differs(ResetsNothing(tiny_model(), SPEC, ZERO))


def test_b4_the_constant_start_is_not_the_zero_start() -> None:
    """The official "constant" start reads the action part of the conditioning, which is all zeros.

    So it was identical to "zero", and the published tie between the two says nothing.
    """
    first = {}
    for sampling in (ZERO, CONSTANT):
        policy = StreamingDiffusionPolicy(tiny_model(), SPEC, sampling)
        first[sampling.start] = stream(policy, [5], 1)[0].actions
    same = np.isclose(first["zero"], first["constant"])
    assert same.mean() < 0.3, "only actions at their bounds may coincide"


def test_b4_a_denoised_first_chunk_is_not_denoised_twice() -> None:
    """The official "denoise" start labels its clean first chunk N / h and denoises it again."""
    network = constant_network(24)
    policy = StreamingDiffusionPolicy(tiny_model(network=network), SPEC, DENOISE)
    plan = stream(policy, [5], 1)[0]
    assert len(network.calls) == 24  # officially 24 + 12
    assert plan.num_ready[0] == 4


def test_b5_noise_levels_that_chunks_cannot_share_are_refused() -> None:
    """With N = 100 and h = 3 the official ladder drifts: 33, 33, 34 calls, from ever new levels."""

    def official_ladder(chunk: int) -> int:
        return 100 * (chunk + 1) // 3

    levels, calls, starts = [official_ladder(c) for c in range(3)], [], set()
    for _ in range(6):
        starts.add(tuple(levels))
        calls.append(levels[0])
        levels = [level - levels[0] for level in levels[1:]] + [100]
    assert calls == [33, 33, 34, 33, 33, 34]
    assert len(starts) == 3
    with pytest.raises(ValueError, match="100 noise levels cannot be shared by 3 chunks"):
        tiny_model(horizon=16, num_levels=100, ladders=("5x3",))
    for num_chunks in (2, 4, 5):
        ladder = Ladder(17, 1, 3, num_chunks, 100)
        end = ladder.levels(ladder.levels_per_step)[1:]
        last = 3 * num_chunks
        np.testing.assert_array_equal(end[3:last], ladder.levels()[1 : last - 2])


def test_b6_positions_beyond_the_last_chunk_are_not_denoised_in_vain() -> None:
    """Tp = 20 with Ta = 8 leaves three positions that the official code denoises, then drops.

    Ours leaves them as they are until a chunk reaches them.
    """
    network = constant_network(24)
    model = tiny_model(horizon=12, ladders=("4x2",), network=network)
    stream(StreamingDiffusionPolicy(model, SPEC, replace(ZERO, calls_per_step=4)), [0, 1], 2)
    first, last, following = network.calls[0].x, network.calls[3].x, network.calls[4].x
    np.testing.assert_array_equal(last[:, 9:], first[:, 9:])
    np.testing.assert_array_equal(following[:, 5:8], first[:, 9:])


def test_b6_chunks_that_do_not_fit_are_an_error_and_not_a_slow_policy() -> None:
    """Official Tp = 16 with Ta = 8 silently gives one chunk, so no speed-up.

    The check that should refuse it formats its message wrongly and raises TypeError instead.
    """
    with pytest.raises(ValueError, match="2 chunks of 8 actions do not fit the 15 steps"):
        tiny_model(horizon=16, ladders=("8x2",))


# Every file of both groups, which fill parts of a configuration that have nothing in common.
PAIRS = [*zip(cycle(choices("policy")), choices("task"), strict=False)]


@pytest.mark.parametrize(("policy", "task"), PAIRS)
def test_b7_every_shipped_configuration_composes(policy: str, task: str) -> None:
    """An official YAML file points to a module that the repository does not have."""
    config = compose("train", [f"policy={policy}", f"task={task}"], TrainConfig)
    assert config.policy.kind == policy
    assert config.task.name == task


def test_b7_a_window_of_another_length_is_refused_by_name() -> None:
    """An official script feeds 8 steps to an embedding of 20 and dies of a matrix shape."""
    model = tiny_model()
    message = "built for a window of 9 steps, got 8"
    with pytest.raises(ValueError, match=message):
        model.predict(torch.zeros(1, 8, 2), torch.ones(1, 8), torch.zeros(1, 10))


def test_b8_the_number_of_calls_is_known_before_any_data() -> None:
    """The official loop compares a tensor after every call, which waits for the device each time.

    It also timed the first call. Here the loop's length is a plain integer, whatever the data.
    """
    network = constant_network(24, value=float("nan"))
    policy = StreamingDiffusionPolicy(tiny_model(network=network), SPEC, ZERO)
    assert policy.program.num_calls == 12
    stream(policy, [0], 3)
    assert len(network.calls) == 3 * 12


def test_b10_the_noise_scheme_is_drawn_for_each_sample() -> None:
    """Officially drawn once per batch: a batch is all chunk-wise or all constant."""
    ladder = Ladder(17, 1, 8, 2, 120)
    mixture, generator = LevelMixture(17, 120, (ladder,), 0.8), torch.Generator().manual_seed(0)
    trained = support([ladder])

    def share_on_ladder(levels: Tensor) -> float:
        return float(np.mean([tuple(row) in trained for row in levels.tolist()]))

    ours = [share_on_ladder(mixture.draw(256, generator)) for _ in range(20)]
    assert 0.65 < min(ours) < max(ours) < 0.95
    official = [float(torch.rand((), generator=generator) < 0.8) for _ in range(20)]
    assert set(official) == {0.0, 1.0}


def test_b12_rows_of_one_call_may_stand_anywhere_in_their_episodes() -> None:
    """The official buffer is one tensor with one level vector: all environments march in step."""
    model = tiny_model()
    together = StreamingDiffusionPolicy(model, SPEC, CONSTANT)
    stream(together, [1, 2, 3], 2)
    together.reset(np.array([8]), np.array([0]))
    rows = np.arange(3)
    mixed = together.plan(observe([0, 8, 8], rows), np.array([0, 8, 8]))
    restarted = StreamingDiffusionPolicy(model, SPEC, CONSTANT)
    restarted.reset(np.array([8]))
    continued = StreamingDiffusionPolicy(model, SPEC, CONSTANT)
    expected = stream(continued, [1, 2, 3], 3)[2].actions
    np.testing.assert_allclose(mixed.actions[1:], expected[1:], atol=1e-5)
    alone = plan_at(restarted, 0, np.array([0]))
    np.testing.assert_allclose(mixed.actions[:1], alone.actions, atol=1e-5)
