"""The Meta-World tabletop: what is seen, what is told, and that its experts do as told."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from hotloop.decoding.instruction import INSTRUCTION_KEY, decode_instruction
from hotloop.envs import make_task
from hotloop.envs.metaworld import FRONT, MAX_STEPS, SUBTASKS, WRIST, Tabletop
from hotloop.train.data.formats.registry import read_episodes
from hotloop.train.demonstrations.generate import Collection, generate_demonstrations

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:glfw")


@pytest.fixture(scope="module")
def env() -> Iterator[Tabletop]:
    env = Tabletop(wrist=True)
    yield env
    env.close()


def told(frame: dict[str, np.ndarray]) -> str:
    return decode_instruction(frame[INSTRUCTION_KEY])


def test_a_frame_is_as_the_task_declares_it(env: Tabletop) -> None:
    task, frame = make_task("metaworld-tabletop-wrist"), env.reset(0)
    assert {key: value.shape for key, value in frame.items()} == dict(task.observation_shapes)
    for key in (FRONT, WRIST):
        assert frame[key].dtype == np.uint8
        assert frame[key].std() > 20, "a picture and not an empty buffer"
    assert not np.array_equal(frame[FRONT], frame[WRIST])
    assert env.render().shape == (320, 320, 3)


def test_the_seed_decides_everything(env: Tabletop) -> None:
    for seed in (0, 5):
        first = env.reset(seed)
        env.step(np.ones(4))
        again = env.reset(seed)
        for key, value in first.items():
            np.testing.assert_array_equal(again[key], value)
    assert not np.array_equal(env.reset(0)[FRONT], env.reset(len(SUBTASKS))[FRONT])


def test_seeds_take_turns_with_the_instructions(env: Tabletop) -> None:
    heard = [told(env.reset(seed)) for seed in range(len(SUBTASKS))]
    assert heard == [subtask.instruction for subtask in SUBTASKS]
    assert len(set(heard)) == len(SUBTASKS) >= 6


@pytest.mark.parametrize("number", [0, 2])
def test_the_two_instructions_of_a_scene_start_with_the_object_in_the_same_range(
    env: Tabletop, number: int
) -> None:
    """Half open, so that the picture does not say which way to go."""
    joint, (low, high) = SUBTASKS[number].joint, SUBTASKS[number].start
    for seed in (number, number + 1):
        positions = []
        for episode in range(3):
            env.reset(seed + episode * len(SUBTASKS))
            positions.append(float(env._scene._env.data.joint(joint).qpos[0]))
        assert len(set(positions)) == 3
        assert low <= min(positions) <= max(positions) <= high


def test_goal_marks_are_not_drawn(env: Tabletop) -> None:
    """Meta-World shows the goal as a ball of pure green, which would give the answer away."""
    picture = env.reset(4)[FRONT].astype(int)
    pure_green = (picture[..., 1] > 180) & (picture[..., 0] < 60) & (picture[..., 2] < 60)
    assert pure_green.sum() == 0


def test_shuffled_instructions_are_always_of_another_subtask() -> None:
    env = Tabletop(shuffled=True, image_size=8)
    try:
        for seed in range(8):
            assert told(env.reset(seed)) != env.subtask.instruction
    finally:
        env.close()


def test_one_subtask_cannot_be_shuffled() -> None:
    with pytest.raises(ValueError, match="at least two subtasks, got one"):
        Tabletop(SUBTASKS[:1], shuffled=True)


def test_an_episode_ends_unsolved_when_its_time_is_over() -> None:
    env = Tabletop(SUBTASKS[4:5], image_size=8)
    try:
        env.reset(0)
        done, num_steps = False, 0
        while not done:
            _, _, done = env.step(np.zeros(4))
            num_steps += 1
        assert (num_steps, env.success, env.score) == (MAX_STEPS, False, 0.0)
    finally:
        env.close()


def test_the_experts_do_what_they_are_told(tmp_path: Path) -> None:
    """One demonstration each, through the file that training reads."""
    path = tmp_path / "tabletop.hdf5"
    made = generate_demonstrations(path, Collection("metaworld-tabletop", 6, seed=12))
    assert made.terminated.all()
    found = read_episodes(path, everything=True)
    assert found.metadata["num_success"] == 6
    assert np.abs(found.actions).max() <= 1
    starts = found.episode_starts
    heard = [decode_instruction(row) for row in found.observations[INSTRUCTION_KEY][starts]]
    assert heard == [subtask.instruction for subtask in SUBTASKS]
    np.testing.assert_array_equal(found.observations[FRONT], made.observations[FRONT])


def test_the_control_has_no_experts(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="metaworld-tabletop-shuffled"):
        generate_demonstrations(tmp_path / "a.hdf5", Collection("metaworld-tabletop-shuffled"))


def test_without_the_package_the_extra_is_named() -> None:
    code = (
        "import sys; sys.modules['metaworld'] = None; from hotloop.envs import make_task; "
        "make_task('metaworld-tabletop').make().reset(0)"
    )
    process = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=os.environ, check=False
    )
    assert "ImportError: the Meta-World tasks need metaworld: pip install 'hotloop[metaworld]'" in (
        process.stderr
    )
