"""Single keys from a terminal, without waiting for them."""

from __future__ import annotations

import select
import sys
from typing import Any


class Keyboard:
    """A context in which `key` tells which key was pressed; silent where there is no terminal."""

    def __init__(self) -> None:
        self._settings: Any = None

    @property
    def active(self) -> bool:
        """Whether there is an operator at a terminal."""
        return self._settings is not None

    def __enter__(self) -> Keyboard:
        """Take over the terminal."""
        if sys.stdin is not None and sys.stdin.isatty():
            import termios
            import tty

            self._settings = termios.tcgetattr(sys.stdin)
            tty.setcbreak(sys.stdin)
        return self

    def __exit__(self, *_: object) -> None:
        """Give the terminal back as it was."""
        if self._settings is not None:
            import termios

            termios.tcsetattr(sys.stdin, termios.TCSADRAIN, self._settings)
            self._settings = None

    def key(self) -> str:
        """The next key, empty if none was pressed."""
        if not self.active or not select.select([sys.stdin], [], [], 0)[0]:
            return ""
        return sys.stdin.read(1)
