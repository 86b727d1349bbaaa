"""How a vision-language policy decodes: choices that need no training and can change per run."""

from __future__ import annotations

from dataclasses import dataclass

from ...decoding.acceptance import Acceptance
from ...decoding.jacobi import ExitRule
from ...decoding.token_guesses import GUESSES

LEARNED = "learned"
METHODS = ("greedy", "jacobi", "committed", LEARNED)
UNVERIFIED = ("execute", "hold")


@dataclass(frozen=True)
class TokenDecodingConfig:
    """Decoding choices of a vision-language policy.

    Attributes:
        num_execute: Actions executed per plan, Ta.
        method: ``"greedy"`` decodes one token per forward, ``"jacobi"`` all of them in every
            forward, ``"committed"`` all that are not verified yet. ``"learned"`` is the same and
            keeps a token as soon as its margin exceeds a fitted threshold.
        guess: What Jacobi decoding starts from: ``"random"`` tokens, the ``"previous"`` chunk
            without its executed actions, or the last executed action in ``"repeat"``. An episode
            begins with random tokens.
        max_calls: Forwards behind the prompt after which a chunk is given out, converged or
            not, sigma; 0 waits for convergence.
        max_move: Largest move of any normalised action value (range -1 to 1) between two
            iterates that counts as none, epsilon; negative waits for the tokens to stop.
        thresholds: Margins that tokens must exceed with ``"learned"``, one per forward, the last
            for all later ones; see `decoding.acceptance`. `hotloop acceptance` fits them.
        reach: Tokens at most this many bins apart do not rival each other there.
        unverified: Whether actions with tokens that are not verified to be the greedy decoder's
            are valid and executed (``"execute"``) or not (``"hold"``). With ``"hold"`` decoding
            goes on until the first action that is needed is verified, whatever the exit rule.
        fused: Read prompt and first guess in one forward. Otherwise the prompt is read before.
        cached: Keep keys and values; False recomputes the prompt in every forward, for hosts
            whose cache cannot be cropped.
    """

    num_execute: int = 4
    method: str = "committed"
    guess: str = "random"
    max_calls: int = 0
    max_move: float = -1.0
    thresholds: tuple[float, ...] = ()
    reach: int = 0
    unverified: str = "execute"
    fused: bool = True
    cached: bool = True

    def __post_init__(self) -> None:
        """Reject unknown choices."""
        for name, value, choices in (
            ("method", self.method, METHODS),
            ("guess", self.guess, GUESSES),
            ("unverified", self.unverified, UNVERIFIED),
        ):
            if value not in choices:
                raise ValueError(f"{name} must be one of {choices}, got {value!r}")
        if self.max_calls < 0:
            raise ValueError(
                "max_calls (sigma) must be at least 1, or 0 to wait for convergence, got "
                f"{self.max_calls}"
            )
        if self.method == "greedy" and (self.max_calls or self.max_move >= 0):
            raise ValueError(
                "greedy decoding has no early exit; choose method 'jacobi' or 'committed', or "
                "drop max_calls and max_move"
            )
        if self.thresholds:
            Acceptance(self.thresholds, self.reach)
        if self.method == LEARNED and (not self.thresholds or self.max_move >= 0):
            raise ValueError(
                f"method {LEARNED!r} needs thresholds, which `hotloop acceptance` fits, and knows "
                f"no max_move; got thresholds {self.thresholds} and max_move {self.max_move}"
            )

    @property
    def needs_cache(self) -> bool:
        """Whether keys and values are kept: a decoder of a single forward has no use for them."""
        single = self.fused and self.max_calls == 1 and self.unverified == "execute"
        return self.cached and not single

    @property
    def passes(self) -> tuple[str, ...]:
        """Passes of `static.Passes` that every plan may need."""
        if self.method == "greedy":
            return "read", "append"
        if not self.fused:
            return "read", "block"
        single = self.max_calls == 1 and self.unverified == "execute"
        return ("read_block",) if single else ("read_block", "block")

    @property
    def acceptance(self) -> Acceptance | None:
        """Which tokens need no proof; None if all of them do."""
        return Acceptance(self.thresholds, self.reach) if self.method == LEARNED else None

    @property
    def exit_rule(self) -> ExitRule:
        """The rule for `decoding.jacobi`."""
        return ExitRule(self.max_calls or None, self.max_move if self.max_move >= 0 else None)
