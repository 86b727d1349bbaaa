"""Run trainings in processes of their own, some after one another and some at the same time."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from ...decoding.plumbing.processes import module_command

POLL_S = 0.5


@dataclass(frozen=True)
class Training:
    """One run of `hotloop train`.

    Attributes:
        name: Folder of the run, below the demo's.
        steps: Optimisation steps.
        overrides: Settings as one types them.
    """

    name: str
    steps: int
    overrides: tuple[str, ...]

    @property
    def arguments(self) -> list[str]:
        """What follows `hotloop`; paths are relative to the demo's folder."""
        return ["train", *self.overrides, f"steps={self.steps}", f"output_dir={self.name}"]


def train_side_by_side(folder: Path, chains: Sequence[Sequence[Training]]) -> None:
    """Run the trainings of a chain one after the other, and all chains at the same time.

    What a run prints goes to ``NAME.log`` in `folder`; one progress bar shows the sum.

    Args:
        folder: Where the runs lie, and where their processes work.
        chains: One process at a time for each.

    Raises:
        RuntimeError: If a run fails; the others are stopped.
    """
    waiting = [list(chain) for chain in chains]
    running: dict[int, tuple[Training, subprocess.Popen[bytes]]] = {}
    total = sum(training.steps for chain in chains for training in chain)
    with tqdm(total=total, unit="step") as bar:
        try:
            while running or any(waiting):
                for index, chain in enumerate(waiting):
                    if index not in running and chain:
                        training = chain.pop(0)
                        running[index] = training, _start(folder, training)
                time.sleep(POLL_S)
                for index, (training, process) in list(running.items()):
                    if process.poll() is not None:
                        _check(folder, training, process.returncode)
                        del running[index]
                bar.update(_steps_done(folder, chains) - bar.n)
        finally:
            for _, process in running.values():
                process.kill()
                process.wait()


def _start(folder: Path, training: Training) -> subprocess.Popen[bytes]:
    """Start a run with one thread, as it shares the machine with others."""
    command = module_command("hotloop.train.cli", *training.arguments)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": _search_path()}
    with (folder / f"{training.name}.log").open("wb") as log:
        return subprocess.Popen(
            command, cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT
        )


def _search_path() -> str:
    """The caller's PYTHONPATH as absolute folders, as the process works in another one."""
    given = os.environ.get("PYTHONPATH", "")
    return os.pathsep.join(str(Path(part).resolve()) for part in given.split(os.pathsep) if part)


def _check(folder: Path, training: Training, code: int) -> None:
    """Raise with the last line that a failed run printed."""
    if code:
        log = folder / f"{training.name}.log"
        lines = log.read_text(encoding="utf-8", errors="replace").split("\n")
        last = next((line for line in reversed(lines) if line.strip()), "it printed nothing")
        raise RuntimeError(f"training {training.name!r} failed: {last}; all it printed is in {log}")


def _steps_done(folder: Path, chains: Sequence[Sequence[Training]]) -> int:
    """Steps that the runs have logged, together."""
    return sum(_last_step(folder / one.name / "log.csv") for chain in chains for one in chain)


def _last_step(log: Path) -> int:
    """Step of the last complete line, 0 before there is one."""
    if not log.exists():
        return 0
    complete = log.read_text(encoding="utf-8").split("\n")[1:-1]
    return int(complete[-1].split(",")[0]) if complete else 0
