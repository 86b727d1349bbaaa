"""A robot file as text, with comments that say how its numbers were measured."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from .session import Calibration, Wishes


def notes(found: Calibration, wishes: Wishes, joints: tuple[str, ...]) -> dict[str, str]:
    """How each number was measured, by the dotted key that it is written under."""
    low, high = found.reach
    seen = [
        f"{name}: {first:.3f} to {last:.3f} rad (counts {start:.0f} to {end:.0f})"
        for name, first, last, start, end in zip(joints, low, high, *found.seen, strict=True)
    ]
    how = "the middle of each range" if wishes.middle else "the arm was put into that pose by hand"
    inside = f"Where each joint has been by hand; low and high stay {wishes.margin:g} rad inside."
    return {
        "options.zero": f"Encoder counts at 0 rad: {how}.",
        "options.direction": "1: the servo counts up as its joint turns the positive way.",
        "control.limits.low": "\n".join([inside, *seen]),
    }


def render(head: str, values: Mapping[str, Any], comments: Mapping[str, str]) -> str:
    """YAML with a comment at the top, and one above each key that `comments` names."""
    return "".join(f"# {line}\n" for line in head.splitlines()) + _block(values, comments, "")


def _block(values: Mapping[str, Any], comments: Mapping[str, str], prefix: str) -> str:
    text, indent = "", "  " * prefix.count(".")
    for key, value in values.items():
        for line in comments.get(prefix + key, "").splitlines():
            text += f"{indent}# {line}\n"
        if isinstance(value, Mapping) and value:
            inner = cast("Mapping[str, Any]", value)
            text += f"{indent}{key}:\n{_block(inner, comments, f'{prefix}{key}.')}"
        else:
            text += f"{indent}{key}: {_in_one_line(value)}\n"
    return text


def _in_one_line(value: Any) -> str:
    from yaml import safe_dump

    plain = list(cast("tuple[Any, ...]", value)) if isinstance(value, tuple) else value
    text: str = safe_dump(plain, default_flow_style=True, width=10**6)
    # YAML ends a lone scalar with a mark of the document's end.
    return text.removesuffix("...\n").rstrip()
