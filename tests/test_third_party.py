"""A package of somebody else's, installed by pip, adds one member to each group."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent / "third_party" / "lab.py"
MEMBERS = {
    "policies": {"lab-policy": "lab:KIND"},
    "families": {"lab-policy": "lab:FAMILY"},
    "networks": {"lab-linear": "lab:LinearDenoiser"},
    "engines": {"lab-loud": "lab:LoudEngine"},
    "tasks": {"lab-line": "lab:TASK"},
    "formats": {"table": "lab:FORMAT"},
    "drivers": {"lab-quiet": "lab:QuietDriver"},
    "cameras": {"lab-grey": "lab:GreyCamera"},
    "commands": {"greet": "lab:add_parser", "broken": "lab_broken:add_parser"},
}


def write_wheel(folder: Path) -> Path:
    """Pack the laboratory's package as its build would."""
    points = "".join(
        f"[hotloop.{group}]\n" + "".join(f"{name} = {place}\n" for name, place in members.items())
        for group, members in MEMBERS.items()
    )
    files = {
        "lab.py": SOURCE.read_text(),
        "lab_broken.py": "raise RuntimeError('its licence has expired')\n",
        "lab-3.1.dist-info/METADATA": "Metadata-Version: 2.1\nName: lab\nVersion: 3.1\n",
        "lab-3.1.dist-info/WHEEL": (
            "Wheel-Version: 1.0\nGenerator: by hand\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        ),
        "lab-3.1.dist-info/entry_points.txt": points,
    }
    record = "lab-3.1.dist-info/RECORD"
    files[record] = "".join(f"{name},,\n" for name in [*files, record])
    wheel = folder / "lab-3.1-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return wheel


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """Environment variables with which the installed package is found, and a working folder."""
    folder = tmp_path_factory.mktemp("lab")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps"]
    command += ["--disable-pip-version-check", "--root-user-action=ignore"]
    command += ["--target", str(folder / "site"), str(write_wheel(folder))]
    subprocess.run(command, check=True)
    path = os.pathsep.join(filter(None, [str(folder / "site"), os.environ.get("PYTHONPATH")]))
    return folder, {**os.environ, "PYTHONPATH": path}


@pytest.fixture(scope="module")
def hotloop(lab):
    """Run the console command with the package installed."""
    folder, environment = lab

    def run(*words, code=0):
        process = subprocess.run(
            [sys.executable, "-m", "hotloop.train.cli", *map(str, words)],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
        )
        assert process.returncode == code, process.stdout + process.stderr
        return process

    return run


@pytest.fixture(scope="module")
def table(lab):
    """Demonstrations in the laboratory's own format: twenty walks to the origin."""
    path = lab[0] / "walks.table.csv"
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["episode", "x", "action"])
        for episode in range(20):
            x = 0.5 + episode / 40
            for _ in range(12):
                action = -0.9 if x > 0.1 else -0.3 * x
                writer.writerow([episode, x, action])
                x += 0.1 * action
    return path


@pytest.fixture(scope="module")
def run_folder(lab, hotloop, table):
    """A run of their kind of policy with their network on their data for their task."""
    folder = lab[0] / "run"
    hotloop(
        *("train", "policy=dp", "task=lab-line", f"task.dataset={table}", f"output_dir={folder}"),
        *("policy.model.network.kind=lab-linear", "policy.model.horizon=8", "steps=3"),
        *("policy.sampling.num_execute=4", "batch_size=16", "optim.warmup_steps=2"),
    )
    return folder


def test_a_command_is_added_and_a_broken_one_is_named(hotloop):
    process = hotloop("greet")
    assert process.stdout == "hello from the laboratory\n"
    (line,) = process.stderr.splitlines()
    assert "'broken'" in line and "lab 3.1" in line and "its licence has expired" in line


def test_a_format_is_inspected_and_converted(hotloop, table, tmp_path):
    assert "20" in hotloop("data", "inspect", table).stdout
    hotloop("data", "convert", table, tmp_path / "walks.hdf5")
    assert (tmp_path / "walks.hdf5").exists()


def test_task_network_and_engine_serve_one_policy(hotloop, run_folder):
    words = ("eval.n_episodes=2", "sampling.calls_per_step=1", "engine=lab-loud")
    assert "solved" in hotloop("eval", run_folder, *words).stdout


def test_a_kind_of_policy_is_trained_and_timed(hotloop, lab, run_folder, table):
    config = lab[0] / "lab_policy.yaml"
    config.write_text(
        "base: dp\nkind: dp\nmodel: {network: {kind: 'lab:LinearDenoiser'}, horizon: 8}\n"
        "sampling: {num_execute: 4}\n"
    )
    hotloop(
        *("train", f"policy={config}", "task='lab:TASK'", f"task.dataset={table}", "steps=2"),
        *("batch_size=16", "optim.warmup_steps=2", f"output_dir={lab[0] / 'second'}"),
    )
    stored = lab[0] / "second" / "checkpoints" / "last" / "config.json"
    stored.write_text(stored.read_text().replace('"kind": "dp"', '"kind": "lab-policy"'))
    words = ("steps=10", "engines=[lab-loud]")
    assert "lab-loud" in hotloop("bench", lab[0] / "second", *words).stdout


def test_a_driver_and_a_camera_serve_a_robot_file(hotloop, lab):
    robot = lab[0] / "my_arm.yaml"
    robot.write_text("base: mujoco-arm\nname: lab-arm\ndriver: lab-quiet\noptions: null\n")
    summary = hotloop("control", f"robot={robot}", "duration=0.5").stdout
    assert "lab-arm" in summary
    code = (
        "from hotloop.real_robot.cameras import make_camera; "
        "from hotloop.real_robot.config import CameraConfig; "
        "print(make_camera(CameraConfig('lab-grey', (4, 6)), lambda: None).read().image.mean())"
    )
    process = subprocess.run(
        [sys.executable, "-c", code], env=lab[1], capture_output=True, text=True, check=True
    )
    assert process.stdout == "128.0\n"
