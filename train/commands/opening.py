"""One door for every form of a policy: a checkpoint, or what was exported and needs no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ...decoding import Policy
from ...decoding.exported import ExportedPolicy, is_exported
from .recorded_positions import Recorded, recorded

if TYPE_CHECKING:
    from ...policies.checkpoint import Checkpoint


@dataclass(frozen=True)
class Opened:
    """A policy that is ready to plan, and what is known of it.

    Attributes:
        policy: The policy.
        provenance: Task, dataset, seed, steps and results; JSON-able, empty if nobody says.
        recorded: How its recordings were spread, None where that is not known.
    """

    policy: Policy
    provenance: Mapping[str, Any]
    recorded: Recorded | None = None


def open_policy(
    name: str,
    sampling: Mapping[str, Any] | None = None,
    engine: str = "",
    threads: int | None = None,
) -> Opened:
    """Open the policy that a name stands for.

    Args:
        name: Name or path of a checkpoint, or path of a folder that `hotloop export` wrote.
        sampling: Choices that differ from the stored ones; of an exported policy they are fixed.
        engine: How the network of a checkpoint runs; by default as PyTorch does.
        threads: Threads of the network; by default as many as the process uses anyway.

    Raises:
        ValueError: If it is damaged, or the sampling choices do not fit it.
        FileNotFoundError: If there is none.
        ImportError: If a package that it needs is missing.
    """
    if is_exported(name):
        return _open_exported(name, sampling, engine, threads)
    return _open_checkpoint(name, sampling, engine or "eager", threads)


def _open_exported(
    name: str, sampling: Mapping[str, Any] | None, engine: str, threads: int | None
) -> Opened:
    if sampling:
        choice = next(iter(sampling))
        raise ValueError(
            f"{name} is exported, and its sampling choices with it: sampling.{choice} cannot be "
            f"changed; export the checkpoint with sampling.{choice}=…"
        )
    policy = ExportedPolicy(name, threads or 1)
    if engine not in ("", policy.about["runtime"]):
        raise ValueError(
            f"{name} is exported for {policy.about['runtime']}, engine {engine!r} cannot run it"
        )
    spread = policy.about.get("recorded")
    return Opened(
        policy, policy.about["provenance"], None if spread is None else Recorded.from_json(spread)
    )


def _open_checkpoint(
    name: str, sampling: Mapping[str, Any] | None, engine: str, threads: int | None
) -> Opened:
    import torch

    from ...policies.checkpoint import load_checkpoint

    if threads is not None:
        torch.set_num_threads(threads)
    checkpoint: Checkpoint = load_checkpoint(name)
    policy = checkpoint.policy(sampling, engine)
    return Opened(policy, checkpoint.provenance, recorded(checkpoint))
