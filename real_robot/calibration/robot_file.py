"""A robot file as text: what differs from its base, with comments that say where it is from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from .session import Calibration


def difference(values: Mapping[str, Any], base: Mapping[str, Any]) -> dict[str, Any]:
    """What `values` say that `base` does not, mappings key by key."""
    result: dict[str, Any] = {}
    for key, value in values.items():
        if key in base and isinstance(value, Mapping) and isinstance(base[key], Mapping):
            inner = difference(cast("Mapping[str, Any]", value), base[key])
            if inner:
                result[key] = inner
        elif key not in base or value != base[key]:
            result[key] = value
    return result


def comments(
    found: Calibration, joints: tuple[str, ...], middle: bool, margin: float
) -> dict[str, str]:
    """What was measured, by the dotted key that it stands above."""
    low, high = found.reach
    seen = [
        f"{name}: {first:.3f} to {last:.3f} rad (counts {start:.0f} to {end:.0f})"
        for name, first, last, start, end in zip(joints, low, high, *found.seen, strict=True)
    ]
    zero = (
        "the middle of what was seen of each joint"
        if middle
        else "the arm was put into this pose by hand"
    )
    return {
        "options.zero": f"Encoder counts at 0 rad: {zero}.",
        "options.direction": "1 where the servo counts up as its joint turns the positive way, "
        "-1 where it counts down; seen as each joint was turned by hand.",
        "control.limits.low": "\n".join(
            [
                f"Where the joints have been, by hand; low and high stay {margin:g} rad inside:",
                *seen,
            ]
        ),
    }


def render(head: str, values: Mapping[str, Any], notes: Mapping[str, str]) -> str:
    """YAML with a comment at the top, and one above each key that `notes` names."""
    return "".join(f"# {line}\n" for line in head.splitlines()) + _block(values, notes, "")


def _block(values: Mapping[str, Any], notes: Mapping[str, str], prefix: str) -> str:
    from yaml import safe_dump

    text, indent = "", "  " * prefix.count(".")
    for key, value in values.items():
        for line in notes.get(prefix + key, "").splitlines():
            text += f"{indent}# {line}\n"
        if isinstance(value, Mapping) and value:
            inner = cast("Mapping[str, Any]", value)
            text += f"{indent}{key}:\n{_block(inner, notes, f'{prefix}{key}.')}"
        else:
            dumped = safe_dump({key: _plain(value)}, default_flow_style=None, width=10**6)
            text += indent + dumped.replace("\n", f"\n{indent}").rstrip() + "\n"
    return text


def _plain(value: Any) -> Any:
    """The same in YAML's own types."""
    if isinstance(value, Mapping):
        return {key: _plain(one) for key, one in cast("Mapping[str, Any]", value).items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in cast("list[Any]", value)]
    return value
