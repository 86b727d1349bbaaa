"""The result of one check."""

from __future__ import annotations

from typing import NamedTuple


class Finding(NamedTuple):
    """Result of one check.

    Attributes:
        good: Whether it is as it should be.
        text: What was found, in one line.
    """

    good: bool
    text: str
