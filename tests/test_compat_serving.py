"""openpi's client, unmodified and from its own environment, on a server of ours.

It needs numpy below 2, so that environment has nothing of the running one. Making it needs a
package index, so the tests run only when HOTLOOP_COMPAT is set; HOTLOOP_OPENPI names a Python that
has openpi-client already.
"""

from __future__ import annotations

import json
import os
import subprocess
import venv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from served import Walk, serving

from hotloop.decoding import Executor
from hotloop.policies import load_checkpoint

pytestmark = [pytest.mark.compat, pytest.mark.timeout(600)]
SCRIPT = Path(__file__).parent / "compat" / "use_openpi.py"
Run = Callable[..., Any]


@pytest.fixture(scope="module")
def openpi(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Runs a command of the script with openpi's client, and reads what it prints."""
    python = os.environ.get("HOTLOOP_OPENPI", "")
    if not python:
        folder = tmp_path_factory.mktemp("openpi")
        venv.create(folder, with_pip=True)
        python = str(folder / "bin" / "python")
        pip = [python, "-m", "pip", "install", "-q", "--disable-pip-version-check"]
        # It imports typing_extensions without asking for it.
        subprocess.run([*pip, "openpi-client==0.1.2", "typing_extensions"], check=True)

    def run(*words: object, **environment: str) -> Any:
        kept = {name: text for name, text in os.environ.items() if name != "PYTHONPATH"}
        command = [python, str(SCRIPT), *map(str, words)]
        process = subprocess.run(
            command, capture_output=True, text=True, env=kept | environment, timeout=120
        )
        assert process.returncode == 0, process.stderr
        return json.loads(process.stdout.splitlines()[-1])

    return run


@pytest.mark.parametrize("make", [Walk, lambda: load_checkpoint("pusht-sdp").policy()])
def test_its_actions_are_those_of_an_executor_on_this_machine(openpi: Run, make) -> None:
    with serving(make(), seed=4) as running:
        found = openpi("drive", running.address, 7, 12)
    assert {"actions", "policy_timing", "server_timing", "step"} <= set(found["keys"])
    policy, rng = make(), np.random.default_rng(7)
    executor = Executor(policy)
    executor.reset([4])
    for action in found["actions"]:
        frame = {
            key: rng.uniform(0, 0.8, shape).astype(np.float32)[None]
            for key, shape in policy.observation_spec.shapes.items()
        }
        np.testing.assert_array_equal(action, executor.act(frame)[0])


def test_its_errors_are_our_sentences(openpi: Run) -> None:
    with serving(token="secret") as running:
        found = openpi("mistakes", running.address, HOTLOOP_TOKEN="secret")
    assert "must have shape (2,), got (7,)" in found["errors"][0]
    assert found["errors"][0].startswith("RuntimeError")
    assert found["errors"][1].startswith("ConnectionClosedError")
    assert "401" in found["errors"][2]


def test_several_robots_are_served_side_by_side(openpi: Run) -> None:
    policy = Walk(duration=0.002)
    with serving(policy) as running:
        assert len(openpi("time", running.address, 4, 0.5)["round_trips_s"]) > 8
    assert max(policy.groups) > 1
