"""robosuite and PyBullet arms, their experts, and pictures without a display."""

import os
import subprocess
import sys
from contextlib import closing
from importlib.util import find_spec

import numpy as np
import pytest

from hotloop.envs import SCRIPTED_EXPERTS, make_task, record_episode

needs_pybullet = pytest.mark.skipif(
    find_spec("pybullet") is None, reason="PyBullet has no wheels for Python 3.12 and later"
)


@pytest.mark.parametrize("name", [pytest.param("pybullet-reach", marks=needs_pybullet), "lift"])
def test_the_scripted_expert_solves_the_task(name):
    task = make_task(name)
    with closing(task.make()) as env:
        episode = record_episode(task, env, SCRIPTED_EXPERTS[name].make(env), seed=1)
    assert episode.success
    assert episode.terminated


def test_a_robosuite_reset_depends_on_the_seed_and_leaves_the_global_generator_alone():
    with closing(make_task("lift").make()) as env:
        before = np.random.get_state()[1].copy()  # noqa: NPY002
        first = env.reset(2)
        np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002
        other, again = env.reset(3), env.reset(2)
    for key, array in first.items():
        np.testing.assert_array_equal(array, again[key])
    key = "observation.object"
    assert (first[key] != other[key]).any()


def test_a_recorded_robosuite_state_comes_back_and_a_foreign_one_is_refused():
    with closing(make_task("lift").make()) as env:
        env.reset(1)
        state = env.infos["states"]
        env.step(np.ones(7))
        env.set_state(state)
        np.testing.assert_allclose(env.infos["states"], state, atol=1e-12)
        with pytest.raises(ValueError, match="another robosuite version or task"):
            env.set_state(state[:-1])


def test_absolute_actions_lead_where_the_deltas_did_that_they_were_made_from():
    """Both forms begin in the same state, and what a delta asks for is an absolute action."""
    rng = np.random.default_rng(0)
    with (
        closing(make_task("can").make()) as by_deltas,
        closing(make_task("can-abs").make()) as env,
    ):
        for environment in (by_deltas, env):
            environment.reset(100_000)
        np.testing.assert_array_equal(env.infos["states"], by_deltas.infos["states"])
        for _ in range(20):
            action = np.append(rng.uniform(-0.5, 0.5, 6), rng.choice([-1.0, 1.0]))
            by_deltas.step(action)
            env.step(np.append(by_deltas.goal, action[-1]))
        np.testing.assert_allclose(env.infos["states"], by_deltas.infos["states"], atol=1e-6)


def test_pictures_change_neither_where_an_episode_begins_nor_where_it_goes():
    with closing(make_task("can").make()) as env, closing(make_task("can-image").make()) as seeing:
        frames = [environment.reset(100_001) for environment in (env, seeing)]
        env.step(np.full(7, 0.5))
        seeing.step(np.full(7, 0.5))
        np.testing.assert_array_equal(env.infos["states"], seeing.infos["states"])
    shared = set(frames[0]) & set(frames[1])
    assert {
        f"observation.robot0_{part}" for part in ("eef_pos", "eef_quat", "gripper_qpos")
    } == shared
    for key in shared:
        np.testing.assert_array_equal(frames[0][key], frames[1][key])


def test_the_first_frame_tells_where_the_object_is_from_the_hand():
    """robosuite's own first observation has zeros there."""
    with closing(make_task("lift").make()) as env:
        frame = env.reset(0)
    cube, from_hand = frame["observation.object"][:3], frame["observation.object"][7:]
    np.testing.assert_allclose(
        np.abs(from_hand), np.abs(frame["observation.robot0_eef_pos"] - cube), atol=1e-5
    )


def test_an_unsolved_robosuite_episode_ends_in_time(monkeypatch):
    monkeypatch.setattr("hotloop.envs.robosuite_arm.HORIZON", 3)
    with closing(make_task("lift").make()) as env:
        env.reset(0)
        assert [env.step(np.zeros(7))[2] for _ in range(3)] == [False, False, True]
        assert not env.terminated


@pytest.mark.parametrize(
    ("name", "missing", "message"),
    [
        ("lift", "robosuite", r"pip install 'hotloop\[robosuite\]'"),
        ("pybullet-reach", "pybullet", r"pip install 'hotloop\[bullet\]' \(Python 3.11 or older\)"),
    ],
)
def test_a_missing_simulator_is_answered_with_what_to_install(name, missing, message, monkeypatch):
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ImportError, match=message):
        make_task(name).make()


@needs_pybullet
def test_pushing_frames_tell_where_the_cube_is():
    with closing(make_task("pybullet-push").make()) as env:
        frame = env.reset(0)
        assert env.render().shape == (240, 320, 3)
    assert frame["observation.environment_state"].shape == (3,)


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("rendering.require_backend()", "apt-get install libegl1"),
        ("rendering.choose_backend(); print(os.environ.get('MUJOCO_GL'))", "None"),
    ],
)
def test_without_any_renderer_the_message_says_what_to_install(code, expected):
    setup = "import ctypes.util, os; ctypes.util.find_library = lambda name: None; "
    program = setup + "from hotloop.envs import rendering; " + code
    hidden = ("MUJOCO_GL", "DISPLAY", "WAYLAND_DISPLAY")
    environment = {key: value for key, value in os.environ.items() if key not in hidden}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True
    )
    assert expected in done.stdout + done.stderr
