"""Consistency distillation: what its losses measure, and what they must not see."""

from __future__ import annotations

import pytest
import torch
from tiny_vla import frames, prompt_of, random_blocks, tiny_model

from hotloop.policies.diffusion.model import Batch
from hotloop.policies.vla.packed import packed_logits
from hotloop.policies.vla.session import block_logits
from hotloop.train.objectives.vla import (
    CloningObjective,
    ConsistencyDraw,
    ConsistencyObjective,
    TrajectoryBatch,
    shifted_pictures,
)
from hotloop.train.objectives.vla_losses import (
    chunk_distance,
    cloning_loss,
    consistency_loss,
    distance_quantile,
    mixed_labels,
)

FIXED = torch.tensor([[1, 2, 3, 4, 5], [6, 7, 8, 9, 10]])
ITERATE = torch.tensor([[1, 2, 0, 4, 5], [0, 7, 8, 9, 10]])  # first wrong at 2 and at 0


def logits(seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, 5, 16, generator=generator, dtype=torch.float64)


def test_the_loss_is_the_mean_divergence_behind_the_first_wrong_token() -> None:
    on_iterate, on_fixed = logits(0), logits(1)
    target = torch.distributions.Categorical(logits=on_fixed)
    predicted = torch.distributions.Categorical(logits=on_iterate)
    divergence = torch.distributions.kl_divergence(target, predicted)
    counted = [(0, 3), (0, 4), (1, 1), (1, 2), (1, 3), (1, 4)]
    expected = torch.stack([divergence[place] for place in counted]).mean()
    found = consistency_loss(on_iterate, on_fixed, ITERATE, FIXED)
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-6)


def test_what_lies_before_the_first_wrong_token_has_no_part_in_it() -> None:
    on_iterate = logits(0)
    changed = on_iterate.clone()
    changed[0, :3], changed[1, :1] = torch.nan, 1e3
    before = consistency_loss(on_iterate, logits(1), ITERATE, FIXED)
    assert consistency_loss(changed, logits(1), ITERATE, FIXED) == before
    changed[0, 4] += torch.arange(16)
    assert consistency_loss(changed, logits(1), ITERATE, FIXED) != before


def test_the_fixed_point_itself_has_no_loss_and_no_gradient() -> None:
    on_iterate = logits(0).requires_grad_()
    loss = consistency_loss(on_iterate, logits(1), FIXED, FIXED)
    loss.backward()
    assert loss == 0
    assert on_iterate.grad is not None
    assert (on_iterate.grad == 0).all()


def test_no_gradient_reaches_the_target() -> None:
    on_fixed = logits(1).requires_grad_()
    on_iterate = logits(0).requires_grad_()
    consistency_loss(on_iterate, on_fixed, ITERATE, FIXED).backward()
    assert on_fixed.grad is None
    assert on_iterate.grad is not None
    assert on_iterate.grad.abs().sum() > 0


def test_equal_predictions_have_no_divergence_and_others_a_positive_one() -> None:
    assert consistency_loss(logits(1), logits(1), ITERATE, FIXED) == 0
    assert consistency_loss(logits(0), logits(1), ITERATE, FIXED) > 0


@pytest.mark.parametrize("replace_a_row", [True, False], ids=["mixed labels", "teacher's labels"])
def test_one_packed_pass_gives_the_loss_and_gradient_of_separate_passes(
    replace_a_row: bool,
) -> None:
    model = tiny_model(dtype=torch.float64).requires_grad_(True)
    prompt = prompt_of(model, 3)
    fixed, iterate, labels = (random_blocks(model, 3, seed) for seed in range(3))
    iterate[:, :2] = fixed[:, :2]
    labels[1:] = fixed[1:]
    if not replace_a_row:
        labels = fixed
    objective = ConsistencyObjective(model, cloning_weight=0.7)
    inputs = ConsistencyDraw(
        prompt.ids, prompt.attended, prompt.pixel_values, labels, iterate, fixed,
        replaced=(labels != fixed).any(dim=1),
    )  # fmt: skip

    def separate(block: torch.Tensor) -> torch.Tensor:
        fed = torch.cat([model.begin(3), block[:, :-1]], dim=1)
        return block_logits(model.host, prompt, fed)

    expected = consistency_loss(separate(iterate), separate(fixed), iterate, fixed)
    expected = expected + 0.7 * cloning_loss(separate(labels), labels)
    packed = objective(inputs)
    torch.testing.assert_close(packed, expected, rtol=1e-6, atol=1e-7)
    weight = model.host.model.get_decoder().layers[0].self_attn.q_proj.weight
    (one,) = torch.autograd.grad(packed, weight)
    (other,) = torch.autograd.grad(expected, weight)
    assert other.abs().max() > 1e-4
    torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_each_step_draws_one_of_the_iterates_or_a_guess() -> None:
    model = tiny_model()
    observation = {key: torch.from_numpy(value)[:, None] for key, value in frames(model, 2).items()}
    fixed = random_blocks(model, 2)
    iterates = [torch.arange(3)[:, None].repeat(1, 12), 10 + torch.arange(2)[:, None].repeat(1, 12)]
    guesses = torch.tensor([[20, 21], [30, 31]])[..., None].repeat(1, 1, 12)
    windows = Batch(observation, torch.zeros(2, 4, 3))
    batch = TrajectoryBatch(windows, iterates, guesses, fixed, fixed)

    def drawn(share: float) -> set[tuple[int, ...]]:
        objective = ConsistencyObjective(model, guess_share=share)
        draws = (
            objective.draw(batch, torch.Generator().manual_seed(seed)).iterate[:, 0]
            for seed in range(80)
        )
        return {tuple(draw.tolist()) for draw in draws}

    assert drawn(0) == {(a, b) for a in (0, 1, 2) for b in (10, 11)}
    assert drawn(1) == {(a, b) for a in (20, 21) for b in (30, 31)}
    firsts, seconds = zip(*drawn(0.5), strict=True)
    assert set(firsts) == {0, 1, 2, 20, 21} and set(seconds) == {10, 11, 30, 31}


def test_cloning_is_the_cross_entropy_of_the_demonstrated_tokens() -> None:
    model = tiny_model(dtype=torch.float64)
    observation = {key: torch.from_numpy(value)[:, None] for key, value in frames(model, 2).items()}
    actions = torch.rand(2, 4, 3) - 0.5
    inputs = CloningObjective(model).draw(Batch(observation, actions), torch.Generator())
    labels = torch.from_numpy(model.action_tokenizer.encode(actions.numpy()).tokens)
    assert torch.equal(inputs.labels, labels)
    prompt = model.prompt(frames(model, 2))
    (found,) = packed_logits(model.host, prompt, [labels])
    log_share = found.log_softmax(dim=-1).gather(2, labels[..., None]).mean()
    torch.testing.assert_close(
        CloningObjective(model)(inputs).double(), -log_share, rtol=1e-5, atol=1e-6
    )


def test_an_infinite_distance_believes_the_teacher_and_zero_the_demonstration() -> None:
    teacher, demonstration = random_blocks(tiny_model(), 4, 0), random_blocks(tiny_model(), 4, 1)
    demonstration[3] = teacher[3]
    distance = chunk_distance(teacher / 256, demonstration / 256)
    always = mixed_labels(teacher, demonstration, distance, float("inf"))
    assert torch.equal(always.tokens, teacher)
    assert not always.replaced.any()
    never = mixed_labels(teacher, demonstration, distance, 0.0)
    assert torch.equal(never.tokens, demonstration)
    assert never.replaced.tolist() == [True, True, True, False]


def test_the_quantile_decides_how_many_chunks_are_replaced() -> None:
    distance = torch.arange(100.0)
    limit = distance_quantile(distance, 0.9)
    assert int((distance > limit).sum()) == 10
    assert distance_quantile(distance, 1.0) == float("inf")


def test_the_distance_is_a_mean_over_the_chunk() -> None:
    one = torch.tensor([[0.0, 1.0, -1.0, 0.5]])
    assert chunk_distance(one, torch.zeros(1, 4)).tolist() == [0.625]


def test_pictures_are_shifted_with_their_edges_repeated() -> None:
    pictures = torch.rand(4, 2, 3, 8, 8)
    moved = shifted_pictures(pictures, 2, torch.Generator().manual_seed(0))
    padded = torch.nn.functional.pad(pictures.flatten(0, 1), (2,) * 4, mode="replicate")
    places = set()
    for index, picture in enumerate(moved.flatten(0, 1)):
        matches = [
            (row, column)
            for row in range(5)
            for column in range(5)
            if torch.equal(picture, padded[index, :, row : row + 8, column : column + 8])
        ]
        assert len(matches) == 1
        places |= set(matches)
    assert len(places) > 4, "every picture is shifted_pictures by itself"


def test_nonsensical_weights_are_refused() -> None:
    one = torch.zeros(1, 2, dtype=torch.int64)
    with pytest.raises(ValueError, match=r"max_distance \(delta_max\) must be 0 or more"):
        mixed_labels(one, one, torch.zeros(1), float("nan"))
    with pytest.raises(ValueError, match=r"label_quantile must be between 0 and 1, got 1\.5"):
        distance_quantile(torch.zeros(1), 1.5)
    with pytest.raises(ValueError, match=r"cloning_weight \(omega\) must be 0 or more, got -1"):
        ConsistencyObjective(tiny_model(), cloning_weight=-1)
    with pytest.raises(ValueError, match="guess_share must be between 0 and 1, got 2"):
        ConsistencyObjective(tiny_model(), guess_share=2)
