"""A person moves the robot: by a leader arm, sticks, keys, or the robot itself by the hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from moved_by_hand import JOINTS, TICK, limp_bus
from robot_runs import DRY
from robots import CONFIG, Bench

from hotloop.real_robot.config import RobotConfig
from hotloop.real_robot.core.controller import ControllerConfig
from hotloop.real_robot.core.events import Mode, RobotState
from hotloop.real_robot.core.limits import Limits, Motion
from hotloop.real_robot.drivers import BusError, make_driver
from hotloop.real_robot.policies.protocol import Snapshot
from hotloop.real_robot.runtime.job import RunConfig, check_run
from hotloop.real_robot.teleop.config import TeleopConfig
from hotloop.real_robot.teleop.hand import led_by_hand
from hotloop.real_robot.teleop.leader import LeaderPolicy, correspondence
from hotloop.real_robot.teleop.make import make_teleoperator

pytestmark = pytest.mark.realtime

PERIOD = 0.04
TWO = RobotConfig("two joints", "dry-run", CONFIG, joints=("pan", "grip"))
SIX = Limits((-1.5,) * 6, (1.5,) * 6, (2.0,) * 6, (10.0,) * 6, (400.0,) * 6)
ZERO = {"zero": [2048] * 6, "direction": [1, -1, 1, 1, 1, 1]}


def snapshot(time: float, position, mode: Mode = Mode.RUN, sequence: int = 0) -> Snapshot:
    place = np.asarray(position, np.float64)
    return Snapshot(time, place, np.zeros_like(place), np.zeros(0), sequence=sequence, mode=mode)


class Led:
    """A leader's driver, moved by the test."""

    clock, num_sensors = "host", 0
    time, place, lost = 0.0, np.zeros(2), 0

    def __init__(self, config: RobotConfig) -> None:
        self.did: list[str] = []

    def inspect(self) -> None:
        self.did.append("inspect")

    def connect(self) -> None:
        self.did.append("connect")

    def disconnect(self, torque_off: bool) -> None:
        self.did.append("let go" if torque_off else "held")

    def read(self) -> RobotState:
        if Led.lost:
            Led.lost -= 1
            raise BusError("no answer")
        return RobotState(Led.time, np.array(Led.place), np.zeros(2), "", np.zeros(0))

    def write(self, motion: Motion) -> None:
        raise AssertionError("a leader is never moved")


LEADER = replace(TWO, name="leader", driver="of a leader", joints=("grip", "pan"))


@pytest.fixture
def leader(monkeypatch):
    monkeypatch.setattr("hotloop.real_robot.teleop.leader.make_driver", Led)
    Led.time, Led.place, Led.lost = 0.0, np.zeros(2), 0
    made = LeaderPolicy(TWO, LEADER, (), PERIOD)
    return made, made._driver


def test_a_leader_is_limp_and_only_read(leader) -> None:
    policy, driver = leader
    policy.plan(snapshot(0.0, [0, 0]))
    policy.conclude(stopped=False)
    assert driver.did == ["inspect", "let go", "inspect", "let go"]


def follow(
    policy: LeaderPolicy, way, start, seconds: float
) -> tuple[np.ndarray, np.ndarray, Bench]:
    """Where the leader and the robot were in each cycle, and the robot."""
    bench = Bench(CONFIG, start)
    begin, sequence = bench.now, 0
    led, followed = [], []
    for cycle in range(round(seconds / CONFIG.dt)):
        Led.time = bench.now
        Led.place = way(bench.now - begin)
        if cycle % round(PERIOD / CONFIG.dt) == 0:
            chunk = policy.plan(snapshot(bench.now, bench.position, bench.mode, sequence))
            sequence += 1
            bench.send(chunk)
        else:
            bench.step()
        led.append(Led.place[[1, 0]])
        followed.append(bench.position)
    return np.array(led), np.array(followed), bench


def test_the_robot_follows_two_periods_behind_within_all_limits(leader) -> None:
    def way(t: float) -> np.ndarray:
        return np.array([0.5 * np.sin(2 * t), 0.4 * np.sin(3 * t)])

    led, followed, bench = follow(leader[0], way, [0.0, 0.0], 4.0)
    behind = round(2 * PERIOD / CONFIG.dt)
    error = np.abs(followed[500:] - led[500 - behind : -behind])
    assert error.max() < 0.01
    assert max(bench.controller.peaks) <= 1 + 1e-9
    assert {event.kind.name for event in bench.events} == {"MODE"}


def test_from_wherever_it_is_the_robot_comes_slowly_to_the_leader(leader) -> None:
    still = np.array([0.9, -0.6])
    _, followed, bench = follow(leader[0], lambda t: still, [0.8, -0.7], 4.0)
    assert np.allclose(followed[-1], still[[1, 0]], atol=1e-3)
    assert bench.controller.peaks[0] <= 0.45 and max(bench.controller.peaks) <= 1 + 1e-9


def test_a_leader_outside_of_the_robots_range_is_followed_to_its_edge(leader) -> None:
    _, followed, bench = follow(leader[0], lambda t: np.array([9.0, -9.0]), [0.0, 0.0], 8.0)
    assert np.allclose(followed[-1], [CONFIG.limits.low[0], CONFIG.limits.high[1]], atol=0.02)
    assert "CHUNK_REJECTED" not in {event.kind.name for event in bench.events}


def test_some_lost_answers_are_borne_and_many_end_it(leader) -> None:
    policy, _ = leader
    Led.lost = LEADER.bus_budget - 1
    for _ in range(LEADER.bus_budget - 1):
        assert policy.plan(snapshot(0.0, [0, 0])) is None
    assert policy.plan(snapshot(0.1, [0, 0])) is not None
    Led.lost = LEADER.bus_budget
    with pytest.raises(ConnectionError, match="the leader arm is lost: no answer"):
        for _ in range(LEADER.bus_budget):
            policy.plan(snapshot(0.2, [0, 0]))


def test_joints_correspond_by_name_and_a_trigger_by_its_range() -> None:
    wide = Limits((-1.0, 0.2), (1.0, 0.7), (1.0,) * 2, (5.0,) * 2, (99.0,) * 2)
    trigger = replace(LEADER, control=ControllerConfig(wide, 0.01), joints=("pan", "grip.pos"))
    order, scale, offset = correspondence(TWO, trigger, ("grip",))
    assert order.tolist() == [0, 1]
    for theirs, ours in ((0.2, -2.0), (0.7, 2.0)):
        assert scale[1] * theirs + offset[1] == pytest.approx(ours)
    assert (scale[0], offset[0]) == (1, 0)


@pytest.mark.parametrize(
    ("other", "by_range", "message"),
    [
        (replace(LEADER, joints=("pan", "wrist")), (), "has no joint 'grip'"),
        (LEADER, ("thumb",), "by_range names 'thumb', the robot's joints are"),
        (replace(DRY, name="leader"), (), "2 joints and leader leader 6; name the joints"),
    ],
)
def test_joints_without_a_counterpart_are_refused(other, by_range, message) -> None:
    with pytest.raises(ValueError, match=message):
        correspondence(TWO, other, by_range)


def test_hardware_that_cannot_be_read_limp_is_no_leader(monkeypatch) -> None:
    monkeypatch.setattr("hotloop.real_robot.teleop.leader.make_driver", lambda config: object())
    with pytest.raises(ValueError, match="cannot be led by hand"):
        LeaderPolicy(TWO, LEADER, (), PERIOD)


@pytest.mark.parametrize("protocol", ["dynamixel", "feetech"])
def test_an_arm_that_is_led_by_hand_is_let_go_and_sent_nothing(protocol: str) -> None:
    with limp_bus(protocol) as bus:
        options = {"port": bus.port, "reply_timeout": 0.2, **ZERO}
        robot = RobotConfig("arm", protocol, ControllerConfig(SIX, 0.01), options, JOINTS)
        held = make_driver(robot)
        held.connect()
        held.disconnect(torque_off=False)
        assert bus.servos.plant.torque.all()
        driver = make_driver(led_by_hand(robot))
        driver.connect()
        assert not bus.servos.plant.torque.any()
        target = bus.servos.plant.target.copy()
        bus.servos.plant.pose(np.full(6, 0.3), np.zeros(0))
        driver.write(Motion.at_rest(np.zeros(6)))
        state = driver.read()
        assert state.fault == ""
        assert np.allclose(state.position, [0.3, -0.3, 0.3, 0.3, 0.3, 0.3], atol=TICK)
        assert np.array_equal(bus.servos.plant.target, target)
        driver.disconnect(torque_off=False)
        assert not bus.servos.plant.torque.any()


def test_a_robot_that_is_led_by_hand_needs_a_calibration() -> None:
    robot = RobotConfig(
        "arm", "feetech", ControllerConfig(SIX, 0.01), {"port": "x", **ZERO}, JOINTS
    )
    check_run(led_by_hand(robot), RunConfig("x:y"))
    unknown = replace(robot, options={"port": "x"}, template=True)
    with pytest.raises(ValueError, match="is a template"):
        check_run(led_by_hand(unknown), RunConfig("x:y"))
    with pytest.raises(ValueError, match="cannot be led by hand"):
        make_driver(led_by_hand(DRY))


def test_what_moves_the_robot_has_to_be_said_once() -> None:
    with pytest.raises(ValueError, match="say how the robot is moved"):
        TeleopConfig().led_by(None)
    with pytest.raises(ValueError, match="needs no leader arm"):
        TeleopConfig("gamepad").led_by(LEADER)
    with pytest.raises(ConnectionError, match="js77"):
        make_teleoperator(TWO, TeleopConfig("gamepad", device="/dev/input/js77"), PERIOD)
