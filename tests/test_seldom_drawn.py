"""The benchmarks' tabletop, drawn only where a policy plans, is the tabletop to that policy."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from benchmarks.seldom_drawn import seldom_drawn
from tiny_vla import SIZES

from hotloop.decoding import Executor
from hotloop.envs import make_task
from hotloop.envs.metaworld import FRONT, SUBTASKS, Tabletop
from hotloop.envs.task import Task
from hotloop.policies.vla import BinStatistics, TinyHost, TokenDecodingConfig, VlaPolicy, tiny_vla

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:glfw")

NUM_EXECUTE, NUM_STEPS, SEED = 2, 7, 4


def small_tabletop() -> Task:
    task = make_task("metaworld-tabletop")
    return replace(task, make=partial(Tabletop, image_size=16))


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


def played(task: Task) -> tuple[list[list[int]], np.ndarray, int]:
    """Tokens of every plan, every action, and the number of different pictures."""
    policy, env = seeing_policy(task), task.make()
    executor, tokens, actions, pictures = Executor(policy), [], [], []
    try:
        executor.reset([SEED])
        frame = env.reset(SEED)
        for step in range(NUM_STEPS):
            pictures.append(frame[FRONT].tobytes())
            actions.append(executor.act({key: values[None] for key, values in frame.items()})[0])
            if step % NUM_EXECUTE == 0:
                assert policy.decoded is not None
                tokens.append(policy.decoded.tokens[0].tolist())
            frame, _, _ = env.step(actions[-1])
    finally:
        env.close()
    return tokens, np.stack(actions), len(set(pictures))


def test_a_policy_plans_and_acts_as_if_every_step_were_drawn() -> None:
    task = small_tabletop()
    tokens, actions, num_pictures = played(task)
    assert (len(tokens), num_pictures) == (4, NUM_STEPS), "something moves at every step"
    found, same_actions, num_drawn = played(seldom_drawn(task, NUM_EXECUTE))
    assert found == tokens
    np.testing.assert_array_equal(same_actions, actions)
    assert num_drawn == 4
    late, _, _ = played(seldom_drawn(task, 2 * NUM_EXECUTE))
    assert late[0] == tokens[0]
    assert late[1] != tokens[1], "the policy looks at what is drawn"
