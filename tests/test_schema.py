"""Plain data becomes dataclasses with every type as declared, or an error that names the key."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import pytest

from hotloop.decoding.plumbing.schema import build, key_types, takes_any_key, unknown_key


@dataclass(frozen=True)
class Network:
    width: int
    kind: Literal["mlp", "unet"] = "mlp"


@dataclass(frozen=True)
class Model:
    network: Network
    ladders: tuple[tuple[int, int], ...] = ()
    betas: tuple[float, float] = (0.9, 0.99)
    seeds: list[int] = field(default_factory=list)
    weights: dict[str, float] = field(default_factory=dict)
    teacher: Network | None = None
    clip: float | None = None
    notes: Any = None
    total: int = field(default=0, init=False)


def test_what_asdict_wrote_and_json_flattened_is_built_again() -> None:
    model = Model(Network(4, "unet"), ((1, 8), (8, 2)), teacher=Network(2), clip=1.0, notes=[1, {}])
    plain = asdict(model)
    del plain["total"]
    plain["ladders"] = [list(ladder) for ladder in plain["ladders"]]
    assert build(Model, plain) == model


def test_absent_fields_keep_their_defaults() -> None:
    assert build(Model, {"network": {"width": 4}}) == Model(Network(4))


def test_an_int_is_welcome_as_a_float_and_becomes_one() -> None:
    model = build(Model, {"network": {"width": 4}, "betas": [0, 1], "clip": 2, "weights": {"a": 1}})
    assert [type(number) for number in (*model.betas, model.clip, model.weights["a"])] == [
        float
    ] * 4


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"width": 4}, r"^unknown key 'width'; valid keys: network, ladders"),
        (
            {"network": {"widht": 4}},
            r"^unknown key 'network\.widht'; did you mean network\.width\?$",
        ),
        ({}, r"^network has no default; give it as network=<Network>$"),
        ({"network": {}}, r"^network\.width has no default; give it as network\.width=<int>$"),
        ({"network": 4}, r"^network: expected Network, got 4 \(int\)$"),
        ({"network": {"width": True}}, r"^network\.width: expected int, got True \(bool\)$"),
        ({"network": {"width": 4.0}}, r"^network\.width: expected int, got 4\.0 \(float\)$"),
        (
            {"network": {"width": 4, "kind": "cnn"}},
            r"kind: expected one of 'mlp', 'unet', got 'cnn'",
        ),
        (
            {"network": {"width": 4}, "clip": "1"},
            r"^clip: expected float \| None, got '1' \(str\)$",
        ),
        ({"network": {"width": 4}, "total": 1}, r"^unknown key 'total'"),
        ({"network": {"width": 4}, "seeds": [1, None]}, r"^seeds\[1\]: expected int, got None"),
        (
            {"network": {"width": 4}, "seeds": "12"},
            r"^seeds: expected list\[int\], got '12' \(str\)$",
        ),
        ({"network": {"width": 4}, "weights": {"a": "x"}}, r"^weights\.a: expected float, got 'x'"),
        (
            {"network": {"width": 4}, "ladders": [[1, 2, 3]]},
            r"^ladders\[0\]: expected 2 values, got 3",
        ),
        (
            {"network": {"width": 4}, "ladders": [[1, "h"]]},
            r"^ladders\[0\]\[1\]: expected int, got 'h'",
        ),
    ],
)
def test_a_mistake_names_key_expectation_and_value(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(Model, values)


def test_every_dotted_key_is_known_with_its_type() -> None:
    types = key_types(Model)
    assert types["network.width"] is int
    assert types["teacher.width"] is int
    assert [key for key in types if takes_any_key(types[key])] == ["weights", "notes"]


def test_the_right_name_in_the_wrong_place_is_found() -> None:
    message = unknown_key("lr", ["left", "optim.lr", "model.layers"])
    assert message == "unknown key 'lr'; did you mean optim.lr?"


@dataclass(frozen=True)
class Circle:
    kind: Literal["circle"]
    radius: float = 1.0


@dataclass(frozen=True)
class Box:
    kind: Literal["square", "box"] = "box"
    side: float = 1.0


@dataclass(frozen=True)
class Drawing:
    shape: Box | Circle = field(default_factory=Box)
    line: float | int = 1


def test_the_kind_chooses_among_dataclasses() -> None:
    assert build(Drawing, {"shape": {"kind": "circle", "radius": 2}}).shape == Circle("circle", 2.0)
    assert build(Drawing, {"shape": {"kind": "square"}}).shape == Box("square")
    assert build(Drawing, {"line": 2}).line == 2
    assert {"shape.radius", "shape.side"} <= set(key_types(Drawing))
    with pytest.raises(ValueError, match=r"unknown key 'shape.radius'; did you mean shape.side"):
        build(Drawing, {"shape": {"kind": "box", "radius": 2}})
    with pytest.raises(ValueError, match=r"shape.kind: expected one of .*'box'.*, got 'disc'"):
        build(Drawing, {"shape": {"kind": "disc"}})


def test_a_mapping_without_a_value_is_empty() -> None:
    @dataclass(frozen=True)
    class WithOptions:
        options: dict[str, int] = field(default_factory=lambda: {"inherited": 1})

    assert build(WithOptions, {"options": None}).options == {}
