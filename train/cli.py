"""The `hotloop` console command: parse the arguments, run one command, return an exit code."""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Any

from .commands import COMMANDS, ExitCode, Subparsers
from .commands.telling import tell_choices

DESCRIPTION = """\
Fast robot policies, from demonstrations to hardware.

A diffusion policy plans actions by removing noise in many network calls. hotloop keeps a
buffer of half-denoised actions instead, so that every control step needs only one call."""

EXAMPLES = """\
examples:
  hotloop demo                              everything once, on a fresh machine: generate
                                            demonstrations, train, evaluate, time, report
  hotloop eval pusht-sdp                    score a ready-made policy
  hotloop bench pusht-dp pusht-sdp          time policies per control step
  hotloop export pusht-sdp OUT              graphs and a runtime that need no PyTorch
  hotloop data inspect FILE                 what is in a data set, and what is wrong with it
  hotloop train policy=sdp task=pusht       train a policy of your own
  hotloop distill pusht-dp calls=1,2 …      make it faster, and see what that costs
  hotloop import FOLDER OUT dt=0.1          make a LeRobot checkpoint hotloop's own
  hotloop jacobi TEACHER DATA OUT           what a token policy is distilled from
  hotloop serve pusht-sdp                   serve a policy to robots over the network
  hotloop control robot=mujoco duration=10  run a policy on a robot, here a simulated one
  hotloop record teleop.by=keyboard …       show a robot what to do, as a data set that grows
  hotloop emulate servo-bus                 servos in software, for any client
  hotloop log FILE --replay                 what happened in a run, proven bit by bit
  hotloop calibrate robot=feetech           a new arm: IDs, zeros, directions, limits by hand
  hotloop doctor                            is this machine punctual enough for a robot

`hotloop COMMAND --help` explains one command.

exit codes:
  0 success; 1 the command ran and its answer is no, or it crashed; 2 wrong arguments or input;
  130 interrupted. Errors are one message; HOTLOOP_DEBUG=1 shows where they come from."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command that `argv` names, by default the process's arguments.

    Returns:
        The exit code, see `ExitCode`.

    Raises:
        SystemExit: From argparse, for ``--help``, ``--version`` and malformed arguments.
    """
    if argv is None:
        # Python processes that other libraries start, as torch's compiler does, are to import
        # nothing from the current folder; from Python 3.11 on this tells them. Who calls this
        # function from a program of their own decides for their own processes.
        os.environ.setdefault("PYTHONSAFEPATH", "1")
    _set_process_defaults()
    tell_choices()
    parser = build_parser()
    args = parse(parser, sys.argv[1:] if argv is None else argv)
    if "run" not in args:
        parser.print_help(sys.stderr)
        return ExitCode.USAGE
    return execute(args.run, args)


def build_parser() -> argparse.ArgumentParser:
    """Assemble the parser of `hotloop` from the commands' own."""
    parser = argparse.ArgumentParser(
        prog="hotloop",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("-V", "--version", action=_ShowVersion, nargs=0, help="print the version")
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND")
    for name in COMMANDS.included:
        COMMANDS.get(name)(subparsers)
    for name in sorted(COMMANDS.plugins.keys() - set(COMMANDS.included)):
        _add_plugin(name, subparsers)
    return parser


def parse(parser: argparse.ArgumentParser, argv: Sequence[str]) -> argparse.Namespace:
    """Parse arguments in any order behind the command: flags may stand between ``key=value``.

    argparse itself only does so for parsers without commands, so they are looked up here.
    """
    if complete := parser.get_default("complete"):
        complete(parser)
    commands = [one for one in parser._actions if isinstance(one, argparse._SubParsersAction)]
    if not commands:
        return parser.parse_intermixed_args(argv)
    chosen = commands[0].choices.get(argv[0]) if argv else None
    if chosen is None:
        return parser.parse_args(argv)
    args = parse(chosen, argv[1:])
    if "run" not in args and (run := parser.get_default("run")):
        args.run = run
    if commands[0].dest != argparse.SUPPRESS:
        setattr(args, commands[0].dest, argv[0])
    return args


def _add_plugin(name: str, subparsers: Subparsers) -> None:
    """Add a plugin's command; one that is broken is named, and the others work all the same."""
    try:
        COMMANDS.get(name)(subparsers)
    except Exception as error:  # noqa: BLE001 - a stranger's module can fail in any way
        lines = " ".join(str(error).split())
        told = lines if isinstance(error, ImportError) else f"{type(error).__name__}: {lines}"
        print(f"hotloop: command {name!r} of a plugin is left out: {told}", file=sys.stderr)


def execute(run: Callable[[argparse.Namespace], int], args: argparse.Namespace) -> int:
    """Run a command and turn its exceptions into an exit code.

    The library raises ValueError for wrong arguments and data, OSError for files, ImportError
    for a missing extra, FloatingPointError for a training that diverged: these become one message
    on stderr. Every other exception is a defect of the program and keeps its traceback; KeyError
    is one of them, as its text says nothing.
    """
    try:
        code = run(args)
        # A closed pipe shows at the flush; at interpreter exit it could not be handled.
        _flush()
    except KeyboardInterrupt:
        print("hotloop: interrupted", file=sys.stderr)
        return ExitCode.INTERRUPTED
    except BrokenPipeError:
        # The reader, e.g. `| head`, has seen enough; the interpreter flushes once more at exit.
        if sys.stdout is not None:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.BROKEN_PIPE
    except (ValueError, OSError, ImportError, FloatingPointError) as error:
        if os.environ.get("HOTLOOP_DEBUG"):
            raise
        from .processes import says_first

        told = f"hotloop: error: {_describe(error)}"
        if says_first(told):
            print(told, file=sys.stderr)
        return ExitCode.USAGE
    return code


def _flush() -> None:
    # A program that was started without standard output has none.
    if sys.stdout is not None:
        sys.stdout.flush()


class _ShowVersion(argparse.Action):
    """Print the installed version; importing the metadata reader would double the time of help."""

    def __call__(self, parser: argparse.ArgumentParser, *args: Any) -> None:
        from importlib.metadata import version

        print(f"hotloop {version('hotloop')}")
        parser.exit()


def _describe(error: Exception) -> str:
    """Return the message of `error`, a file error without its number."""
    if isinstance(error, OSError) and error.filename and error.strerror:
        return f"{error.filename}: {error.strerror}"
    return str(error) or type(error).__name__


def _set_process_defaults() -> None:
    """Settle what has to be settled before numerical and simulator libraries are imported."""
    # Spinning OpenMP threads made a training step 16 times slower on cores shared with others.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    if not sys.warnoptions:
        # Deprecation notices of other libraries would bury the messages meant for the user.
        warnings.filterwarnings("ignore", module=r"(?!hotloop\.)")


if __name__ == "__main__":
    sys.exit(main())
