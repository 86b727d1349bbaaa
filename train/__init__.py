"""Training, evaluation and distillation from Python.

    from hotloop.train import EvalConfig, TaskConfig, TrainConfig, evaluate, train

    task = TaskConfig("pusht", "pusht.npz", {"action": "action", "observation.state": "state"})
    folder = train(TrainConfig(task=task, output_dir="outputs/mine", steps=1000))
    print(evaluate(folder, EvalConfig(sampling={"calls_per_step": 1})).episodes)

The commands of `hotloop` are made of these functions. What a family of policies has to choose is
a dataclass of its own: `PolicyConfig` (streaming) and `DiffusionPolicyConfig` with
`JumpDistillConfig`, `FlowMapConfig` or `ConsistencyConfig`, `PlannerPolicyConfig` and
`VlaPolicyConfig` with `DistillConfig`.
`compose_training` builds all of it as the command line does: from the shipped YAML files, files of
one's own, and ``key=value``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..decoding.plumbing.lazy import lazily

if TYPE_CHECKING:
    from .config.distill import (
        ConsistencyConfig,
        DistillConfig,
        FlowMapConfig,
        JumpDistillConfig,
    )
    from .config.evaluation import BenchConfig, EvalConfig, EvalOptions
    from .config.policies import (
        DiffusionPolicyConfig,
        PlannerPolicyConfig,
        PolicyConfig,
        VlaPolicyConfig,
    )
    from .config.training import OptimConfig, TaskConfig, TrainConfig
    from .evaluation import evaluate
    from .measure.bench import bench
    from .training import distill, train, train_on

__all__ = [
    "BenchConfig",
    "ConsistencyConfig",
    "DiffusionPolicyConfig",
    "DistillConfig",
    "EvalConfig",
    "EvalOptions",
    "FlowMapConfig",
    "JumpDistillConfig",
    "OptimConfig",
    "PlannerPolicyConfig",
    "PolicyConfig",
    "TaskConfig",
    "TrainConfig",
    "VlaPolicyConfig",
    "bench",
    "compose_training",
    "distill",
    "evaluate",
    "train",
    "train_on",
]

__getattr__ = lazily(
    __name__,
    {
        "config.distill": (
            "ConsistencyConfig",
            "DistillConfig",
            "FlowMapConfig",
            "JumpDistillConfig",
        ),
        "config.evaluation": (
            "BenchConfig",
            "EvalConfig",
            "EvalOptions",
        ),
        "config.policies": (
            "DiffusionPolicyConfig",
            "PlannerPolicyConfig",
            "PolicyConfig",
            "VlaPolicyConfig",
        ),
        "config.training": (
            "OptimConfig",
            "TaskConfig",
            "TrainConfig",
        ),
        "evaluation": ("evaluate",),
        "measure.bench": ("bench",),
        "training": (
            "distill",
            "train",
            "train_on",
        ),
    },
)


def compose_training(overrides: Sequence[str] = ()) -> TrainConfig:
    """The configuration of a run as ``hotloop train`` composes it.

    Args:
        overrides: What would be typed behind ``hotloop train``, e.g. ``["policy=dp", "steps=10"]``.

    Raises:
        ValueError: For an unknown key or choice, or a value of the wrong type.
    """
    from .config.compose import compose
    from .config.training import TrainConfig

    return compose("train", overrides, TrainConfig)
