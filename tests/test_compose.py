"""Configuration: what the YAML says, what the user overrides, and what mistakes look like."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest

from hotloop.train.config.compose import choices, compose, describe_choices


@dataclass(frozen=True)
class Optim:
    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.99)
    schedule: Literal["cosine", "linear"] = "cosine"


@dataclass(frozen=True)
class Model:
    horizon: int = 16
    widths: tuple[int, ...] = (64, 64)

    def __post_init__(self) -> None:
        if self.horizon < 1:
            raise ValueError(f"horizon must be positive, got {self.horizon}")


@dataclass(frozen=True)
class Run:
    model: Model = field(default_factory=Model)
    optim: Optim = field(default_factory=Optim)
    keys: dict[str, str] = field(default_factory=dict)
    distilled: Model | None = None
    device: str | None = None
    resume: bool = False


@dataclass(frozen=True)
class Strict:
    path: str
    steps: int = 1


@pytest.fixture
def config_dir(tmp_path: Path) -> Path:
    files = {
        "run.yaml": "defaults: [{model: small}, _self_]\noptim: {lr: 0.01}\nkeys: {action: a}\n",
        "bare.yaml": "steps: 5\n",
        "typo.yaml": "stepz: 5\n",
        "wrong.yaml": "steps: many\n",
        "model/small.yaml": "horizon: 8\nwidths: [16]\n",
        "model/large.yaml": "horizon: 32\nwidths: [256, 256]\n",
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return tmp_path


def test_yaml_refines_the_defaults_of_the_schema(config_dir: Path) -> None:
    assert compose("run", [], Run, config_dir) == Run(Model(8, (16,)), Optim(0.01), {"action": "a"})


def test_a_choice_replaces_a_group_and_a_key_replaces_one_value(config_dir: Path) -> None:
    run = compose("run", ["model.horizon=4", "model=large", "resume=true"], Run, config_dir)
    assert run == Run(Model(4, (256, 256)), Optim(0.01), {"action": "a"}, resume=True)


def test_the_last_of_two_overrides_wins(config_dir: Path) -> None:
    overrides = ["optim.lr=1", "model=large", "optim.lr=2", "model=small"]
    run = compose("run", overrides, Run, config_dir)
    assert (run.optim.lr, run.model.horizon) == (2.0, 8)


def test_values_become_the_types_of_the_schema(config_dir: Path) -> None:
    overrides = ["optim.betas=[0,1]", "optim.schedule=linear", "device=null", "optim.lr=1"]
    optim = compose("run", overrides, Run, config_dir).optim
    assert optim == Optim(1.0, (0.0, 1.0), "linear")
    assert [type(value) for value in (optim.lr, optim.betas, optim.betas[0])] == [
        float,
        tuple,
        float,
    ]


def test_a_mapping_field_takes_keys_that_no_schema_knows(config_dir: Path) -> None:
    run = compose("run", ["keys.state=obs", "keys={goal: g}"], Run, config_dir)
    assert run.keys == {"action": "a", "state": "obs", "goal": "g"}
    assert type(run.keys) is dict


def test_an_absent_nested_configuration_can_be_given(config_dir: Path) -> None:
    run = compose("run", ["distilled.horizon=2"], Run, config_dir)
    assert run.distilled == Model(horizon=2)


def test_an_interpolation_is_resolved(config_dir: Path) -> None:
    run = compose("run", ["distilled.horizon=${model.horizon}"], Run, config_dir)
    assert run.distilled == Model(horizon=8)


def test_a_home_folder_is_found_where_shells_leave_it(
    config_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """None expands ``lerobot.dataset=~/data``."""
    monkeypatch.setenv("HOME", "/home/me")
    assert compose("bare", ["path=~/data"], Strict, config_dir).path == "/home/me/data"


def test_a_quoted_value_may_hold_special_characters(config_dir: Path) -> None:
    run = compose("run", ["device='a=b, c'"], Run, config_dir)
    assert run.device == "a=b, c"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("optim.lrr=1", r"unknown key 'optim\.lrr'; did you mean optim\.lr\?"),
        ("lr=1", r"unknown key 'lr'; did you mean optim\.lr\?"),
        ("optimizer.lr=1", r"unknown key 'optimizer\.lr'; did you mean optim\.lr\?"),
        ("horizn=1", r"unknown key 'horizn'; did you mean .*model\.horizon"),
        ("modle=large", r"unknown key 'modle'; did you mean model"),
        ("qqqq=1", r"unknown key 'qqqq'; valid keys: model, optim, keys"),
        ("model.horizon.x=1", r"unknown key 'model\.horizon\.x'"),
        ("model=larg", r"no model of that name \(did you mean large\?\); choose from large, small"),
        ("model=zzz", r"model=zzz: there is no model of that name; choose from large, small"),
        ("model.horizon=1.5", r"^model\.horizon: expected int, got 1\.5 \(float\)$"),
        ("optim.lr=fast", r"^optim\.lr: expected float, got 'fast' \(str\)$"),
        ("optim.lr=null", r"^optim\.lr: expected float, got None \(NoneType\)$"),
        ("resume=perhaps", r"^resume: expected bool, got 'perhaps' \(str\)$"),
        ("optim.schedule=exp", r"optim\.schedule: expected one of 'cosine', 'linear', got 'exp'"),
        (
            "model.widths=[a]",
            r"^model\.widths\[0\]: expected int, got 'a' \(str\)$",
        ),
        ("keys.state=[1]", r"^keys\.state: expected str, got \[1\] \(list\)$"),
        ("optim.betas=[0.9]", r"^optim\.betas: expected 2 values, got 1: \[0\.9\]$"),
        ("optim=3", r"^optim: expected Optim, got 3 \(int\)$"),
        ("optim={lrr: 3}", r"unknown key 'optim\.lrr'; did you mean optim\.lr\?"),
        ("device=${nowhere}", r"device: .*nowhere"),
        ("model.horizon=0", r"^horizon must be positive, got 0$"),
        ("large", r"'large' is not of the form key=value"),
        ("device=a=b", r"'device=a=b' is not of the form key=value; .* quotes"),
        ("optim.lr=1,2", r"'optim\.lr=1,2': expected one value .* a list is written \[a,b\]"),
        ("+foo=1", r"'\+foo=1': expected one value for an existing key"),
        ("~optim", r"'~optim': expected one value for an existing key"),
    ],
)
def test_a_mistake_is_answered_by_one_line_that_helps(
    config_dir: Path, override: str, message: str
) -> None:
    with pytest.raises(ValueError, match=message) as raised:
        compose("run", [override], Run, config_dir)
    assert "\n" not in str(raised.value)


def test_a_required_key_without_value_is_named(config_dir: Path) -> None:
    with pytest.raises(ValueError, match="path has no default; give it as path=<str>"):
        compose("bare", [], Strict, config_dir)
    assert compose("bare", ["path=x"], Strict, config_dir) == Strict("x", 5)


def test_yaml_is_held_to_the_schema_like_the_user(config_dir: Path) -> None:
    with pytest.raises(ValueError, match="unknown key 'stepz'; did you mean steps"):
        compose("typo", ["path=x"], Strict, config_dir)
    with pytest.raises(ValueError, match="steps: expected int, got 'many'"):
        compose("wrong", ["path=x"], Strict, config_dir)


def test_choices_are_listed_for_the_help_text(config_dir: Path) -> None:
    assert choices("model", config_dir) == ["large", "small"]
    assert describe_choices(["model"], config_dir) == "  model=…  large, small, or a file PATH.yaml"


def test_a_second_call_does_not_see_the_first(config_dir: Path) -> None:
    compose("run", ["model=large", "optim.lr=7"], Run, config_dir)
    assert compose("run", [], Run, config_dir).optim.lr == 0.01
