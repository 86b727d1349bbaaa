"""Training windows: which steps they hold, and that every one of them gets its turn."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hotloop.policies.diffusion.model import ModelConfig
from hotloop.train.data.episodes import Episodes
from hotloop.train.data.windows import EpochSampler, Windows, step_generator
from hotloop.train.families.diffusion import make_windows

LENGTHS = (1, 2, 7, 12)


def counted_episodes(lengths: tuple[int, ...] = LENGTHS) -> Episodes:
    """Episodes whose every value is 100 times the episode plus the step."""
    values = np.concatenate([100 * e + np.arange(n) for e, n in enumerate(lengths)])
    return Episodes(
        observations={
            "observation.state": np.stack([values, -values], axis=1).astype(np.float64),
            "observation.unused": values[:, None].astype(np.float32),
        },
        actions=values[:, None].astype(np.float32),
        episode_ends=np.cumsum(lengths),
    )


def cut(num_obs_steps: int, horizon: int) -> Windows:
    return Windows(counted_episodes(), ("observation.state",), num_obs_steps, horizon)


@given(st.integers(1, 4), st.integers(0, 12))
def test_a_window_is_what_clamping_each_step_to_its_episode_gives(To: int, more: int) -> None:
    windows = cut(To, To + more)
    batch = windows.gather(torch.arange(len(windows)))
    row = 0
    for episode, length in enumerate(LENGTHS):
        for step in range(length):
            offsets = np.arange(To + more) - (To - 1)
            expected = 100 * episode + np.clip(step + offsets, 0, length - 1)
            np.testing.assert_array_equal(batch.actions[row, :, 0], expected)
            np.testing.assert_array_equal(
                batch.observation["observation.state"][row, :, 0], expected[:To]
            )
            row += 1
    assert row == len(windows)


def test_the_newest_observation_and_the_current_action_are_of_one_step() -> None:
    batch = cut(num_obs_steps=3, horizon=8).gather(torch.arange(sum(LENGTHS)))
    newest = batch.observation["observation.state"][:, -1, 0]
    assert torch.equal(batch.actions[:, 2, 0], newest)
    assert torch.equal(newest, torch.from_numpy(counted_episodes().actions[:, 0]))


def test_a_batch_has_the_shapes_the_model_reads() -> None:
    batch = cut(num_obs_steps=2, horizon=5).gather(torch.tensor([4, 4, 0]))
    assert list(batch.observation) == ["observation.state"]
    assert batch.observation["observation.state"].shape == (3, 2, 2)
    assert batch.actions.shape == (3, 5, 1)
    assert batch.actions.dtype == batch.observation["observation.state"].dtype == torch.float32


def test_b11_every_step_of_an_episode_is_current_exactly_once() -> None:
    """Bug B11 of the official code: windows end Ta - 1 steps after the episode, not Tp - To.

    With Tp = 16, To = 2 and Ta = 8 the last 7 steps of an episode are then never current, so late
    chunks are hardly trained near its end.
    """
    windows = cut(num_obs_steps=2, horizon=16)
    current = windows.gather(torch.arange(len(windows))).actions[:, 1, 0].numpy()
    np.testing.assert_array_equal(current, counted_episodes().actions[:, 0])
    official_starts = range(-1, 12 - 16 + 7 + 1)  # pad_before To - 1, pad_after Ta - 1
    official_current = {start + 1 for start in official_starts}
    assert official_current == set(range(5))  # of 12 steps
    assert set(current[-12:]) == set(300.0 + np.arange(12))


def test_a_later_step_stays_inside_the_episode() -> None:
    windows = cut(num_obs_steps=2, horizon=5)
    current = torch.tensor([0, 1, 3, 9, 10, 21])
    np.testing.assert_array_equal(windows.later(current, 3), [0, 2, 6, 9, 13, 21])
    np.testing.assert_array_equal(windows.later(current, 0), current)


@given(st.integers(1, 30), st.integers(1, 50))
def test_an_epoch_visits_each_sample_exactly_once(num_samples: int, batch_size: int) -> None:
    sampler = EpochSampler(num_samples, batch_size, seed=1)
    stream = torch.cat([sampler.indices(step) for step in range(3 * num_samples // batch_size + 1)])
    for epoch in range(len(stream) // num_samples):
        part = stream[epoch * num_samples : (epoch + 1) * num_samples]
        assert torch.equal(part.sort().values, torch.arange(num_samples))
    assert all(len(sampler.indices(step)) == batch_size for step in range(3))


def test_the_order_is_a_function_of_the_step_alone() -> None:
    """A resumed run asks for step 1000 first, and steps may be asked for in any order."""
    sampler = EpochSampler(17, 5, seed=3)
    forward = [sampler.indices(step) for step in range(20)]
    backward = [sampler.indices(step) for step in reversed(range(20))][::-1]
    fresh = [EpochSampler(17, 5, seed=3).indices(step) for step in range(20)]
    for one, two, three in zip(forward, backward, fresh, strict=True):
        assert torch.equal(one, two)
        assert torch.equal(one, three)


def test_epochs_and_seeds_have_orders_of_their_own() -> None:
    def order(seed: int, epoch: int) -> list[int]:
        return EpochSampler(50, 50, seed).indices(epoch).tolist()

    assert len({tuple(order(seed, epoch)) for seed in range(3) for epoch in range(3)}) == 9


@pytest.mark.parametrize("other", [(1, 2, "draw"), (0, 3, "draw"), (0, 2, "visit")])
def test_each_seed_step_and_purpose_has_its_own_random_numbers(other: tuple[int, int, str]) -> None:
    def numbers(seed: int, step: int, stream: str) -> torch.Tensor:
        return torch.rand(8, generator=step_generator(seed, step, stream))

    assert torch.equal(numbers(0, 2, "draw"), numbers(0, 2, "draw"))
    assert not torch.isclose(numbers(*other), numbers(0, 2, "draw")).any()


def test_images_stay_bytes() -> None:
    pixels = np.arange(4 * 2 * 3 * 3, dtype=np.uint8).reshape(4, 2, 3, 3)
    actions = np.zeros((4, 1), np.float32)
    episodes = Episodes({"observation.image": pixels}, actions, np.array([4]))
    batch = Windows(episodes, ("observation.image",), 2, 3).gather(torch.tensor([2]))
    assert batch.observation["observation.image"].dtype == torch.uint8
    np.testing.assert_array_equal(batch.observation["observation.image"][0], pixels[1:3])


def test_windows_share_the_memory_of_their_episodes() -> None:
    """What is mapped from a file stays there."""
    episodes = counted_episodes()
    windows = Windows(episodes, ("observation.unused",), 1, 2)
    unused = windows.observations["observation.unused"].numpy()
    assert np.shares_memory(unused, episodes.observations["observation.unused"])
    assert np.shares_memory(windows.actions.numpy(), episodes.actions)


def test_episodes_shorter_than_a_window_are_counted_and_not_lost(caplog) -> None:
    windows = cut(num_obs_steps=2, horizon=8)
    assert windows.num_short == 3
    current = windows.gather(torch.arange(len(windows))).actions[:, 1, 0].numpy()
    np.testing.assert_array_equal(current, counted_episodes().actions[:, 0])
    make_windows(ModelConfig(horizon=8, num_obs_steps=2), counted_episodes())
    (record,) = caplog.records
    assert record.getMessage() == (
        "3 of 4 episodes are shorter than the horizon of 8 steps; their windows repeat the first "
        "and last step"
    )
