"""Diffuser, Decision Diffuser and Trajectory Diffuser as one kind of policy."""

from __future__ import annotations

from ..kinds import Kind
from .config import PlannerConfig, PlannerSampling
from .idle import idle_choices
from .model import PlannerModel
from .planner import Planner

PLANNER = Kind(PlannerConfig, PlannerModel, PlannerSampling, Planner, idle_choices)
