"""What a diffusion model is made of, and how it is sampled: plain data."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from ...decoding.fitted import FITTED
from ...decoding.prefix_guidance import GUIDANCES
from ...decoding.rolling import Ladder
from ...decoding.samplers import PREDICTIONS, SPACINGS, UPDATES
from ...decoding.schedules import SQUARED_COSINE, NoiseSchedule
from ..networks.config import EncoderConfig, NetworkConfig
from .rotations import check_rotations

_LARGEST = 10**6  # steps of a window, or levels, beyond which nobody means them
_LARGEST_CLIP = 1e30  # of what float32 holds
START_BUFFERS = ("zero", "constant", "denoise")


@dataclass(frozen=True)
class ModelConfig:
    """Everything needed to rebuild a `DiffusionModel` before its weights are loaded.

    Attributes:
        horizon: Window length H, past slots included.
        num_obs_steps: Observation frames To.
        num_levels: Noise levels N.
        ladders: Rolling buffers that the model is trained for, each written "Ta x h", e.g. "8x2"
            for two chunks of eight actions; none for a plain Diffusion Policy.
        prediction: What the network predicts.
        jump: Whether the network is told how far one call moves the levels.
        network: Network and its size.
        max_latency: Control steps that the first chunk of a buffer may begin after the newest
            observation; the actions in between are given to the network. The window must have room
            for them beside the chunks.
        encoder: What turns pictures into features, where there are any among the observations.
        rotations: First index of each axis-angle triple [rad] among the actions. The network sees
            it as six numbers that have no jumps (Zhou et al. 2019); nothing else changes.
        betas: How much noise the levels add, see `NoiseSchedule`.
        first_beta: Of the first level, of linear schedules only.
        last_beta: Of the last level, of linear schedules only.
        clip: Largest magnitude of a clean action in the network's units while it is sampled; null
            does not clip.
        fitted_calls: Numbers of network calls whose steps were fitted to this network, for
            ``update="fitted"``; their scalars are among the weights.
    """

    horizon: int = 17
    num_obs_steps: int = 2
    num_levels: int = 120
    ladders: tuple[str, ...] = ()
    prediction: str = "sample"
    jump: bool = False
    network: NetworkConfig = field(default_factory=NetworkConfig)
    max_latency: int = 0
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    rotations: tuple[int, ...] = ()
    betas: str = SQUARED_COSINE
    first_beta: float | None = None
    last_beta: float | None = None
    clip: float | None = 1.0
    fitted_calls: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        """Reject sizes and choices of no model."""
        if not 1 <= self.num_obs_steps <= self.horizon:
            raise ValueError(
                f"num_obs_steps must be between 1 and horizon {self.horizon}, "
                f"got {self.num_obs_steps}"
            )
        if not 1 <= self.num_levels <= _LARGEST or self.horizon > _LARGEST:
            raise ValueError(
                f"num_levels and horizon must be between 1 and {_LARGEST}, got {self.num_levels} "
                f"and {self.horizon}"
            )
        if self.prediction not in PREDICTIONS:
            raise ValueError(f"prediction must be one of {PREDICTIONS}, got {self.prediction!r}")
        if self.max_latency < 0 or (self.max_latency and not self.ladders):
            raise ValueError(
                "max_latency must be at least 0, and 0 without ladders (a streaming policy's), got "
                f"{self.max_latency}"
            )
        check_rotations(self.rotations)
        if self.clip is not None and not 0 < self.clip < _LARGEST_CLIP:
            raise ValueError(
                f"clip must be between 0 and {_LARGEST_CLIP:g}, or null for none, got {self.clip}"
            )
        check_fitted_calls("fitted_calls", self.fitted_calls, self.num_levels)
        _ = self.schedule

    @property
    def schedule(self) -> NoiseSchedule:
        """How much noise each level is."""
        return NoiseSchedule(self.num_levels, self.betas, self.first_beta, self.last_beta)

    @property
    def num_past(self) -> int:
        """Window slots before the current action, To - 1."""
        return self.num_obs_steps - 1


def check_fitted_calls(name: str, calls: tuple[int, ...], num_levels: int) -> None:
    """Raise ValueError unless these numbers of calls differ, each from 1 to N."""
    if len({*calls}) != len(calls) or not all(1 <= num <= num_levels for num in calls):
        raise ValueError(
            f"{name} must be different numbers from 1 to {num_levels}, the number of noise levels, "
            f"got {list(calls)}"
        )


def parse_ladder(text: str, config: ModelConfig) -> Ladder:
    """Read a ladder written as ``"8x2"``: chunks of 8 actions, 2 of them.

    Raises:
        ValueError: If it is written otherwise, or does not fit the window or the noise levels.
    """
    match = re.fullmatch(r"(\d+)x(\d+)", text)
    if match is None:
        raise ValueError(f"a ladder is written 'Ta x h', e.g. '8x2', got {text!r}")
    num_execute, num_chunks = map(int, match.groups())
    return Ladder(config.horizon, config.num_past, num_execute, num_chunks, config.num_levels)


@dataclass(frozen=True)
class DiffusionSampling:
    """How a Diffusion Policy is sampled: choices that need no training and can change per run.

    Attributes:
        num_execute: Actions executed per plan, Ta.
        calls_per_step: Network calls per plan; null makes one per noise level, N.
        update: ``"ddim"``, ``"ddpm"``, or ``"fitted"``: steps that were fitted to this network with
            ``hotloop distill method=sampler``, for the numbers of calls that it was done for.
        prefix_guidance: How a new plan is made to go on from the one that is executed while it is
            computed, real-time chunking: ``"vjp"`` through the network or ``"identity"``; empty
            for plans that know nothing of each other.
        spacing: Which levels the calls visit: ``"even"`` begins at pure noise; ``"leading"``, with
            which LeRobot's policies are sampled, below it.
    """

    num_execute: int = 8
    calls_per_step: int | None = None
    update: str = "ddim"
    prefix_guidance: str = ""
    spacing: str = "even"

    def __post_init__(self) -> None:
        """Reject unknown choices."""
        _check_numbers(num_execute=self.num_execute, calls_per_step=self.calls_per_step)
        _check_choice("update", self.update, (*UPDATES, FITTED))
        _check_choice("prefix_guidance", self.prefix_guidance, ("", *GUIDANCES))
        _check_choice("spacing", self.spacing, SPACINGS)


@dataclass(frozen=True)
class StreamingSampling:
    """How a Streaming Diffusion Policy is sampled: choices that need no training.

    Attributes:
        num_execute: Actions executed per plan, Ta: the chunk size, which chooses the ladder.
        calls_per_step: Network calls per plan; null makes one per noise level that a control step
            descends, N / h.
        update: ``"ddim"`` or ``"ddpm"``.
        start: Buffer that an episode starts from: ``"denoise"`` samples a whole window and noises
            it back to the ladder, ``"zero"`` and ``"constant"`` noise a window of zeros or of the
            current position.
        start_calls: Network calls of ``"denoise"``; null makes h * calls_per_step.
        start_key: Observation key that holds the current position in action units; needed by
            ``"constant"``.
    """

    num_execute: int = 8
    calls_per_step: int | None = None
    update: str = "ddim"
    start: str = "denoise"
    start_calls: int | None = None
    start_key: str = ""

    def __post_init__(self) -> None:
        """Reject unknown choices, and those that would have no effect."""
        _check_numbers(num_execute=self.num_execute, calls_per_step=self.calls_per_step)
        _check_numbers(start_calls=self.start_calls)
        _check_choice("update", self.update, UPDATES)
        _check_choice("start", self.start, START_BUFFERS)
        if self.start_calls is not None and self.start != "denoise":
            raise ValueError(
                f"start_calls {self.start_calls} has no effect with start {self.start!r}, only "
                "with 'denoise'; leave it out"
            )
        if self.start_key and self.start != "constant":
            raise ValueError(
                f"start_key {self.start_key!r} has no effect with start {self.start!r}, only with "
                "'constant'; leave it out"
            )


def _check_numbers(**numbers: int | None) -> None:
    for name, number in numbers.items():
        if number is not None and number < 1:
            hint = "" if name == "num_execute" else ", or null for as many as there are"
            raise ValueError(f"{name} must be at least 1{hint}, got {number}")


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"{name} must be one of {choices}, got {value!r}")
