"""One door for every form of a policy: a checkpoint, or what was exported and needs no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ...decoding import Policy
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
        name: Name or path of a checkpoint.
        sampling: Choices that differ from the stored ones.
        engine: How the network runs; by default as PyTorch does.
        threads: Threads of the network; by default as many as the process uses anyway.

    Raises:
        ValueError: If it is damaged, or the sampling choices do not fit it.
        FileNotFoundError: If there is none.
    """
    return _open_checkpoint(name, sampling, engine or "eager", threads)


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
