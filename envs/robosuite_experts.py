"""Scripted experts of robosuite's tasks, who differ from episode to episode as people do."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping

import numpy as np

from .task import Environment
from .teleoperation import CLOSED, OPEN, Aim, Manner, Teleoperator

_MISTAKE = 0.08  # share of first grasps that close above the object
# Where the can is let go above its own bin [m]: the half that the arm reaches with ease.
_CAN_PLACES = np.array([[0.13, 0.33, 0.99], [0.18, 0.40, 1.04]])
_PEG = np.array([0.23, 0.1, 0.95])  # [m], top of the square one
_WRIST = 1.75  # [rad], what the wrist can turn either way
_PAUSE = 0.15  # share of the moments to rest at which somebody rests
_EMPTY = 0.004  # [m], position of a finger that holds nothing


class RobosuiteExpert(ABC):
    """Acts as its script says, which is one generator of aims per episode."""

    paces = (0.55, 1.0)  # slowest and fastest person, see `Manner`

    def reset(self, frame: Mapping[str, np.ndarray], seed: int) -> None:
        """Begin an episode as the person that `seed` determines."""
        self.rng = np.random.default_rng([seed, 13])
        self._operator = Teleoperator(Manner.draw(self.rng, self.paces), self.rng)
        self._look(frame)
        self._script = self.script()

    def act(self, frame: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return the action for a frame, shape (7,)."""
        self._look(frame)
        return self._operator.act(self.hand, self._quaternion, next(self._script))

    @abstractmethod
    def script(self) -> Iterator[Aim]:
        """Yield an aim for every step; `hand`, `object` and `object_yaw` are the newest."""

    @abstractmethod
    def locate(self, state: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Take the object's position and quaternion x, y, z, w out of ``observation.object``."""

    def go(
        self, aim: Callable[[], Aim], tolerance: float, patience: int = 60, turn: float = 0.15
    ) -> Iterator[Aim]:
        """Yield what `aim` says now until the hand is there [m], [rad], or for so many steps."""
        for _ in range(patience):
            now = aim()
            yield now
            near = np.linalg.norm(now.position - self.hand) < tolerance
            if near and np.linalg.norm(self._operator.turn(self._quaternion, now.yaw)) < turn:
                return

    def hold(self, aim: Aim, steps: int) -> Iterator[Aim]:
        """Yield the same aim for some steps."""
        for _ in range(steps):
            yield aim

    def steps(self, fewest: int, most: int) -> int:
        """Draw a number of steps, less than `most`."""
        return int(self.rng.integers(fewest, most))

    def hesitate(self, fingers: float) -> Iterator[Aim]:
        """Yield nothing, or sometimes a short rest."""
        if self.rng.random() < _PAUSE:
            rest = Aim(self.hand.copy(), self.hand_yaw, fingers)
            yield from self.hold(rest, self.steps(3, 8))

    def while_holding(self, aims: Iterator[Aim]) -> Iterator[Aim]:
        """Yield aims until the fingers have met."""
        for step, aim in enumerate(aims):
            yield aim
            if step > 3 and self.holds_nothing:
                return

    @property
    def holds_nothing(self) -> bool:
        """Whether the fingers have met."""
        return bool(self._fingers < _EMPTY)

    @property
    def hand_yaw(self) -> float:
        """Angle of the fingers' axis from the world's y [rad]."""
        x, y, z, w = self._quaternion
        return float(np.arctan2(2 * (x * y + z * w), 1 - 2 * (y * y + z * z)))

    def symmetric_yaw(self, yaw: float, period: float, *, second: float) -> float:
        """Of the equivalent angles choose the nearest to the hand's, or sometimes the next one.

        Args:
            yaw: One of the angles [rad].
            period: What they differ by.
            second: Probability of the second nearest.
        """
        steps = np.arange(-6, 7) * period
        candidates = yaw + steps
        candidates = candidates[np.abs(candidates) < _WRIST]
        order = np.argsort(np.abs(candidates - self.hand_yaw))
        index = int(len(order) > 1 and self.rng.random() < second)
        return float(candidates[order[index]])

    def _look(self, frame: Mapping[str, np.ndarray]) -> None:
        self.hand = frame["observation.robot0_eef_pos"].astype(np.float64)
        self._quaternion = frame["observation.robot0_eef_quat"].astype(np.float64)
        self._fingers = float(frame["observation.robot0_gripper_qpos"][0])
        self.object, quaternion = self.locate(frame["observation.object"].astype(np.float64))
        x, y, z, w = quaternion
        self.object_yaw = float(np.arctan2(2 * (x * y + z * w), 1 - 2 * (y * y + z * z)))


class LiftExpert(RobosuiteExpert):
    """Grasps the cube by one of its two pairs of sides and lifts it."""

    paces = (0.35, 0.8)  # it is near

    def locate(self, state: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See `RobosuiteExpert`; Lift's state begins with the cube."""
        return state[:3], state[3:7]

    def script(self) -> Iterator[Aim]:
        """Approach from some side, grasp, lift, and again if the cube was missed."""
        yield from self._attempt(mistake=self.rng.random() < _MISTAKE)
        while True:
            yield from self._attempt(mistake=False)

    def _attempt(self, mistake: bool) -> Iterator[Aim]:
        rng, yaw = self.rng, self.symmetric_yaw(self.object_yaw, np.pi / 2, second=0.3)
        side = rng.choice([-1, 1]) * rng.uniform(0.02, 0.07)
        via = np.array([rng.uniform(-0.04, 0.04), side, rng.uniform(0.07, 0.13)])
        yield from self.go(lambda: Aim(self.object + via, yaw, OPEN), 0.03, turn=0.5)
        offset = across(yaw, rng.uniform(-0.006, 0.006), rng.uniform(-0.006, 0.006))
        offset[2] = rng.uniform(0.032, 0.045) if mistake else rng.uniform(-0.008, 0.006)
        above = offset + across(0.0, 0.0, up=rng.uniform(0.04, 0.08))
        yield from self.go(lambda: Aim(self.object + above, yaw, OPEN), 0.012)
        yield from self.go(lambda: Aim(self.object + offset, yaw, OPEN, 0.7), 0.008)
        place = self.hand.copy()
        yield from self.hold(Aim(place, yaw, CLOSED), self.steps(5, 10))
        goal = place + rng.uniform([-0.03, -0.03, 0.1], [0.03, 0.03, 0.14])
        yield from self.while_holding(self.hold(Aim(goal, yaw, CLOSED), 60))


class CanExpert(RobosuiteExpert):
    """Grasps the can, carries it over the wall between the bins and puts it into its own."""

    def locate(self, state: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See `RobosuiteExpert`; the state begins with the pose relative to the hand."""
        return state[7:10], state[10:14]

    def script(self) -> Iterator[Aim]:
        """Grasp and carry, and again if the can was missed or lost."""
        mistake = self.rng.random() < _MISTAKE
        while True:
            yield from self._grasp(mistake)
            yield from self._carry()
            mistake = False

    def _grasp(self, mistake: bool) -> Iterator[Aim]:
        rng = self.rng
        # A round can may be grasped from any side: people turn the wrist a little, or not.
        yaw = float(np.clip(self.hand_yaw + rng.normal(0.0, 0.35), -1.2, 1.2))
        via = rng.uniform([-0.05, -0.08, 0.1], [0.05, 0.08, 0.17])
        yield from self.go(lambda: Aim(self.object + via, yaw, OPEN), 0.04, turn=0.5)
        yield from self.hesitate(OPEN)
        offset = across(yaw, rng.uniform(-0.006, 0.006), rng.uniform(-0.008, 0.008))
        offset[2] = rng.uniform(0.075, 0.085) if mistake else rng.uniform(-0.01, 0.03)
        above = offset + across(0.0, 0.0, up=rng.uniform(0.05, 0.09))
        yield from self.go(lambda: Aim(self.object + above, yaw, OPEN), 0.015)
        yield from self.go(lambda: Aim(self.object + offset, yaw, OPEN, 0.7), 0.01)
        yield from self.hold(Aim(self.hand.copy(), yaw, CLOSED), self.steps(6, 11))

    def _carry(self) -> Iterator[Aim]:
        rng, yaw, start = self.rng, self.hand_yaw, self.hand.copy()
        lifted = start + rng.uniform([-0.03, -0.03, 0.0], [0.03, 0.03, 0.0])
        lifted[2] = rng.uniform(1.0, 1.05)  # above the wall of 0.9, with the can below the hand
        yield from self.while_holding(self.go(lambda: Aim(lifted, yaw, CLOSED), 0.04))
        yield from self.while_holding(self.hesitate(CLOSED))
        target = rng.uniform(*_CAN_PLACES)
        turned = float(np.clip(yaw + rng.normal(0.0, 0.3), -1.0, 1.0))
        # Over the wall on the robot's side, straight, or in a bow on the far side.
        middle = (lifted + target) / 2
        middle[0] += rng.choice([-0.1, 0.0, 0.06])
        yield from self.while_holding(self.go(lambda: Aim(middle, turned, CLOSED), 0.06, turn=1))
        yield from self.while_holding(self.go(lambda: Aim(target, turned, CLOSED), 0.04, turn=1))
        if self.holds_nothing:
            return
        low = target - across(0.0, 0.0, up=rng.uniform(0.04, 0.1))
        yield from self.go(lambda: Aim(low, turned, CLOSED), 0.03, patience=20, turn=1)
        yield from self.hold(Aim(low, turned, OPEN), 12)


class SquareExpert(RobosuiteExpert):
    """Grasps the square nut by its handle, turns it to fit and lets it down over the peg."""

    def locate(self, state: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See `RobosuiteExpert`; the state begins with the pose relative to the hand."""
        return state[7:10], state[10:14]

    def script(self) -> Iterator[Aim]:
        """Grasp, align and insert, and again whatever went wrong."""
        high, beside = self.rng.random(2) < _MISTAKE
        while True:
            yield from self._grasp(high)
            high = False
            yield from self._lift()
            while not self.holds_nothing:
                yield from self._insert(beside)
                beside = False

    def _grasp(self, mistake: bool) -> Iterator[Aim]:
        rng, yaw = self.rng, self.symmetric_yaw(self.object_yaw, np.pi, second=0.15)
        via = rng.uniform([-0.04, -0.07, 0.09], [0.04, 0.07, 0.15])
        along = rng.uniform(0.05, 0.066)
        up = rng.uniform(0.03, 0.04) if mistake else rng.uniform(-0.004, 0.004)

        def handle(height: float) -> np.ndarray:
            return self.object + across(self.object_yaw, 0.0, along, up + height)

        yield from self.go(lambda: Aim(handle(0.0) + via, yaw, OPEN), 0.04, turn=0.5)
        yield from self.hesitate(OPEN)
        yield from self.go(lambda: Aim(handle(0.05), yaw, OPEN, 0.8), 0.012)
        yield from self.go(lambda: Aim(handle(0.0), yaw, OPEN, 0.6), 0.007)
        yield from self.hold(Aim(self.hand.copy(), yaw, CLOSED), self.steps(7, 12))

    def _lift(self) -> Iterator[Aim]:
        rng, yaw = self.rng, self.hand_yaw
        lifted = self.hand + rng.uniform([-0.03, -0.03, 0.0], [0.03, 0.03, 0.0])
        lifted[2] = rng.uniform(1.0, 1.06)
        yield from self.while_holding(self.go(lambda: Aim(lifted, yaw, CLOSED), 0.04))
        yield from self.while_holding(self.hesitate(CLOSED))
        self._nut_yaw, self._place_yaw = self._way_round(yaw)
        # Turn on the way: on the robot's side, straight, or on the far side.
        middle = (lifted + _PEG) / 2 + [rng.choice([-0.06, 0.0, 0.06]), rng.uniform(-0.03, 0.03), 0]
        middle[2] = lifted[2]
        yield from self.while_holding(
            self.go(lambda: Aim(middle, self._place_yaw, CLOSED), 0.05, turn=1.0)
        )

    def _way_round(self, yaw: float) -> tuple[float, float]:
        """Choose the nut's yaw on the peg, and the hand's: the handle points not away from it."""
        ways = []
        for nut_yaw in (np.pi / 2, np.pi, -np.pi / 2):
            place_yaw = (nut_yaw - self.object_yaw + yaw + np.pi) % (2 * np.pi) - np.pi
            if abs(place_yaw) < _WRIST and abs(place_yaw - yaw) < 2.8:
                ways.append((abs(place_yaw - yaw), nut_yaw, place_yaw))
        ways.sort()
        _, nut_yaw, place_yaw = ways[int(len(ways) > 1 and self.rng.random() < 0.25)]
        return nut_yaw, place_yaw

    def _insert(self, mistake: bool) -> Iterator[Aim]:
        rng = self.rng
        beside = np.zeros(3)
        if mistake:
            beside[:2] = rng.choice([-1, 1], 2) * rng.uniform(0.012, 0.018, 2)

        def nut_at(height: float, haste: float) -> Aim:
            error = (self._nut_yaw - self.object_yaw + np.pi) % (2 * np.pi) - np.pi
            place = np.array([*_PEG[:2], height]) + beside
            way = place - self.object
            if height < _PEG[2]:  # no lower before it fits
                way[2] *= float(np.linalg.norm(way[:2]) < 0.012)
            return Aim(self.hand + way, self.hand_yaw + error, CLOSED, haste)

        above = rng.uniform(0.985, 1.01)
        yield from self.while_holding(self.go(lambda: nut_at(above, 0.8), 0.006, turn=0.08))
        low = rng.uniform(0.86, 0.92)
        yield from self.while_holding(self.go(lambda: nut_at(low, 0.5), 0.012, patience=25))
        if self.object[2] < 0.94:
            yield from self.hold(Aim(self.hand.copy(), self.hand_yaw, OPEN), 12)


def across(yaw: float, sideways: float, along: float = 0.0, up: float = 0.0) -> np.ndarray:
    """Return an offset along the fingers' axis at `yaw`, at right angles to it, and up [m]."""
    sine, cosine = np.sin(yaw), np.cos(yaw)
    return np.array([cosine * along - sine * sideways, sine * along + cosine * sideways, up])


def make_lift_expert(env: Environment) -> LiftExpert:
    """Build the expert of ``lift``."""
    del env
    return LiftExpert()


def make_can_expert(env: Environment) -> CanExpert:
    """Build the expert of ``can``."""
    del env
    return CanExpert()


def make_square_expert(env: Environment) -> SquareExpert:
    """Build the expert of ``square``."""
    del env
    return SquareExpert()
