"""Training on a GPU: hotloop's loop beside the bare one of `benchmark_training.py`, in turns."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from functools import partial

import numpy as np
from benchmark_training import bare_step, random_episodes, trainer_of
from gpu_rows import CallTimer, Contender, Setting, Timer, measure, synchronize

from hotloop.train.config.compose import compose
from hotloop.train.config.training import TrainConfig
from hotloop.train.data.episodes import Episodes
from hotloop.train.processes import take_device

NETWORKS = {"U-Net 256-512-1024": ("kind=unet", "dims=[256,512,1024]"), "MLP 2 M": ()}
TINY = {"U-Net 256-512-1024": ("kind=unet", "dims=[16,32]"), "MLP 2 M": ("width=16", "depth=1")}
TARGET = 0.95  # of the bare loop's samples per second


def run_training(setting: Setting) -> None:
    """Samples per second of both loops, for each network in its share of the time."""
    take_device(setting.device.type)
    episodes = random_episodes(*([2] if setting.tiny else []))
    networks = TINY if setting.tiny else NETWORKS
    for num_left, (name, choices) in zip(
        range(len(networks), 0, -1), networks.items(), strict=True
    ):
        share = (setting.end - time.monotonic()) / num_left
        with ExitStack() as stack:
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            overrides = [f"policy.model.network.{choice}" for choice in choices]
            config = compose("train", ["policy=sdp", "task=pusht", *overrides], TrainConfig)
            config = replace(config, output_dir=folder, batch_size=8 if setting.tiny else 256)
            bare = partial(bare_step, config, episodes, ema=True, device=setting.device)
            own = partial(_own_step, config, episodes, stack)
            measure(
                replace(setting, end=time.monotonic() + share),
                [
                    _contender(setting, name, "bare", config, bare),
                    _contender(setting, name, "hotloop", config, own, TARGET),
                ],
            )


def _own_step(config: TrainConfig, episodes: Episodes, stack: ExitStack) -> Callable[[], object]:
    """A step of the trainer, with the thread that makes batches ready, as in a run."""
    trainer = trainer_of(config, episodes)
    stack.enter_context(trainer._batches.running())
    return trainer._optimise


def _contender(
    setting: Setting,
    network: str,
    loop: str,
    config: TrainConfig,
    make: Callable[[], Callable[[], object]],
    target: float | None = None,
) -> Contender:
    num_steps = 1 if setting.tiny else 10
    num_samples = num_steps * config.batch_size

    def timer() -> Timer:
        step = make()

        def some() -> None:
            for _ in range(num_steps):
                step()
            synchronize(setting.device)

        return CallTimer(some)

    return Contender(
        {"network": network, "loop": loop, "precision": config.precision},
        timer,
        partial(_rate, num_samples),
        target_speed_up=target,
    )


def _rate(num_samples: int, timer: Timer) -> dict[str, float]:
    """Throughput; a row's times are those of the steps between two waits for the device."""
    median = float(np.median(np.concatenate(timer.plan_blocks)))
    return {"samples_per_second": 1e3 * num_samples / median}
