"""The table of families, and settings that are never ignored."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import get_type_hints

import pytest
from tiny import SPEC, demonstrations

from hotloop.policies.checkpoint import Checkpoint, load_checkpoint
from hotloop.policies.kinds import KINDS
from hotloop.train import (
    DistillConfig,
    JumpDistillConfig,
    PlannerPolicyConfig,
    PolicyConfig,
    TrainConfig,
    VlaPolicyConfig,
    compose_training,
    train_on,
)
from hotloop.train.config.compose import choices, compose
from hotloop.train.config.evaluation import BenchConfig
from hotloop.train.config.sampling import as_overrides, sampled_policy
from hotloop.train.distillation.methods import settings_type
from hotloop.train.families import FAMILIES, family_of
from hotloop.train.measure.bench import timed_rows

KIND_NAMES = KINDS.names


@pytest.mark.parametrize("kind", KIND_NAMES)
def test_every_kind_of_policy_has_a_family_whose_settings_are_its_own(kind: str) -> None:
    family = family_of(kind)
    assert kind in get_type_hints(family.config)["kind"].__args__
    assert dataclasses.is_dataclass(get_type_hints(family.config)["sampling"])
    assert issubclass(settings_type(kind), DistillConfig)


def test_an_unknown_kind_is_neither_trained_nor_timed() -> None:
    with pytest.raises(ValueError, match=r"no kind of policy .* 'spd' \(did you mean sdp\?\)"):
        family_of("spd")
    with pytest.raises(ValueError, match="'spd'"):
        compose_training(["policy.kind=spd"])
    checkpoint = dataclasses.replace(load_checkpoint("pusht-dp"), kind="spd")
    with pytest.raises(ValueError, match="'spd'"):
        timed_rows("x", checkpoint, "eager", BenchConfig())


@pytest.mark.parametrize("policy", choices("policy"))
def test_a_shipped_policy_composes_into_the_settings_of_its_family(policy: str) -> None:
    config = compose_training([f"policy={policy}"])
    family = family_of(config.policy.kind)
    assert type(config.policy) is family.config
    assert type(config.distill) is settings_type(config.policy.kind)
    assert isinstance(config, TrainConfig)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["policy=diffuser", "distill.start=0.1"],
            r"distill\.start is only a setting of distill\.method=segment",
        ),
        (["policy=vla", "distill.visited=0.2"], r"distill\.visited is only a setting of .*segment"),
        (["policy=dp", "policy.drafter_share=0.2"], r"no setting of policy kind 'dp', only of dec"),
        (
            ["policy=dp", "policy.host.width=8"],
            r"policy\.host\.width is no .*only of vla",
        ),
        (
            ["policy=sdp", "distill.teacher=pusht-sdp", "policy.model.horizon=33"],
            r"policy\.model\.horizon has no effect here: the student takes over its teacher's",
        ),
        (
            ["policy=diffuser", "distill.teacher=x", "policy.drafter_noise=0.1"],
            r"policy\.drafter_noise has no effect here",
        ),
        (["policy=vla", "policy.guess_share=0.5"], r"without distill\.teacher demonstrations are"),
        (["policy=sdp", "distill.start=0.1"], r"distill\.start has no effect here: .*teacher"),
    ],
)
def test_a_setting_that_would_be_ignored_is_refused(overrides: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message) as raised:
        compose_training(overrides)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("setting", "allowed"),
    [
        ("log_every", True),
        ("save_every", True),
        ("steps", False),
        ("batch_size", False),
        ("num_threads", False),
        ("optim.lr", False),
        ("optim.warmup_steps", True),
    ],
)
def test_zero_has_a_meaning_or_a_message(setting: str, allowed: bool) -> None:
    if allowed:
        compose_training([f"{setting}=0"])
    else:
        with pytest.raises(ValueError, match=f"^{setting} must be "):
            compose_training([f"{setting}=0"])
    with pytest.raises(ValueError, match=f"^{setting} must be "):
        compose_training([f"{setting}=-1"])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: JumpDistillConfig(refresh_every=0), r"distill\.refresh_every must be at least 1"),
        (lambda: JumpDistillConfig(calls_per_step=(1, 0)), r"distill\.calls_per_step must be at"),
        (lambda: JumpDistillConfig(calls_per_step=()), r"must name at least one number of calls"),
        (lambda: JumpDistillConfig(start=float("nan")), r"distill\.start must be between 0 and 1"),
        (lambda: JumpDistillConfig(start=0.5, visited=0.5), r"shares must sum to at most 1"),
        (lambda: PolicyConfig(chunkwise=1.5), r"policy\.chunkwise must be between 0 and 1"),
        (
            lambda: PlannerPolicyConfig(kind="diffuser", drafter_share=-1.0),
            r"policy\.drafter_share",
        ),
        (lambda: VlaPolicyConfig(num_actions=0), r"policy\.num_actions must be at least 1, got 0"),
        (lambda: TrainConfig(seed=-1), r"^seed must be at least 0, got -1"),
        (lambda: BenchConfig(steps=0), r"^steps must be at least 1, got 0"),
        (lambda: BenchConfig(threads=(0,)), r"^threads must be positive numbers, got \[0\]"),
    ],
)
def test_an_impossible_number_is_named(make, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_never_saving_saves_the_last_step_and_never_logging_logs_where_it_saves(
    tmp_path: Path,
) -> None:
    model = "policy.model={horizon: 9, num_levels: 24, network: {width: 16, depth: 1}}"
    sizes = ["steps=5", "batch_size=8", "save_every=0", "log_every=0"]
    config = compose_training(["policy=dp", model, *sizes, f"output_dir={tmp_path}"])
    folder = train_on(config, demonstrations(), SPEC)
    saved = sorted(path.name for path in folder.parent.iterdir())
    assert saved == ["000005", "last"]
    assert [row.split(",")[0] for row in (tmp_path / "log.csv").read_text().split()] == [
        "step",
        "5",
    ]


def test_another_familys_distillation_is_refused(tmp_path: Path) -> None:
    config = TrainConfig(
        PlannerPolicyConfig(kind="diffuser"),
        distill=JumpDistillConfig("pusht-sdp"),
        output_dir=str(tmp_path),
    )
    with pytest.raises(ValueError, match=r"distill\.method=segment distils sdp, not diffuser"):
        train_on(config, demonstrations(), SPEC)


def test_a_teacher_of_another_family_is_refused(tmp_path: Path) -> None:
    distill = DistillConfig("hopper-trajectory-diffuser")
    config = TrainConfig(PolicyConfig(), distill=distill, output_dir=str(tmp_path))
    with pytest.raises(ValueError, match=r"is a trajectory_diffuser, so its student is no"):
        train_on(config, demonstrations(), SPEC)


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        (
            {"calls_per_stepp": 1},
            r"^sampling\.calls_per_stepp is no choice of a policy of kind 'dp'",
        ),
        ({"calls_per_step": "many"}, r"^sampling\.calls_per_step: expected .*int.*, got 'many'"),
        ({"target_return": 1.0}, r"^sampling\.target_return is no choice of a policy of kind 'dp'"),
    ],
)
def test_a_sampling_choice_is_checked_against_the_checkpoints_kind(
    choices: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        sampled_policy(load_checkpoint("pusht-dp"), choices, "eager")


def test_sampling_choices_leave_the_others_as_stored() -> None:
    checkpoint: Checkpoint = load_checkpoint("pusht-dp")
    policy = sampled_policy(checkpoint, {"num_execute": 3}, "eager")
    assert policy.num_execute == 3
    assert policy.program.num_calls == checkpoint.sampling.calls_per_step


def test_planners_count_the_drafters_calls_too() -> None:
    """README: two network calls per warm-started plan, the drafter's and the denoiser's."""
    checkpoint = load_checkpoint("hopper-trajectory-diffuser")
    (row,) = timed_rows("hopper", checkpoint, "eager", BenchConfig())
    assert (row.name, row.costs.num_calls) == ("trajectory-diffuser-2", 2)
    cold = BenchConfig(sampling={"reuse": 0})
    (row,) = timed_rows("hopper", checkpoint, "eager", cold)
    assert row.costs.num_calls == checkpoint.model.config.horizon - 1 + 1
    assert FAMILIES.get("diffuser") is family_of("trajectory_diffuser")


def test_choices_survive_the_way_to_another_process() -> None:
    choices = {"start_key": "a b=c, d", "calls_per_step": None, "x": {"y": 0.5, "z": [1, 2]}}
    overrides = as_overrides({**choices, "flag": True}, "sampling")
    assert compose("bench", overrides, BenchConfig).sampling == {**choices, "flag": True}
