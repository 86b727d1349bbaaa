"""Train many runs: one after another here, or each as a job of a cluster, by Hydra's launchers."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from .config.compose import CONFIG_DIR
from .config.sweep import LAUNCHER, Job, Sweep
from .resume import check_output, is_run, last_checkpoint
from .state import steps_done


@dataclass(frozen=True)
class Outcome:
    """What became of one run.

    Attributes:
        job: The run.
        num_steps: Steps that it was to do.
        num_done: Steps after which its last checkpoint was saved.
        error: What it ended with; empty for nothing, or if nobody lived to tell.
    """

    job: Job
    num_steps: int
    num_done: int
    error: str = ""

    @property
    def finished(self) -> bool:
        """Whether it did all its steps."""
        return not self.error and self.num_done >= self.num_steps


def run_sweep(sweep: Sweep) -> list[Outcome]:
    """Train all runs of a sweep; one that fails does not keep the others from being trained.

    With ``resume=true`` runs that were begun go on, finished ones stay as they are, and the others
    begin. A job that Slurm starts again, after a preemption or a failed node, goes on by itself.

    Args:
        sweep: The runs, see `expand`. All of their configurations are checked before the first
            one begins.

    Returns:
        What became of each, in order.

    Raises:
        ValueError: If a configuration is wrong, or Hydra has no such launcher.
        FileExistsError: If one of the folders holds a run that is not to be resumed.
    """
    configs = [job.config() for job in sweep.jobs]
    for job, config in zip(sweep.jobs, configs, strict=True):
        check_output(replace(config, resume=_goes_on(job, config.resume)))
    # Else a job of several tasks that lost one waits for it, where the cluster lets it.
    os.environ.setdefault("SLURM_KILL_BAD_EXIT", "1")
    errors = _launch(sweep)
    outcomes: list[Outcome] = []
    for job, config, error in zip(sweep.jobs, configs, errors, strict=True):
        last = last_checkpoint(Path(job.output_dir))
        outcomes.append(Outcome(job, config.steps, 0 if last is None else steps_done(last), error))
    return outcomes


@dataclass(frozen=True)
class _Training:
    """Trains one of some runs, in whichever process the launcher calls it."""

    jobs: tuple[Job, ...]

    def __call__(self, chosen: Any) -> str:
        """Train the run of that number; return why it failed."""
        from .training import train

        job = self.jobs[chosen.job]
        config = job.config()
        restarted = os.environ.get("SLURM_RESTART_COUNT", "0") != "0"
        try:
            train(replace(config, resume=_goes_on(job, config.resume or restarted)))
        except (ValueError, OSError, ImportError, FloatingPointError, MemoryError) as error:
            return str(error) or type(error).__name__
        except RuntimeError as error:
            # Too little memory for one of the runs, of a GPU for example, or a defect: either way
            # the others are trained, and all of it is there to be read.
            traceback.print_exc()
            return f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
        return ""


def _goes_on(job: Job, resume: bool) -> bool:
    """Whether a run goes on; in a sweep that is resumed some may not have begun."""
    return resume and is_run(Path(job.output_dir))


def _launch(sweep: Sweep) -> Sequence[str]:
    """Let Hydra's launcher call `_Training` for each run; return their errors."""
    from hydra import compose, initialize_config_dir
    from hydra._internal.callbacks import Callbacks
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.plugins import Plugins
    from hydra.errors import HydraException
    from hydra.types import HydraContext
    from omegaconf.errors import OmegaConfBaseException

    folder = str(Path(sweep.folder).absolute()).replace("\\", r"\\").replace("'", r"\'")
    # Our own folders, files and output; of Hydra's only the launcher is wanted.
    settings = ["+job=0", f"hydra.sweep.dir='{folder}'", "hydra.sweep.subdir=.",
                "hydra.output_subdir=null", "hydra/job_logging=none",
                "hydra/hydra_logging=none", *sweep.launcher]  # fmt: skip
    with initialize_config_dir(
        version_base="1.3", config_dir=str(CONFIG_DIR.absolute()), job_name="hotloop"
    ):
        try:
            config = compose(overrides=settings, return_hydra_config=True)
            context = HydraContext(GlobalHydra.instance().config_loader(), Callbacks())
            launcher = Plugins.instance().instantiate_launcher(
                hydra_context=context, task_function=_Training(sweep.jobs), config=config
            )
        except (HydraException, OmegaConfBaseException) as error:
            raise ValueError(_launcher_mistake(sweep, error)) from None
    # Outside the context: each run composes its own configuration.
    jobs = [[f"+job={number}"] for number in range(len(sweep.jobs))]
    # A job that was killed is told by what it left behind, like one that never began.
    with suppress(*_lost_jobs()):
        return [one.return_value for one in launcher.launch(jobs, initial_job_idx=0)]
    return [""] * len(jobs)


def _launcher_mistake(sweep: Sweep, error: Exception) -> str:
    """What is wrong with the settings of a launcher, in one sentence."""
    asked = " ".join(sweep.launcher)
    if "submitit" in asked and "hydra_plugins.hydra_submitit_launcher" not in sys.modules:
        return f"{asked}: the launcher is missing: pip install 'hotloop[cluster]'"
    return f"{asked or LAUNCHER}: {str(error).splitlines()[0]}"


def _lost_jobs() -> tuple[type[Exception], ...]:
    """What a launcher raises for a job that ended without an answer."""
    if "submitit" not in sys.modules:
        return ()
    from submitit.core.utils import UncompletedJobError

    return (UncompletedJobError,)
