"""`hotloop serve` and `hotloop control checkpoint=ws://…`, in real processes."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from robots import assert_log_within_limits
from served import Walk, serving
from tiny_joints import save_tiny

from hotloop.real_robot.core.events import Mode
from hotloop.real_robot.logs.reader import read_log
from hotloop.real_robot.logs.recompute import recompute
from hotloop.train.cli import main
from hotloop.train.commands import ExitCode, opening
from hotloop.train.commands.opening import open_policy
from hotloop.train.commands.recorded_positions import (
    Recorded,
    Spread,
    refuse_other_than_positions,
)

HOTLOOP = [sys.executable, "-m", "hotloop.train.cli"]
# A run survives the pauses of a busy machine.
PATIENT = ["robot.control.slow_start=0.2", "robot.control.rules.max_age=2.0"]


@contextmanager
def served(*arguments: str) -> Generator[tuple[subprocess.Popen[str], str], None, None]:
    """A running `hotloop serve`, and its address."""
    process = subprocess.Popen(
        [*HOTLOOP, "serve", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stderr is not None
    try:
        line = next((line for line in process.stdout if " at ws" in line), "")
        assert line, process.stderr.read()
        yield process, line.split()[-1]
    finally:
        process.kill()
        process.communicate()


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("run") / "run", "sdp")


def control(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*HOTLOOP, "control", "robot=mujoco-arm", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(condition, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()
        time.sleep(0.02)


@pytest.mark.realtime
def test_an_arm_is_driven_by_a_policy_that_is_served_and_brakes_when_that_is_killed(
    checkpoint: Path, tmp_path: Path
) -> None:
    """And goes on when it is back, as after any late plan; all limits hold throughout."""
    log = tmp_path / "log.mcap"

    def num_logged() -> int:
        return log.stat().st_size if log.exists() else 0

    options = [str(checkpoint), "engine=eager"]
    with served(*options, "port=0") as (server, address):
        port = address.rpartition(":")[2]
        run = control(
            f"checkpoint={address}", f"output_dir={tmp_path}", "duration=600",
            "robot.control.stale_timeout=0.3", *PATIENT,
        )  # fmt: skip
        assert server.stdout is not None
        assert "connected" in server.stdout.readline()
        wait_for(lambda: num_logged() > 200_000, run)
        server.kill()
        killed = time.monotonic()
        server.wait()
    with served(*options, f"port={port}") as (server, _):
        assert server.stdout is not None
        assert "connected" in server.stdout.readline()
        size = num_logged()
        wait_for(lambda: num_logged() > size + 200_000, run)
        run.send_signal(signal.SIGINT)
        _, errors = run.communicate(timeout=60)
    assert run.returncode == ExitCode.INTERRUPTED, errors
    assert re.search(r"no answer from ws://\S+: .*; trying again", errors)
    assert "answers again" in errors
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["limit_violations"] == 0 and summary["accepted_chunks"] > 2
    found = read_log(log)
    assert recompute(found).different == 0
    assert_log_within_limits(found)
    modes, now = found.column("mode"), found.column("now")
    assert Mode.RUN in modes[now < killed]
    later = modes[now > killed + 0.3 + 0.1]  # its last plan is stale, the next server not up
    assert later[0] == Mode.HOLD
    assert Mode.RUN in later, "it went on"


def test_serve_ends_with_ctrl_c_and_says_what_it_did(checkpoint: Path) -> None:
    with served(str(checkpoint), "engine=eager", "port=0") as (server, address):
        opened = open_policy(address)
        assert (opened.kind, dict(opened.provenance)) == ("sdp", {"task": "own robot"})
        opened.policy.close()
        server.send_signal(signal.SIGINT)
        out, errors = server.communicate(timeout=60)
    assert server.returncode == ExitCode.SUCCESS and errors == ""
    assert out.endswith("0 requests of 1 connections answered\n")


def test_what_a_served_policy_was_recorded_with_is_compared_all_the_same() -> None:
    """Actions that are changes are never sent as positions, wherever they come from."""
    one, none = np.ones(2), np.zeros(2)
    known = Recorded(("a", "b"), Spread(none, 0.001 * one), Spread(none, one)).to_json()
    with serving(Walk(), about={"kind": "dp", "recorded": known}) as running:
        opened = open_policy(running.address)
        with pytest.raises(ValueError, match="are changes, speeds, or in another unit"):
            refuse_other_than_positions(opened.recorded)
        opened.policy.close()


def test_the_policy_process_of_a_remote_policy_imports_no_torch() -> None:
    with serving() as running:
        code = (
            "import sys; from hotloop.train.commands.opening import open_policy; "
            f"open_policy({running.address!r}).policy.close(); sys.exit('torch' in sys.modules)"
        )
        assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["serve", "missing"], "no checkpoint at missing"),
        (["serve", "pusht-sdp", "host=0.0.0.0"], "give a token, in HOTLOOP_TOKEN or a file"),
        (["serve", "pusht-sdp", "token=secret"], "token: give it in a file, token_file=…, or in"),
        (["serve", "pusht-sdp", "token_file=missing.txt"], "missing.txt: No such file"),
        (["serve", "pusht-sdp", "calls_per_step=1"], "write sampling.calls_per_step=…"),
        (["serve", "pusht-sdp", "mode=chunks"], "mode: expected one of 'step', 'chunk'"),
        (["serve", "pusht-sdp", "tls_cert=a.pem", "tls_key=b.pem"], "No such file"),
    ],
)
def test_mistakes_of_serve_are_one_sentence(arguments, told, capsys, monkeypatch) -> None:
    monkeypatch.delenv("HOTLOOP_TOKEN", raising=False)
    assert main(arguments) == ExitCode.USAGE
    error = capsys.readouterr().err
    assert told in error and len(error.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "engine"),
    [
        (["pusht-sdp"], "auto"),
        (["pusht-sdp", "device=cuda", "precision=bf16"], "auto"),
        (["pusht-sdp", "engine=onnx"], "onnx"),
        (["lerobot:folder"], ""),
    ],
)
def test_what_is_served_runs_on_the_fastest_engine_unless_one_is_named(
    arguments, engine, monkeypatch, capsys
) -> None:
    def open_instead(name, sampling, engine, *others, **more) -> None:
        raise ValueError(f"{name} on engine {engine!r}")

    monkeypatch.setattr(opening, "open_policy", open_instead)
    assert main(["serve", *arguments, "port=0"]) == ExitCode.USAGE
    assert capsys.readouterr().err == f"hotloop: error: {arguments[0]} on engine {engine!r}\n"


def test_a_port_that_is_taken_is_told_before_anything_is_loaded(capsys) -> None:
    with serving() as running:
        assert main(["serve", "missing", f"port={running.port}"]) == ExitCode.USAGE
        assert "cannot be listened at: Address already in use" in capsys.readouterr().err


def test_a_token_of_the_environment_or_a_file_is_taken(monkeypatch, tmp_path: Path) -> None:
    from hotloop.train.config.compose import compose
    from hotloop.train.config.serving import ServeConfig

    monkeypatch.setenv("HOTLOOP_TOKEN", "from the environment")
    assert compose("serve", ["host=0.0.0.0"], ServeConfig).options().token == "from the environment"
    (tmp_path / "token").write_text("from a file\n")
    given = compose("serve", [f"token_file={tmp_path}/token"], ServeConfig)
    assert given.options().token == "from a file"
    (tmp_path / "token").write_text("\n")
    with pytest.raises(ValueError, match="holds no token"):
        given.options()


def test_what_is_chosen_where_the_policy_is_served_is_refused_elsewhere() -> None:
    with pytest.raises(ValueError, match=r"sampling\.start is chosen where the policy is served"):
        open_policy("ws://127.0.0.1:1", {"start": "zero"})
    process = control("checkpoint=ws://127.0.0.1:1", "duration=1")
    _, errors = process.communicate(timeout=60)
    assert process.returncode == ExitCode.USAGE
    told = "hotloop: error: policy: no policy server at ws://127.0.0.1:1 ("
    assert errors.startswith(told) and len(errors.splitlines()) == 1, errors
    assert os.environ.get("HOTLOOP_DEBUG") is None
