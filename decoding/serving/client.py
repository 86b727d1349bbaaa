"""A policy that is served elsewhere, behind the contract of those that are here."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from time import monotonic

import numpy as np

from ..interface import Observation
from ..trajectory import ActionTrajectory
from .link import Link, Lost

TOKEN = "HOTLOOP_TOKEN"
CONNECT = 5.0  # The first connection may take longer than a plan [s].


def _tell(text: str) -> None:
    print(f"hotloop: policy: {text}", file=sys.stderr, flush=True)


class RemotePolicy:
    """Asks a policy server for plans, over a connection for each row.

    An answer that comes after the deadline is never used: its connection is given up. While there
    is none, plans hold no action that may be executed, and an executor raises `NotReady`; a robot's
    loop then does what it does with a policy that is late. Before the first answer a loss is an
    error.

    Args:
        address: ``ws://HOST:PORT`` or ``wss://HOST:PORT``.
        timeout: How long a plan may take [s].
        token: What the server wants to see; by default that of the environment's HOTLOOP_TOKEN.
        tell: Told when a connection is lost, and when it is back.

    Attributes:
        timeout: How long a plan may take [s].
        about: What the server says of its policy beside the contract.

    Raises:
        ConnectionError: If nobody answers at that address, or no row is free.
        TimeoutError: If nobody answers in time.
        ValueError: If the address is none, the token is wrong, or the server none of hotloop's.
    """

    def __init__(
        self,
        address: str,
        timeout: float = 5.0,
        token: str | None = None,
        tell: Callable[[str], None] = _tell,
    ) -> None:
        self.timeout, self._tell = timeout, tell
        token = (os.environ.get(TOKEN, "") if token is None else token).strip()
        if not token.isprintable():
            raise ValueError("the token holds control characters, a second line perhaps")
        self._address, self._token = address, token
        first = Link(address, token)
        self._metadata = first.open(max(timeout, CONNECT))
        self.action_spec = self._metadata.action_spec
        self.observation_spec = self._metadata.observation_spec
        self.num_execute = self._metadata.num_execute
        self.about = self._metadata.about
        self._links = [first]
        self._answered, self._lost = False, ""

    def close(self) -> None:
        """End all connections."""
        for link in self._links:
            link.close()

    def reset(self, seeds: np.ndarray, rows: np.ndarray | None = None) -> None:
        """Start an episode in each of `rows` with their next plan; see `Policy.reset`."""
        if rows is None:
            for link in self._links[len(seeds) :]:
                link.close()
            new = [Link(self._address, self._token) for _ in range(len(self._links), len(seeds))]
            self._links = [*self._links, *new][: len(seeds)]
            rows = np.arange(len(seeds))
        for row, seed in zip(rows.tolist(), seeds.tolist(), strict=True):
            self._links[row].seed = seed

    def plan(self, observation: Observation, step: np.ndarray) -> ActionTrajectory:
        """Ask for plans for the rows of `observation`, all at once; see `Policy.plan`.

        Rows without an answer in time have no valid action.

        Raises:
            ValueError: If the server refuses, or serves another policy now.
            OSError: If there is no answer to the first plan of all.
        """
        rows: list[int] = observation.rows.tolist()
        deadline = monotonic() + self.timeout
        asked: list[Link | None] = []
        try:
            for index, row in enumerate(rows):
                request: dict[str, object] = {
                    key: values[index] for key, values in observation.frames.items()
                }
                request |= {"step": int(step[index]), "observed_step": int(observation.step[index])}
                asked.append(self._ask(self._links[row], request, deadline))
            answers = [None if link is None else self._answer(link, deadline) for link in asked]
        finally:
            # Else the next plan of a row would be what another row's error left unread.
            for row in rows:
                self._links[row].forget()
        if all(one is not None for one in answers):
            self._answered = True
            if self._lost:
                self._tell(f"{self._address} answers again")
                self._lost = ""
        return self._trajectory(answers, observation, step)

    def _ask(self, link: Link, request: dict[str, object], deadline: float) -> Link | None:
        """Send a request; None if there is no connection."""
        try:
            if not link.is_open:
                again = link.reopen(max(deadline - monotonic(), 0.0))
                if again is None:
                    return None
                if again != self._metadata:
                    raise ValueError(f"{self._address} serves another policy than before")
            link.ask(request, max(deadline - monotonic(), 0.0))
        except Lost as error:
            self._note(error)
            return None
        return link

    def _answer(self, link: Link, deadline: float) -> np.ndarray | None:
        """The actions of an answer, shape (T, D), T maybe 0; None if there is none in time."""
        try:
            actions = link.answer(max(deadline - monotonic(), 0.0))
        except Lost as error:
            self._note(error)
            return None
        if actions.ndim != 2 or actions.dtype.kind not in "iuf":
            what = f"shape {actions.shape} and type {actions.dtype}"
            raise ValueError(f"{self._address} answered with actions of {what}")
        return self.action_spec.check(actions)

    def _note(self, error: Lost) -> None:
        if not self._answered:
            raise error.told from None
        if not self._lost:
            self._lost = str(error)
            self._tell(f"no answer from {self._address}: {error}; trying again")

    def _trajectory(
        self, answers: Sequence[np.ndarray | None], observation: Observation, step: np.ndarray
    ) -> ActionTrajectory:
        """The answers as one trajectory, padded with what is not valid."""
        lengths = np.array([0 if one is None else len(one) for one in answers])
        shape = (len(answers), max(int(lengths.max(initial=0)), 1), self.action_spec.size)
        dtype = next((one.dtype for one in answers if one is not None), np.dtype(np.float32))
        actions = np.zeros(shape, dtype)
        for row, one in enumerate(answers):
            if one is not None:
                actions[row, : len(one)] = one
        valid = np.arange(shape[1]) < lengths[:, None]
        levels = np.zeros(valid.shape, np.float32)
        dt = self.action_spec.dt
        return ActionTrajectory(actions, step, observation.step, dt, levels, valid)
