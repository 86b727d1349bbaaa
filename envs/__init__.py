"""Simulated tasks, evaluation over many seeds, and how sure its numbers are."""

from .expert import SCRIPTED_EXPERTS, Expert, ScriptedExpert, trained_expert
from .recording import RecordedEpisode, record_episode
from .reference_scores import REFERENCE_SCORES, ReferenceScores, normalized_score, reference_scores
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
