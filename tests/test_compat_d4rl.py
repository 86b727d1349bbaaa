"""The real d4rl package: its reference scores are ours, and it reads our files as we do.

It needs old releases beside which the other packages cannot be, so it gets an environment of its
own, made of the running one and the packages that it lacks. That needs a package index, so the
tests run only when HOTLOOP_COMPAT is set.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hotloop.envs import normalized_score
from hotloop.train.data.formats.registry import read_episodes
from hotloop.train.demonstrations.generate import Collection, generate_demonstrations

pytestmark = [pytest.mark.compat, pytest.mark.timeout(1200)]

SCRIPT = Path(__file__).parent / "compat" / "use_d4rl.py"
PACKAGES = ("d4rl==1.1", "gym==0.24.1", "gym-notices", "cloudpickle", "termcolor", "click")


@pytest.fixture(scope="module")
def d4rl(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Any]:
    """What runs a command of the script and parses its last line."""
    folder = tmp_path_factory.mktemp("d4rl")
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    (site,) = folder.glob("lib/python*/site-packages")
    shared = [path for path in sys.path if path.endswith("site-packages")]
    (site / "shared.pth").write_text("\n".join(shared) + "\n")
    pip = [python, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-deps"]
    subprocess.run([*pip, *PACKAGES], check=True)

    def run(*words: object) -> Any:
        environment = os.environ | {"D4RL_DATASET_DIR": str(folder / "datasets")}
        command = [python, SCRIPT, *words]
        process = subprocess.run(command, capture_output=True, text=True, env=environment)
        assert process.returncode == 0, process.stderr
        return json.loads(process.stdout.splitlines()[-1])

    return run


def test_every_reference_score_is_d4rls(d4rl: Callable[..., Any]) -> None:
    theirs = d4rl("references")
    assert len(theirs) == 147
    for name, scores in theirs.items():
        ours = [normalized_score(name, value) / 100 for value in (0, 1000)]
        np.testing.assert_allclose(ours, scores, rtol=1e-12, atol=1e-12, err_msg=name)


def test_d4rl_cuts_our_files_into_our_episodes(
    d4rl: Callable[..., Any], shared_data: Path, tmp_path: Path
) -> None:
    """Hopper's episodes end in falls, the maze's at their time limit."""
    agents = shared_data / "mujoco_agents_npz"
    falls = Collection("hopper", 3, level="medium-replay", agents=agents)
    for collection in (falls, Collection("maze2d-umaze", 2)):
        path = tmp_path / f"{collection.task}.hdf5"
        generate_demonstrations(path, collection)
        episodes, theirs = read_episodes(path), d4rl("lengths", path)
        assert episodes.rewards is not None
        assert theirs["lengths"] == np.diff(episodes.episode_ends, prepend=0).tolist()
        returns = [episodes.rewards[rows].sum() for rows in episodes.episode_slices]
        np.testing.assert_allclose(theirs["returns"], returns, rtol=1e-5)
        # d4rl's transitions leave out the last row of a file.
        assert theirs["num_terminals"] == episodes.terminated[:-1].sum()
