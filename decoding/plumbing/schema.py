"""Check plain data, such as parsed YAML, against nested dataclasses and build them from it."""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

T = TypeVar("T")


def build(schema: type[T], values: Mapping[str, Any], prefix: str = "") -> T:
    """Build the dataclass `schema` from `values`, and nested dataclasses from nested mappings.

    A field may be a scalar, dataclass, tuple, list, dict, Literal, union of these, or Any. Types
    are exact, except that an int is welcome as a float and a list as a tuple. In a union of several
    dataclasses, each has a Literal field ``kind``, and the value of that key chooses.

    Args:
        schema: Dataclass type.
        values: Value per field; absent fields keep their default.
        prefix: What precedes a field's name in messages, e.g. ``"optim."``.

    Raises:
        ValueError: For an unknown key, a required key without value, or a value of the wrong
            type; the message names the dotted key, what was expected and what was found.
    """
    hints = get_type_hints(schema)
    fields = {field.name: field for field in _fields(schema)}
    for name in values:
        if name not in fields:
            raise ValueError(unknown_key(prefix + name, [prefix + field for field in fields]))
    arguments: dict[str, Any] = {}
    for name, field in fields.items():
        key = prefix + name
        if name in values:
            arguments[name] = _convert(hints[name], values[name], key)
        elif field.default is field.default_factory is dataclasses.MISSING:
            raise ValueError(f"{key} has no default; give it as {key}=<{_show(hints[name])}>")
    return schema(**arguments)


def key_types(schema: type[Any], prefix: str = "") -> dict[str, Any]:
    """Return the type of every dotted key of a dataclass, nested dataclasses included."""
    hints = get_type_hints(schema)
    found: dict[str, Any] = {}
    for field in _fields(schema):
        key = prefix + field.name
        found[key] = hints[field.name]
        for member in _members(hints[field.name]):
            if dataclasses.is_dataclass(member):
                found |= key_types(member, f"{key}.")  # type: ignore[arg-type]
    return found


def takes_any_key(annotation: Any) -> bool:
    """Whether a field of this type accepts keys that the schema does not name."""
    return any(member is Any or get_origin(member) is dict for member in _members(annotation))


def unknown_key(key: str, valid: Iterable[str]) -> str:
    """Say that `key` is unknown and which of the valid dotted keys are nearest.

    The last part counts most, because the usual mistake is a right name in the wrong place.
    """
    valid = list(valid)
    leaf = get_close_matches(_leaf(key), map(_leaf, valid), n=1)
    candidates = [name for name in valid if _leaf(name) in leaf]
    near = get_close_matches(key, candidates, n=3, cutoff=0) or get_close_matches(key, valid)
    top = [name for name in valid if "." not in name] or valid
    hint = f"did you mean {' or '.join(near)}?" if near else f"valid keys: {', '.join(top)}"
    return f"unknown key {key!r}; {hint}"


def _fields(schema: type[Any]) -> tuple[dataclasses.Field[Any], ...]:
    """Return the fields that the constructor takes."""
    return tuple(field for field in dataclasses.fields(schema) if field.init)


def _members(annotation: Any) -> tuple[Any, ...]:
    """Return the alternatives of a union, or the one type itself."""
    is_union = get_origin(annotation) in (Union, types.UnionType)
    return get_args(annotation) if is_union else (annotation,)


def _leaf(key: str) -> str:
    """Return the last part of a dotted key."""
    return key.rpartition(".")[2]


def _convert(annotation: Any, value: Any, key: str) -> Any:
    """Return `value` as an instance of `annotation`, or raise ValueError."""
    if _is_emptied(annotation, value):
        return {}
    members = [member for member in _members(annotation) if _fits(member, value)]
    if not members:
        got = f"{value!r} ({type(value).__name__})"
        raise ValueError(f"{key}: expected {_show(annotation)}, got {got}")
    chosen = members[0] if len(members) == 1 else _choose(members, value, key)
    inner = get_args(chosen)
    if dataclasses.is_dataclass(chosen) and isinstance(value, Mapping):
        return build(chosen, value, f"{key}.")  # type: ignore[arg-type]
    if get_origin(chosen) is dict:
        return {name: _convert(inner[1], item, f"{key}.{name}") for name, item in value.items()}
    if get_origin(chosen) is list:
        return [_convert(inner[0], item, f"{key}[{i}]") for i, item in enumerate(value)]
    if get_origin(chosen) is tuple:
        return _convert_tuple(inner, value, key)
    return float(value) if chosen is float else value


def _choose(members: list[Any], value: Any, key: str) -> Any:
    """Return the member of a union that is meant: of dataclasses the one of the given ``kind``."""
    if not isinstance(value, Mapping):
        return members[0]
    kinds: dict[Any, Any] = {}
    for member in members:
        kinds |= dict.fromkeys(get_args(get_type_hints(member)["kind"]), member)
    kind = cast("Mapping[str, Any]", value).get("kind")
    if kind not in kinds:
        raise ValueError(f"{key}.kind: expected one of {sorted(kinds)}, got {kind!r}")
    return kinds[kind]


def _convert_tuple(inner: tuple[Any, ...], values: list[Any], key: str) -> tuple[Any, ...]:
    """Convert the elements of a tuple, of fixed length unless its type ends in an ellipsis."""
    if inner[-1] is ...:
        inner = inner[:1] * len(values)
    if len(inner) != len(values):
        raise ValueError(f"{key}: expected {len(inner)} values, got {len(values)}: {values}")
    pairs = enumerate(zip(inner, values, strict=True))
    return tuple(_convert(element, value, f"{key}[{i}]") for i, (element, value) in pairs)


def _is_emptied(annotation: Any, value: Any) -> bool:
    """Whether a mapping is given as a YAML key without value: nothing of what it would inherit."""
    return value is None and get_origin(annotation) is dict


def _fits(member: Any, value: Any) -> bool:
    """Whether `value` has the outer form of a type; elements are checked on conversion."""
    if member is Any:
        return True
    if get_origin(member) is Literal:
        return value in get_args(member)
    if get_origin(member) is dict or dataclasses.is_dataclass(member):
        return isinstance(value, Mapping)
    if get_origin(member) in (tuple, list):
        return isinstance(value, (list, tuple))
    # Exact, as bool is a subclass of int.
    return type(value) is member or (member is float and type(value) is int)


def _show(annotation: Any) -> str:
    """Write a type as the schema does, a Literal as its choices."""
    if get_origin(annotation) is Literal:
        return "one of " + ", ".join(map(repr, get_args(annotation)))
    plain = isinstance(annotation, type) and not get_args(annotation)
    return annotation.__name__ if plain else str(annotation)
