"""One module per `hotloop` command.

Each module offers ``add_parser(subparsers) -> ArgumentParser``, which ends in
``parser.set_defaults(run=run)``, and ``run(args) -> int``, which returns an `ExitCode`. It is
light to import: torch, Hydra and simulators are imported inside `run`, so that
``hotloop --help`` answers at once. What would make the parser itself heavy is added by a function
``complete(parser)``, named in its defaults, once the command is chosen. A plugin names such an
``add_parser`` in the entry-point group ``hotloop.commands``.
"""

import argparse
from collections.abc import Callable
from enum import IntEnum

from ...decoding.plumbing.plugins import Registry

__all__ = ["COMMANDS", "ExitCode"]

Subparsers = argparse._SubParsersAction
_INCLUDED = (
    "demo",
    "train",
    "distill",
    "eval",
    "bench",
    "export",
    "data",
    "import",
    "jacobi",
    "serve",
    "control",
    "record",
    "emulate",
    "log",
    "calibrate",
    "doctor",
)
COMMANDS: Registry[Callable[[Subparsers], argparse.ArgumentParser]] = Registry(
    "hotloop.commands",
    "command",
    # A module cannot be called "import".
    {name: f"{'import_lerobot' if name == 'import' else name}:add_parser" for name in _INCLUDED},
    str(__package__),
)


class ExitCode(IntEnum):
    """What the process tells the shell.

    `FAILED` means that the command did its work and the answer is no, e.g. a data set with
    problems; `USAGE` that it could not start because of what the user gave it.
    """

    SUCCESS = 0
    FAILED = 1
    USAGE = 2
    INTERRUPTED = 130
    BROKEN_PIPE = 141
