"""What the library logs that whoever types a command wants to read."""

from __future__ import annotations

import logging
import sys

# It takes seconds and decides how fast a policy is.
_CHOICE_OF_ENGINE = "hotloop.policies.fastest"


def tell_choices() -> None:
    """Print from now on which engine ``auto`` has chosen, to standard error."""
    logger = logging.getLogger(_CHOICE_OF_ENGINE)
    if not any(isinstance(handler, _Printer) for handler in logger.handlers):
        logger.addHandler(_Printer())
        logger.setLevel(logging.INFO)


class _Printer(logging.Handler):
    """Prints messages as they are, to whatever standard error is by then."""

    def emit(self, record: logging.LogRecord) -> None:
        print(record.getMessage(), file=sys.stderr, flush=True)
