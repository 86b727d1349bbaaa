"""Who stands beside the arm: on a terminal, or a script at the other end of a pipe."""

from __future__ import annotations

import os
import select
from collections.abc import Callable
from typing import Protocol, TextIO

YES = ("y", "yes")
MOST_MISTAKES = 50
PATIENCE = 0.02  # between two looks at the arm [s]


class Operator(Protocol):
    """Moves the arm by hand and answers questions."""

    def say(self, text: str) -> None:
        """Tell something."""
        ...

    def ask(self, question: str) -> str:
        """The answer to a question; raises EOFError if nobody is there."""
        ...

    def ask_while(self, question: str, look: Callable[[], str]) -> str:
        """The same, and until it comes call `look` again and again; its text is for showing."""
        ...


class PatientOperator:
    """An operator who may make mistakes, but not for ever: a script may answer blindly.

    Args:
        operator: Who it is.
    """

    def __init__(self, operator: Operator) -> None:
        self.say, self.ask, self.ask_while = operator.say, operator.ask, operator.ask_while
        self._left = MOST_MISTAKES

    def mistake(self, text: str) -> None:
        """Tell what was wrong; the question comes again.

        Raises:
            ValueError: If there have been too many.
        """
        self._left -= 1
        if not self._left:
            raise ValueError(f"{text}; given up after {MOST_MISTAKES} mistakes")
        self.say(f"{text}.")


class TextOperator:
    """An operator who reads and types lines.

    Answers are read from the file descriptor itself, so that waiting for one does not keep the
    arm from being looked at.

    Args:
        source: Where answers come from, a terminal or a pipe.
        target: Where questions go.
    """

    def __init__(self, source: TextIO, target: TextIO) -> None:
        self._source, self._target = source, target
        self._lively = target.isatty()
        self._typed = b""

    def say(self, text: str) -> None:
        """Print a line."""
        print(text, file=self._target, flush=True)

    def ask(self, question: str) -> str:
        """Print the question and wait for a line."""
        return self.ask_while(question, lambda: "")

    def ask_while(self, question: str, look: Callable[[], str]) -> str:
        """Print the question and wait for a line; on a terminal show what `look` returns."""
        self.say(question)
        shown = 0
        while (answer := self._line()) is None:
            text = look()
            if self._lively and text:
                # Back to the first of the lines of last time, and over them.
                print(f"\x1b[{shown}F" * bool(shown) + text, file=self._target, flush=True)
                shown = text.count("\n") + 1
        return answer

    def _line(self) -> str | None:
        """The next line, None if none came within a moment."""
        source = self._source.fileno()
        if b"\n" not in self._typed and select.select([source], [], [], PATIENCE)[0]:
            received = os.read(source, 4096)
            if not received:
                raise EOFError
            self._typed += received
        line, end, rest = self._typed.partition(b"\n")
        if not end:
            return None
        self._typed = rest
        return line.decode(errors="replace").strip()
