"""Episodes out of what happens on a robot: begun, kept, dropped, taken over, and stopped."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from robots import CONFIG as CONTROL
from robots import Bench

from hotloop.real_robot.config import RobotConfig
from hotloop.real_robot.core.events import Mailbox, Mode, Request
from hotloop.real_robot.core.trajectory import Chunk
from hotloop.real_robot.policies.protocol import RobotPolicy, Snapshot
from hotloop.real_robot.policies.reach import ReachPolicy
from hotloop.train.commands.recording_policy import RecordingPolicy, RecordOptions
from hotloop.train.data.formats.registry import read_episodes
from hotloop.train.data.inspect import inspect_dataset

DT = CONTROL.dt
ROBOT = RobotConfig("two joints", "dry-run", CONTROL, joints=("pan", "lift"))
PERIOD = 0.1
FORWARD, BACK = np.array([0.2, 0.1]), np.array([-0.5, -0.5])


class Towards:
    """Asks for one place, always."""

    cameras: tuple[str, ...] = ()
    period = PERIOD

    def __init__(self, place: np.ndarray, by_hand: bool = False) -> None:
        self.place, self.by_hand = place, by_hand
        self.seeds: list[int] = []

    def reset(self, seed: int) -> None:
        self.seeds.append(seed)

    def plan(self, snapshot: Snapshot) -> Chunk:
        times = snapshot.time + np.array([0.1, 0.2, 0.3])
        return snapshot.chunk(times, np.tile(self.place, (3, 1)))


class Listener:
    def __init__(self) -> None:
        self.pressed, self.said, self.finished = "", [], ""

    def keys(self) -> str:
        pressed, self.pressed = self.pressed, ""
        return pressed

    def say(self, text: str) -> None:
        self.said.append(text)

    def finish(self, reason: str) -> None:
        self.finished = reason


class Session:
    """A recording around a controller, in virtual time."""

    def __init__(
        self,
        path: Path,
        policy: RobotPolicy | None,
        person: RobotPolicy | None = None,
        **options,
    ) -> None:
        self.path, self.console = path, Listener()
        self.bench = Bench(CONTROL)
        recording = RecordOptions(str(path), "push", pictures="png", **options)
        self.policy = RecordingPolicy(ROBOT, recording, policy, person)
        self.policy._reference._monotonic = lambda: self.bench.now
        self.policy.attach(self.console)
        self.policy.reset(0)
        self.sequence = 0

        self.run(0.1)  # until the loop follows

    def run(self, seconds: float, keys: str = "", *, mode: Mode | None = None) -> None:
        """Let time pass; keys come in at the beginning."""
        self.console.pressed += keys
        per_plan = round(PERIOD / DT)
        for cycle in range(round(seconds / DT)):
            if cycle % per_plan == 0:
                snapshot = Snapshot(
                    self.bench.now, self.bench.position, np.zeros(2), np.zeros(0),
                    sequence=self.sequence, mode=mode or self.bench.mode,
                )  # fmt: skip
                chunk = self.policy.plan(snapshot)
                self.sequence += 1
                if chunk is not None:
                    self.bench.send(chunk)
                    continue
            self.bench.step()

    def ask(self, request: Request) -> None:
        self.bench.step(Mailbox(request=request))

    def end(self, *, stopped: bool = False):
        """Close; the episodes, or None if there are none."""
        self.policy.conclude(stopped=stopped)
        if not self.path.exists():
            return None
        assert inspect_dataset(self.path).problems == ()
        return read_episodes(self.path, everything=True)


def test_a_rollout_is_one_episode_from_the_first_motion_to_the_end(tmp_path: Path) -> None:
    session = Session(tmp_path / "data", Towards(FORWARD))
    session.run(0.3, mode=Mode.ARMED)
    session.run(1.0)
    episodes = session.end()
    assert episodes.num_steps == 10 and not episodes.terminated[0]
    assert np.allclose(episodes.actions[-1], FORWARD, atol=1e-6)
    assert episodes.metadata["action_names"] == ["pan [rad]", "lift [rad]"]
    assert not episodes.infos["intervention"].any()
    assert "episode 0 kept: 10 frames" in session.console.said[-1]


def test_the_action_is_where_the_loop_asks_the_robot_to_be_one_period_later(tmp_path: Path) -> None:
    """Held against the reference of the controller itself, which saw the same chunks."""
    session = Session(tmp_path / "data", ReachPolicy(ROBOT))
    asked: list[np.ndarray] = []
    step = session.bench.step

    def watched(*arguments):
        output = step(*arguments)
        asked.append(output.reference)
        return output

    session.bench.step = watched
    session.run(3.0)
    episodes = session.end()
    per_plan = round(PERIOD / DT)
    # A cycle begins one control period after the plan, and its reference is due after another.
    expected = np.array(asked[per_plan - 2 :: per_plan])[: episodes.num_steps]
    assert np.abs(np.diff(expected, axis=0)).max() > 0.02, "nothing moved"
    assert np.allclose(episodes.actions[: len(expected)], expected, atol=2e-6)


def test_what_was_stopped_by_a_fault_is_no_episode(tmp_path: Path) -> None:
    session = Session(tmp_path / "data", Towards(FORWARD))
    session.run(0.5)
    session.ask(Request.STOP)
    session.run(0.3)
    assert session.end(stopped=True) is None
    assert session.console.said[-1] == "episode dropped: the robot was stopped"


def test_the_braking_at_the_end_of_a_run_is_no_stop_and_no_part_of_the_episode(
    tmp_path: Path,
) -> None:
    session = Session(tmp_path / "data", Towards(FORWARD))
    session.run(0.5)
    session.ask(Request.STOP)
    session.run(0.3)
    assert session.end().num_steps == 5


def test_after_a_stop_and_a_reset_a_rollout_begins_anew(tmp_path: Path) -> None:
    session = Session(tmp_path / "data", Towards(FORWARD))
    session.run(0.5)
    session.ask(Request.STOP)
    session.run(1.0)
    session.ask(Request.RESET)
    session.run(0.2)
    session.ask(Request.ARM)
    session.run(0.6)
    episodes = session.end()
    assert episodes.num_episodes == 1 and 5 <= episodes.num_steps <= 6
    assert "episode dropped: the robot was stopped" in session.console.said


def test_a_robot_that_was_stopped_while_it_waited_stays_where_it_is_armed(tmp_path: Path) -> None:
    """Somebody may have moved it by hand; it must not go back to where it waited."""
    session = Session(tmp_path / "data", Towards(FORWARD))
    session.run(1.0)
    session.run(0.5, "k")
    session.ask(Request.STOP)
    session.run(1.0)
    session.ask(Request.RESET)
    session.bench.position = np.array([-0.3, -0.2])
    session.run(0.2)
    session.ask(Request.ARM)
    session.run(1.0)
    assert np.allclose(session.bench.position, [-0.3, -0.2], atol=1e-6)
    session.end()


def test_a_way_back_that_is_interrupted_is_gone_on_with(tmp_path: Path) -> None:
    session = Session(tmp_path / "data", None, Towards(FORWARD), reset=tuple(BACK))
    session.run(0.5, "s")
    session.run(0.8, "k")
    session.run(0.2, mode=Mode.HOLD)
    session.run(1.4)
    assert np.allclose(session.bench.position, BACK, atol=0.1)
    session.end()


def test_a_person_begins_keeps_and_drops_episodes_by_keys(tmp_path: Path) -> None:
    session = Session(tmp_path / "data", None, Towards(FORWARD))
    session.run(0.5)
    session.run(0.4, "s")
    session.run(0.3, "k")
    session.run(0.5, "s")
    session.run(0.3, "d")
    session.run(0.6, "s")
    session.run(0.3, "b")
    session.run(0.1, "k")
    session.run(0.3, "s")
    episodes = session.end()
    assert np.diff(episodes.episode_ends, prepend=0).tolist() == [4, 2]
    assert episodes.terminated.all() and episodes.infos["intervention"].all()
    said = " | ".join(session.console.said)
    assert "as you wished" in said and "recorded again" in said
    assert "it was not kept before the end" in session.console.said[-1]


def test_a_key_that_means_nothing_now_is_told(tmp_path: Path) -> None:
    session = Session(tmp_path / "data", None, Towards(FORWARD))
    session.run(0.2, "k")
    assert session.console.said[-1] == "k: nothing to keep or drop, no episode is being recorded"
    session.run(0.2, "s")
    session.run(0.2, "s")
    assert session.console.said[-1] == "s: not now, an episode is being recorded"
    session.end()


@pytest.mark.parametrize("person", [True, False])
def test_between_episodes_the_robot_goes_to_where_they_begin(tmp_path: Path, person: bool) -> None:
    mover = Towards(FORWARD)
    movers = (None, mover) if person else (mover, None)
    session = Session(tmp_path / "data", *movers, reset=tuple(BACK), seed=7)
    session.run(1.0, "s" if person else "")
    before = session.bench.position
    session.run(0.5, "k")
    assert (session.bench.position < before).all(), "it does not go back"
    session.run(4.0)
    if person:
        assert np.allclose(session.bench.position, FORWARD, atol=1e-3), "the person is in command"
        session.run(0.5, "s")
        session.run(0.1, "k")
    episodes = session.end()
    assert episodes.num_episodes == 2
    start = int(episodes.episode_ends[0])
    state = episodes.observations["observation.state"]
    if not person:
        assert np.allclose(state[start], BACK, atol=0.01)
        assert mover.seeds == [0, 8], "the policy begins a new episode too"
    assert not np.isclose(state[:start], BACK, atol=0.01).any()


def test_so_many_episodes_of_some_length_and_then_the_end(tmp_path: Path) -> None:
    session = Session(
        tmp_path / "data", Towards(FORWARD), reset=(0.0, 0.0), episodes=3, episode_time=0.5
    )
    session.run(6.0)
    assert session.console.finished == "3 episodes"
    episodes = session.end()
    assert np.diff(episodes.episode_ends, prepend=0).tolist() == [5, 5, 5]


def test_an_operator_takes_over_and_gives_back(tmp_path: Path) -> None:
    policy, person = Towards(FORWARD), Towards(BACK)
    session = Session(tmp_path / "data", policy, person)
    session.run(0.5)
    session.run(0.4, "i")
    session.run(0.3, "i")
    episodes = session.end()
    flags = episodes.infos["intervention"].reshape(-1).tolist()
    assert flags == [False] * 5 + [True] * 4 + [False] * 3
    assert (episodes.actions[6:9, 0] < 0).all() and (episodes.actions[10:, 0] > 0).all()
    assert len(policy.seeds) == 2 and len(person.seeds) == 2, "who takes over begins anew"


def test_led_by_hand_actions_are_where_the_robot_was_led(tmp_path: Path) -> None:
    session = Session(tmp_path / "data", None, Towards(FORWARD, by_hand=True))
    session.run(0.8, "s")
    session.run(0.2, "k")
    episodes = session.end()
    state = episodes.observations["observation.state"]
    assert np.array_equal(episodes.actions[:-1], state[1:])


def test_all_limits_hold_around_a_reset(tmp_path: Path) -> None:
    session = Session(tmp_path / "data", Towards(FORWARD), reset=tuple(BACK))
    for _ in range(3):
        session.run(0.35, "k")
    session.run(2.0)
    session.end()
    assert max(session.bench.controller.peaks) <= 1 + 1e-9
