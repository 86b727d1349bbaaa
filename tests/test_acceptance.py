"""Learned acceptance: exact without thresholds that tokens exceed, and what fitting them does."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_vla import SPEC, frames, prompt_of, random_blocks, tiny_model
from tiny_vla_data import CONFIG, demonstrations, windows_of
from torch import Tensor

from hotloop.decoding.acceptance import Acceptance, Block, jacobi_accepting, margins
from hotloop.decoding.interface import Observation
from hotloop.decoding.jacobi import ExitRule, jacobi_committed
from hotloop.decoding.token_model import RecomputingModel
from hotloop.policies.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from hotloop.policies.vla import TokenDecodingConfig, VlaModel, VlaPolicy
from hotloop.policies.vla.graphs import GraphPasses
from hotloop.policies.vla.session import block_logits
from hotloop.policies.vla.token_engine import TokenEngine
from hotloop.train.cli import main
from hotloop.train.data.episodes import Episodes
from hotloop.train.data.write import write_episodes
from hotloop.train.families.vla import initial_vla
from hotloop.train.objectives.token_acceptance import (
    AcceptanceConfig,
    Observed,
    fit_acceptance,
    fitted_threshold,
    followed_plans,
    split,
)

NOTHING = Acceptance((torch.inf,))


def test_margins_are_distances_to_the_largest_rival() -> None:
    logits = torch.tensor([[1.0, 5.0, 4.5, 2.0], [7.0, 0.0, 6.0, 3.0]])
    assert margins(logits).tolist() == [0.5, 1.0]
    assert margins(logits, reach=1).tolist() == [3.0, 1.0]
    assert margins(logits[None], reach=2)[0].tolist() == [torch.inf, 4.0]


@pytest.mark.parametrize("max_calls", [None, 1, 5])
@pytest.mark.parametrize("num_rows", [1, 3])
def test_where_no_token_is_accepted_it_is_jacobi_decoding(
    num_rows: int, max_calls: int | None
) -> None:
    """Token for token and forward for forward, so greedy decoding's tokens without a limit."""
    model = tiny_model(dtype=torch.float64)
    for seed in range(2):
        prompt, begin = prompt_of(model, num_rows, seed), model.begin(num_rows)
        guess = random_blocks(model, num_rows, seed)
        expected = jacobi_committed(model.token_model(prompt), begin, guess, ExitRule(max_calls))
        behind = model.token_model(prompt)
        found = jacobi_accepting(behind, begin, guess, NOTHING, max_calls=max_calls)
        assert torch.equal(found.tokens, expected.tokens)
        assert torch.equal(found.num_calls, expected.num_calls)
        assert torch.equal(found.num_verified, expected.num_verified)
        assert behind.num_fed == 0
        assert max_calls or found.converged.all()


def test_where_every_token_is_accepted_one_forward_is_all() -> None:
    model = tiny_model()
    prompt, begin, guess = prompt_of(model, 3), model.begin(3), random_blocks(model, 3)
    found = jacobi_accepting(model.token_model(prompt), begin, guess, Acceptance((0.0,)))
    one = jacobi_committed(model.token_model(prompt), begin, guess, ExitRule(1))
    assert found.num_calls.tolist() == [1, 1, 1]
    assert torch.equal(found.tokens, one.tokens)
    waiting = jacobi_accepting(
        model.token_model(prompt), begin, guess, Acceptance((0.0,)), min_verified=7
    )
    assert (waiting.num_verified >= 7).all()


def test_the_decoder_is_what_its_definition_says_row_by_row() -> None:
    """Without cache, prefix or batch: read the whole block, keep, read again."""
    model, reach = tiny_model(dtype=torch.float64), 1
    acceptance = Acceptance((1.5, 1.0, 0.5), reach)
    prompt, begin, guess = prompt_of(model, 3), model.begin(3), random_blocks(model, 3)
    found = jacobi_accepting(model.token_model(prompt), begin, guess, acceptance)

    def forward(tokens: Tensor) -> Tensor:
        return block_logits(model.host, prompt, tokens)

    uncached = RecomputingModel(forward)
    again = jacobi_accepting(uncached, begin, guess, acceptance)
    assert torch.equal(found.tokens, again.tokens)
    for row in range(3):
        block, count = Block.of(guess[[row]]), 0
        while not block.kept.all():
            shifted = torch.cat([begin, guess], dim=1)[:, :-1].clone()
            shifted[row, 1:] = block.tokens[0, :-1]
            logits = forward(shifted)[[row]]
            block = block.updated(logits, acceptance.threshold(count), reach)
            count += 1
        assert torch.equal(found.tokens[row], block.tokens[0])
        assert found.num_calls[row] == count
        assert found.num_verified[row] == block.num_verified[0]
    assert len(set(found.num_calls.tolist())) > 1, "rows end at different forwards"
    assert not found.converged.all(), "something was accepted that greedy decoding has not"


def test_what_is_verified_overrules_what_was_accepted() -> None:
    logits = torch.zeros(1, 4, 5)
    for place, token in enumerate((1, 2, 3, 4)):
        logits[0, place, token] = 1.0
    block = Block(
        torch.tensor([[1, 0, 0, 0]]), torch.tensor([[True, True, True, False]]), torch.tensor([1])
    )
    block = block.updated(logits, torch.inf, 0)
    assert block.tokens.tolist() == [[1, 2, 0, 4]]
    assert block.kept.tolist() == [[True, True, True, False]]
    assert block.num_verified.tolist() == [2]


def test_prepared_passes_accept_what_a_growing_cache_does() -> None:
    model = tiny_model()
    make = partial(GraphPasses, model.host, record=lambda step, device: step)
    engine, acceptance = TokenEngine(model, make), Acceptance((1.5, 1.0, 0.5), 1)
    prompt, begin, guess = prompt_of(model, 3), model.begin(3), random_blocks(model, 3)
    expected = jacobi_accepting(model.token_model(prompt), begin, guess, acceptance)
    with torch.inference_mode():
        found = jacobi_accepting(engine.token_model(prompt), begin, guess, acceptance)
    assert torch.equal(found.tokens, expected.tokens)
    assert torch.equal(found.num_calls, expected.num_calls)
    assert torch.equal(found.num_verified, expected.num_verified)


def test_a_policy_decodes_as_its_choices_say() -> None:
    seen = {key: values[:, None] for key, values in frames(tiny_model(), 2).items()}
    observation = Observation(seen, np.array([0, 0]), np.array([0, 1]))

    def planned(**choices: Any) -> tuple[np.ndarray, list[int]]:
        policy = VlaPolicy(tiny_model(), SPEC, TokenDecodingConfig(4, **choices))
        policy.reset(np.array([5, 6]))
        plan = policy.plan(observation, observation.step)
        assert policy.decoded is not None
        return plan.actions, policy.decoded.num_calls.tolist()

    exact, exact_calls = planned(method="committed")
    never, calls = planned(method="learned", thresholds=(1e9,))
    assert (never == exact).all()
    assert calls == exact_calls
    assert planned(method="learned", thresholds=(0.0,))[1] == [1, 1]
    assert planned(method="learned", thresholds=(1e9,), max_calls=3)[1] == [3, 3]


def test_a_threshold_is_the_smallest_margin_within_tolerance() -> None:
    margin = torch.tensor([1.0, 4.0, 2.0, 3.0, 5.0])
    error = torch.tensor([0.9, 0.0, 0.0, 0.3, 0.0])
    assert fitted_threshold(margin, error, 0.1) == 1.5
    assert fitted_threshold(margin, error, 1.0) == 0.0
    assert fitted_threshold(margin, error + 1, 0.5) == 5.0
    assert fitted_threshold(margin[:0], error[:0], 0.5) == 0.0


@pytest.fixture(scope="module")
def episodes() -> Episodes:
    return demonstrations(num_episodes=8)


@pytest.fixture(scope="module")
def model(episodes: Episodes) -> VlaModel:
    """Not trained, but with weights large enough that a token depends on those before it."""
    model = initial_vla(CONFIG, episodes, seed=0)
    generator = torch.Generator().manual_seed(0)
    for name, parameter in model.named_parameters():
        if parameter.dim() == 2 and "vision" not in name:
            parameter.data = 0.3 * torch.randn(parameter.shape, generator=generator)
    return model.eval().requires_grad_(False)


def test_plans_follow_each_other_and_a_tighter_tolerance_accepts_less(
    model: VlaModel, episodes: Episodes
) -> None:
    observed = Observed(model, windows_of(model, episodes), batch_size=5)
    decoding = TokenDecodingConfig(4, guess="previous")
    plans = followed_plans(observed, episodes, decoding, seed=0)
    assert plans.index.tolist() == [12 * one + step for one in range(8) for step in (0, 4, 8)]
    last = plans.fixed[0].view(4, 3)[-1:]
    assert torch.equal(plans.guess[1].view(4, 3), last.expand(4, -1))
    seen, held_out = split(episodes, 0.25)
    assert (seen, held_out) == ((0, 72), (72, 96))
    assert plans.within(*held_out).index.tolist() == [72, 76, 80, 84, 88, 92]

    def calls(tolerance: float) -> float:
        config = AcceptanceConfig(tolerance, num_thresholds=2, reach=0)
        acceptance = fit_acceptance(observed, plans, config)
        assert len(acceptance.thresholds) == 2
        found = observed.decoded(plans, _accepting(acceptance))
        return float(torch.cat([one.num_calls for one in found]).double().mean())

    exact = observed.decoded(plans, jacobi_committed)
    never = float(torch.cat([one.num_calls for one in exact]).double().mean())
    assert calls(2.0) == 1.0
    assert calls(2.0) < calls(0.1) <= calls(1e-9) <= never


def _accepting(acceptance: Acceptance) -> Callable[..., Any]:
    return lambda model, begin, guess: jacobi_accepting(model, begin, guess, acceptance)


def test_the_command_stores_thresholds_in_a_copy_of_the_checkpoint(
    model: VlaModel, episodes: Episodes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stored = Checkpoint("vla", model, SPEC, TokenDecodingConfig(4, max_calls=3), {"task": "toy"})
    save_checkpoint(tmp_path / "policy", stored)
    data = str(write_episodes(tmp_path / "data.hdf5", episodes, "robomimic"))
    words = ["acceptance", str(tmp_path / "policy"), data, str(tmp_path / "out")]
    assert main([*words, "num_thresholds=3", "tolerance=0.5"]) == 0
    printed = capsys.readouterr().out
    assert "18 plans fitted, 6 held out" in printed
    assert {"learned", "exit", "converged"} <= set(printed.split())
    found = load_checkpoint(tmp_path / "out")
    assert found.sampling.method == "learned"
    assert len(found.sampling.thresholds) == 3
    assert found.provenance["acceptance"]["tolerance"] == 0.5
    assert found.policy().decoding.acceptance == Acceptance(found.sampling.thresholds, 2)
    assert found.policy({"method": "committed"}).decoding.acceptance is None
    assert main(words) == 2
    assert "out exists already; choose another folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Acceptance(()), "needs one threshold per forward"),
        (lambda: Acceptance((float("nan"),)), "needs one threshold per forward"),
        (lambda: Acceptance((1.0,), -1), "reach must be 0 or more, got -1"),
        (lambda: TokenDecodingConfig(4, "learned"), "needs thresholds, which `hotloop acceptance`"),
        (lambda: TokenDecodingConfig(4, thresholds=(float("nan"),)), "one threshold per forward"),
        (lambda: AcceptanceConfig(tolerance=0), "tolerance must be above 0, got 0"),
        (lambda: AcceptanceConfig(num_thresholds=0), "must be at least 1"),
        (lambda: AcceptanceConfig(held_out=1), "held_out must lie between 0 and 1, got 1"),
        (lambda: split(demonstrations(num_episodes=1), 0.5), "one to hold out are needed, got 1"),
    ],
)
def test_what_accepts_nothing_sensible_is_refused(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_only_token_policies_accept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["acceptance", "pusht-sdp", "data.hdf5", str(tmp_path / "out")]) == 2
    assert "pusht-sdp is no vision-language policy" in capsys.readouterr().err
