"""Joint states in and commands out of a DDS domain; imported only by who has `cyclonedds`."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Any, cast

from cyclonedds.core import DDSException, Policy, Qos
from cyclonedds.domain import DomainParticipant
from cyclonedds.pub import DataWriter
from cyclonedds.sub import DataReader
from cyclonedds.topic import Topic

from ..core.limits import Motion
from . import ros_messages as ros
from .driver import BusError

_NS = 1_000_000_000
_KEPT = 16  # joint states that wait to be taken
_BEST_EFFORT: Any = cast("Any", Policy).Reliability.BestEffort
# Plain CDR, the one form that ROS 2 has.
_CDR = Policy.DataRepresentation(use_cdrv0_representation=True)
MESSAGES = {"trajectory": ros.JointTrajectory, "positions": ros.Float64MultiArray}


class JointTopics:
    """A participant that reads joint states, and writes commands once it is told to.

    Args:
        domain: Number of the DDS domain.
        states: Topic of the joint states, as ROS 2 shows it.
        controller: Which kind of message commands are, a key of `MESSAGES`.
        names: Joints, in the order of commands.
        dt: Period of commands [s].

    Raises:
        BusError: If the domain cannot be joined.
    """

    def __init__(
        self, domain: int, states: str, controller: str, names: Sequence[str], dt: float
    ) -> None:
        self._controller, self._names = controller, list(names)
        within = round(dt * _NS)
        self._within = ros.Duration(within // _NS, within % _NS)
        # Reliable, which suits whatever the controller asks for. A network that is full costs a
        # command instead of the period.
        reliable = Policy.Reliability.Reliable(max_blocking_time=within // 10)
        self._quality = Qos(reliable, Policy.History.KeepLast(1), _CDR)
        self._writer: DataWriter[ros.JointTrajectory | ros.Float64MultiArray] | None = None
        with _as_bus_errors(states):
            self._participant = DomainParticipant(domain)
            # As every sensor in ROS 2: what is lost is not sent again, the next one is newer.
            # Several may share the topic, an arm and its gripper: the last of one is not lost to
            # the other.
            newest = Qos(_BEST_EFFORT, Policy.History.KeepLast(_KEPT), _CDR)
            topic = Topic(self._participant, f"rt{states}", ros.JointState)
            self._states, self._reader = states, DataReader(self._participant, topic, qos=newest)

    def take(self) -> list[ros.JointState]:
        """Joint states that were not yet taken, the newest last."""
        with _as_bus_errors(self._states):
            found: list[object] = [*self._reader.take(2 * _KEPT)]
        # A publisher that ends leaves a sample without data.
        return [one for one in found if isinstance(one, ros.JointState)]

    def announce(self, commands: str) -> None:
        """Offer commands on a topic; nothing is sent."""
        with _as_bus_errors(commands):
            topic = Topic(self._participant, f"rt{commands}", MESSAGES[self._controller])
            self._writer = DataWriter(self._participant, topic, qos=self._quality)

    def has_listener(self) -> bool:
        """Whether somebody takes the commands."""
        return self._writer is not None and bool(self._writer.get_matched_subscriptions())

    def send(self, motion: Motion) -> None:
        """Send positions that are to be reached within a period."""
        if self._writer is None:
            raise BusError("commands were never announced")
        with _as_bus_errors("commands"):
            self._writer.write(self._message(motion))

    def _message(self, motion: Motion) -> ros.JointTrajectory | ros.Float64MultiArray:
        positions = motion.position.tolist()
        if self._controller == "positions":
            return ros.Float64MultiArray(ros.MultiArrayLayout([], 0), positions)
        velocities = motion.velocity.tolist()
        point = ros.JointTrajectoryPoint(positions, velocities, [], [], self._within)
        return ros.JointTrajectory(ros.Header(ros.Time(0, 0), ""), self._names, [point])


@contextmanager
def _as_bus_errors(what: str) -> Generator[None, None, None]:
    try:
        yield
    except DDSException as error:
        raise BusError(f"{what}: {error}") from error
