"""Simulated tasks, evaluation over many seeds, and how sure its numbers are."""

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
from .task import Environment, Task
from .video import Video
from .waypoint_controller import ScriptedEpisode, WaypointController, scripted_episodes

__all__ = [
    "TASKS",
    "Comparison",
    "Environment",
    "Episode",
    "Evaluation",
    "Interval",
    "ScriptedEpisode",
    "Task",
    "Video",
    "WaypointController",
    "bootstrap_interval",
    "compare",
    "evaluate",
    "make_task",
    "read_json",
    "scripted_episodes",
    "summary",
    "wilson_interval",
    "write_json",
]
