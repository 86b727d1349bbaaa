"""Compose a configuration from YAML and `key=value` overrides into a checked dataclass."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar, cast

from ...decoding.plumbing.schema import build, key_types, takes_any_key, unknown_key
from . import yaml as yaml_files
from .groups import Choice, Group, merged
from .own_file import OwnFile, reason

T = TypeVar("T")

CONFIG_DIR = Path(str(resources.files(yaml_files)))


def compose(
    name: str,
    overrides: Sequence[str],
    schema: type[T],
    config_dir: Path = CONFIG_DIR,
    *,
    beneath: Mapping[str, Any] | None = None,
) -> T:
    """Build the configuration `name` with the user's `overrides` applied.

    Hydra composes the YAML files that the defaults list and the chosen group members name; the
    result, the user's own files and the other overrides must fit `schema`. No OmegaConf type leaves
    this function.

    A schema may offer three methods, see `TrainConfig`: ``specialised(values)``, the dataclass to
    use for these values; ``explain(key)``, what to say about a key that it does not have; and
    ``check_given(keys)`` of the result, called with the keys that were typed.

    Args:
        name: File of `config_dir` without its suffix, e.g. ``"train"``.
        overrides: ``group=choice``, a choice being a name or the path of a file of one's own, and
            ``dotted.key=value`` in Hydra's grammar; the last wins.
        schema: Dataclass, may be frozen and nested; its defaults hold where YAML is silent.
        config_dir: Folder of the YAML files.
        beneath: Nested values that refine the shipped YAML; the user's files and overrides win.

    Returns:
        An instance of `schema`.

    Raises:
        ValueError: For a malformed override, an unknown key or choice, a value of the wrong
            type, or a required key without value; the message names what would be right, and the
            file if one of the user's own is wrong.
    """
    groups = {group: Group(group, config_dir / group) for group in _groups(name, config_dir)}
    chosen, assigned = _sorted_out(overrides, groups)
    values = merged(_shipped(name, chosen, config_dir), beneath or {})
    origin: dict[str, Path] = {}
    for group, choice in chosen.items():
        values = merged(values, {group: choice.values} if choice.values else {})
        for file in choice.files:
            placed = _placed(file, group, schema)
            values = merged(values, placed)
            origin |= dict.fromkeys(_dotted(placed), file.path)
    if specialised := getattr(schema, "specialised", None):
        schema = specialised(merged(values, _nested(assigned)))
    types = key_types(schema)
    for key in [*origin, *assigned]:
        if not _is_known(key, types):
            _refuse(key, schema, [*types, *groups], None if key in assigned else origin[key])
    try:
        config = build(schema, _assigned(values, assigned))
    except ValueError as error:
        named = [key for key in origin if str(error).startswith(key) and key not in assigned]
        prefix = f"{origin[max(named, key=len)]}: " if named else ""
        raise ValueError(f"{prefix}{error}") from None
    if check := getattr(config, "check_given", None):
        check(list(assigned))
    return config


def choices(group: str, config_dir: Path = CONFIG_DIR) -> list[str]:
    """Return the members of a configuration group, e.g. of ``"policy"``, sorted."""
    return Group(group, config_dir / group).members


def describe_choices(groups: Sequence[str], config_dir: Path = CONFIG_DIR) -> str:
    """Return one line per group for a command's ``--help``, light enough for that."""
    return "\n".join(
        f"  {group}=…  {', '.join(choices(group, config_dir))}, or a file PATH.yaml"
        for group in groups
    )


def _groups(name: str, config_dir: Path) -> set[str]:
    """Return the groups that the defaults list of configuration `name` selects from."""
    from omegaconf import OmegaConf

    defaults = OmegaConf.select(OmegaConf.load(config_dir / f"{name}.yaml"), "defaults") or []
    return {str(group) for entry in defaults if not isinstance(entry, str) for group in entry}


def _sorted_out(
    overrides: Sequence[str], groups: Mapping[str, Group]
) -> tuple[dict[str, Choice], dict[str, Any]]:
    """Split overrides into choices of groups and values of keys; the last of each wins."""
    chosen: dict[str, Choice] = {}
    assigned: dict[str, Any] = {}
    for override in overrides:
        group, _, choice = override.partition("=")
        if group in groups and choice:
            # Not by Hydra's grammar: a path may hold what it gives a meaning to.
            chosen[group] = groups[group].choose(choice.strip("\"'"))
        else:
            key, value = _parse(override)
            assigned.pop(key, None)
            assigned[key] = value
    return chosen, assigned


def _shipped(name: str, chosen: Mapping[str, Choice], config_dir: Path) -> dict[str, Any]:
    """What the shipped YAML files say, as plain data with unresolved interpolations."""
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from omegaconf import OmegaConf

    selections = [
        f"{group}={choice.shipped}" if choice.shipped else f"~{group}"
        for group, choice in chosen.items()
    ]
    with initialize_config_dir(version_base="1.3", config_dir=str(config_dir.absolute())):
        config = hydra_compose(config_name=name, overrides=selections)
    return cast("dict[str, Any]", OmegaConf.to_container(config, resolve=False))


def _parse(override: str) -> tuple[str, Any]:
    """Split ``key=value`` by Hydra's grammar, which gives numbers, lists and null their type."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.core.override_parser.types import OverrideType
    from hydra.errors import HydraException

    key, equals, value = override.partition("=")
    if value.startswith("~/"):
        # Behind a dotted key shells leave it as it is.
        override = f"{key}{equals}{Path(value).expanduser()}"
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
            "deleting (~) and, but for `hotloop train -m`, sweeping (a,b) are not supported; a "
            "list is written [a,b]"
        )
    return parsed.key_or_group, parsed.value()


def _placed(file: OwnFile, group: str, schema: type[Any]) -> dict[str, Any]:
    """A file's values where they belong: keys of the whole configuration, else of the group."""
    types = key_types(schema)
    placed: dict[str, Any] = {}
    for key, value in file.values.items():
        everywhere = key in types and f"{group}.{key}" not in types
        placed = merged(placed, {key: value} if everywhere else {group: {key: value}})
    return placed


def _dotted(values: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Dotted keys of all values that are no mappings, or empty ones."""
    keys: list[str] = []
    for key, value in values.items():
        inner = isinstance(value, Mapping) and bool(value)
        keys += _dotted(value, f"{prefix}{key}.") if inner else [f"{prefix}{key}"]
    return keys


def _nested(assigned: Mapping[str, Any]) -> dict[str, Any]:
    """Nested mappings of dotted keys."""
    result: dict[str, Any] = {}
    for key, value in assigned.items():
        for part in reversed(key.split(".")):
            value = {part: value}
        result = merged(result, value)
    return result


def _is_known(key: str, types: Mapping[str, Any]) -> bool:
    """Whether the schema has `key`, or a field above it that takes any key."""
    parents = [key[:index] for index, letter in enumerate(key) if letter == "."]
    return key in types or any(takes_any_key(types[one]) for one in parents if one in types)


def _refuse(key: str, schema: type[Any], valid: Sequence[str], path: Path | None) -> None:
    """Raise ValueError for a key that the schema does not have."""
    explain = getattr(schema, "explain", None)
    text = (explain(key) if explain else "") or unknown_key(key, valid)
    raise ValueError(text if path is None else f"{path}: {text}")


def _assigned(values: Mapping[str, Any], assigned: Mapping[str, Any]) -> dict[str, Any]:
    """The user's values in place, and interpolations resolved, as plain data."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        config = OmegaConf.create(dict(values))
        for key, value in assigned.items():
            # YAML need not mention a key that the schema has, so it may have to be added.
            OmegaConf.update(config, key, value, force_add=True)
        plain = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise ValueError(reason(error)) from None
    return {str(key): value for key, value in cast("dict[Any, Any]", plain).items()}
