"""The table of distillation methods, by name.

To add one: a module that holds a `Method`, and its line here; or, in a package of one's own, an
entry point of the group ``hotloop.distillations`` that names a `Method`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields
from typing import TYPE_CHECKING

from ...decoding.plumbing.plugins import Registry
from ...decoding.plumbing.schema import key_types
from ..config.distill import DistillConfig
from ..families import family_of
from .method import Method

if TYPE_CHECKING:
    from ...policies.checkpoint import Checkpoint
    from ..config.training import TrainConfig
    from ..data.episodes import Episodes
    from ..families.family import Training

METHODS: Registry[Method] = Registry(
    "hotloop.distillations",
    "distillation method",
    {
        "segment": "segment:METHOD",
        "flow-map": "flow_map:METHOD",
        "guidance": "guidance:METHOD",
        "consistency": "consistency:METHOD",
        "sampler": "sampler:METHOD",
        "mean-flow": "mean_flow:METHOD",
    },
    str(__package__),
)


def default_method(kind: str) -> str:
    """Name of the method that suits a kind of policy; empty for kinds that have none."""
    return family_of(kind).method


def method_of(kind: str, name: str = "") -> Method | None:
    """The method that distils a kind of policy, by default the one that suits it.

    Returns:
        None for kinds that are distilled in a way of their own, or not at all.

    Raises:
        ValueError: If there is no such method, or it does not distil this kind.
        ImportError: If it is a plugin's and cannot be imported.
    """
    name = name or default_method(kind)
    if not name:
        return None
    method = METHODS.get(name)
    if not isinstance(method, Method):
        raise ValueError(
            f"distill.method={name} is {method!r}, no hotloop.train.distillation.method.Method; "
            "name one in the entry-point group hotloop.distillations"
        )
    method.check(kind)
    return method


def settings_type(kind: str, name: str = "") -> type[DistillConfig]:
    """Dataclass of `TrainConfig.distill` for a kind of policy and a method; see `method_of`."""
    method = method_of(kind, name)
    return DistillConfig if method is None else method.config


def methods_with(path: str) -> list[str]:
    """Methods of hotloop whose settings have the nested name `path`."""
    return [name for name in METHODS.included if path in key_types(METHODS.get(name).config)]


def unread(config: TrainConfig) -> Iterable[tuple[str, str]]:
    """Dotted settings, or groups of them, that a run does not read because of a teacher or none."""
    method = method_of(config.policy.kind, config.distill.method)
    if config.distill.teacher and method is not None:
        return method.unread(config)
    names = [field.name for field in fields(config.distill) if field.name != "teacher"]
    return [(f"distill.{name}", "distill.teacher names no teacher") for name in names]


def prepare_student(config: TrainConfig, teacher: Checkpoint, episodes: Episodes) -> Training:
    """Build what the run of a student optimises.

    Args:
        config: The run; its policy is the student, `distill` names the method.
        teacher: Trained policy.
        episodes: Demonstrations, or episodes of the teacher.

    Raises:
        ValueError: If run, teacher and data do not fit each other.
    """
    kind, distill = config.policy.kind, config.distill
    if teacher.kind != kind:
        raise ValueError(
            f"distill.teacher={distill.teacher} is a {teacher.kind}, so its student is none of "
            f"policy={kind}; {family_of(teacher.kind).advice(teacher.kind)}"
        )
    trained_for, task = teacher.provenance.get("task"), config.task
    if task.check and trained_for and task.name and trained_for != task.name:
        raise ValueError(
            f"distill.teacher={distill.teacher} was trained for task {trained_for!r}, and the "
            f"student is for {task.name!r}; choose a teacher of that task, or set task.check=false"
        )
    method = method_of(kind, distill.method)
    assert method is not None, "families without a method prepare students themselves"
    method.check(kind, getattr(distill, "calls_per_step", ()))
    method.check_student(config, teacher)
    return method.prepare(config, teacher, episodes)
