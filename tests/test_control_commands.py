"""`hotloop control`, `emulate`, `log` and `doctor`, and Push-T on a table in front of an arm."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from hotloop.decoding.plumbing.schema import build
from hotloop.envs.pusht import PushT
from hotloop.policies.checkpoint import load_checkpoint
from hotloop.real_robot.config import ControlConfig, PolicyOptions, RobotConfig
from hotloop.real_robot.doctor import check_jitter, check_robot
from hotloop.real_robot.drivers import make_driver
from hotloop.real_robot.emulator.bus import ServoBus
from hotloop.real_robot.emulator.dynamixel import DynamixelServos
from hotloop.real_robot.emulator.plant import Plant
from hotloop.real_robot.logs.reader import logged_chunk, read_log
from hotloop.real_robot.logs.recompute import recompute
from hotloop.real_robot.policies.protocol import Snapshot
from hotloop.train.cli import main
from hotloop.train.commands import ExitCode
from hotloop.train.commands.control import prepare
from hotloop.train.commands.table import block_poses, coverage, random_scene
from hotloop.train.commands.table_policy import TablePolicy, make_table_policy
from hotloop.train.config.compose import choices, compose

PORTS = {
    "dynamixel": "port", "dynamixel-table": "port", "emulated-arm": "port", "feetech": "port",
    "franka": "address",
}  # fmt: skip


def config(*overrides: str) -> ControlConfig:
    return compose("control", list(overrides), ControlConfig)


@pytest.fixture(scope="module")
def policy() -> TablePolicy:
    robot = config().robot
    return make_table_policy(robot, PolicyOptions("pusht-sdp"))


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """Folder of a short run of the command that the README names, with another duration."""
    folder = tmp_path_factory.mktemp("control")
    arguments = ["robot=mujoco", "duration=1.5", "inject=nan", f"output_dir={folder}"]
    process = subprocess.run(
        [sys.executable, "-m", "hotloop.train.cli", "control", *arguments],
        capture_output=True,
        text=True,
    )
    assert process.returncode == ExitCode.SUCCESS, process.stderr
    assert "Hz  wake" in process.stdout and "limit violations 0" in process.stdout
    return folder


@pytest.mark.realtime
def test_a_checkpoint_runs_on_the_simulated_arm_and_bad_chunks_do_nothing(finished) -> None:
    summary = json.loads((finished / "summary.json").read_text())
    assert summary["limit_violations"] == 0 and summary["rejected_chunks"] >= 1
    assert summary["accepted_chunks"] >= 5 and summary["ended_by"] == "duration"
    assert max(summary["peak_share_of_limit"].values()) <= 1 + 1e-6
    assert 0 <= summary["score"] <= 1
    assert {"wake_us", "late_cycles", "skipped_cycles", "processor", "command"} <= set(summary)


@pytest.mark.realtime
def test_a_log_is_summarised_exported_drawn_and_recomputed(finished, tmp_path, capsys) -> None:
    log, table, picture = finished / "log.mcap", tmp_path / "a/run.csv", tmp_path / "b/run.png"
    arguments = ["log", str(log), "--replay", "--csv", str(table), "--plot", str(picture)]
    assert main(arguments) == ExitCode.SUCCESS
    text = capsys.readouterr().out
    assert "period 2 ms, complete" in text and "CHUNK_REJECTED" in text
    cycles = len(read_log(log).cycles)
    assert f"replay: {cycles} of {cycles} commands are the same" in text
    assert len(table.read_text().splitlines()) == cycles + 1
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.realtime
def test_a_log_is_exported_for_rerun(finished, tmp_path) -> None:
    pytest.importorskip("rerun", reason="rerun needs Python 3.11 or later")
    recording = tmp_path / "c/run.rrd"
    arguments = ["log", str(finished / "log.mcap"), "--rerun", str(recording)]
    assert main(arguments) == ExitCode.SUCCESS
    assert recording.read_bytes().startswith(b"RRF")


@pytest.mark.realtime
def test_recomputing_notices_a_change_of_the_smallest_bit(finished) -> None:
    log = read_log(finished / "log.mcap")
    moving = next(i for i, c in enumerate(log.cycles) if c["mode"] == 2 and i > 100)
    log.cycles[moving]["command"][0] = np.nextafter(log.cycles[moving]["command"][0], 9)
    result = recompute(log)
    assert (result.different, result.first) == (1, log.cycles[moving]["now"])
    with pytest.raises(ValueError, match="3 records never reached the file"):
        recompute(replace(log, dropped=3))
    with pytest.raises(ValueError, match="its end never reached the file"):
        recompute(replace(log, dropped=-1))


@pytest.mark.realtime
def test_a_log_that_was_cut_off_can_be_read_as_far_as_it_goes(finished, tmp_path) -> None:
    whole = (finished / "log.mcap").read_bytes()
    cut = tmp_path / "cut.mcap"
    cut.write_bytes(whole[: len(whole) // 2])
    log = read_log(cut)
    assert log.dropped == -1 and log.robot.name == "mujoco"
    cut.write_bytes(b"something else entirely")
    with pytest.raises(ValueError, match="not a log of the control loop"):
        read_log(cut)
    with pytest.raises(ValueError, match="cycles have no 'torque'"):
        read_log(finished / "log.mcap").column("torque")


@pytest.mark.realtime
def test_numbers_that_json_does_not_know_come_back_from_a_log(finished) -> None:
    log = read_log(finished / "log.mcap")
    chunks = [logged_chunk(record) for record in log.chunks]
    assert [np.isnan(made.waypoints).sum() for made in chunks if made.sequence % 10 == 9] == [1]
    # Before the first chunk its age is infinite.
    assert log.column("age")[0] == np.inf
    plain = json.loads(json.dumps(asdict(log.robot)))
    assert build(RobotConfig, plain) == log.robot


@pytest.mark.parametrize("name", choices("robot"))
def test_every_robot_that_comes_along_is_complete(name) -> None:
    where = [f"robot.options.{PORTS[name]}=/dev/null"] if name in PORTS else []
    made = config(f"robot={name}", *where)
    driver = make_driver(made.robot)
    assert driver.clock == "host"
    kind, robot, job = prepare(made, dry_run=True)
    assert robot.driver == "dry-run" and job.log is None
    assert make_driver(robot).num_sensors == (3 if made.policy == "table" else 0)
    assert job.policy.endswith(":make_table_policy" if made.policy else ":make_reach_policy")
    assert (kind.score is not None) == (made.policy == "table")


def test_a_robot_without_limits_is_refused(tmp_path) -> None:
    (tmp_path / "control.yaml").write_text("robot: {name: x, driver: dry-run, control: {dt: 0.01}}")
    with pytest.raises(ValueError, match=r"robot\.control\.limits has no default"):
        compose("control", [], ControlConfig, tmp_path)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["policy=dance"], "no robot policy 'dance'.*choose from .*reach, table"),
        (["checkpoint="], "the table policy needs a checkpoint"),
        (["robot=mujoco-arm", "policy=joints"], "the joints policy needs a checkpoint"),
        (["policy=reach"], "policy reach runs no checkpoint"),
        (["instruction=go"], "policy table does not read the setting instruction, got 'go'"),
        (["robot=mujoco-arm", "latency=2"], "policy reach does not read the setting latency"),
        (["latency=-1"], "latency must be 0 or more control steps"),
        (["inject=typo"], "inject must be one of"),
        (["robot.control.speed=2.0"], "speed must be in"),
        (["robot.control.slow_start=inf"], "slow_start 0 s or more, got 1.0 and inf"),
        (["robot.control.stale_timeout=0.001"], "longer than the control period dt of 0.002 s"),
        (["robot.control.rules.max_age=0.0"], r"rules\.max_age must be a positive time"),
        (["robot.control.limits.jerk=[1.0]"], "limits need one value per joint"),
    ],
)
def test_mistakes_are_explained(overrides, message) -> None:
    with pytest.raises(ValueError, match=message):
        prepare(config(*overrides), dry_run=False)


def test_a_dry_run_refuses_what_the_servos_could_not_do() -> None:
    assert prepare(config("robot=feetech"), dry_run=True)[1].driver == "dry-run"
    with pytest.raises(ValueError, match="cannot share servo 2"):
        prepare(config("robot=feetech", "robot.options.ids=[1,2,2,4,5,6]"), dry_run=True)


@pytest.mark.parametrize("earlier", ["log.mcap", "summary.json"])
def test_an_earlier_run_is_never_overwritten(earlier, tmp_path, capsys) -> None:
    (tmp_path / earlier).write_text("of an earlier run")
    assert main(["control", "robot=mujoco-arm", "duration=1", f"output_dir={tmp_path}"]) == 2
    assert "is never overwritten" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == [earlier]
    assert (tmp_path / earlier).read_text() == "of an earlier run"


def test_the_table_policy_refuses_other_arms_and_other_checkpoints() -> None:
    with pytest.raises(ValueError, match=r"workspace\.chain has two joints"):
        make_table_policy(config("robot=mujoco-arm").robot, PolicyOptions())
    with pytest.raises(ValueError, match="is for 'pointmaze-umaze'"):
        make_table_policy(config().robot, PolicyOptions("pointmaze-sdp"))


def test_inverse_kinematics_undo_the_forward_ones_and_stay_on_the_table(policy) -> None:
    points = np.random.default_rng(0).uniform(0.0, 0.512, (500, 2))
    joints = policy.inverse(points)
    np.testing.assert_allclose(policy.forward(joints), points, atol=1e-12)
    limits = config().robot.control.limits.arrays
    assert (limits.low < joints).all() and (joints < limits.high).all()
    chain = config().robot.control.workspace.chain
    np.testing.assert_allclose(chain.tool_position(joints)[:, :2], points, atol=1e-12)
    assert np.isfinite(policy.inverse(np.array([[5.0, 5.0]]))).all()


def test_the_virtual_agent_moves_as_gym_pushts_does(policy) -> None:
    env = PushT()
    start, target = np.array([100.0, 120.0]), np.array([160.0, 60.0])
    env.set_state([*start, 400.0, 400.0, 0.3])
    frame, _, _ = env.step(target)
    twin = TablePolicy(load_checkpoint("pusht-sdp").policy({}), (0.256, -0.15), (0.4, 0.4))
    twin._agent, twin._velocity = start, np.zeros(2)
    path = twin._virtual_agent(target)
    np.testing.assert_allclose(path[9, 0], frame["observation.state"], atol=0.1)
    env.close()


def test_the_first_waypoints_start_at_the_pusher(policy) -> None:
    policy.reset(0)
    joints = policy.inverse(np.array([0.2, 0.3]))
    snapshot = Snapshot(7.0, joints, np.zeros(2), np.array([0.3, 0.3, 0.5]), sequence=4)
    plan = policy.plan(snapshot)
    assert (plan.sequence, plan.observed_at) == (4, 7.0)
    assert plan.times[0] == pytest.approx(7.02) and plan.times[-1] == pytest.approx(7.5)
    assert np.abs(plan.waypoints[0] - joints).max() < 0.05
    assert (np.diff(plan.times) > 0).all()


def test_coverage_is_push_ts_own() -> None:
    env, generator = PushT(), np.random.default_rng(1)
    poses = np.column_stack([generator.uniform(200, 310, (20, 2)), generator.uniform(0, 1.5, 20)])
    expected = []
    for pose in poses:
        env.set_state([20.0, 500.0, *pose])
        expected.append(env.step(np.array([20.0, 500.0]))[1])
    found = np.minimum(coverage(poses) / 0.95, 1)
    np.testing.assert_allclose(found, expected, atol=1e-3)
    assert coverage(np.array([[256.0, 256.0, np.pi / 4]]))[0] == pytest.approx(1)
    scene = np.array([0.2 - 0.045, 0.3, np.pi / 2])
    np.testing.assert_allclose(block_poses(scene), [200, 300, np.pi / 2])
    assert random_scene(3) == random_scene(3) != random_scene(4)
    env.close()


@pytest.mark.realtime
def test_doctor_reports_punctuality_and_the_bus(capsys) -> None:
    findings = check_jitter(200, 0.2)
    assert "200 Hz for 0.2 s: wake error p50" in findings[1].text
    with pytest.raises(ValueError, match="rate must be above 0"):
        check_jitter(0, 1)
    going = threading.Event()
    going.set()
    with ServoBus(DynamixelServos(Plant("arm6"), range(1, 7))) as bus:
        thread = threading.Thread(target=bus.serve, args=(going.is_set,))
        thread.start()
        robot = config("robot=dynamixel", f"robot.options.port={bus.port}").robot
        before = bus.servos.plant.position
        for _ in range(5):
            texts = [finding.text for finding in check_robot(robot)]
            # On a busy machine, servos in a thread may answer later than the bus waits.
            if any("reads failed" in text for text in texts):
                break
        moved = np.abs(bus.servos.plant.position - before).max()
        going.clear()
        thread.join()
    assert any("of 200 reads failed" in text for text in texts)
    assert any("one read: p50" in text for text in texts)
    assert any(text.startswith("joints at [") for text in texts)
    assert moved < 0.1
    missing = check_robot(config("robot=dynamixel", "robot.options.port=/dev/nothing").robot)
    assert not missing[-1].good and "/dev/nothing" in missing[-1].text


def test_the_emulator_names_its_port_and_ends(capsys) -> None:
    process = subprocess.run(
        [sys.executable, "-m", "hotloop.train.cli", "emulate", "servo-bus", "--duration", "0.1"],
        capture_output=True,
        text=True,
    )
    assert process.returncode == ExitCode.SUCCESS, process.stderr
    assert process.stdout.startswith("port: /dev/") and "packets answered" in process.stdout
