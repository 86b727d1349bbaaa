"""Noise that is paired with actions: whose noise it stays, what it costs a run, who may ask."""

from __future__ import annotations

import logging
import shutil
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
import torch
from test_pictures import FRONT, SHAPES, seeing
from tiny import LOW, tiny_model, write_pusht_file

from hotloop.decoding.rolling import LevelMixture
from hotloop.policies.diffusion.model import Batch
from hotloop.train import compose_training
from hotloop.train.cli import main
from hotloop.train.commands import ExitCode
from hotloop.train.distillation.run import compose_distillation
from hotloop.train.families.diffusion import DIFFUSION
from hotloop.train.objectives.coupling import GROUP_SIZE, coupled, like_groups
from hotloop.train.objectives.denoising import DenoisingObjective
from hotloop.train.objectives.mean_flow import MeanFlowObjective
from hotloop.train.objectives.objective import draw_device

MIXTURE = LevelMixture(9, 24, ())
ON = "policy.coupling=conditional"


def test_noise_that_is_paired_among_like_observations_stays_what_sampling_starts_from() -> None:
    """Two observations whose actions lie on opposite sides: each must keep noise of N(0, 1)."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(512, 1, 2, 1, generator=generator)
    condition = torch.arange(512).remainder(2)[:, None].float()
    clean = (2 * condition[..., None] - 1).expand(-1, 2, 1)
    clean = clean + 0.5 * torch.randn(clean.shape, generator=generator)

    def distance(paired: torch.Tensor) -> float:
        return float((paired[:, 0] - clean).square().mean())

    def mean_of_one(paired: torch.Tensor) -> float:
        return float(paired[condition[:, 0] == 1].mean())

    apart, whole, among = (coupled(noise, clean, condition, size) for size in (1, 512, 256))
    assert torch.equal(apart, noise)
    for paired in (whole, among):
        assert torch.equal(paired.flatten(1).sort(dim=0)[0], noise.flatten(1).sort(dim=0)[0])
    assert distance(whole) < distance(among) < distance(apart)
    # Unconditional pairing gives noise above 0 to the observation whose actions are above 0.
    assert mean_of_one(whole) > 0.5 and abs(mean_of_one(among)) < 0.15
    of_one = among[condition[:, 0] == 1]
    assert abs(float(of_one.std()) - 1) < 0.15
    grouped = like_groups(condition.numpy(), 256)
    assert all(len(np.unique(condition[rows])) == 1 for rows in grouped)
    assert np.sort(np.concatenate(grouped)).tolist() == list(range(512))


def test_no_other_order_is_nearer_and_each_draw_is_paired_by_itself() -> None:
    generator = torch.Generator().manual_seed(1)
    noise, clean = torch.randn(5, 2, 3, 2, generator=generator), torch.rand(5, 3, 2)
    paired = coupled(noise, clean, torch.zeros(5, 1))
    for draw in range(2):
        orders = [noise[list(order), draw] for order in permutations(range(5))]
        nearest = min(orders, key=lambda one: float((one - clean).square().sum()))
        assert torch.equal(paired[:, draw], nearest)


def batch() -> Batch:
    generator = torch.Generator().manual_seed(2)
    observed = {
        key: torch.randn(32, 2, size, generator=generator)
        for key, size in (("observation.goal", 3), ("observation.position", 2))
    }
    return Batch(observed, torch.tensor(LOW) + torch.rand(32, 9, 2, generator=generator))


@pytest.mark.parametrize("flow", [False, True])
def test_only_the_order_of_the_noise_is_another(flow: bool) -> None:
    """Random numbers of training as it was before there was a choice stay what they were."""
    model = tiny_model(ladders=(), jump=flow)
    make = MeanFlowObjective if flow else lambda *args: DenoisingObjective(args[0], MIXTURE, 0, 2)
    pair = (
        MeanFlowObjective(model, coupling="conditional")
        if flow
        else DenoisingObjective(model, MIXTURE, 0, 2, "conditional")
    )
    plain, paired = (
        one.draw(batch(), torch.Generator().manual_seed(3)) for one in (make(model), pair)
    )
    generator = torch.Generator().manual_seed(3)
    if flow:
        torch.randint(1, 25, (32,), generator=generator)
        torch.rand(64, generator=generator)
    else:
        MIXTURE.draw(64, generator)
    assert torch.equal(plain.noise, torch.randn(plain.noise.shape, generator=generator))
    for name in ("clean", "level"):
        assert torch.equal(getattr(plain, name), getattr(paired, name))
    noise = plain.noise if plain.noise.dim() == 4 else plain.noise[:, None]
    expected = coupled(noise, plain.clean, plain.seen.vectors.flatten(1), GROUP_SIZE)
    assert not torch.equal(expected, noise)
    assert torch.equal(expected.view_as(paired.noise), paired.noise)


def test_pairs_are_drawn_where_they_are_found() -> None:
    there = torch.device("meta")
    for coupling, expected in (("independent", "meta"), ("conditional", "cpu")):
        objective = DenoisingObjective(tiny_model(), MIXTURE, coupling=coupling)
        assert draw_device(objective, there).type == expected


def test_a_run_pairs_noise_and_goes_on_bit_for_bit(tmp_path: Path) -> None:
    pytest.importorskip("pymunk")
    data = write_pusht_file(tmp_path / "demos.npz")
    small = ("policy.model.network.width=16", "policy.model.network.depth=1", "batch_size=16")
    run = ("train", "policy=dp", f"task.dataset={data}", "steps=4", "save_every=2", *small)

    def weights(name: str, *more: str) -> bytes:
        assert main([*run, f"output_dir={tmp_path / name}", *more]) == ExitCode.SUCCESS
        return (tmp_path / name / "checkpoints/000004/model.safetensors").read_bytes()

    whole = weights("whole", ON)
    assert whole != weights("plain")
    checkpoints = tmp_path / "whole" / "checkpoints"
    shutil.rmtree(checkpoints / "000004")
    (checkpoints / "last").unlink()
    (checkpoints / "last").symlink_to("000002")
    assert main([*run, f"output_dir={tmp_path / 'whole'}", "resume=true"]) == ExitCode.USAGE
    assert weights("whole", ON, "resume=true") == whole


@pytest.mark.parametrize("kind", ["sdp", "diffuser"])
def test_only_a_diffusion_policy_has_the_setting(kind: str) -> None:
    with pytest.raises(ValueError, match=r"policy\.coupling is no setting of .* only of dp; leave"):
        compose_training([f"policy={kind}", ON])


def test_of_its_students_only_those_without_trajectories_have_it() -> None:
    assert compose_distillation("pusht-dp", ["method=mean-flow", "task.dataset=x", ON])
    for method in ("flow-map", "consistency", "sampler"):
        with pytest.raises(ValueError, match=r"policy\.coupling has no effect here: .* teacher's"):
            compose_distillation("pusht-dp", [f"method={method}", "task.dataset=x", ON])
    with pytest.raises(ValueError, match=r"policy\.coupling"):
        compose_training(["policy=dp", "policy.coupling=batch"])


def test_pictures_alone_cannot_be_compared_and_beside_vectors_are_not(
    caplog: pytest.LogCaptureFixture,
) -> None:
    blind = seeing(shapes={FRONT: SHAPES[FRONT]})
    for objective in (
        lambda: DenoisingObjective(blind, MIXTURE, coupling="conditional"),
        lambda: MeanFlowObjective(blind, coupling="conditional"),
    ):
        with pytest.raises(ValueError, match=r"observes pictures alone; leave it out, or add"):
            objective()
    DenoisingObjective(seeing(), MIXTURE, coupling="conditional")
    with caplog.at_level(logging.WARNING):
        for more in ([], [ON]):
            DIFFUSION.check_pictures(compose_training(["policy=dp", *more]), {FRONT: SHAPES[FRONT]})
    assert [record.getMessage()[:27] for record in caplog.records] == [ON]
