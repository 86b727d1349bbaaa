"""`hotloop control` with checkpoints of one's own, in real processes."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from robots import assert_log_within_limits
from tiny_joints import SPEC, save_tiny

from hotloop.real_robot.logs.reader import read_log
from hotloop.real_robot.logs.recompute import recompute
from hotloop.train.commands import ExitCode

# A chunk of four seconds arrives in time on a busy machine, too.
SLOW = replace(SPEC, dt=1.0)
SEEING = ["robot.cameras.front.size=[20,24]"]
VLA = [
    "instruction=lift the cube", "robot.cameras.front.size=[16,16]",
    "sampling.unverified=hold", "sampling.max_calls=2",
]  # fmt: skip


def control(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "hotloop.train.cli", "control", "robot=mujoco-arm", *arguments],
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize(
    ("kind", "spec", "more"),
    [
        ("sdp", SPEC, []),
        ("sdp-image", SPEC, SEEING),
        ("act-image", SPEC, SEEING),
        ("vla", SLOW, VLA),
    ],
)
def test_a_checkpoint_of_ones_own_drives_the_simulated_arm(kind, spec, more, tmp_path) -> None:
    """Pictures, instruction and half-verified chunks included; all limits hold."""
    checkpoint = save_tiny(tmp_path / "run", kind, spec)
    process = control(
        f"checkpoint={checkpoint}", f"output_dir={tmp_path}", "duration=2",
        "robot.control.slow_start=0.2", "robot.control.rules.max_age=5.0",
        "robot.control.stale_timeout=5.0", *more,
    )  # fmt: skip
    assert process.returncode == ExitCode.SUCCESS, process.stdout + process.stderr
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["accepted_chunks"] >= 1 and summary["limit_violations"] == 0
    assert not summary["torch_in_control_process"]
    log = read_log(tmp_path / "log.mcap")
    assert recompute(log).different == 0
    assert_log_within_limits(log)
    assert np.ptp(log.column("state.position"), axis=0).max() > 0.02, "the arm did move"
    points = np.concatenate([np.array(chunk["waypoints"], float) for chunk in log.chunks])
    low, high = np.array(spec.low) - 1e-6, np.array(spec.high) + 1e-6
    assert ((low <= points) & (points <= high)).all()


def test_what_does_not_fit_is_one_error_before_the_robot_is_touched(tmp_path: Path) -> None:
    checkpoint = save_tiny(tmp_path / "run", "dp", replace(SPEC, names=tuple("abcdef")))
    process = control(f"checkpoint={checkpoint}", "duration=1")
    assert process.returncode == ExitCode.USAGE and process.stdout == ""
    assert process.stderr.startswith("hotloop: error: policy: the checkpoint's actions are ('a',")
    assert len(process.stderr.splitlines()) == 1


def test_a_run_without_a_checkpoint_does_not_wait_for_torch() -> None:
    """Loading it is half of what `hotloop control` computes until the robot moves."""
    code = (
        "import sys; from hotloop.real_robot.config import ControlConfig; "
        "from hotloop.train.config.compose import compose; "
        "from hotloop.train.commands import control, robot_policies; "
        "robot_policies.policy_kind(compose('control', ['robot=mujoco-arm'], ControlConfig)); "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
