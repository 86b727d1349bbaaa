"""How a trained model is sampled: choices that need no training and can change per run."""

from __future__ import annotations

from dataclasses import dataclass

from ...decoding.prefix_guidance import GUIDANCES

START_BUFFERS = ("zero", "constant", "denoise")


@dataclass(frozen=True)
class SamplingConfig:
    """Sampling choices of a (Streaming) Diffusion Policy.

    Attributes:
        num_execute: Actions executed per plan, Ta; for SDP the chunk size.
        calls_per_step: Network calls per plan; null means every level (N for DP, N / h for SDP).
        update: ``"ddim"`` or ``"ddpm"``.
        start: SDP only, the buffer an episode starts from: ``"denoise"`` samples a whole window
            and noises it back to the ladder, ``"zero"`` and ``"constant"`` noise a window of zeros
            or of the current position.
        start_calls: SDP only, network calls of ``"denoise"``; null means one per chunk of the
            ladder and call per step, h * calls_per_step.
        start_key: SDP only, observation key that holds the current position in action units;
            needed by ``"constant"``.
        prefix_guidance: DP only, how a new plan is made to go on from the one that is executed
            while it is computed, real-time chunking: ``"vjp"`` through the network or
            ``"identity"``; empty for plans that know nothing of each other.
    """

    num_execute: int = 8
    calls_per_step: int | None = None
    update: str = "ddim"
    start: str = "denoise"
    start_calls: int | None = None
    start_key: str = ""
    prefix_guidance: str = ""

    def __post_init__(self) -> None:
        """Reject unknown choices."""
        if self.start not in START_BUFFERS:
            raise ValueError(f"start must be one of {START_BUFFERS}, got {self.start!r}")
        if self.prefix_guidance not in ("", *GUIDANCES):
            raise ValueError(
                f"prefix_guidance must be one of {GUIDANCES} or empty, got {self.prefix_guidance!r}"
            )
        for name in ("calls_per_step", "start_calls"):
            num_calls = getattr(self, name)
            if num_calls is not None and num_calls < 1:
                raise ValueError(
                    f"{name} must be at least 1, or null for as many as there are, got {num_calls}"
                )
