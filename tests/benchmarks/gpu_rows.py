"""What the parts of `benchmark_gpu.py` share: contenders timed in turns, rows, and the device."""

from __future__ import annotations

import math
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from result_rows import Results

from hotloop.train.measure.latency import ControlStepTimer, undisturbed

NUM_BLOCKS = 20
FEW_BLOCKS = 3  # after so many, rows are written for the first time


@dataclass(frozen=True)
class Setting:
    """One part of one run.

    Attributes:
        part: Its name.
        tiny: Whether networks are miniatures on the CPU, to see that everything works.
        end: When measuring has to stop, on the clock of `time.monotonic` [s].
        results: Where rows go.
    """

    part: str
    tiny: bool
    end: float
    results: Results

    @property
    def device(self) -> torch.device:
        """Where networks run."""
        return torch.device("cpu" if self.tiny else "cuda")

    @property
    def graph(self) -> str:
        """The engine of CUDA graphs, or what plays it on the CPU."""
        return "eager" if self.tiny else "cuda-graph"

    @property
    def num_blocks(self) -> int:
        """Turns of every contender."""
        return 2 if self.tiny else NUM_BLOCKS

    @property
    def num_steps(self) -> int:
        """Control steps of every contender, fewer for slow ones."""
        return 4 if self.tiny else 300


class Timer(Protocol):
    """Something that is timed in blocks, such as a `ControlStepTimer`."""

    plan_blocks: list[list[float]]

    def run_block(self, num_plans: int) -> None:
        """Time up to `num_plans` calls and append their durations [ms] to `plan_blocks`."""
        ...


class CallTimer:
    """Times a call that waits for its result itself.

    Attributes:
        plan_blocks: Durations per block [ms].
    """

    def __init__(self, call: Callable[[], object]) -> None:
        self.plan_blocks: list[list[float]] = []
        self._call = call
        call()

    def run_block(self, num_plans: int) -> None:
        """See `Timer`."""
        found, end = [], time.perf_counter() + 1.0
        while len(found) < num_plans and (len(found) < 2 or time.perf_counter() < end):
            begin = time.perf_counter_ns()
            self._call()
            found.append((time.perf_counter_ns() - begin) / 1e6)
        self.plan_blocks.append(found)


@dataclass(frozen=True)
class Contender:
    """One row to be.

    Attributes:
        key: What identifies the row.
        make: Builds what is timed.
        facts: What else the row tells, asked for once measured.
        target_ms: Longest median that is good enough [ms].
        floor_ms: What the device's memory needs for the weights alone [ms].
        target_speed_up: Smallest good enough ratio to the baseline.
    """

    key: Mapping[str, Any]
    make: Callable[[], Timer]
    facts: Callable[[Timer], Mapping[str, Any]] = field(default=lambda _: {})
    target_ms: float | None = None
    floor_ms: float | None = None
    target_speed_up: float | None = None


def measure(setting: Setting, contenders: Sequence[Contender], baseline: int | None = 0) -> None:
    """Time contenders in turns, so that a drift meets all of them alike, and write their rows.

    One that cannot be built, or fails, has the reason in its row, and the others go on.

    Args:
        setting: Where and how long.
        contenders: What is timed.
        baseline: Which of them the others are compared with, block by block; None has none.
    """
    timers = [_guarded(setting, one, one.make) for one in contenders]
    per_block = math.ceil(setting.num_steps / setting.num_blocks)
    with undisturbed():
        for block in range(setting.num_blocks):
            if block and time.monotonic() > setting.end:
                break
            for index, (one, timer) in enumerate(zip(contenders, timers, strict=True)):
                if (
                    timer is not None
                    and _guarded(
                        setting, one, lambda timer=timer: timer.run_block(per_block) or True
                    )
                    is None
                ):
                    timers[index] = None
            if block + 1 == FEW_BLOCKS:
                _write(setting, contenders, timers, baseline)
    _write(setting, contenders, timers, baseline)


def speed_up(timer: Timer, reference: Timer) -> float:
    """How often faster, the median over blocks that were timed next to each other."""
    pairs = zip(reference.plan_blocks, timer.plan_blocks, strict=False)
    return float(np.median([np.median(one) / np.median(other) for one, other in pairs]))


def bandwidth(setting: Setting) -> float:
    """Bytes that the device's memory moves per second, by a copy that no cache holds."""
    device = setting.device
    source = torch.zeros(2**20 if setting.tiny else 2**30, dtype=torch.uint8, device=device)
    target, seconds = torch.empty_like(source), []
    for _ in range(8):
        synchronize(device)
        begin = time.perf_counter()
        target.copy_(source)
        synchronize(device)
        seconds.append(time.perf_counter() - begin)
    return 2 * source.numel() / min(seconds)


def synchronize(device: torch.device) -> None:
    """Wait for everything that the device has to do."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def num_parameters(module: torch.nn.Module) -> int:
    """Numbers that are trained."""
    return sum(parameter.numel() for parameter in module.parameters())


def device_facts(*, tiny: bool) -> dict[str, Any]:
    """What the rows were measured on, beside the processor."""
    if tiny or not torch.cuda.is_available():
        return {"device": "cpu"}
    driver = subprocess.run(
        ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"],
        capture_output=True,
        text=True,
        check=False,
    ).stdout.strip()
    return {
        "device": torch.cuda.get_device_name(),
        "driver": driver.splitlines()[0] if driver else None,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
    }


def write_row(setting: Setting, key: Mapping[str, Any], values: Mapping[str, Any]) -> None:
    """Write the row with these facts, new or again."""
    whole = {"part": setting.part, **key}
    if setting.results.has(whole):
        setting.results.update(whole, dict(values))
    else:
        setting.results.add(whole, dict(values))


def table(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Lines of a table of all rows."""
    titles = ("median ms", "p99 ms", "n", "target", "floor", "error", "speed-up", "target")
    names = ("median_ms", "p99_ms", "n", "target_ms", "floor_ms", "error", "speed_up")
    yield f"{'row':66} " + " ".join(f"{title:>9}" for title in titles)
    for row in rows:
        known = ("network", "policy", "decoding", "loop", "engine", "precision")
        label = ", ".join(str(row[name]) for name in known if name in row) or row["part"]
        if "failed" in row:
            yield f"{label:66} failed: {row['failed']}"
            continue
        cells = (row.get(name) for name in (*names, "target_speed_up"))
        yield f"{label:66} " + " ".join(
            f"{'' if one is None else f'{one:.3g}':>9}" for one in cells
        )


def _guarded(setting: Setting, contender: Contender, call: Callable[[], Any]) -> Any:
    """What a call returns; None if it fails, which its row then says."""
    try:
        return call()
    except Exception as error:  # noqa: BLE001  whatever it is, the other rows shall be measured
        reason = f"{type(error).__name__}: {error}"
        write_row(setting, contender.key, {"failed": reason[:500]})
        return None


def _write(
    setting: Setting,
    contenders: Sequence[Contender],
    timers: Sequence[Timer | None],
    baseline: int | None,
) -> None:
    reference = None if baseline is None else timers[baseline]
    for one, timer in zip(contenders, timers, strict=True):
        if timer is None:
            continue
        spent = np.concatenate(timer.plan_blocks)
        median = float(np.median(spent))
        row = {
            "n": len(spent),
            "median_ms": median,
            "p99_ms": float(np.quantile(spent, 0.99)),
            "target_ms": one.target_ms,
            "floor_ms": one.floor_ms,
            "speed_up": None if reference is None else speed_up(timer, reference),
            "target_speed_up": one.target_speed_up,
        }
        if one.target_ms is not None:
            row["reached"] = median <= one.target_ms
        write_row(setting, one.key, {**row, **one.facts(timer)})


def timed_policy(policy: Any, **choices: Any) -> ControlStepTimer:
    """A timer of whole control steps, which keeps its policy for what is asked later."""
    timer = ControlStepTimer(policy, **choices)
    timer.policy = policy  # type: ignore[attr-defined]
    return timer


def parity(timer: Any) -> dict[str, Any]:
    """Error of a timed policy's engine against eager PyTorch in float32, in units of the scales."""
    return {"error": float(timer.policy.parity)}
