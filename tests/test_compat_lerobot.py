"""LeRobot 0.6 itself: its commands run the plugin, and its policies answer as golden folders say.

It needs Python 3.12 and an environment of 6 GB. HOTLOOP_LEROBOT names the Python of one that there
is, with ``lerobot[pusht,training,diffusion]`` and hotloop's dependencies; otherwise it is made.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny import demonstrations

from hotloop.policies import load_checkpoint
from hotloop.train.data import write_episodes

ROOT = Path(__file__).parents[1]
PLUGIN = ROOT / "real_robot" / "integrations" / "lerobot_policy_hotloop"
COMPAT = Path(__file__).parent / "compat"
pytestmark = [pytest.mark.compat, pytest.mark.timeout(3600)]
ON_CPU = ("--policy.device=cpu", "--policy.push_to_hub=false")
PUSHT = ("--env.type=pusht", "--eval.use_async_envs=false")
Run = Callable[..., str]


@pytest.fixture(scope="module")
def lerobot(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Runs a command of the environment and returns what it prints."""
    folder = tmp_path_factory.mktemp("lerobot")
    python = Path(os.environ.get("HOTLOOP_LEROBOT") or build(folder / "venv"))
    # As distributions: LeRobot finds plugins by the metadata that installing them leaves.
    site = folder / "site"
    parts = [str(PLUGIN), str(points(folder))]
    pip = [python, "-m", "pip", "install", "-q", "--no-deps", "--target", site]
    subprocess.run([*pip, *parts, str(copied(folder))], check=True)
    environment = os.environ | {
        "PYTHONPATH": str(site),
        "PATH": f"{python.parent}:{os.environ['PATH']}",
        "HF_HUB_OFFLINE": "1",
        "HF_HOME": str(folder / "huggingface"),
        "SDL_VIDEODRIVER": "dummy",
    }

    def run(*words: object) -> str:
        command = [str(word) for word in words]
        process = subprocess.run(command, capture_output=True, text=True, env=environment)
        assert process.returncode == 0, process.stderr[-3000:]
        return process.stdout

    return run


def build(folder: Path) -> Path:
    python = shutil.which("python3.12")
    if python is None:
        pytest.skip("LeRobot 0.6 needs Python 3.12; there is no python3.12")
    subprocess.run([python, "-m", "venv", folder], check=True)
    pip = [folder / "bin" / "python", "-m", "pip", "install", "-q"]
    subprocess.run(
        [*pip, "lerobot[pusht,training,diffusion]==0.6.1", f"{ROOT}[runtime,pusht]"], check=True
    )
    return folder / "bin" / "python"


def points(folder: Path) -> Path:
    """The robot of these tests as a distribution, which LeRobot finds by its name."""
    package = "lerobot_robot_points"
    shutil.copytree(COMPAT / package, folder / "points" / package)
    project = f'[project]\nname = "{package}"\nversion = "0"\n'
    (folder / "points" / "pyproject.toml").write_text(project)
    return folder / "points"


def copied(folder: Path) -> Path:
    """The source tree, so that building it leaves nothing there."""
    ignored = shutil.ignore_patterns(".git", "tests", "build", "*.egg-info", "outputs")
    return shutil.copytree(ROOT, folder / "hotloop", ignore=ignored)


def scores(folder: Path) -> dict[str, list[float]]:
    (task,) = json.loads((folder / "eval_info.json").read_text())["per_task"]
    return {name: task["metrics"][name] for name in ("max_rewards", "sum_rewards")}


def hotloop_scores(lerobot: Run, folder: Path, checkpoint: object, *words: str) -> dict[str, Any]:
    """The same episodes by `hotloop eval`, in the same environment."""
    episodes = ("eval.n_episodes=2", "eval.seed=1000", "eval.batch_size=2")
    lerobot(
        "python", "-m", "hotloop.train.cli", "eval", checkpoint, *episodes, *words,
        f"output_dir={folder}",
    )  # fmt: skip
    rows = json.loads((folder / "eval_info.json").read_text())["per_episode"]
    return {f"{name}s": [row[name] for row in rows] for name in ("max_reward", "sum_reward")}


def test_from_pictures_lerobots_score_is_ours(lerobot: Run, tmp_path: Path) -> None:
    """Bytes and float32 positions arrive as they are in hotloop's own simulator."""
    lerobot(
        "lerobot-eval", "--policy.type=hotloop", "--policy.checkpoint=pusht-image-sdp", *ON_CPU,
        *PUSHT, "--env.observation_height=96", "--env.observation_width=96",
        "--eval.n_episodes=2", "--eval.batch_size=2", f"--output_dir={tmp_path / 'theirs'}",
    )  # fmt: skip
    ours = hotloop_scores(lerobot, tmp_path / "ours", "pusht-image-sdp")
    theirs = scores(tmp_path / "theirs")
    # Rewards are areas of polygons, whose last digit is not the same in every process.
    for name, values in ours.items():
        np.testing.assert_allclose(theirs[name], values, rtol=1e-12)


def test_from_states_a_saved_policy_scores_the_same(lerobot: Run, tmp_path: Path) -> None:
    """The block's points follow from corners of float32, so up to what contact makes of that."""
    lerobot("python", COMPAT / "use_lerobot_plugin.py", "save", tmp_path / "saved", "pusht-sdp")
    words = ("--policy.engine=onnx", "--policy.calls_per_step=1")
    lerobot(
        "lerobot-eval", f"--policy.path={tmp_path / 'saved'}", *words, *ON_CPU, *PUSHT,
        "--env.obs_type=environment_state_agent_pos", "--eval.n_episodes=2", "--eval.batch_size=2",
        f"--output_dir={tmp_path / 'theirs'}",
    )  # fmt: skip
    choices = ("engine=onnx", "sampling.calls_per_step=1")
    ours = hotloop_scores(lerobot, tmp_path / "ours", "pusht-sdp", *choices)
    theirs = scores(tmp_path / "theirs")
    np.testing.assert_allclose(theirs["max_rewards"], ours["max_rewards"], atol=0.01)


def test_lerobot_trains_a_policy_that_hotloop_opens_and_a_robot_follows(
    lerobot: Run, tmp_path: Path
) -> None:
    episodes = demonstrations()
    state = {"observation.state": episodes.observations["observation.position"]}
    recorded = replace(episodes, observations=state, metadata={"fps": 10})
    write_episodes(tmp_path / "data", recorded, "lerobot")
    recipe = json.dumps(["policy.model.network.width=16", "policy.model.network.depth=1"])
    run = tmp_path / "run"
    lerobot(
        "lerobot-train", "--policy.type=hotloop", f"--policy.recipe={recipe}", *ON_CPU,
        "--dataset.repo_id=lab/data", f"--dataset.root={tmp_path / 'data'}", "--steps=4",
        "--save_freq=2", "--batch_size=8", "--num_workers=0", f"--output_dir={run}",
    )  # fmt: skip
    checkpoint = load_checkpoint(run)
    assert (checkpoint.kind, checkpoint.action_spec.dt) == ("sdp", 0.1)
    np.testing.assert_allclose(checkpoint.action_spec.high, episodes.actions.max(axis=0), rtol=1e-4)
    last = run / "checkpoints" / "last" / "pretrained_model"
    lerobot(
        "lerobot-train", "--resume=true", f"--config_path={last / 'train_config.json'}", "--steps=6"
    )
    assert (run / "checkpoints" / "000006").is_dir()
    sent = tmp_path / "sent.txt"
    lerobot(
        "lerobot-rollout", "--strategy.type=base", f"--policy.path={last}", "--duration=3",
        "--fps=10", "--robot.type=points", f"--robot.sent_to={sent}", "--play_sounds=false",
        "--return_to_initial_position=false",
    )  # fmt: skip
    actions = np.array([json.loads(line) for line in sent.read_text().splitlines()])
    # Ten a second, from the first one on: nothing is built inside the loop.
    assert len(actions) > 20
    spec = checkpoint.action_spec
    assert ((np.array(spec.low) <= actions) & (actions <= spec.high)).all()


def test_golden_folders_are_what_lerobot_computes(lerobot: Run, shared_data: Path) -> None:
    folders = sorted(path.parent for path in (shared_data / "lerobot_fixtures").glob("*/trace.npz"))
    script = COMPAT / "use_lerobot_plugin.py"
    differences = json.loads(lerobot("python", script, "golden", *folders).splitlines()[-1])
    assert len(differences) == len(folders) == 10
    assert max(differences.values()) < 2e-5, differences


def test_what_lerobot_runs_acts_the_same_behind_hotloops_contract(
    lerobot: Run, shared_data: Path
) -> None:
    """Chunks, history, several cameras and noise: to the last bit, of LeRobot's own loop."""
    folders = [
        shared_data / "lerobot_fixtures" / name
        for name in ("act_image_two", "act_state", "dp_image_gn_shared_resize", "dp_state_ddim10")
    ]
    found = lerobot("python", COMPAT / "use_lerobot_installed.py", *folders).splitlines()[-1]
    assert json.loads(found) == dict.fromkeys((folder.name for folder in folders), 0.0)
