"""Compose a configuration from YAML and `key=value` overrides into a checked dataclass."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from difflib import get_close_matches
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

from ...decoding.plumbing.schema import build, key_types, takes_any_key, unknown_key
from . import yaml

T = TypeVar("T")

CONFIG_DIR = Path(str(resources.files(yaml)))


def compose(
    name: str, overrides: Sequence[str], schema: type[T], config_dir: Path = CONFIG_DIR
) -> T:
    """Build the configuration `name` with the user's `overrides` applied.

    Hydra composes the YAML files that the defaults list and the chosen group members name; the
    result and the other overrides must fit `schema`. No OmegaConf type leaves this function.

    Args:
        name: File of `config_dir` without its suffix, e.g. ``"train"``.
        overrides: ``group=choice`` and ``dotted.key=value`` in Hydra's grammar; the last wins.
        schema: Dataclass, may be frozen and nested; its defaults hold where YAML is silent.
        config_dir: Folder of the YAML files.

    Returns:
        An instance of `schema`.

    Raises:
        ValueError: For a malformed override, an unknown key or choice, a value of the wrong
            type, or a required key without value; the message names what would be right.
    """
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    groups = _groups(name, config_dir)
    chosen: dict[str, str] = {}
    assigned: dict[str, Any] = {}
    for override in overrides:
        key, value = _parse(override)
        if key in groups:
            _check_choice(key, str(value), config_dir)
            chosen[key] = str(value)
        else:
            _check_key(key, key_types(schema), groups)
            assigned[key] = value
    selections = [f"{group}={choice}" for group, choice in chosen.items()]
    with initialize_config_dir(version_base="1.3", config_dir=str(config_dir.absolute())):
        config = hydra_compose(config_name=name, overrides=selections)
    for key, value in assigned.items():
        # YAML need not mention a key that the schema has, so it may have to be added.
        OmegaConf.update(config, key, value, force_add=True)
    try:
        plain = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise ValueError(f"{error.full_key}: {str(error).splitlines()[0]}") from None
    assert isinstance(plain, dict)
    return build(schema, {str(key): value for key, value in plain.items()})


def choices(group: str, config_dir: Path = CONFIG_DIR) -> list[str]:
    """Return the members of a configuration group, e.g. of ``"policy"``, sorted."""
    return sorted(path.stem for path in (config_dir / group).glob("*.yaml"))


def describe_choices(groups: Sequence[str], config_dir: Path = CONFIG_DIR) -> str:
    """Return one line per group for a command's ``--help``, light enough for that."""
    return "\n".join(f"  {group}=…  {', '.join(choices(group, config_dir))}" for group in groups)


def _groups(name: str, config_dir: Path) -> set[str]:
    """Return the groups that the defaults list of configuration `name` selects from."""
    from omegaconf import OmegaConf

    defaults = OmegaConf.select(OmegaConf.load(config_dir / f"{name}.yaml"), "defaults") or []
    return {str(group) for entry in defaults if not isinstance(entry, str) for group in entry}


def _parse(override: str) -> tuple[str, Any]:
    """Split ``key=value`` by Hydra's grammar, which gives numbers, lists and null their type."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.core.override_parser.types import OverrideType
    from hydra.errors import HydraException

    try:
        parsed = OverridesParser.create().parse_override(override)
    except HydraException:
        raise ValueError(
            f"{override!r} is not of the form key=value; put a value with special characters in "
            "quotes that the shell leaves alone: \"key='a=b'\""
        ) from None
    if parsed.type is not OverrideType.CHANGE or parsed.is_sweep_override():
        raise ValueError(
            f"{override!r}: expected one value for an existing key, key=value; adding (+), "
            "deleting (~) and sweeping (a,b) are not supported, a list is written [a,b]"
        )
    return parsed.key_or_group, parsed.value()


def _check_choice(group: str, choice: str, config_dir: Path) -> None:
    """Raise ValueError unless `choice` is a member of `group`."""
    valid = choices(group, config_dir)
    if choice not in valid:
        near = get_close_matches(choice, valid, n=1)
        question = f" (did you mean {near[0]}?)" if near else ""
        raise ValueError(
            f"{group}={choice}: there is no {group} of that name{question}; "
            f"choose from {', '.join(valid)}"
        )


def _check_key(key: str, types: dict[str, Any], groups: Collection[str]) -> None:
    """Raise ValueError unless the schema has `key`, or a field above it that takes any key."""
    parents = [key[:index] for index, letter in enumerate(key) if letter == "."]
    open_ended = any(takes_any_key(types[parent]) for parent in parents if parent in types)
    if key not in types and not open_ended:
        raise ValueError(unknown_key(key, [*types, *groups]))
