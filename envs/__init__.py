"""Simulated tasks, evaluation over many seeds, and how sure its numbers are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..decoding.plumbing.lazy import lazily

if TYPE_CHECKING:
    from .d4rl_scores import (
        REFERENCE_SCORES,
        ReferenceScores,
        normalized_score,
        reference_scores,
    )
    from .expert import SCRIPTED_EXPERTS, Expert, ScriptedExpert, trained_expert
    from .recording import RecordedEpisode, record_episode
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
    from .task import DrawsOnDemand, EndsWhenSolved, Environment, Task
    from .video import Video
    from .waypoint_controller import WaypointController, WaypointExpert
    from .workers import Environments, environments

__all__ = [
    "REFERENCE_SCORES",
    "SCRIPTED_EXPERTS",
    "TASKS",
    "Comparison",
    "DrawsOnDemand",
    "EndsWhenSolved",
    "Environment",
    "Environments",
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
    "environments",
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

__getattr__ = lazily(
    __name__,
    {
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
        "d4rl_scores": (
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
            "DrawsOnDemand",
            "EndsWhenSolved",
            "Environment",
            "Task",
        ),
        "video": ("Video",),
        "waypoint_controller": (
            "WaypointController",
            "WaypointExpert",
        ),
        "workers": ("Environments", "environments"),
    },
)
