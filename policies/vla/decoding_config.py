"""How a vision-language policy decodes: choices that need no training and can change per run."""

from __future__ import annotations

from dataclasses import dataclass

from ...decoding.jacobi import ExitRule
from ...decoding.token_guesses import GUESSES

METHODS = ("greedy", "jacobi", "committed")
UNVERIFIED = ("execute", "hold")


@dataclass(frozen=True)
class TokenDecodingConfig:
    """Decoding choices of a vision-language policy.

    Attributes:
        num_execute: Actions executed per plan, Ta.
        method: ``"greedy"`` decodes one token per forward, ``"jacobi"`` all of them in every
            forward, ``"committed"`` all that are not verified yet.
        guess: What Jacobi decoding starts from: ``"random"`` tokens, the ``"previous"`` chunk
            without its executed actions, or the last executed action in ``"repeat"``. An episode
            begins with random tokens.
        max_calls: Forwards behind the prompt after which a chunk is given out, converged or
            not, sigma; 0 waits for convergence.
        max_move: Largest move of any normalised action value (range -1 to 1) between two
            iterates that counts as none, epsilon; negative waits for the tokens to stop.
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
    def exit_rule(self) -> ExitRule:
        """The rule for `decoding.jacobi`."""
        return ExitRule(self.max_calls or None, self.max_move if self.max_move >= 0 else None)
