"""Simulated tasks, evaluation over many seeds, and how sure its numbers are."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .expert import SCRIPTED_EXPERTS, Expert, ScriptedExpert, trained_expert
    from .recording import RecordedEpisode, record_episode
    from .reference_scores import (
        REFERENCE_SCORES,
        ReferenceScores,
        normalized_score,
        reference_scores,
    )
    from .registry import TASKS, make_task
    from .rollout import Episode, Evaluation, evaluate
    from .statistics import (
        Comparison,
        Interval,
        bootstrap_interval,
        compare,
        read_json,
        summary,
        wilson_interval,
        write_json,
    )
    from .task import EndsWhenSolved, Environment, Task
    from .video import Video
    from .waypoint_controller import WaypointController, WaypointExpert

__all__ = [
    "REFERENCE_SCORES",
    "SCRIPTED_EXPERTS",
    "TASKS",
    "Comparison",
    "EndsWhenSolved",
    "Environment",
    "Episode",
    "Evaluation",
    "Expert",
    "Interval",
    "RecordedEpisode",
    "ReferenceScores",
    "ScriptedExpert",
    "Task",
    "Video",
    "WaypointController",
    "WaypointExpert",
    "bootstrap_interval",
    "compare",
    "evaluate",
    "make_task",
    "normalized_score",
    "read_json",
    "record_episode",
    "reference_scores",
    "summary",
    "trained_expert",
    "wilson_interval",
    "write_json",
]

# Imported when asked for: a command's help lists the tasks, but needs no numpy.
_HOMES = {
    "expert": (
        "SCRIPTED_EXPERTS",
        "Expert",
        "ScriptedExpert",
        "trained_expert",
    ),
    "recording": (
        "RecordedEpisode",
        "record_episode",
    ),
    "reference_scores": (
        "REFERENCE_SCORES",
        "ReferenceScores",
        "normalized_score",
        "reference_scores",
    ),
    "registry": (
        "TASKS",
        "make_task",
    ),
    "rollout": (
        "Episode",
        "Evaluation",
        "evaluate",
    ),
    "statistics": (
        "Comparison",
        "Interval",
        "bootstrap_interval",
        "compare",
        "read_json",
        "summary",
        "wilson_interval",
        "write_json",
    ),
    "task": (
        "EndsWhenSolved",
        "Environment",
        "Task",
    ),
    "video": ("Video",),
    "waypoint_controller": (
        "WaypointController",
        "WaypointExpert",
    ),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOME_OF[name]}", __name__), name)
