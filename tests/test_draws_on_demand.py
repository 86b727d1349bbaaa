"""Pictures that nobody reads are not drawn, and nothing else is any different."""

from __future__ import annotations

import gc
from contextlib import closing
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from tiny_vla import SIZES

from hotloop.decoding import ActionTrajectory, Observation
from hotloop.envs import environments, evaluate, make_task
from hotloop.envs.metaworld import FRONT, SUBTASKS, Tabletop
from hotloop.envs.robosuite_cameras import CAMERAS
from hotloop.envs.task import DrawsOnDemand, Task
from hotloop.policies.vla import BinStatistics, TinyHost, TokenDecodingConfig, VlaPolicy, tiny_vla

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:glfw")

NUM_EXECUTE, NUM_STEPS = 2, 7


class Drawn(Tabletop):
    """The tabletop, whose pictures are numbered as they are drawn.

    Args:
        always: Whether to draw at every step, whatever is asked for.
    """

    def __init__(self, always: bool) -> None:
        super().__init__(image_size=16)
        self.always = always

    def _frame(self, drawn: bool) -> dict[str, np.ndarray]:
        return super()._frame(drawn or self.always)


class Watched:
    """A policy that keeps what its plans were made from, and the plans."""

    def __init__(self, policy: VlaPolicy) -> None:
        self._policy, self.reset = policy, policy.reset
        self.action_spec, self.num_execute = policy.action_spec, policy.num_execute
        self.observation_spec = policy.observation_spec
        self.pictures: list[np.ndarray] = []
        self.plans: list[np.ndarray] = []

    def plan(self, observation: Observation, step: np.ndarray) -> ActionTrajectory:
        found = self._policy.plan(observation, step)
        self.pictures.append(observation.frames[FRONT].copy())
        self.plans.append(found.actions)
        return found


def seeing_policy(task: Task) -> VlaPolicy:
    """Random weights, large enough that tokens depend on what is seen."""
    size, sizes = task.action_spec.size, TinyHost(layers=2, heads=2, **SIZES)
    bins = BinStatistics((-1.0,) * size, (1.0,) * size, (True,) * size)
    texts = [subtask.instruction for subtask in SUBTASKS]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = tiny_vla(sizes, texts, 3, bins, (FRONT,), "observation.state", bins)
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.data = 0.3 * torch.randn(parameter.shape)
    decoding = TokenDecodingConfig(NUM_EXECUTE, guess="previous", max_calls=1)
    return VlaPolicy(model.eval().requires_grad_(False), task.action_spec, decoding)


def played(always: bool, monkeypatch: pytest.MonkeyPatch) -> tuple[Watched, int]:
    """A policy after an evaluation, and how many pictures were drawn for it."""
    drawn = []
    draw = Tabletop._frame
    monkeypatch.setattr(
        Tabletop,
        "_frame",
        lambda self, now: drawn.append(now) or draw(self, now),
    )
    task = make_task("metaworld-tabletop")
    shapes = {**task.observation_shapes, FRONT: (16, 16, 3)}
    task = replace(task, make=partial(Drawn, always), observation_shapes=shapes)
    policy = Watched(seeing_policy(task))
    evaluate(policy, task, [3, 4], 2)
    return policy, sum(drawn)


def test_a_policy_plans_as_if_every_step_were_drawn(monkeypatch):
    monkeypatch.setattr("hotloop.envs.metaworld.MAX_STEPS", NUM_STEPS)
    (all_drawn, most), (seldom, fewest) = (played(always, monkeypatch) for always in (True, False))
    assert len(seldom.plans) == 4
    for one, two in zip(seldom.pictures, all_drawn.pictures, strict=True):
        np.testing.assert_array_equal(one, two)
    for one, two in zip(seldom.plans, all_drawn.plans, strict=True):
        np.testing.assert_array_equal(one, two)
    assert (most, fewest) == (2 * (1 + NUM_STEPS), 2 * 4)


def test_a_seeing_arm_draws_on_request_whatever_others_in_the_process_do():
    """Others that draw, close or are collected change no pixel, and memory stays."""
    task, moves = make_task("lift-image"), np.eye(7)[:3]
    with environments(task, 1, num_workers=1) as envs:
        every = [envs.reset({0: 4})[0], *(envs.step({0: move})[0].frame for move in moves)]
    with environments(task, 1) as envs:
        with closing(task.make()) as other:
            other.reset(7)
            envs.reset({0: 3})
            envs.step({0: moves[0]}, unread={0})
            gc.disable()  # as good as in simulators that allocate little
            try:
                frames = [envs.reset({0: 4})[0]]
                alive = [type(one).__name__ for one in gc.get_objects()]
            finally:
                gc.enable()
            gc.collect()
            other.step(moves[0])
            frames.append(envs.step({0: moves[0]}, unread={0})[0].frame)
        envs.render(0)
        frames += [envs.step({0: moves[1]})[0].frame, envs.step({0: moves[2]}, {0})[0].frame]
    assert alive.count("MjRenderContextOffscreen") <= 3  # of both, and of the episode before
    for frame, same, drawn in zip(frames, every, (0, 0, 2, 2), strict=True):
        for key, array in same.items():
            expected = every[drawn][key] if key.endswith("_image") else array
            np.testing.assert_array_equal(frame[key], expected, err_msg=key)
    for camera in CAMERAS:
        key = f"observation.{camera}_image"
        assert (every[0][key] != every[2][key]).any(), "something moves at every step"


@pytest.mark.parametrize("name", ["metaworld-tabletop", "lift-image", "pusht"])
def test_tasks_that_draw_say_so(name):
    with closing(make_task(name).make()) as env:
        assert isinstance(env, DrawsOnDemand) == (name != "pusht")
