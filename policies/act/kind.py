"""ACT as a kind of policy."""

from __future__ import annotations

from ..kinds import Kind
from .config import ActConfig, ActSampling
from .exported import export_act
from .model import ActModel
from .policy import ActPolicy

ACT = Kind(ActConfig, ActModel, ActSampling, ActPolicy, export=export_act)
