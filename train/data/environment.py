"""Which environment a dataset says that it was recorded in, and whether it is a task's."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from ...envs.registry import TASKS, make_task
from ...envs.task import Task

# What may follow an environment's name and leave its world as it is: rewards and starts.
VARIANTS = ("_", "Dense", "Sparse")


def recorded_environments(facts: Mapping[str, Any]) -> Iterator[str]:
    """All names that metadata have for the environment that they belong to."""
    for name in ("task", "simulator"):
        if isinstance(told := facts.get(name), str) and told:
            yield told
    if told := recorded_environment(facts):
        yield told


def recorded_environment(facts: Mapping[str, Any]) -> str:
    """Id of the environment that metadata name, such as Minari's ``env_spec``; may be empty."""
    minari = facts.get("minari")
    spec = minari.get("env_spec") if isinstance(minari, Mapping) else None
    if isinstance(spec, str):
        try:
            spec = json.loads(spec)
        except ValueError:
            return ""
    if isinstance(spec, Mapping):
        return str(spec.get("id") or "")
    env_args = facts.get("env_args")
    name = env_args.get("env_name") if isinstance(env_args, Mapping) else None
    return str(name or "")


def is_same_environment(told: str, task: Task) -> bool:
    """Whether a dataset's name for an environment may be the task's; unknown names are not told."""
    if told in (task.name, task.simulator):
        return True
    if told in TASKS.names:
        return make_task(told).simulator == task.simulator != ""
    if not task.simulator:
        return True
    known = [make_task(name).simulator for name in TASKS.names]
    if not any(_is_world(told, simulator) for simulator in known):
        return True
    return _is_world(told, task.simulator)


def _is_world(told: str, simulator: str) -> bool:
    """Whether an environment's id names the world of a simulator, in whatever version."""
    if told == simulator:
        return True
    base = _base(told)
    for word in simulator.replace(",", " ").split():
        rest = base.removeprefix(_base(word)) if base.startswith(_base(word)) else None
        if rest is not None and (not rest or rest.startswith(VARIANTS)):
            return True
    return False


def _base(environment: str) -> str:
    """An environment's name without namespace and version."""
    name = environment.rpartition("/")[2]
    base, _, version = name.rpartition("-v")
    return base if version.isdigit() else name
