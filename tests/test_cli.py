"""The console command: help that answers at once, exit codes that mean something."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
from argparse import Namespace
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path

import pytest

from hotloop.train.cli import build_parser, execute, main, parse
from hotloop.train.commands import COMMANDS, ExitCode

HEAVY = ("torch", "numpy", "hydra", "omegaconf", "gymnasium", "mujoco", "h5py", "zarr", "onnx")


def hotloop(*args: str, code: str = "from hotloop.train.cli import main; sys.exit(main())"):
    """Run code in a fresh interpreter as the console script would, and return the process."""
    command = [sys.executable, "-c", f"import sys; {code}", *args]
    environment = {name: value for name, value in os.environ.items() if "HOTLOOP" not in name}
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


def raising(error: BaseException) -> Callable[[Namespace], int]:
    def run(args: Namespace) -> int:
        raise error

    return run


def test_a_command_without_standard_output_is_none_the_worse(monkeypatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    assert execute(lambda args: 0, Namespace()) == ExitCode.SUCCESS


def test_help_lists_every_command_with_an_example_of_each() -> None:
    process = hotloop("--help")
    assert process.returncode == 0
    for command in COMMANDS.included:
        # The description of a long name stands in the next line.
        assert re.search(rf"\n    {command}\s", process.stdout)
        assert f"\n  hotloop {command}" in process.stdout


def test_help_imports_nothing_heavy() -> None:
    """Importing torch alone takes seconds, so help and completion would crawl."""
    process = hotloop(
        code="from hotloop.train.cli import build_parser; build_parser().format_help(); "
        f"print(sorted(set({HEAVY}) & set(sys.modules)))"
    )
    assert process.stdout == "[]\n", process.stderr


@pytest.mark.parametrize("command", COMMANDS.included)
def test_each_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        main([command, "--help"])
    assert raised.value.code == 0
    assert f"usage: hotloop {command}" in capsys.readouterr().out


def test_train_help_explains_overrides_and_lists_the_choices(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    text = capsys.readouterr().out
    for piece in ("policy=…", "task=…", "key=value", "dp", "sdp", "pusht", "pointmaze-umaze"):
        assert piece in text


def test_version_is_the_one_of_the_installed_package(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        main(["--version"])
    assert raised.value.code == 0
    assert capsys.readouterr().out == f"hotloop {metadata.version('hotloop')}\n"


def test_no_command_shows_the_help_and_counts_as_a_mistake(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main([]) == ExitCode.USAGE
    assert "usage: hotloop" in capsys.readouterr().err


def test_an_unknown_command_names_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        main(["trian"])
    assert raised.value.code == ExitCode.USAGE
    message = capsys.readouterr().err
    assert "invalid choice: 'trian'" in message
    assert all(command in message for command in COMMANDS.included)


@pytest.mark.parametrize("code", [ExitCode.SUCCESS, ExitCode.FAILED])
def test_the_exit_code_of_a_command_is_passed_on(code: ExitCode) -> None:
    assert execute(lambda args: code, Namespace()) == code


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ValueError("horizon 15 is not divisible by 4"), "horizon 15 is not divisible by 4"),
        (FileNotFoundError(2, "No such file or directory", "a.zarr"), "a.zarr: No such file"),
        (OSError("unable to open file (truncated)"), "unable to open file (truncated)"),
        (
            ImportError("zarr is missing: pip install 'hotloop[zarr]'"),
            "zarr is missing: pip install 'hotloop[zarr]'",
        ),
        (FloatingPointError("loss is nan at step 3; lower"), "loss is nan at step 3; lower"),
    ],
)
def test_a_user_mistake_is_one_message_without_traceback(
    error: Exception,
    message: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("HOTLOOP_DEBUG", raising=False)
    assert execute(raising(error), Namespace()) == ExitCode.USAGE
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(f"hotloop: error: {message}")
    assert captured.err.count("\n") == 1


def test_the_traceback_of_a_user_mistake_can_be_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOTLOOP_DEBUG", "1")
    with pytest.raises(ValueError, match="horizon"):
        execute(raising(ValueError("horizon")), Namespace())


@pytest.mark.parametrize("error", [KeyError("x"), RuntimeError("shape"), AssertionError()])
def test_a_defect_of_the_program_keeps_its_traceback(error: Exception) -> None:
    with pytest.raises(type(error)):
        execute(raising(error), Namespace())


def test_ctrl_c_is_not_an_error_message(capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(raising(KeyboardInterrupt()), Namespace()) == ExitCode.INTERRUPTED
    assert capsys.readouterr().err == "hotloop: interrupted\n"


def test_a_reader_that_leaves_early_ends_the_command_quietly() -> None:
    """`hotloop data inspect FILE | head` printed a BrokenPipeError at interpreter exit."""
    code = (
        "import sys; from argparse import Namespace; from hotloop.train.cli import execute; "
        "sys.exit(execute(lambda args: print('row ' * 100_000) or 0, Namespace()))"
    )
    read, write = os.pipe()
    os.close(read)
    process = subprocess.run(
        [sys.executable, "-c", code], stdout=write, stderr=subprocess.PIPE, check=False
    )
    os.close(write)
    assert (process.returncode, process.stderr) == (ExitCode.BROKEN_PIPE, b"")


def test_warnings_of_other_libraries_do_not_bury_our_own() -> None:
    process = hotloop(
        code="import warnings; from hotloop.train.cli import main; main([]); "
        "warn = lambda text, module: warnings.warn_explicit(text, UserWarning, 'f', 1, module); "
        "warn('will be removed', 'gymnasium.logger'); warn('ours', 'hotloop.train.loop')"
    )
    assert "UserWarning: ours" in process.stderr
    assert "will be removed" not in process.stderr


def test_openmp_threads_wait_passively_unless_the_user_decides(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Spinning threads made training up to 16 times slower on a machine with other work."""
    monkeypatch.setenv("OMP_WAIT_POLICY", "")  # so that teardown also undoes what `main` sets
    monkeypatch.delenv("OMP_WAIT_POLICY")
    main([])
    assert os.environ["OMP_WAIT_POLICY"] == "PASSIVE"
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    main([])
    assert os.environ["OMP_WAIT_POLICY"] == "ACTIVE"


def test_options_are_never_abbreviated() -> None:
    """An abbreviation that works today changes its meaning with the next option."""
    with pytest.raises(SystemExit):
        build_parser().parse_args(["--vers"])


PLUGIN = """
def add_parser(subparsers):
    parser = subparsers.add_parser("shout", help="say it loud")
    parser.add_argument("word")
    parser.set_defaults(run=run)
    return parser

def run(args):
    print(args.word.upper())
    return 0
"""


@pytest.fixture
def plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An installed package with a command that works, one that cannot be imported, and one that
    cannot be added."""
    metadata_folder = tmp_path / "thirdparty-1.2.dist-info"
    metadata_folder.mkdir()
    (metadata_folder / "METADATA").write_text("Name: thirdparty\nVersion: 1.2\n")
    (metadata_folder / "entry_points.txt").write_text(
        "[hotloop.commands]\nshout = thirdparty_shout:add_parser\n"
        "broken = thirdparty_broken:add_parser\nodd = thirdparty_shout:run\n"
    )
    (tmp_path / "thirdparty_shout.py").write_text(PLUGIN)
    (tmp_path / "thirdparty_broken.py").write_text("raise RuntimeError('no licence')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    COMMANDS.__dict__.pop("plugins", None)
    yield
    COMMANDS.__dict__.pop("plugins", None)
    sys.modules.pop("thirdparty_shout", None)


@pytest.mark.usefixtures("plugins")
def test_a_plugin_adds_a_command_and_a_broken_one_is_named_in_a_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["shout", "hello"]) == ExitCode.SUCCESS
    captured = capsys.readouterr()
    assert captured.out == "HELLO\n"
    broken, odd = captured.err.splitlines()
    assert "'broken'" in broken and "thirdparty 1.2" in broken and "no licence" in broken
    assert "'odd'" in odd and "AttributeError" in odd
    assert main([]) == ExitCode.USAGE
    assert "say it loud" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (
            ["control", "robot=a", "--dry-run", "duration=1"],
            {"overrides": ["robot=a", "duration=1"]},
        ),
        (["control", "--dry-run"], {"overrides": [], "dry_run": True}),
        (["doctor", "robot=a", "--seconds", "0.1", "b=c"], {"overrides": ["robot=a", "b=c"]}),
        (["data", "inspect", "a.hdf5", "--json"], {"data_command": "inspect", "json": True}),
        (["data", "inspect", "--json", "a.hdf5"], {"source": "a.hdf5", "json": True}),
        (["jacobi", "t", "d", "o", "a=1"], {"teacher": "t", "overrides": ["a=1"]}),
    ],
)
def test_flags_may_stand_between_other_arguments(
    argv: list[str], expected: dict[str, object]
) -> None:
    args = parse(build_parser(), argv)
    assert callable(args.run)
    assert {name: getattr(args, name) for name in expected} == expected


def test_an_unknown_flag_is_named(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for command in ("control", "doctor", "train", "demo"):
        with pytest.raises(SystemExit) as raised:
            main([command, "--no-such-flag", "a=1"])
        assert raised.value.code == ExitCode.USAGE, command
        assert "--no-such-flag" in capsys.readouterr().err


def test_a_key_that_is_given_twice_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    keys = ["action=actions", "action=actions[0:1]"]
    assert main(["data", "convert", "a.hdf5", "b.hdf5", "--keys", *keys]) == ExitCode.USAGE
    assert "--keys names a key twice" in capsys.readouterr().err
