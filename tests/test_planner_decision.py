"""Decisions of planners: what they reduce to, and what each choice changes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from tiny_planner import DECISION, DIFFUSER, HORIZON, LEVELS, TRAJECTORY, tiny_planner
from torch import Tensor

from hotloop.decoding.autoregression import rollout_uncached
from hotloop.decoding.guidance import pinned_levels
from hotloop.decoding.samplers import reverse
from hotloop.policies.planners.config import PlannerSampling
from hotloop.policies.planners.decision import Decision
from hotloop.policies.planners.model import PlannerModel
from hotloop.policies.planners.stages import Draft, shifted, stage


@pytest.fixture(scope="module")
def model() -> PlannerModel:
    return tiny_planner()


def inputs(model: PlannerModel, decision: Decision, rows: int = 2) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(3)
    drawn = {
        "states": torch.randn(rows, 1, 4, generator=generator),
        "returns": torch.rand(rows, 1, generator=generator),
    }
    for name in decision.noise:
        port = decision.program.inputs[name]
        drawn[name] = torch.randn(rows, *port.shape, generator=generator)
    return drawn


def decide(model: PlannerModel, sampling: PlannerSampling) -> Tensor:
    decision = Decision(model, sampling)
    return run(decision, inputs(model, decision))


def run(decision: Decision, known: dict[str, Tensor], **others: Tensor) -> Tensor:
    return decision.program.run({**known, **others})["plan"]


def test_no_refinement_returns_the_draft(model: PlannerModel) -> None:
    assert model.drafter is not None
    sampling = replace(TRAJECTORY, calls_per_step=0)
    known = inputs(model, Decision(model, sampling))
    tokens = model.encode_tokens(known["states"], known["returns"].unsqueeze(-1))
    draft = torch.cat([tokens, rollout_uncached(model.drafter, tokens, HORIZON - 1)], dim=1)
    states, returns = model.decode_tokens(draft)
    plan = decide(model, sampling)
    torch.testing.assert_close(plan[..., :4], states, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(plan[..., 4:5], returns, rtol=1e-4, atol=1e-5)


def test_all_levels_without_a_draft_are_plain_sampling(model: PlannerModel) -> None:
    """The unrolled decision is the sampler of the other policies on pinned levels."""
    sampling = PlannerSampling(calls_per_step=LEVELS, update="ddim")
    decision = Decision(model, sampling)
    known = inputs(model, decision)
    current, returns = known["states"][:, 0], known["returns"][:, 0]
    x = known["start_noise"][:, 0].clone()
    x[:, 0] = model.coordinates.normalizer(current)
    condition = model.condition(returns, torch.ones(2))
    sampled = reverse(
        lambda x, level: model.denoiser(x, level / LEVELS, condition),
        x,
        pinned_levels(range(LEVELS, -1, -1), HORIZON, (0,)),
        model.schedule,
        model.config.prediction,
        clip=model.config.clip,
    )
    expected = model.coordinates.inverse(sampled, current)
    torch.testing.assert_close(run(decision, known)[..., :4], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("weight", [0.0, 1.0])
def test_guidance_weights_0_and_1_reduce(weight: float, model: PlannerModel) -> None:
    """Just beside 0 and 1 both passes are made; the result is that of the one pass."""
    exact = decide(model, replace(DECISION, guidance=weight))
    beside = decide(model, replace(DECISION, guidance=weight + 1e-6))
    torch.testing.assert_close(exact, beside, rtol=1e-3, atol=1e-4)


def test_without_guidance_the_return_does_not_matter(model: PlannerModel) -> None:
    for weight, matters in ((0.0, False), (1.0, True)):
        decision = Decision(model, replace(DECISION, guidance=weight))
        known = inputs(model, decision)
        other = {**known, "returns": known["returns"] + 1}
        assert torch.equal(run(decision, known)[..., :4], run(decision, other)[..., :4]) != matters


def test_a_draft_enters_clean_or_noised_as_asked_for(model: PlannerModel) -> None:
    clean = Decision(model, replace(TRAJECTORY, add_noise=False))
    noised = Decision(model, replace(TRAJECTORY, add_noise=True, draft_level=7))
    assert (clean.noise, noised.noise) == ([], ["start_noise"])
    known = inputs(model, noised)
    states, returns = known["states"], known["returns"]
    draft = stage(Draft, model, TRAJECTORY)
    x, _ = draft(states, returns)
    level = torch.tensor([[0] + [7] * 5])
    expected = model.schedule.add_noise(x[:, 0], known["start_noise"][:, 0], level)
    constants = noised.program.calls[0].constants
    entered, _ = draft(states, returns, noise=known["start_noise"], **constants)
    torch.testing.assert_close(entered[:, 0], expected)


def test_the_draft_is_made_once_for_all_candidates(
    model: PlannerModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert model.drafter is not None
    rows = []
    network = model.drafter.network
    prefill, decode = network.prefill, network.decode

    def recorded_prefill(tokens: Tensor) -> Any:
        rows.append(tuple(tokens.shape[:2]))
        return prefill(tokens)

    def recorded_decode(token: Tensor, cache: Any) -> Any:
        rows.append((len(token), 1))
        return decode(token, cache)

    monkeypatch.setattr(network, "prefill", recorded_prefill)
    monkeypatch.setattr(network, "decode", recorded_decode)
    decide(model, replace(TRAJECTORY, candidates=8, select="critic"))
    assert rows == [(2, 1)] * (HORIZON - 1)
    rows.clear()
    decision = Decision(model, replace(TRAJECTORY, reuse=1), warm=True)
    known = inputs(model, decision)
    run(decision, known, previous=torch.zeros(2, HORIZON, 7))
    assert rows == [(2, HORIZON - 1)], "a warm plan is drafted in one pass"


def test_enough_sweeps_over_any_guess_are_the_rollout(model: PlannerModel) -> None:
    warm = replace(TRAJECTORY, calls_per_step=0, reuse=1, sweeps=HORIZON - 1)
    decision = Decision(model, warm, warm=True)
    known = inputs(model, decision)
    guess = torch.randn(2, HORIZON, 7, generator=torch.Generator().manual_seed(5))
    fresh = decide(model, warm)
    torch.testing.assert_close(run(decision, known, previous=guess), fresh, rtol=1e-4, atol=1e-5)
    once = run(Decision(model, replace(warm, sweeps=1), warm=True), known, previous=guess)
    torch.testing.assert_close(once[:, :2, :5], fresh[:, :2, :5], rtol=1e-4, atol=1e-5)
    assert not torch.isclose(once[:, 2:, :5], fresh[:, 2:, :5]).all()


def test_a_warm_plan_without_a_drafter_is_the_shifted_one() -> None:
    model = tiny_planner(drafter=None)
    draft = stage(Draft, model, replace(DECISION, reuse=1, num_execute=2))
    assert isinstance(draft, Draft)
    states, returns = torch.zeros(1, 1, 4), torch.full((1, 1), 0.5)
    previous = torch.arange(HORIZON * 7, dtype=torch.float32).reshape(1, HORIZON, 7)
    drafted, asked, actions = draft.tokens(states, returns, previous)
    expected = previous[:, [2, 3, 4, 5, 5, 5]].clone()
    expected[:, 0, :5] = torch.tensor([0.0, 0, 0, 0, 0.5])
    found = torch.cat([drafted, asked.unsqueeze(-1), actions], dim=-1)
    torch.testing.assert_close(found, expected)


def test_a_plan_shifted_by_less_than_a_stride_is_interpolated() -> None:
    plan = torch.tensor([[0.0, 1, 4, 9]]).unsqueeze(-1)
    assert shifted(plan, 2, 1)[0, :, 0].tolist() == [4, 9, 9, 9]
    assert shifted(plan, 1, 2)[0, :, 0].tolist() == [0.5, 2.5, 6.5, 9]
    assert shifted(plan, 6, 4)[0, :, 0].tolist() == [2.5, 6.5, 9, 9]
    assert torch.equal(shifted(plan, 8, 4), shifted(plan, 2, 1))


def test_a_drafter_reads_the_goal_and_the_plan_ends_there_at_rest() -> None:
    model = tiny_planner(goal_key="observation.goal", critic=False)
    decision = Decision(model, replace(TRAJECTORY, calls_per_step=0))
    known = inputs(model, decision)
    goal = torch.tensor([[0.5, -0.5], [1.0, 2.0]])
    plan, other = run(decision, known, goal=goal), run(decision, known, goal=goal + 1)
    torch.testing.assert_close(plan[:, -1, :4], torch.tensor([[0.5, -0.5, 0, 0], [1, 2, 0, 0]]))
    assert not torch.isclose(plan[:, 1, :4], other[:, 1, :4]).any()
    asked = {**known, "returns": known["returns"] + 1}
    assert torch.equal(run(decision, asked, goal=goal)[..., :4], plan[..., :4])


def test_the_best_candidate_by_the_critic_is_taken(model: PlannerModel) -> None:
    assert model.critic is not None
    sampling = replace(TRAJECTORY, candidates=5, select="critic", draft_level=LEVELS)
    decision = Decision(model, sampling)
    known = inputs(model, decision)
    chosen = decision.program.run(known)
    single = Decision(model, replace(sampling, candidates=1, select="first"))
    state = model.coordinates.normalizer(known["states"][:, 0])
    noise = known["start_noise"]
    candidates = [
        single.program.run({**known, "start_noise": noise[:, index : index + 1]})
        for index in range(5)
    ]
    scores = [
        model.critic(state, model.action_normalizer(one["actions"][:, 0]))[:, 0]
        for one in candidates
    ]
    best = torch.stack(scores).argmax(dim=0)
    for name in ("plan", "actions"):
        rows = [candidates[int(index)][name][row] for row, index in enumerate(best)]
        torch.testing.assert_close(chosen[name], torch.stack(rows), rtol=1e-4, atol=1e-5)


def test_value_guidance_raises_the_value() -> None:
    model = tiny_planner(joint=True, value=True, drafter=None)
    assert model.value is not None
    values = []
    for scale in (0.0, 0.01):
        sampling = replace(DIFFUSER, candidates=1, value_scale=scale, value_stop=0)
        decision = Decision(model, sampling)
        plan = run(decision, inputs(model, decision, rows=16))
        x = model.encode_plan(plan[..., :4], plan[..., 5:])
        values.append(model.value(x, model.value.embed_level(torch.zeros(1))).mean())
    assert values[1] > values[0]


def test_a_goal_is_where_the_plan_ends() -> None:
    model = tiny_planner(goal_key="observation.goal", drafter=None)
    decision = Decision(model, DECISION)
    known = inputs(model, decision)
    goal = torch.tensor([[0.5, -0.5], [1.0, 2.0]])
    torch.testing.assert_close(run(decision, known, goal=goal)[:, -1, :2], goal)
