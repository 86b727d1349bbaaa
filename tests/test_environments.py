"""The contract of `hotloop.envs.Environment`, for every registered task that is installed."""

import dataclasses
import time
from contextlib import closing

import numpy as np
import pytest

from hotloop.envs import TASKS, make_task
from hotloop.envs.conformance import NUM_STEPS, TaskConformance, check_task

SECONDS_PER_EPISODE = 2  # whole episodes of slower simulators are left out
# The code of these is that of `lift-image` and `lift`, but they take long; poses are tested apart.
LIKE_LIFT = (
    *("can-image", "square-image", "lift-abs", "can-abs", "square-abs"),
    *("lift-abs-image", "can-abs-image", "square-abs-image"),
)


@pytest.fixture(scope="module", params=[name for name in TASKS.names if name not in LIKE_LIFT])
def task(request):
    return make_task(request.param)


@pytest.fixture(scope="module")
def env(task):
    try:
        env = task.make()
    except ImportError as error:
        pytest.skip(str(error))
    with closing(env):
        yield env


class TestIncludedTasks(TaskConformance):
    def test_the_simulator_is_named(self, task):
        assert task.simulator

    def test_an_episode_ends_in_a_terminal_state_or_after_the_tasks_steps(self, env, task):
        env.reset(0)
        action = np.add(task.action_spec.low, task.action_spec.high) / 2
        began, done, num_steps = time.perf_counter(), False, 0
        while not done:
            if num_steps == NUM_STEPS:
                per_step = (time.perf_counter() - began) / num_steps
                if per_step * task.max_steps > SECONDS_PER_EPISODE:
                    pytest.skip(f"too slow for a whole episode: {1 / per_step:.0f} steps/s")
            _, _, done = env.step(action)
            num_steps += 1
            assert done or not env.terminated
            assert num_steps <= task.max_steps
        assert env.terminated or num_steps == task.max_steps


def test_a_whole_task_is_checked_at_once_and_a_broken_rule_is_named():
    task = make_task("pointmaze-umaze")
    check_task(task)

    def forgetful():
        """An environment whose frames change after they were handed out."""
        env = task.make()
        step, frame = env.step, {key: np.zeros(shape, np.float32) for key, shape in shapes}
        reset = env.reset
        env.reset = lambda seed: fill(frame, reset(seed))
        env.step = lambda action: (fill(frame, (result := step(action))[0]), *result[1:])
        return env

    def fill(frame, values):
        for key, array in values.items():
            frame[key][:] = array
        return frame

    shapes = list(task.observation_shapes.items())
    broken = dataclasses.replace(task, make=forgetful)
    with pytest.raises(AssertionError, match=r"broken rule: (an action moves|frames and actions)"):
        check_task(broken)
