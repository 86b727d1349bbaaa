"""``engine=auto``: the engine on which a policy plans fastest where it is to run.

Every engine that suits the weights' device builds the policy, with its comparison with eager
PyTorch; those that pass it plan in turns for a second, for one robot. Which one wins depends on
network, processor and number of threads, by factors and in either direction.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from itertools import cycle
from typing import TYPE_CHECKING, Any

import numpy as np

from ..decoding import Executor, Policy
from ..decoding.example_frames import random_frames
from .programs.engines.engine import find_obstacle, tried_engines

if TYPE_CHECKING:
    from .remembered import RememberedChoice

TRIAL_SECONDS = 1.0
# Between two that differ by less the machine's mood decides, however long one looks.
MIN_ROUNDS, WARM_UP_PLANS = 3, 2
# Whatever is so much slower than another one is not looked at again, and its memory is freed.
HOPELESS = 3.0
_NUM_FRAMES = 4
_LONGEST_REASON = 200  # [characters]
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Choice:
    """What a trial found.

    Attributes:
        engine: The fastest.
        milliseconds: Median duration of a control step that plans, by engine, the fastest first;
            empty if nothing was left to compare.
        left_out: Engines that could not run the policy, and why.
    """

    engine: str
    milliseconds: dict[str, float] = field(default_factory=dict[str, float])
    left_out: dict[str, str] = field(default_factory=dict[str, str])

    def sentence(self, asked: str) -> str:
        """Say what was chosen, and instead of what."""
        times = [f"{name} {ms:.3g} ms" for name, ms in self.milliseconds.items()]
        reasons = [f"{name} cannot run it: {why}" for name, why in self.left_out.items()]
        if not times:
            return "; ".join([f"engine {asked}: {self.engine}, as no other can", *reasons])
        (own, *others) = times
        compared = f"engine {asked}: {own} per plan" + (f", {', '.join(others)}" if others else "")
        return "; ".join([compared, *reasons])


def fastest_policy(
    build: Callable[[str], Any], asked: str, remembered: RememberedChoice | None = None
) -> Any:
    """The policy on the engine on which it plans fastest.

    Args:
        build: Makes the policy on the engine of a name.
        asked: ``"auto"``, or that with a precision.
        remembered: What was found before, and where what is found now is kept.

    Raises:
        Exception: What the first engine raised, if none can run the policy.
    """
    precision, device = asked.partition("-")[2] or "float32", "cpu"
    if remembered is not None:
        device = remembered.device
    known = None if remembered is None else remembered.read()
    if known is not None:
        built = _attempt(partial(_build, build, known.engine))
        if not isinstance(built, Exception):
            _LOG.info("%s, as found before", known.sentence(asked))
            return built
    policy, choice = run_trial(build, tried_engines(precision, device), TRIAL_SECONDS)
    _LOG.info("%s", choice.sentence(asked))
    if remembered is not None:
        remembered.write(choice)
    return policy


def run_trial(
    build: Callable[[str], Any], engines: tuple[str, ...], seconds: float
) -> tuple[Any, Choice]:
    """Build the policy on each engine and let it plan; return the fastest, ready to be reset.

    Args:
        build: Makes the policy on the engine of a name.
        engines: Their names; the first one's error is raised if none runs.
        seconds: How long all of them plan together, unless three plans of each take longer.
    """
    contenders: list[Contender] = []
    times: dict[str, float] = {}
    errors: dict[str, Exception] = {}
    for name in engines:
        policy = _attempt(partial(_build, build, name))
        if isinstance(policy, Exception):
            errors[name] = policy
            continue
        contenders.append(Contender(name, policy))
        if len(contenders) + len(times) > 1:  # a single one may take as long as it likes
            contenders = _promising(contenders, times, errors)
    if not contenders:
        raise next(iter(errors.values()))
    if len(contenders) > 1:
        _take_turns(contenders, seconds)
        times |= {one.engine: one.milliseconds for one in contenders}
    winner = min(contenders, key=lambda one: times.get(one.engine, 0.0))
    ordered = dict(sorted(times.items(), key=lambda item: item[1]))
    left_out = {name: _reason(error) for name, error in errors.items()}
    return winner.policy, Choice(winner.engine, ordered if len(times) > 1 else {}, left_out)


def _promising(
    contenders: list[Contender], times: dict[str, float], errors: dict[str, Exception]
) -> list[Contender]:
    """Those that can plan and are not hopelessly slow; notes what new ones took, or what failed."""
    for one in contenders:
        if one.engine not in times:
            failed = _attempt(one.warm_up)
            if isinstance(failed, Exception):
                errors[one.engine] = failed
            else:
                times[one.engine] = one.milliseconds
    timed = [one for one in contenders if one.engine in times]
    return [one for one in timed if one.milliseconds <= HOPELESS * min(times.values())]


class Contender:
    """A policy on one engine, planning for one robot from random observations.

    Args:
        engine: Name of the engine.
        policy: The policy; it is reset.
    """

    def __init__(self, engine: str, policy: Policy) -> None:
        self.engine, self.policy = engine, policy
        self._executor = Executor(policy)
        self._frames = cycle(random_frames(policy.observation_spec, _NUM_FRAMES))
        self._seconds: list[float] = []

    def warm_up(self) -> None:
        """Plan for the first times, and once more, which counts."""
        self._executor.reset([0])
        # An episode begins with more calls than its other plans, and a runtime with allocations.
        for _ in range(WARM_UP_PLANS + 1):
            self.plan()
        self._seconds = self._seconds[WARM_UP_PLANS:]

    @property
    def milliseconds(self) -> float:
        """Median duration of a control step that plans [ms]."""
        return 1000 * float(np.median(self._seconds))

    def plan(self) -> None:
        """Act up to the next plan and time its control step."""
        num_plans, duration = self._executor.num_plans, 0.0
        while self._executor.num_plans == num_plans:
            frame = next(self._frames)
            begin = time.perf_counter()
            self._executor.act(frame)
            duration = time.perf_counter() - begin
        self._seconds.append(duration)


def _take_turns(contenders: list[Contender], seconds: float) -> None:
    """Let all plan, one after the other, so that the machine's drift meets all of them alike."""
    end, rounds = time.perf_counter() + seconds, 0
    while len(contenders) > 1 and (rounds < MIN_ROUNDS or time.perf_counter() < end):
        for one in contenders:
            one.plan()
        rounds += 1


def _build(build: Callable[[str], Any], engine: str) -> Any:
    if (obstacle := find_obstacle(engine)) is not None:
        raise obstacle
    return build(engine)


def _attempt(action: Callable[[], Any]) -> Any:
    """What an action returns, or the error that it ends in."""
    try:
        return action()
    except Exception as error:  # noqa: BLE001 - runtimes and plugins can fail in any way
        # Their frames would keep alive what did not fit into memory.
        error.__cause__ = error.__context__ = None
        return error.with_traceback(None)


def _reason(error: Exception) -> str:
    """One line of an error, without its type where it is one of hotloop's own sentences."""
    text = " ".join(str(error).split())[:_LONGEST_REASON]
    if isinstance(error, ValueError | ImportError) and text:
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
