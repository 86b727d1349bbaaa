"""Configuration of evaluations and of latency measurements."""

from __future__ import annotations

from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

from ...decoding.plumbing.devices import CPU, check_device
from .checks import at_least, seeds
from .lerobot import LeRobotConfig


@dataclass(frozen=True)
class EvalOptions:
    """Which episodes an evaluation runs.

    Attributes:
        n_episodes: Number of episodes.
        seed: Seed of the first episode; episode i uses seed + i.
        batch_size: Environments side by side; by default as many as the task says, mostly 50.
        latency: Injected control steps between an observation and its first action.
        videos: Episodes recorded to ``video.mp4``.
        num_workers: Processes that simulate and draw, with the same outcome; 0 for this one.
    """

    n_episodes: int = 50
    seed: int = 100_000
    batch_size: int | None = None
    latency: int = 0
    videos: int = 0
    num_workers: int = 0

    def __post_init__(self) -> None:
        """Reject numbers that are none."""
        at_least(1, eval__n_episodes=self.n_episodes)
        if self.batch_size is not None:
            at_least(1, eval__batch_size=self.batch_size)
        at_least(0, eval__latency=self.latency, eval__videos=self.videos)
        seeds(eval__seed=self.seed)
        at_least(0, eval__num_workers=self.num_workers)


@dataclass(frozen=True)
class EvalConfig:
    """One evaluation; what is null stays as the checkpoint has it.

    Attributes:
        task: Environment; the one that the checkpoint was trained for by default.
        sampling: Sampling choices of the checkpoint's kind, e.g. ``sampling.calls_per_step=1``;
            what is not given stays as the checkpoint has it.
        engine: eager, compile, onnx, openvino, openvino-bf16, cuda-graph, or auto for the fastest
            of them for one robot, which is tried for seconds and remembered.
        device: Where the networks run: cpu, cuda, or cuda:N for one of several GPUs.
        precision: Of the products: float32, tf32, bf16 or fp16, as far as the engine has it.
        eval: Episodes.
        compare: Another checkpoint, evaluated on the same episodes and compared pair by pair.
        num_threads: CPU threads.
        lerobot: What a LeRobot folder does not hold, e.g. ``lerobot.dt=0.1``.
        output_dir: Folder of ``eval_info.json``; printed only when empty.
    """

    task: str | None = None
    sampling: dict[str, Any] = field(default_factory=dict)
    engine: str = "eager"
    device: str = CPU
    precision: str = "float32"
    eval: EvalOptions = field(default_factory=EvalOptions)
    compare: str | None = None
    num_threads: int = 1
    lerobot: LeRobotConfig = field(default_factory=LeRobotConfig)
    output_dir: str = ""

    def __post_init__(self) -> None:
        """Reject numbers and devices that are none."""
        at_least(1, num_threads=self.num_threads)
        check_device(self.device)

    @staticmethod
    def explain(key: str) -> str:
        """Say where a sampling choice is written, if `key` is one."""
        return explain_sampling(key)


@dataclass(frozen=True)
class BenchConfig:
    """One latency measurement.

    Attributes:
        engines: Engines to time, auto among them; all that this machine can run by default.
        device: Where the networks run: cpu, cuda, or cuda:N for one of several GPUs.
        precision: Of the products: float32, tf32, bf16 or fp16, as far as the engine has it.
        threads: CPU threads; each number is measured in a process of its own.
        steps: Planning control steps per row, fewer for slow policies.
        calls: ``calls_per_step`` of the rows; 0 means every level (N for DP, N / h for SDP). By
            default 100 (DDPM), 10, 4, 2 and 1 for DP, and 0, 2 and 1 for SDP. Early exits of VLA,
            by default 4, 2 and 1 beside the other decoders. A row's number of calls is that of all
            network calls of a plan, a planner's drafter included.
        sampling: Sampling choices for all rows, e.g. ``sampling.num_execute=1``.
        lerobot: What LeRobot folders do not hold; timing needs no period.
        output: JSON file to write; printed only when empty.
    """

    engines: tuple[str, ...] = ()
    device: str = CPU
    precision: str = "float32"
    threads: tuple[int, ...] = (1,)
    steps: int = 400
    calls: tuple[int, ...] = ()
    sampling: dict[str, Any] = field(default_factory=dict)
    lerobot: LeRobotConfig = field(default_factory=LeRobotConfig)
    output: str = ""

    def __post_init__(self) -> None:
        """Reject numbers and devices that are none."""
        check_device(self.device)
        if not self.threads or min(self.threads) < 1:
            raise ValueError(f"threads must be positive numbers, got {list(self.threads)}")
        at_least(1, steps=self.steps)
        at_least(0, calls=min(self.calls, default=0))

    @staticmethod
    def explain(key: str) -> str:
        """Say where a sampling choice is written, if `key` is one."""
        return explain_sampling(key)


def explain_sampling(key: str) -> str:
    """The right spelling of a sampling choice that is given without its key; else nothing."""
    from ..families import sampling_names

    names = sampling_names()
    if key.partition(".")[0] in names:
        return f"{key}: sampling choices are given under one key; write sampling.{key}=…"
    near = get_close_matches(key, names, n=1, cutoff=0.8)
    return f"unknown key {key!r}; did you mean sampling.{near[0]}?" if near else ""
