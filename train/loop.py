"""The optimisation loop: resumable bit for bit, the same on one process and on many."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from tqdm import tqdm

from ..decoding.placed import placed
from ..decoding.plumbing.files import replacing
from ..policies.checkpoint import Checkpoint, write_checkpoint
from ..policies.place import place_of
from .average import WeightAverage
from .config.training import OptimConfig, TrainConfig
from .data.prefetch import Prefetched
from .data.windows import EpochSampler, step_generator
from .objectives.objective import Objective, TrainingWindows, batch_device, draw_device
from .resume import CHECKPOINTS, run_folder, write_settings
from .running_loss import RunningLoss
from .state import load_average, load_state, save_state
from .training_log import TrainingLog


def learning_rate(config: OptimConfig, step: int, num_steps: int) -> float:
    """Linear warm-up, then cosine decay to zero at `num_steps`."""
    if step < config.warmup_steps:
        return config.lr * (step + 1) / config.warmup_steps
    progress = (step - config.warmup_steps) / max(num_steps - config.warmup_steps, 1)
    return config.lr * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))


class Trainer:
    """Runs one objective over windows of demonstrations.

    No step makes the host wait for a GPU: batches come ahead of time, what objectives draw is drawn
    where the model is or on the way there, and losses are read where they are logged.

    Args:
        config: The run.
        objective: Loss, with the model inside.
        windows: Training data.
        make_checkpoint: Wraps the averaged model, given provenance, for saving.
        last: Checkpoint to go on from; None begins.
    """

    def __init__(
        self,
        config: TrainConfig,
        objective: Objective,
        windows: TrainingWindows,
        make_checkpoint: Callable[[nn.Module, Mapping[str, Any]], Checkpoint],
        last: Path | None = None,
    ) -> None:
        self.config, self.windows = config, windows
        self.run_dir = Path(config.output_dir)
        self._make_checkpoint = make_checkpoint
        self.accelerator = Accelerator(
            mixed_precision="no" if config.precision == "float32" else config.precision
        )
        if config.batch_size % self.accelerator.num_processes:
            raise ValueError(
                f"batch_size {config.batch_size} must be a multiple of the "
                f"{self.accelerator.num_processes} processes"
            )
        self.objective = objective
        if isinstance(objective, nn.Module):
            # Before the optimiser and the average are made of its weights.
            objective.to(self.accelerator.device)
        self.model = objective.model
        # "cuda" is another GPU in another thread, where the weights are is not.
        self._device = place_of(self.model)
        self._draw_device = draw_device(objective, self._device)
        self._batch_device = batch_device(objective, self._device)
        optim = config.optim
        parameters = [p for p in self.model.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(
            parameters, lr=optim.lr, betas=optim.betas, weight_decay=optim.weight_decay, fused=True
        )
        self.ema = WeightAverage(self.model, optim)
        self.sampler = EpochSampler(len(windows), config.batch_size, config.seed)
        self.step = 0 if last is None else self._restore(last, optimizer)
        prepared = cast("Any", self.accelerator.prepare(objective, optimizer))
        self._wrapped, self.optimizer = prepared
        self._loss = RunningLoss()
        self._batches = Prefetched(self._load, config.steps)

    def run(self, settings: Mapping[str, Any]) -> Path:
        """Train to the last step; return the folder of the last checkpoint.

        Args:
            settings: What the run is begun or goes on with, to be kept beside it.

        Raises:
            FileExistsError: If another process trains there.
        """
        # All processes have looked at the folder before the first one changes it.
        self.accelerator.wait_for_everyone()
        if not self.accelerator.is_main_process:
            return self._run()
        with run_folder(self.config) as folder:
            write_settings(folder, settings)
            return self._run()

    def _run(self) -> Path:
        config, main = self.config, self.accelerator.is_main_process
        progress = tqdm(
            total=config.steps, initial=self.step, desc="train", unit="step", disable=not main
        )
        clock = time.perf_counter()
        log = TrainingLog(self.run_dir, self.step, enabled=main)
        with log, progress, self._batches.running():
            while self.step < config.steps:
                self._optimise()
                progress.update()
                # A mean never spans a checkpoint, so that a resumed run logs the same lines.
                if config.saves_at(self.step) or config.logs_at(self.step):
                    since, mean = self._mean_loss()
                    now = time.perf_counter()
                    speed = since * config.batch_size / (now - clock)
                    log.write(self.step, mean, self._lr(self.step - 1), speed)
                    progress.set_postfix(loss=f"{mean:.4f}", samples_s=f"{speed:.0f}")
                    clock = now
                if config.saves_at(self.step):
                    self._save()
        return self.run_dir / CHECKPOINTS / "last"

    def gradient_inputs(self, step: int) -> Any:
        """This process's share of the global batch of `step`, randomness included.

        Every process draws the whole batch and keeps its rows, so that the gradient does not
        depend on how many there are.
        """
        self.objective.prepare(step)
        batch = self._batches[step]
        generator = step_generator(self.config.seed, step, "draw", self._draw_device)
        inputs = self.objective.draw(batch, generator)
        share = self.config.batch_size // self.accelerator.num_processes
        begin = self.accelerator.process_index * share
        return inputs.select(slice(begin, begin + share))

    def _load(self, step: int) -> Any:
        """The global batch of `step`, where the objective reads it."""
        batch = self.windows.gather(self.sampler.indices(step))
        return placed(batch, self._batch_device)

    def _lr(self, step: int) -> float:
        return learning_rate(self.config.optim, step, self.config.steps)

    def _mean_loss(self) -> tuple[int, float]:
        """Steps since the last log line, and their mean loss over all processes."""
        self._loss.read(self.step - 1)
        since, mean = self._loss.num_steps, self._loss.take_mean().to(self.accelerator.device)
        return since, float(cast(Tensor, self.accelerator.reduce(mean, "mean")))

    def _optimise(self) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = self._lr(self.step)
        loss = self._wrapped(self.gradient_inputs(self.step))
        self._loss.add(loss, self.step)
        self.optimizer.zero_grad(set_to_none=True)
        self.accelerator.backward(loss)
        self.optimizer.step()
        self.ema.update()
        self.step += 1

    def _save(self) -> None:
        if not self.accelerator.is_main_process:
            return
        folder = self.run_dir / CHECKPOINTS / f"{self.step:06d}"
        checkpoint = self._make_checkpoint(self.ema.module, {"steps": self.step})
        with replacing(folder) as temporary:
            temporary.mkdir()
            write_checkpoint(temporary, checkpoint)
            averaged = None if checkpoint.model is self.ema.module else self.ema.module
            save_state(temporary, self.step, self.model, self.optimizer, averaged)
        link = folder.parent / f".last.{self.step}"
        link.unlink(missing_ok=True)  # of a run that was killed right here
        link.symlink_to(folder.name)
        link.replace(folder.parent / "last")

    def _restore(self, last: Path, optimizer: torch.optim.Optimizer) -> int:
        step = load_state(last, self.model, optimizer)
        load_average(last, self.ema.module)
        self.ema.num_updates = step
        return step
