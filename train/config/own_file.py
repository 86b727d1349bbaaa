"""A YAML file of the user's own, read with all the traps of YAML in mind."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from omegaconf.errors import OmegaConfBaseException

BASE = "base"
LARGEST = 1 << 20  # bytes of a file
MOST_VALUES = 100_000  # in a file, with every alias written out
DEEPEST = 32  # mappings and lists in each other, and references to other keys


@dataclass(frozen=True)
class OwnFile:
    """What one file of the user's sets.

    Attributes:
        path: The file.
        values: What it holds, but for its base.
    """

    path: Path
    values: dict[str, Any]


def read_own_file(path: Path, group: str) -> tuple[OwnFile, str | None]:
    """The content of a file and its base.

    Args:
        path: The file.
        group: Configuration group that it is chosen for, for messages.

    Raises:
        ValueError: If there is no such file, or it holds no mapping, or is no sound YAML.
    """
    # Not plain YAML: that takes 1e-3 for a text, and the last of two equal keys without a word.
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    text = _text(path, group)
    try:
        _check_form(text)
        values = OmegaConf.to_container(OmegaConf.create(text), resolve=False)
    except OmegaConfBaseException as error:
        raise ValueError(f"{path} is not valid YAML: {reason(error)}") from None
    except (YAMLError, ValueError) as error:
        where = " ".join(str(error).split())
        raise ValueError(f"{path} is not valid YAML: {where}") from None
    if not (values and isinstance(values, dict) and all(isinstance(key, str) for key in values)):
        raise ValueError(f"{path}: expected names and values (key: value), got {values!r:.60}")
    named = BASE in values
    base = values.pop(BASE, None)
    if named and not (isinstance(base, str) and base.strip()):
        raise ValueError(
            f"{path}: {BASE}: expected the name of a {group} or a file, got {base!r:.60}; leave "
            f"{BASE} out for a file that says everything itself"
        )
    return OwnFile(path, cast("dict[str, Any]", values)), base


def reason(error: OmegaConfBaseException) -> str:
    """What OmegaConf found wrong, in one line that names the key."""
    from omegaconf.errors import GrammarParseError

    text = str(error).splitlines()[0]
    if isinstance(error, GrammarParseError):
        text = f"a reference to another key is written ${{key}}, in full; {text}"
    return f"{error.full_key}: {text}" if error.full_key else text


def _text(path: Path, group: str) -> str:
    """The text of a file; a pipe or a device could go on for ever.

    Raises:
        ValueError: If it cannot be read.
    """
    try:
        if path.exists() and not path.is_file():
            raise ValueError(f"{group}={path}: it cannot be read as text: it is no file")
        with path.open(encoding="utf-8-sig") as file:
            text = file.read(LARGEST + 1)
    except FileNotFoundError:
        raise ValueError(f"{group}={path}: there is no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{group}={path}: it cannot be read as text: {error}") from None
    if len(text) > LARGEST:
        raise ValueError(f"{group}={path}: it is larger than any robot or task file, {LARGEST} B")
    return text


def _check_form(text: str) -> None:
    """Refuse what would never end when it is written out: anchors in themselves, and their powers.

    And what is in each other too deep to be read.

    Raises:
        ValueError: The message names the line.
        yaml.YAMLError: If it is no YAML.
    """
    import yaml

    sizes: dict[str, int] = {}
    around: list[tuple[str | None, int]] = [(None, 0)]  # anchors of what is open, values in it
    for event in yaml.parse(text, yaml.SafeLoader):
        line = event.start_mark.line + 1
        size = 1
        if isinstance(event, yaml.CollectionStartEvent):
            around.append((event.anchor, 0))
            if len(around) > DEEPEST:
                raise ValueError(f"line {line}: mappings or lists more than {DEEPEST} deep")
            continue
        if isinstance(event, yaml.CollectionEndEvent):
            anchor, inner = around.pop()
            size += inner
            sizes[anchor or ""] = size
        elif isinstance(event, yaml.AliasEvent):
            if event.anchor in [anchor for anchor, _ in around]:
                raise ValueError(f"line {line}: the anchor &{event.anchor} contains itself")
            size = sizes.get(event.anchor, 1)
        elif not isinstance(event, yaml.ScalarEvent):
            continue
        elif _num_nested(event.value) > DEEPEST:
            raise ValueError(f"line {line}: references ${{...}} more than {DEEPEST} deep")
        anchor, total = around[-1]
        around[-1] = anchor, total + size
        if total + size > MOST_VALUES:
            raise ValueError(f"line {line}: more than {MOST_VALUES} values with all aliases")


def _num_nested(text: str) -> int:
    """How deep references ``${...}`` are in each other; OmegaConf reads them by recursion."""
    deepest = depth = 0
    for mark in re.findall(r"\$\{|\}", text):
        depth = depth + 1 if mark == "${" else max(depth - 1, 0)
        deepest = max(deepest, depth)
    return deepest
