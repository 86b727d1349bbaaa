"""The contract of `Task` and `Environment` as checks, the way to prove a simulator of one's own.

In a script, or without pytest::

    from hotloop.envs.conformance import check_task

    check_task(MY_TASK)

With pytest, every rule is a test of its own, and the simulator is started once::

    class TestMyTask(TaskConformance):
        @pytest.fixture(scope="class")
        def task(self):
            return MY_TASK

        @pytest.fixture(scope="class")
        def env(self, task):
            with closing(task.make()) as env:
                yield env
"""

from __future__ import annotations

from contextlib import closing

import numpy as np

from ..decoding.instruction import INSTRUCTION_KEY
from ..decoding.interface import is_picture
from .recording import HasInfos
from .task import Environment, Task

NUM_STEPS = 6
Frame = dict[str, np.ndarray]


def check_task(task: Task) -> None:
    """Check that `task` and its environment keep every rule of the contract.

    Raises:
        AssertionError: If a rule is broken; the message names the rule.
    """
    rules = TaskConformance()
    with closing(task.make()) as env:
        for name in dir(rules):
            if name.startswith("test_"):
                try:
                    getattr(rules, name)(env, task)
                except AssertionError as error:
                    rule = name.removeprefix("test_").replace("_", " ")
                    raise AssertionError(f"broken rule: {rule}: {error}") from error


def random_actions(task: Task, seed: int = 0) -> np.ndarray:
    """Random actions, half as large as allowed, shape (NUM_STEPS, D)."""
    spec, rng = task.action_spec, np.random.default_rng(seed)
    low, high = np.array(spec.low), np.array(spec.high)
    middle, half = (low + high) / 2, (high - low) / 2
    return middle + half * rng.uniform(-0.5, 0.5, (NUM_STEPS, spec.size))


def roll(env: Environment, task: Task, seed: int) -> tuple[list[Frame], list[float]]:
    """Frames and rewards of a few random actions; the episode must go on."""
    frames: list[Frame] = [env.reset(seed)]
    rewards: list[float] = []
    for action in random_actions(task):
        frame, reward, done = env.step(action)
        frames.append(frame)
        rewards.append(reward)
        assert not done, f"an episode was over after {len(rewards)} random actions"
    return frames, rewards


class TaskConformance:
    """Every task passes these tests; see the module's docstring for how to apply them."""

    def test_a_task_states_its_spaces(self, env: Environment, task: Task) -> None:
        """Every action has a name of its own with its unit in brackets."""
        del env
        spec = task.action_spec
        assert len(set(spec.names)) == spec.size, f"names are not unique: {spec.names}"
        assert all("[" in name for name in spec.names), f"units are missing: {spec.names}"
        assert spec.dt > 0 and task.max_steps > 0
        assert task.metric, "Task.metric does not say what the score of an episode is"

    def test_frames_are_as_the_task_says(self, env: Environment, task: Task) -> None:
        """Shapes are the task's; pictures and instructions are bytes, all else float32."""
        frames, rewards = roll(env, task, seed=0)
        for frame in frames:
            shapes = {key: array.shape for key, array in frame.items()}
            assert shapes == dict(task.observation_shapes), f"frame of shapes {shapes}"
            for key, array in frame.items():
                assert array.ndim < 3 or is_picture(array.shape), (
                    f"{key} has shape {array.shape}; pictures have height, width and 3 colours"
                )
                in_bytes = is_picture(array.shape) or key == INSTRUCTION_KEY
                assert array.dtype == (np.uint8 if in_bytes else np.float32), (key, array.dtype)
                assert np.isfinite(array).all(), f"{key} holds NaN or infinite values"
        if "reward" in frames[0]:
            assert [frame["reward"].item() for frame in frames] == [
                0,
                *np.asarray(rewards, np.float32),
            ]

    def test_the_same_seed_gives_the_same_episode(self, env: Environment, task: Task) -> None:
        """An episode is a function of seed and actions; another seed starts elsewhere."""
        first, rewards = roll(env, task, seed=3)
        other, _ = roll(env, task, seed=4)
        again, same_rewards = roll(env, task, seed=3)
        assert rewards == same_rewards
        for one, two in zip(first, again, strict=True):
            for key, array in one.items():
                np.testing.assert_array_equal(array, two[key], err_msg=key)
        differs = any((array != other[0][key]).any() for key, array in first[0].items())
        assert differs, "seeds 3 and 4 start the same episode"

    def test_frames_and_actions_stay_as_they_were(self, env: Environment, task: Task) -> None:
        """The environment neither changes an action nor a frame that it has handed out."""
        frame, action = env.reset(0), np.array(task.action_spec.high)
        copies = {key: array.copy() for key, array in frame.items()}
        env.step(action)
        env.step(np.array(task.action_spec.low))
        np.testing.assert_array_equal(action, task.action_spec.high)
        for key, array in copies.items():
            np.testing.assert_array_equal(frame[key], array, err_msg=key)

    def test_an_action_moves_the_scene(self, env: Environment, task: Task) -> None:
        """Something in the frame changes."""
        frames, _ = roll(env, task, seed=0)
        assert any((array != frames[0][key]).any() for key, array in frames[-1].items())

    def test_outcomes_start_afresh_with_an_episode(self, env: Environment, task: Task) -> None:
        """Score, success and terminated are told at any time and belong to one episode."""
        env.reset(0)
        start = env.score
        for action in random_actions(task):
            env.step(action)
            assert isinstance(env.success, bool) and isinstance(env.terminated, bool)
            assert np.isfinite(env.score)
            assert task.reference is not None or 0 <= env.score <= 1, env.score
        env.reset(1)
        assert (env.score, env.success, env.terminated) == (start, False, False)

    def test_what_is_recorded_besides_keeps_its_shape(self, env: Environment, task: Task) -> None:
        """`HasInfos.infos`, where there is one, has the same keys and shapes after every step."""
        if not isinstance(env, HasInfos):
            return
        env.reset(0)
        before = env.infos
        copies = {key: array.copy() for key, array in before.items()}
        env.step(random_actions(task)[0])
        shapes = {key: array.shape for key, array in before.items()}
        assert {key: array.shape for key, array in env.infos.items()} == shapes
        for key, array in copies.items():
            np.testing.assert_array_equal(before[key], array)

    def test_pictures_in_frames_show_something(self, env: Environment, task: Task) -> None:
        """They are not of one colour, as where a camera looks at nothing."""
        if not any(map(is_picture, task.observation_shapes.values())):
            return
        frames, _ = roll(env, task, seed=0)
        for key, array in frames[-1].items():
            if is_picture(array.shape):
                assert array.min() < array.max(), f"{key} is of one colour"

    def test_pictures_are_rgb(self, env: Environment, task: Task) -> None:
        """`render` gives bytes of even height and width, as video codecs want them."""
        del task
        env.reset(0)
        picture = env.render()
        assert picture.dtype == np.uint8 and picture.ndim == 3 and picture.shape[2] == 3
        assert picture.shape[0] % 2 == picture.shape[1] % 2 == 0, picture.shape
        assert picture.min() < picture.max(), "the picture is of one colour"
