"""Single keys from a terminal, without waiting for them."""

from __future__ import annotations

import os
import re
import select
import sys
from contextlib import suppress
from typing import Any

ARROWS = {"A": "↑", "B": "↓", "C": "→", "D": "←"}
SEQUENCE = re.compile(r"\x1b[\[O][0-9;]*([A-Za-z~])")


class Keyboard:
    """A context in which `keys` tells which were pressed; silent where there is no terminal."""

    def __init__(self) -> None:
        self._settings: Any = None
        self._file = -1

    @property
    def active(self) -> bool:
        """Whether there is an operator at a terminal."""
        return self._settings is not None

    def __enter__(self) -> Keyboard:
        """Take over the terminal."""
        if sys.stdin is not None and sys.stdin.isatty() and _in_foreground(sys.stdin.fileno()):
            import termios
            import tty

            self._file = sys.stdin.fileno()
            self._settings = termios.tcgetattr(self._file)
            tty.setcbreak(self._file)
        return self

    def __exit__(self, *_: object) -> None:
        """Give the terminal back as it was."""
        if self._settings is not None:
            import termios

            # It may have been closed meanwhile.
            with suppress(termios.error):
                termios.tcsetattr(self._file, termios.TCSANOW, self._settings)
            self._settings = None

    def keys(self) -> str:
        """Keys pressed since the previous call, one character each; arrows as ``"←↑→↓"``."""
        if not self.active:
            return ""
        # Not through `sys.stdin`: what it keeps in its buffer, `select` knows nothing of.
        if not select.select([self._file], [], [], 0)[0]:
            return ""
        try:
            pressed = os.read(self._file, 1024)
        except OSError:
            pressed = b""
        if not pressed:
            # The terminal was closed: there is no operator any more.
            self._settings = None
        return SEQUENCE.sub(lambda match: ARROWS.get(match[1], ""), pressed.decode(errors="ignore"))


def _in_foreground(terminal: int) -> bool:
    """Whether keys come here; whoever asks from the background is stopped by the system."""
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:
        return True
