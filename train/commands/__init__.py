"""One module per `hotloop` command.

Each module offers ``add_parser(subparsers) -> ArgumentParser``, which ends in
``parser.set_defaults(run=run)``, and ``run(args) -> int``, which returns an `ExitCode`. It is
light to import: torch, Hydra and simulators are imported inside `run`, so that
``hotloop --help`` answers at once.
"""

from enum import IntEnum

__all__ = ["COMMANDS", "ExitCode"]

COMMANDS = (
    "demo",
    "train",
    "eval",
    "bench",
    "data",
    "jacobi",
    "control",
    "emulate",
    "log",
    "doctor",
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
