"""The demo's parts: trainings side by side, episodes from one start, and their pictures."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

import hotloop.train.cli
from hotloop.decoding import ActionTrajectory, Observation, ObservationSpec
from hotloop.envs import SCRIPTED_EXPERTS, make_task
from hotloop.envs.pillars import PILLARS, SPEEDS
from hotloop.train.demo.rollouts import (
    DECISION_X,
    STATE,
    Rollouts,
    demonstrate,
    middle_start,
    roll_out,
)
from hotloop.train.demo.scene_plot import REACHED, TOUCHED, scene_plot
from hotloop.train.demo.side_by_side import Training, train_side_by_side

TASK = make_task("pillars")


class Straight:
    """Drives ahead, with a sideways velocity of its seed."""

    action_spec, num_execute = SPEEDS, 2
    observation_spec = ObservationSpec({STATE: (4,)}, num_steps=1)

    def reset(self, seeds: np.ndarray, rows: np.ndarray | None = None) -> None:
        self.sideways = np.array([0.0, 0.1, 0.2])[np.asarray(seeds)]

    def plan(self, observation: Observation, step: np.ndarray) -> ActionTrajectory:
        actions = np.full((len(observation.rows), 2, 2), 0.8)
        actions[..., 1] = self.sideways[observation.rows, None]
        return ActionTrajectory.clean(actions, step, observation.step, SPEEDS.dt)


@pytest.fixture
def rollouts() -> Rollouts:
    pytest.importorskip("mujoco")
    return roll_out(Straight(), TASK, start=5, num=3)


def test_episodes_from_one_start_differ_in_the_policys_seed_alone(rollouts: Rollouts) -> None:
    starts = np.stack([path[0] for path in rollouts.paths])
    assert (starts == TASK.make().reset(5)[STATE][:2]).all()
    heights = [path[5, 1] for path in rollouts.paths]
    assert heights[0] < heights[1] < heights[2]


def test_outcomes_and_velocities_belong_to_their_episodes(rollouts: Rollouts) -> None:
    assert rollouts.sideways == pytest.approx((0.0, 0.1, 0.2))
    # Straight ahead ends at the pillar; so far aside it passes, and never reaches the goal.
    assert rollouts.reached == (False, False, False)
    assert len(rollouts.paths[0]) < len(rollouts.paths[2])
    assert rollouts.paths[0][-1, 0] < PILLARS[0]
    assert rollouts.paths[2][-1, 0] > PILLARS[-1]


def test_an_episode_that_ends_before_the_dashed_line_has_no_velocity_there() -> None:
    class Waiting(Straight):
        def plan(self, observation: Observation, step: np.ndarray) -> ActionTrajectory:
            plan = super().plan(observation, step)
            actions = np.where(np.arange(len(plan.actions))[:, None, None] == 0, 0.0, plan.actions)
            return ActionTrajectory.clean(actions, step, observation.step, SPEEDS.dt)

    pytest.importorskip("mujoco")
    waited = roll_out(Waiting(), TASK, start=0, num=1)
    assert waited.paths[0][:, 0].max() < DECISION_X
    assert waited.sideways == ()


def test_the_driver_takes_both_ways_from_one_start() -> None:
    pytest.importorskip("mujoco")
    shown = demonstrate(SCRIPTED_EXPERTS["pillars"].make, TASK, start=0, num=12)
    assert all(shown.reached)
    assert min(shown.sideways) < -0.1
    assert max(shown.sideways) > 0.1
    assert len({tuple(path[0]) for path in shown.paths}) == 1


def test_the_start_that_is_shown_is_the_one_nearest_to_the_middle() -> None:
    pytest.importorskip("mujoco")
    env, seeds = TASK.make(), range(20)
    chosen = middle_start(TASK, seeds)
    heights = {seed: abs(env.reset(seed)[STATE][1]) for seed in seeds}
    assert heights[chosen] == min(heights.values())


def test_paths_are_blue_at_the_goal_and_end_in_a_red_cross_at_a_pillar() -> None:
    path = np.array([[-0.6, 0.0], [-0.2, 0.01]])
    drawn = Rollouts((path, path), (True, False), (0.3, -0.3))
    tree = ElementTree.fromstring(scene_plot(drawn, "two paths"))
    lines = [one.attrib["stroke"] for one in tree if one.tag == "polyline"]
    assert lines == [REACHED, TOUCHED]
    crosses = [one for one in tree if one.tag == "path" and one.attrib.get("stroke") == TOUCHED]
    assert len(crosses) == 1
    marks = [one.attrib["d"] for one in tree if one.attrib.get("stroke-opacity") == "0.55"]
    right, left = (float(d[1:].split()[0]) for d in marks)
    assert left + right == pytest.approx(480)
    assert left < right


def training(name: str) -> Training:
    return Training(name, 10, ("some=setting",))


def replaced(monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Let a script stand for `hotloop train`; its argument is the output folder's setting."""

    def arguments(self: Training) -> list[str]:
        return [self.name]

    monkeypatch.setattr(Training, "arguments", property(arguments))

    def command(module: str, *arguments: str) -> list[str]:
        assert module == hotloop.train.cli.__name__
        return [sys.executable, "-c", script, *arguments]

    monkeypatch.setattr("hotloop.train.demo.side_by_side.module_command", command)


def test_chains_run_at_the_same_time_and_their_trainings_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replaced(
        monkeypatch,
        "import sys, time, pathlib; p = pathlib.Path(sys.argv[1] + '.times'); t = time.time();"
        "time.sleep(1); p.write_text(f'{t} {time.time()}')",
    )
    train_side_by_side(tmp_path, [[training("a")], [training("b"), training("c")]])
    times = {
        name: [float(one) for one in (tmp_path / f"{name}.times").read_text().split()]
        for name in "abc"
    }
    assert times["a"][0] < times["b"][1]
    assert times["b"][0] < times["a"][1]
    assert times["c"][0] > times["b"][1]


def test_a_failure_is_told_with_its_last_line_and_stops_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replaced(
        monkeypatch,
        "import sys, time\nif sys.argv[1] == 'bad': sys.exit('no such task')\ntime.sleep(60)",
    )
    began = time.monotonic()
    with pytest.raises(RuntimeError, match=r"training 'bad' failed: no such task; .*bad\.log"):
        train_side_by_side(tmp_path, [[training("long")], [training("bad")]])
    assert time.monotonic() - began < 30
