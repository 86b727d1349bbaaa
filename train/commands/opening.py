"""One door for every form of a policy: a checkpoint, an exported one, or one on a server."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ...decoding import Policy
from ...decoding.exported import ExportedPolicy, is_exported
from ...decoding.plumbing.devices import CPU
from .recorded_positions import Recorded, recorded
from .telling import tell_choices

if TYPE_CHECKING:
    from ...real_robot.config import PolicyOptions, RobotConfig


@dataclass(frozen=True)
class Opened:
    """A policy that is ready to plan, and what is known of it.

    Attributes:
        policy: The policy.
        provenance: Task, dataset, seed, steps and results; JSON-able, empty if nobody says.
        recorded: How its recordings were spread, None where that is not known.
        kind: What kind of policy it is, empty where that is not known.
    """

    policy: Policy
    provenance: Mapping[str, Any]
    recorded: Recorded | None = None
    kind: str = ""


def open_policy(
    name: str,
    sampling: Mapping[str, Any] | None = None,
    engine: str = "",
    threads: int | None = None,
    deadline: float = 5.0,
    lerobot: Mapping[str, Any] | None = None,
    device: str = CPU,
    precision: str = "float32",
) -> Opened:
    """Open the policy that a name stands for.

    Args:
        name: Name or path of a checkpoint, path of a folder that `hotloop export` wrote, or the
            address of a policy server.
        sampling: Choices that differ from the stored ones; of an exported or served policy they
            are fixed.
        engine: How the network of a checkpoint runs, by default as PyTorch does; ``"auto"`` is the
            fastest here.
        threads: Threads of the network; by default as many as the process uses anyway.
        deadline: How long a policy server may take for a plan [s].
        lerobot: What a LeRobot folder does not hold, ``lerobot.*`` as plain data.
        device: Where the networks of a checkpoint run.
        precision: Of a checkpoint's products.

    Raises:
        ValueError: If it is damaged, the sampling choices do not fit it, or there is no such
            device.
        FileNotFoundError: If there is none.
        ImportError: If a package that it needs is missing.
    """
    remote = name.startswith(("ws://", "wss://"))
    if device != CPU and (remote or is_exported(name)):
        where = "where it is served" if remote else "on the CPU"
        raise ValueError(f"{name} runs {where}; leave device={device} out")
    if precision != "float32" and (remote or is_exported(name)):
        raise ValueError(f"{name} has its own precision; leave precision={precision} out")
    if lerobot and (remote or is_exported(name)):
        raise ValueError(f"{name} says everything itself; leave lerobot.* out")
    if remote:
        return _open_remote(name, sampling, engine, deadline)
    if is_exported(name):
        return _open_exported(name, sampling, engine, threads)
    from ...policies.programs.engines.engine import engine_name

    engine = engine_name(engine or "eager", precision)
    return _open_checkpoint(name, sampling, engine, threads, lerobot or {}, device)


def open_for_robot(robot: RobotConfig, options: PolicyOptions) -> Opened:
    """Open the policy that a policy process is to run.

    Raises:
        ValueError: As `open_policy`.
        OSError: If it is not there.
    """
    # The control loop beside it needs a core for itself. Of what was measured before max_age it
    # takes no plan, so there is nothing to wait for after that.
    max_age = robot.control.rules.max_age
    return open_policy(
        options.checkpoint,
        options.sampling,
        options.engine,
        threads=1,
        deadline=max_age,
        lerobot=options.lerobot,
        device=options.device,
        precision=options.precision,
    )


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
        policy,
        policy.about["provenance"],
        None if spread is None else Recorded.from_json(spread),
        policy.about["kind"],
    )


def _open_checkpoint(
    name: str,
    sampling: Mapping[str, Any] | None,
    engine: str,
    threads: int | None,
    lerobot: Mapping[str, Any],
    device: str,
) -> Opened:
    import torch

    from ...policies.place import find_device
    from ..config.lerobot import load, read_lerobot_config, refuse_unread

    tell_choices()
    find_device(device)  # before anything is loaded
    if threads is not None:
        torch.set_num_threads(threads)
    config = read_lerobot_config(lerobot)
    refuse_unread([name], config)
    checkpoint = load(name, config).to(device)
    policy = checkpoint.policy(sampling, engine)
    return Opened(policy, checkpoint.provenance, recorded(checkpoint), checkpoint.kind)


def about(opened: Opened) -> dict[str, Any]:
    """What whoever runs a policy elsewhere should know of it, plain data; no path is in it."""
    found: dict[str, Any] = {"kind": opened.kind, "task": str(opened.provenance.get("task", ""))}
    if opened.recorded is not None:
        found["recorded"] = opened.recorded.to_json()
    return found


def _open_remote(
    address: str, sampling: Mapping[str, Any] | None, engine: str, deadline: float
) -> Opened:
    from ...decoding.serving.client import RemotePolicy

    given = [f"sampling.{name}" for name in sampling or {}] + (["engine"] if engine else [])
    if given:
        raise ValueError(f"{given[0]} is chosen where the policy is served, at {address}")
    policy = RemotePolicy(address, deadline)
    known = policy.about
    spread = known.get("recorded")
    return Opened(
        policy,
        {"task": known.get("task", "")},
        None if spread is None else Recorded.from_json(spread),
        str(known.get("kind", "")),
    )
