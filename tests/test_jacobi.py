"""Token decoders: Jacobi decoding is greedy decoding, whatever it starts from and keeps."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from benchmarks.fixed_tokens import num_fixed_tokens
from tiny_vla import prompt_of, random_blocks, row_of, tiny_model
from torch import Tensor

from hotloop.decoding.jacobi import (
    ExitRule,
    jacobi,
    jacobi_committed,
    leading_agreement,
)
from hotloop.decoding.token_model import (
    DecodedTokens,
    RecomputingModel,
    greedy_tokens,
    greedy_tokens_uncached,
)
from hotloop.policies.vla import VlaModel
from hotloop.policies.vla.session import CachedModel, Prompt, block_logits

Decoder = Callable[..., DecodedTokens]
DECODERS = (jacobi, jacobi_committed)


class Setting:
    """A tiny model behind the prompts of some rows, and what greedy decoding makes of them."""

    def __init__(self, model: VlaModel, prompt: Prompt) -> None:
        self.model, self.prompt = model, prompt
        self.begin = model.begin(len(prompt.ids))
        self.num_tokens = model.action_tokenizer.num_tokens
        self.greedy = greedy_tokens_uncached(self.forward, self.begin, self.num_tokens)

    def forward(self, tokens: Tensor) -> Tensor:
        return block_logits(self.model.host, self.prompt, tokens)

    def cached(self) -> CachedModel:
        return CachedModel(self.model.host, self.prompt)

    def guess(self, seed: int = 1) -> Tensor:
        return random_blocks(self.model, len(self.prompt.ids), seed)


@pytest.fixture(scope="module", params=[torch.float64, torch.float32], ids=["f64", "f32"])
def setting(request: pytest.FixtureRequest) -> Setting:
    model = tiny_model(dtype=request.param)
    return Setting(model, prompt_of(model, 3))


@pytest.mark.parametrize("family", ["idefics3", "smolvlm", "llava"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["f64", "f32"])
def test_all_decoders_give_the_greedy_tokens_from_any_guess(
    family: str, dtype: torch.dtype
) -> None:
    model = tiny_model(family, dtype=dtype)
    for seed in range(5):
        one = Setting(model, prompt_of(model, 3, seed))
        assert len(set(one.greedy.flatten().tolist())) > 5, "constant tokens would show nothing"
        assert torch.equal(
            greedy_tokens(one.cached(), one.begin, one.num_tokens).tokens, one.greedy
        )
        for decoder in DECODERS:
            uncached = decoder(RecomputingModel(one.forward), one.begin, one.guess(seed))
            cached = decoder(one.cached(), one.begin, one.guess(seed))
            for decoded in (cached, uncached):
                assert torch.equal(decoded.tokens, one.greedy)
                assert decoded.converged.all()


def test_greedy_decoding_is_what_generate_does_with_the_action_ids_alone(setting: Setting) -> None:
    host, prompt = setting.model.host, setting.prompt
    begin_id = host.first_action_id + host.num_action_ids
    begin = torch.full((len(prompt.ids), 1), begin_id)
    allowed = list(range(host.first_action_id, begin_id))
    generated = host.model.generate(
        input_ids=torch.cat([prompt.ids, begin], dim=1),
        attention_mask=torch.cat([prompt.attended, begin > 0], dim=1).long(),
        pixel_values=prompt.pixel_values,
        do_sample=False,
        eos_token_id=None,
        max_new_tokens=setting.num_tokens,
        prefix_allowed_tokens_fn=lambda *_: allowed,
    )
    tokens = generated[:, -setting.num_tokens :] - host.first_action_id
    assert torch.equal(tokens, setting.greedy)


@pytest.mark.parametrize("decoder", DECODERS)
def test_a_padded_row_decodes_as_it_does_alone(setting: Setting, decoder: Decoder) -> None:
    together = decoder(setting.cached(), setting.begin, setting.guess())
    for row in range(3):
        alone = Setting(setting.model, row_of(setting.prompt, row))
        decoded = decoder(alone.cached(), alone.begin, setting.guess()[[row]])
        assert torch.equal(decoded.tokens[0], together.tokens[row])
        assert decoded.num_calls[0] == together.num_calls[row]


@pytest.mark.parametrize(("decoder", "surplus"), [(jacobi, 1), (jacobi_committed, 0)])
def test_the_number_of_forwards_is_bounded(
    setting: Setting, decoder: Decoder, surplus: int
) -> None:
    counted = CountingModel(setting.cached())
    decoded = decoder(counted, setting.begin, setting.guess())
    assert counted.num_calls == decoded.num_calls.max()
    assert (decoded.num_calls <= setting.num_tokens + surplus).all()
    assert (decoded.num_calls > 1).all()


def cache_length(model: CachedModel) -> int:
    """Positions that the cache holds."""
    return int(model._cache.get_seq_length())


class CountingModel:
    """Counts forwards and notes how many tokens were remembered after each crop."""

    def __init__(self, model: CachedModel) -> None:
        self.model, self.num_calls, self.remembered = model, 0, [model.num_fed]

    @property
    def num_fed(self) -> int:
        return self.model.num_fed

    def feed(self, tokens: Tensor) -> Tensor:
        self.num_calls += 1
        return self.model.feed(tokens)

    def crop(self, num_fed: int) -> None:
        self.model.crop(num_fed)
        self.remembered.append(cache_length(self.model))


@pytest.mark.parametrize("decoder", DECODERS)
def test_after_j_forwards_at_least_j_tokens_are_right_for_good(
    setting: Setting, decoder: Decoder
) -> None:
    decoded = decoder(setting.cached(), setting.begin, setting.guess(), record=True)
    right = [leading_agreement(iterate, setting.greedy) for iterate in decoded.iterates]
    for j, (before, after) in enumerate(pairwise(right), start=1):
        assert (after >= min(j, setting.num_tokens)).all()
        assert (after >= before).all()
    assert torch.equal(decoded.iterates[0], setting.guess())
    assert torch.equal(decoded.iterates[-1], decoded.tokens)


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("sigma", [1, 3, 11, 12, 13, 50])
def test_an_early_exit_keeps_the_first_sigma_tokens_and_costs_no_more(
    setting: Setting, decoder: Decoder, sigma: int
) -> None:
    full = decoder(setting.cached(), setting.begin, setting.guess())
    early = decoder(setting.cached(), setting.begin, setting.guess(), ExitRule(sigma))
    assert torch.equal(early.num_calls, full.num_calls.clamp(max=sigma))
    assert torch.equal(early.tokens[:, :sigma], setting.greedy[:, :sigma])
    for row, verified in enumerate(early.num_verified.tolist()):
        assert verified >= min(sigma, setting.num_tokens)
        assert torch.equal(early.tokens[row, :verified], setting.greedy[row, :verified])
    if sigma >= setting.num_tokens:
        assert torch.equal(early.tokens, setting.greedy)
        assert early.converged.all()


@pytest.mark.parametrize("decoder", DECODERS)
def test_the_fixed_point_takes_one_forward_to_verify(setting: Setting, decoder: Decoder) -> None:
    decoded = decoder(setting.cached(), setting.begin, setting.greedy)
    assert (decoded.num_calls == 1).all()
    assert torch.equal(decoded.tokens, setting.greedy)
    one_forward = decoder(setting.cached(), setting.begin, setting.greedy, ExitRule(1))
    assert torch.equal(one_forward.tokens, setting.greedy)


@pytest.mark.parametrize("fused", [True, False])
def test_prompt_and_guess_can_share_a_forward(setting: Setting, fused: bool) -> None:
    calls: list[int] = []
    decoder = setting.model.host.model.get_decoder()
    hook = decoder.register_forward_pre_hook(lambda *_: calls.append(1))
    try:
        model = setting.cached()
        if not fused:
            model.read_prompt()
        decoded = jacobi(model, setting.begin, setting.greedy, ExitRule(1))
    finally:
        hook.remove()
    assert len(calls) == (1 if fused else 2)
    assert torch.equal(decoded.tokens, setting.greedy)


@pytest.mark.parametrize("decoder", [*DECODERS, "greedy"])
def test_the_cache_holds_the_prompt_alone_afterwards(
    setting: Setting, decoder: Decoder | str
) -> None:
    """The public code of CEED-VLA never crops: iteration j attends to all stale guesses."""
    model = setting.cached()
    if isinstance(decoder, str):
        greedy_tokens(model, setting.begin, setting.num_tokens)
    else:
        decoder(model, setting.begin, setting.guess())
    assert model.num_fed == 0
    assert cache_length(model) == setting.prompt.ids.shape[1]


def test_plain_jacobi_never_lets_the_cache_grow(setting: Setting) -> None:
    counted = CountingModel(setting.cached())
    jacobi(counted, setting.begin, setting.guess())
    assert set(counted.remembered[1:]) == {setting.prompt.ids.shape[1]}


def test_without_the_crop_the_result_is_another_one(setting: Setting) -> None:
    class NeverCropping(CountingModel):
        def crop(self, num_fed: int) -> None:
            pass

    broken = NeverCropping(setting.cached())
    decoded = jacobi(broken, setting.begin, setting.guess())
    assert not torch.equal(decoded.tokens, setting.greedy)


def test_cached_logits_are_the_uncached_ones(setting: Setting) -> None:
    model, fed = setting.cached(), torch.cat([setting.begin, setting.guess()], dim=1)
    parts = [model.feed(fed[:, :1]), model.feed(fed[:, 1:4])]
    model.crop(2)
    parts = [torch.cat(parts, dim=1)[:, :2], model.feed(fed[:, 2:])]
    torch.testing.assert_close(torch.cat(parts, dim=1), setting.forward(fed), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("position", [0, 4, 10])
def test_a_token_influences_only_what_comes_after_it(setting: Setting, position: int) -> None:
    fed = torch.cat([setting.begin, setting.guess()], dim=1)
    changed = fed.clone()
    changed[:, position + 1] = (changed[:, position + 1] + 100) % 256
    before, after = setting.forward(fed), setting.forward(changed)
    torch.testing.assert_close(before[:, : position + 1], after[:, : position + 1])
    assert not torch.allclose(before[:, position + 1], after[:, position + 1])


@pytest.mark.parametrize("decoder", DECODERS)
def test_the_adaptive_exit_stops_when_no_value_moves_further_than_epsilon(
    setting: Setting, decoder: Decoder
) -> None:
    def decode(tokens: Tensor) -> Tensor:
        return tokens.double() / 256

    full = decoder(setting.cached(), setting.begin, setting.guess(), record=True)
    moves = [
        (decode(after) - decode(before)).abs().amax(dim=1)
        for before, after in pairwise(full.iterates)
    ]
    for epsilon in (0.0, 0.5, 0.7, 1.0):
        adaptive = decoder(
            setting.cached(), setting.begin, setting.guess(), ExitRule(None, epsilon), decode=decode
        )
        for row in range(3):
            small = [j for j, move in enumerate(moves, start=1) if move[row] <= epsilon]
            expected = min([*small, int(full.num_calls[row])])
            assert adaptive.num_calls[row] == expected
            assert torch.equal(adaptive.tokens[row], full.iterates[expected][row])


@pytest.mark.parametrize("decoder", DECODERS)
def test_an_exit_can_be_made_to_wait_for_verified_tokens(
    setting: Setting, decoder: Decoder
) -> None:
    minimum = torch.tensor([0, 3, 7])
    decoded = decoder(
        setting.cached(), setting.begin, setting.guess(), ExitRule(1), min_verified=minimum
    )
    assert (decoded.num_verified >= minimum).all()
    assert decoded.num_calls[0] == 1
    assert (decoded.num_calls[1:] > 1).all()


def test_fixed_tokens_are_right_for_good_behind_a_wrong_one() -> None:
    one = [[9, 9, 9, 4, 9], [1, 9, 3, 4, 5], [1, 2, 3, 9, 5], [1, 2, 3, 4, 5]]
    other = [[9, 2, 3, 4, 5], [1, 2, 3, 9, 9], [1, 2, 3, 4, 9], [1, 2, 3, 4, 5]]
    assert num_fixed_tokens(torch.tensor([one, other]).transpose(0, 1)).tolist() == [2, 0]


@pytest.mark.parametrize("sigma", [0, -3])
def test_at_least_one_forward_is_needed(sigma: int) -> None:
    with pytest.raises(ValueError, match=rf"max_calls \(sigma\) must be at least 1, got {sigma}"):
        ExitRule(sigma)


@pytest.mark.parametrize("epsilon", [-0.1, float("nan")])
def test_a_move_must_be_a_number_of_at_least_zero(epsilon: float) -> None:
    with pytest.raises(ValueError, match=r"max_move \(epsilon\) must be 0 or more"):
        ExitRule(None, epsilon)


def test_the_adaptive_exit_needs_to_know_the_actions(setting: Setting) -> None:
    with pytest.raises(ValueError, match="needs `decode`"):
        jacobi(setting.cached(), setting.begin, setting.guess(), ExitRule(None, 0.1))
