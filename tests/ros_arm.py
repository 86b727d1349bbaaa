"""A simulated arm behind ROS 2's topics, on loopback: what a robot with ros2_control would do."""

from __future__ import annotations

import sys
import threading
import time

import numpy as np
from cyclonedds.core import Policy, Qos
from cyclonedds.domain import DomainParticipant
from cyclonedds.internal import InvalidSample
from cyclonedds.pub import DataWriter
from cyclonedds.sub import DataReader
from cyclonedds.topic import Topic

from hotloop.real_robot.drivers import ros_messages as ros
from hotloop.real_robot.drivers.ros2 import CONTROLLERS
from hotloop.real_robot.emulator.plant import Plant

DOMAIN = 87
PERIOD = 0.004  # [s] between two joint states
JOINTS = tuple(f"joint_{number}" for number in range(1, 7))
# No other machine is looked for, and none sees this.
LOOPBACK = (
    '<CycloneDDS><Domain Id="any"><General><AllowMulticast>false</AllowMulticast><Interfaces>'
    '<NetworkInterface name="lo"/></Interfaces></General><Discovery><Peers>'
    '<Peer address="localhost"/></Peers><ParticipantIndex>auto</ParticipantIndex></Discovery>'
    "</Domain></CycloneDDS>"
)


class RosArm:
    """Context in which an arm publishes its joints and follows what it is sent.

    Args:
        controllers: Kinds of controllers that are active.
    """

    def __init__(self, *controllers: str) -> None:
        self._plant, self._going = Plant("arm6"), threading.Event()
        self.sends_velocity, self.silent, self.silent_after = True, False, sys.maxsize
        self.gripper_follows = False
        self.received: list[ros.JointTrajectory | ros.Float64MultiArray] = []
        self._controllers = controllers
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> RosArm:
        self._participant = DomainParticipant(DOMAIN)
        reliable = Qos(
            Policy.Reliability.Reliable(100_000_000),
            Policy.History.KeepLast(10),
            Policy.DataRepresentation(use_cdrv0_representation=True),
        )
        kinds = {"trajectory": ros.JointTrajectory, "positions": ros.Float64MultiArray}
        self._readers = [
            DataReader(
                self._participant,
                Topic(self._participant, f"rt{CONTROLLERS[kind]}", kinds[kind]),
                qos=reliable,
            )
            for kind in self._controllers
        ]
        topic = Topic(self._participant, "rt/joint_states", ros.JointState)
        self._writer = DataWriter(self._participant, topic, qos=reliable)
        self._going.set()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._going.clear()
        self._thread.join()
        self._readers, self._writer, self._participant = [], None, None

    def _serve(self) -> None:
        while self._going.is_set():
            for reader in self._readers:
                for message in reader.take(10):
                    if not isinstance(message, InvalidSample):  # of a driver that left
                        self.received.append(message)
                        self._follow(message)
            self._plant.catch_up(time.monotonic())
            if not self.silent and len(self.received) < self.silent_after:
                self._writer.write(self._state())
                if self.gripper_follows:
                    gripper = ros.JointState(ros.Header(ros.Time(1, 2), ""), ["jaw"], [0.0], [], [])
                    self._writer.write(gripper)
            time.sleep(PERIOD)

    def _follow(self, message: ros.JointTrajectory | ros.Float64MultiArray) -> None:
        if isinstance(message, ros.Float64MultiArray):
            self._plant.target = np.array(message.data)
        else:
            goal = dict(zip(message.joint_names, message.points[-1].positions, strict=True))
            self._plant.target = np.array([goal[name] for name in JOINTS])

    def _state(self) -> ros.JointState:
        """In another order than the robot file's, with a joint that nobody asked for."""
        velocity = self._plant.velocity[::-1].tolist()
        header = ros.Header(ros.Time(1, 2), "base")
        return ros.JointState(
            header,
            [*JOINTS[::-1], "wheel"],
            [*self._plant.position[::-1].tolist(), 0.0],
            [*velocity, 0.0] if self.sends_velocity else [float("nan")] * 7,
            [],
        )
