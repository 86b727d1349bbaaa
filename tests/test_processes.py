"""Processes that the library starts import nothing from the current folder."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from hotloop.decoding.plumbing.processes import module_command

ROOT = Path(__file__).parents[1]
# What people call their scripts, and what the library and its dependencies import.
NAMES = (
    "select", "mujoco", "serial", "numpy", "json", "random", "types", "queue", "test", "torch",
    "runpy", "mcap", "zstandard", "ruckig", "dynamixel_sdk", "scservo_sdk", "mmap", "ctypes",
    "loop", "cv2", "logging", "calibrate", "einops", "hydra", "scipy", "threading", "socket",
    "typing", "signal", "encodings", "site", "sitecustomize", "usercustomize",
)  # fmt: skip


@pytest.fixture
def trap(tmp_path) -> Path:
    """A folder full of scripts that leave a mark when they are imported."""
    folder = tmp_path / "scripts"
    folder.mkdir()
    for name in NAMES:
        mark = folder / f"{name}.was_run"
        (folder / f"{name}.py").write_text(f"open({str(mark)!r}, 'w').close()\n")
    return folder


def marks(folder: Path) -> list[str]:
    return sorted(path.stem for path in folder.glob("*.was_run"))


def run(command: list[str], folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, env={**os.environ, **environment}
    )


def test_the_trap_catches_what_python_does_by_itself(trap) -> None:
    run([sys.executable, "-m", "hotloop.real_robot.runtime.jitter", "100", "0.05"], trap,
        PYTHONSAFEPATH="")  # fmt: skip
    assert marks(trap) != []


def test_a_module_runs_as_with_dash_m_but_without_the_current_folder(trap) -> None:
    command = module_command("hotloop.real_robot.runtime.jitter", "100", "0.05")
    process = run(command, trap)
    assert process.returncode == 0, process.stderr
    assert json.loads(process.stdout)["cycles"] == 5
    assert run(command, trap, PYTHONSAFEPATH="").returncode == 0
    assert marks(trap) == []


def test_folders_of_pythonpath_stay_and_keep_their_order(tmp_path) -> None:
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "mine.py").write_text(f"print({name!r})\n")
    paths = f"{tmp_path / 'first'}{os.pathsep}{tmp_path / 'second'}"
    for safe in ({}, {"PYTHONSAFEPATH": "1"}):
        process = run(module_command("mine"), tmp_path / "second", PYTHONPATH=paths, **safe)
        assert process.stdout == "first\n", process.stderr


def test_arguments_arrive_and_the_exit_code_comes_back(tmp_path) -> None:
    code = "import sys; print(sys.argv[1:], __name__); sys.exit(7)"
    (tmp_path / "mine.py").write_text(code)
    process = run(module_command("mine", "a b", "--c"), tmp_path, PYTHONPATH=str(tmp_path))
    assert (process.stdout, process.returncode) == ("['a b', '--c'] __main__\n", 7)


def hotloop(*arguments: str) -> list[str]:
    return module_command("hotloop.train.cli", *arguments)


@pytest.mark.parametrize(
    "arguments",
    [
        ["control", "robot=mujoco-arm", "duration=0.3", "output_dir=out"],
        ["control", "robot=emulated-arm", "robot.options.port=/dev/null", "duration=0.3"],
        ["doctor", "--seconds", "0.05"],
        ["bench", "pusht-sdp", "steps=3", "threads=[1]", "engines=[eager]", "output=rows.json"],
        ["emulate", "servo-bus", "--duration", "0.1"],
    ],
    ids=lambda arguments: " ".join(arguments[:2]),
)
def test_a_command_in_a_folder_of_scripts_runs_none_of_them(arguments, trap) -> None:
    process = run(hotloop(*arguments), trap)
    assert marks(trap) == [], process.stderr
    if "robot=emulated-arm" not in arguments:
        assert process.returncode in (0, 1), process.stderr


@pytest.mark.skipif(sys.version_info < (3, 11), reason="Python 3.10 has no PYTHONSAFEPATH")
def test_processes_of_other_libraries_are_told_to_do_the_same(trap) -> None:
    """torch's compiler runs `python -c "... from ctypes import cdll ..."`."""
    code = (
        "import subprocess, sys; from hotloop.train.cli import main; "
        "sys.argv = ['hotloop', 'bench', 'none']; main(); "
        "subprocess.run([sys.executable, '-c', 'import ctypes'])"
    )
    safe = run([sys.executable, "-P", "-c", code], trap)
    assert "none" in safe.stderr and marks(trap) == []


def test_no_other_way_of_starting_python_is_left_in_the_library() -> None:
    """Whoever writes `sys.executable` into a command has to use `module_command`."""
    found = []
    for folder in ("decoding", "policies", "envs", "train", "real_robot"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Attribute) and ast.unparse(node) == "sys.executable":
                    found.append(path.relative_to(ROOT).as_posix())
    assert found == ["decoding/plumbing/processes.py"]
