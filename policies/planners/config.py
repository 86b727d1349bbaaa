"""What a planner is made of, and how it plans: two dataclasses for all planners."""

from __future__ import annotations

from dataclasses import dataclass, field

from ...decoding.samplers import PREDICTIONS
from ..networks.config import NetworkConfig

DRAFTS = ("rollout", "noise")
SELECTIONS = ("first", "critic", "value")


@dataclass(frozen=True)
class DrafterConfig:
    """Causal transformer that drafts a plan state by state.

    Attributes:
        width: Features per token.
        depth: Layers.
        num_heads: Attention heads.
        context: Newest observed frames that it reads, at least 1.
    """

    width: int = 128
    depth: int = 1
    num_heads: int = 4
    context: int = 1


@dataclass(frozen=True)
class PlannerConfig:
    """Everything needed to rebuild a `PlannerModel` before its weights are loaded.

    Attributes:
        horizon: States of a plan H, the current one included.
        stride: Control steps from one state of a plan to the next. More than 1 looks farther ahead
            (jump-step planning, Lu et al. 2025); an action is held until the next state.
        num_levels: Noise levels K.
        prediction: What the denoiser predicts. ``"velocity"`` keeps what it is given where there is
            little noise, as when a draft is refined; a network that predicts the ``"sample"``
            there adds its own error instead.
        joint: Whether a plan holds each state together with the action that led to it, as in
            Diffuser. Otherwise it holds states, and inverse dynamics find the actions.
        goal_key: Observation that a plan must reach and stay at; its features are the first ones of
            the state, and the others, velocities, are 0 there. Empty for tasks with rewards.
        discount: Discount of the returns that plans are conditioned on and valued by.
        termination_penalty: Added to the reward of a step that ends in a terminal state.
        clip: Largest magnitude of a clean plan, in standard deviations.
        inverse_width: Features of inverse dynamics, critic and value.
        network: Denoiser and its size.
        drafter: Draft generator, if there is one.
        critic: Whether candidates can be ranked by a learned critic Q(s, a).
        value: Whether noisy plans can be guided by a learned value.
        distilled_guidance: Guidance weight that the denoiser has learned to apply in one pass, or
            the smallest and the largest of those that it is told, set by distillation; None where
            guidance takes a conditional and an unconditional pass.
        jump: Whether the denoiser is told how far one call moves the levels, set by distillation.
            Such a call lands where many of its teacher's would, value guidance included.
    """

    horizon: int = 16
    stride: int = 1
    num_levels: int = 100
    prediction: str = "velocity"
    joint: bool = False
    goal_key: str = ""
    discount: float = 1.0
    termination_penalty: float = 0.0
    clip: float = 6.0
    inverse_width: int = 256
    network: NetworkConfig = field(default_factory=lambda: NetworkConfig(width=256, depth=3))
    drafter: DrafterConfig | None = None
    critic: bool = False
    value: bool = False
    distilled_guidance: float | tuple[float, float] | None = None
    jump: bool = False

    def __post_init__(self) -> None:
        """Reject sizes that make no plan."""
        if self.horizon < 2:
            raise ValueError(f"a plan needs a horizon of at least 2 states, got {self.horizon}")
        if self.prediction not in PREDICTIONS:
            raise ValueError(f"prediction must be one of {PREDICTIONS}, got {self.prediction!r}")
        if not 0 < self.discount <= 1:
            raise ValueError(f"discount must be in (0, 1], got {self.discount}")
        if self.drafter is not None and self.drafter.context < 1:
            raise ValueError(f"drafter.context must be at least 1, got {self.drafter.context}")
        if self.stride < 1 or (self.stride > 1 and self.context > 1):
            raise ValueError(
                "stride must be at least 1, and 1 where a drafter reads several frames, which are "
                f"consecutive; got stride {self.stride} and drafter.context {self.context}"
            )
        if self.guidance_range and not self.guidance_range[0] < self.guidance_range[1]:
            raise ValueError(
                "distilled_guidance is one weight or the smallest and the largest, got "
                f"{self.guidance_range}"
            )

    @property
    def guidance_range(self) -> tuple[float, float] | None:
        """Smallest and largest guidance weight, where the denoiser is told which."""
        return self.distilled_guidance if isinstance(self.distilled_guidance, tuple) else None

    @property
    def context(self) -> int:
        """Observed frames that a plan is made from."""
        return 1 if self.drafter is None else self.drafter.context


@dataclass(frozen=True)
class PlannerSampling:
    """How a planner plans: choices that need no training and can change per run.

    Attributes:
        num_execute: Actions executed per plan, Ta.
        draft: Where a plan starts: ``"rollout"`` of the drafter, or ``"noise"``.
        calls_per_step: Denoising steps N; 0 returns the draft.
        draft_level: Noise level at which a draft enters the reverse process; 0 means N, as if
            every level below had one step.
        add_noise: Whether a draft is noised to that level, or taken for noisy as it is.
        update: ``"ddim"`` or ``"ddpm"``.
        temperature: Factor of all noise, 0.5 in Decision Diffuser.
        guidance: Weight w of classifier-free guidance; of a distilled planner the weight, or one
            of the range of weights, that its network has learned.
        target_return: Return asked for, as a share of the largest in the training data.
        return_floor: Smallest return asked for later in an episode, as a share of the first; 1
            asks for the same return all along, as Decision Diffuser does.
        candidates: Plans made per decision.
        select: Which candidate is executed: ``"first"``, the best by ``"critic"``, or by
            ``"value"``.
        value_scale: Step size of value guidance.
        value_steps: Gradient steps per denoising step, 0 for no value guidance.
        value_stop: Denoising levels below this have no value guidance.
        reuse: Plans in a row that start from the one before, shifted to the current step; 0
            drafts every plan anew.
        sweeps: Parallel passes of the drafter that correct a shifted plan, at least 1; each
            makes one more state, the next one first, what a rollout would have drafted.
    """

    num_execute: int = 1
    draft: str = "noise"
    calls_per_step: int = 20
    draft_level: int = 0
    add_noise: bool = True
    update: str = "ddim"
    temperature: float = 1.0
    guidance: float = 1.0
    target_return: float = 1.0
    return_floor: float = 1.0
    candidates: int = 1
    select: str = "first"
    value_scale: float = 0.1
    value_steps: int = 0
    value_stop: int = 2
    reuse: int = 0
    sweeps: int = 1

    def __post_init__(self) -> None:
        """Reject unknown choices and impossible numbers."""
        if self.draft not in DRAFTS:
            raise ValueError(f"draft must be one of {DRAFTS}, got {self.draft!r}")
        if self.select not in SELECTIONS:
            raise ValueError(f"select must be one of {SELECTIONS}, got {self.select!r}")
        if min(self.candidates, self.sweeps) < 1:
            raise ValueError(
                f"candidates and sweeps must be at least 1, got {self.candidates} and {self.sweeps}"
            )
        if min(self.calls_per_step, self.draft_level, self.value_steps, self.reuse) < 0:
            raise ValueError(
                "calls_per_step, draft_level, value_steps and reuse must be 0 or more, got "
                f"{self.calls_per_step}, {self.draft_level}, {self.value_steps} and {self.reuse}"
            )
        if not 0 <= self.return_floor <= 1:
            raise ValueError(f"return_floor must be between 0 and 1, got {self.return_floor}")
