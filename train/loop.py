"""The optimisation loop: resumable bit for bit, the same on one process and on many."""

from __future__ import annotations

import csv
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from tqdm import tqdm

from ..decoding.plumbing.files import replacing
from ..policies.checkpoint import Checkpoint, write_checkpoint
from .config.training import OptimConfig, TrainConfig
from .data.windows import EpochSampler, step_generator
from .objectives.denoising import Objective, TrainingWindows
from .state import load_average, load_state, save_state

LOG_FIELDS = ("step", "loss", "lr", "samples_per_second")


def learning_rate(config: OptimConfig, step: int, num_steps: int) -> float:
    """Linear warm-up, then cosine decay to zero at `num_steps`."""
    if step < config.warmup_steps:
        return config.lr * (step + 1) / config.warmup_steps
    progress = (step - config.warmup_steps) / max(num_steps - config.warmup_steps, 1)
    return config.lr * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))


def ema_update(config: OptimConfig) -> Callable[[Any, Any, Any], None]:
    """Averaging rule whose decay grows with the number of updates t: 1 - (1 + t) ** -power."""

    def update(averaged: Any, current: Any, num_averaged: Any) -> None:
        decay = min(1 - (1 + int(num_averaged)) ** -config.ema_power, config.ema_max)
        for mean, value in zip(averaged, current, strict=True):
            mean.lerp_(value, 1 - decay)

    return update


class Trainer:
    """Runs one objective over windows of demonstrations.

    Args:
        config: The run.
        objective: Loss, with the model inside.
        windows: Training data.
        make_checkpoint: Wraps the averaged model, given provenance, for saving.
    """

    def __init__(
        self,
        config: TrainConfig,
        objective: Any,
        windows: TrainingWindows,
        make_checkpoint: Callable[[nn.Module, Mapping[str, Any]], Checkpoint],
    ) -> None:
        self.config, self.windows = config, windows
        self.run_dir = Path(config.output_dir)
        self._make_checkpoint = make_checkpoint
        self.accelerator = Accelerator()
        if config.batch_size % self.accelerator.num_processes:
            raise ValueError(
                f"batch_size {config.batch_size} must be a multiple of the "
                f"{self.accelerator.num_processes} processes"
            )
        self.objective: Objective = objective
        self.model = objective.model
        optim = config.optim
        parameters = [p for p in self.model.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(
            parameters, lr=optim.lr, betas=optim.betas, weight_decay=optim.weight_decay, fused=True
        )
        self.ema = AveragedModel(self.model, multi_avg_fn=ema_update(optim))
        self.sampler = EpochSampler(len(windows), config.batch_size, config.seed)
        self.step = 0
        if config.resume:
            self.step = self._restore(optimizer)
        self._wrapped, self.optimizer = self.accelerator.prepare(objective, optimizer)
        self.ema.to(self.accelerator.device)

    def run(self) -> Path:
        """Train to the last step; return the folder of the last checkpoint."""
        config, main = self.config, self.accelerator.is_main_process
        progress = tqdm(
            total=config.steps, initial=self.step, desc="train", unit="step", disable=not main
        )
        total = torch.zeros((), device=self.accelerator.device)
        since, clock = 0, time.perf_counter()
        with RunLog(self.run_dir, self.step, enabled=main) as log, progress:
            while self.step < config.steps:
                total, since = total + self._optimise(), since + 1
                progress.update()
                # A mean never spans a checkpoint, so that a resumed run logs the same lines.
                saves = self.step % config.save_every == 0 or self.step == config.steps
                if saves or self.step % config.log_every == 0:
                    mean = float(cast(Tensor, self.accelerator.reduce(total / since, "mean")))
                    now = time.perf_counter()
                    speed = since * config.batch_size / (now - clock)
                    log.write(self.step, mean, self._lr(self.step - 1), speed)
                    progress.set_postfix(loss=f"{mean:.4f}", samples_s=f"{speed:.0f}")
                    total, since, clock = torch.zeros_like(total), 0, now
                if saves:
                    self._save()
        return self.run_dir / "checkpoints" / "last"

    def gradient_inputs(self, step: int) -> dict[str, Tensor]:
        """This process's share of the global batch of `step`, randomness included.

        Every process draws the whole batch and keeps its rows, so that the gradient does not
        depend on how many there are.
        """
        self.objective.prepare(step)
        batch = self.windows.gather(self.sampler.indices(step)).to(self.accelerator.device)
        generator = step_generator(self.config.seed, step, stream="draw")
        inputs = self.objective.draw(batch, generator)
        share = self.config.batch_size // self.accelerator.num_processes
        begin = self.accelerator.process_index * share
        return {key: value[begin : begin + share] for key, value in inputs.items()}

    def _lr(self, step: int) -> float:
        return learning_rate(self.config.optim, step, self.config.steps)

    def _optimise(self) -> Tensor:
        for group in self.optimizer.param_groups:
            group["lr"] = self._lr(self.step)
        loss = self._wrapped(self.gradient_inputs(self.step))
        if not torch.isfinite(loss):
            raise FloatingPointError(
                f"loss is {float(loss.detach())} at step {self.step}; the last checkpoint is kept. "
                "Lower optim.lr or check the data with `hotloop data inspect`"
            )
        self.optimizer.zero_grad(set_to_none=True)
        self.accelerator.backward(loss)
        self.optimizer.step()
        self.ema.update_parameters(self.model)
        self.step += 1
        return loss.detach()

    def _save(self) -> None:
        if not self.accelerator.is_main_process:
            return
        folder = self.run_dir / "checkpoints" / f"{self.step:06d}"
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

    def _restore(self, optimizer: torch.optim.Optimizer) -> int:
        last = self.run_dir / "checkpoints" / "last"
        step = load_state(last, self.model, optimizer)
        load_average(last, self.ema.module)
        self.ema.n_averaged.fill_(step)
        return step


class RunLog:
    """Writes every log line to `log.csv` and to TensorBoard.

    Args:
        run_dir: Run folder.
        step: Steps already done; later lines of an interrupted run are dropped.
        enabled: False on all processes but the main one.
    """

    def __init__(self, run_dir: Path, step: int, enabled: bool) -> None:
        self.path, self.enabled = run_dir / "log.csv", enabled
        if not enabled:
            return
        run_dir.mkdir(parents=True, exist_ok=True)
        kept: list[dict[str, str]] = []
        if self.path.exists():
            with self.path.open(newline="") as file:
                kept = [row for row in csv.DictReader(file) if int(row["step"]) <= step]
        with self.path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list[str](LOG_FIELDS))
            writer.writeheader()
            writer.writerows(kept)
        try:
            from torch.utils.tensorboard.writer import SummaryWriter
        except ImportError as error:
            raise ImportError("training logs need: pip install 'hotloop[log]'") from error

        self._board = SummaryWriter(str(run_dir), purge_step=step + 1)

    def write(self, step: int, loss: float, lr: float, samples_per_second: float) -> None:
        """Append one line."""
        if not self.enabled:
            return
        values = (step, loss, lr, round(samples_per_second, 1))
        with self.path.open("a", newline="") as file:
            csv.writer(file).writerow(values)
        for name, value in zip(LOG_FIELDS[1:], values[1:], strict=True):
            self._board.add_scalar(name, value, step)

    def __enter__(self) -> RunLog:
        """Enter the context that closes the log."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close TensorBoard's file."""
        if self.enabled:
            self._board.close()
