"""An emulated arm that is moved by hand, and an operator who does what calibration asks for."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np

from hotloop.real_robot.emulator.bus import PROTOCOLS, ServoBus
from hotloop.real_robot.emulator.plant import Plant

TICK = 2 * np.pi / 4096
JOINTS = ("shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll", "gripper")
# What calibration has to find out: where the joints are at 0 rad, and which way is positive, both
# as the emulator's plant counts; its servos read 2048 at the plant's 0 and count up.
ZERO = np.array([0.2, -0.1, 0.0, 0.3, -0.4, 0.1])
DIRECTION = np.array([1, -1, 1, -1, -1, 1])
LOW = np.array([-1.4, -1.1, -1.0, -1.2, -2.0, -0.1])
HIGH = np.array([1.3, 1.1, 1.2, 1.4, 2.1, 1.2])


@contextmanager
def limp_bus(protocol: str, ids=range(1, 7)) -> Iterator[ServoBus]:
    """A bus in a thread whose arm stays where a hand puts it; without IDs, new from the box."""
    going = threading.Event()
    going.set()
    plant, family = Plant("arm6"), PROTOCOLS[protocol]
    plant.catch_up = lambda now: None
    with ServoBus(family(plant, list(ids)) if ids else family.from_the_box(plant)) as bus:
        thread = threading.Thread(target=bus.serve, args=(going.is_set,))
        thread.start()
        try:
            yield bus
        finally:
            going.clear()
            thread.join()


class Helper:
    """Moves the arm as it is asked to.

    Args:
        bus: Whose arm.
        changed: Answers of its own, called with a question first; None leaves it to the helper.
        offset: What is added to all positions, e.g. horns that were put on the servos otherwise.
    """

    def __init__(
        self,
        bus: ServoBus,
        changed: Callable[[str], str | None] = lambda question: None,
        offset: np.ndarray | float = 0.0,
    ) -> None:
        self.servos, self.plant, self.changed = bus.servos, bus.servos.plant, changed
        self.offset = offset
        self.said: list[str] = []
        self.asked: list[str] = []

    def put(self, position: np.ndarray) -> None:
        self.plant.pose(np.asarray(position, np.float64), np.zeros(0))

    def turn(self, joint: int, angle: float) -> None:
        position = self.plant.position
        position[joint] += angle
        self.put(position)

    def say(self, text: str) -> None:
        self.said.append(text)

    def ask(self, question: str) -> str:
        self.asked.append(question)
        if (answer := self.changed(question)) is not None:
            return answer
        if "alone, with power" in question:
            name = question.removeprefix("Connect the servo of ").split(" alone")[0]
            self.servos.plug_in([JOINTS.index(name)])
        if "Connect all servos" in question:
            self.servos.plug_in(range(6))
        if "0 rad" in question:
            self.put(ZERO + self.offset)
        if "positive direction" in question:
            joint = JOINTS.index(question.split(":")[0])
            self.turn(joint, 0.3 * DIRECTION[joint])
        return "y" if "[y/n]" in question else ""

    def ask_while(self, question: str, look: Callable[[], str]) -> str:
        self.asked.append(question)
        if (answer := self.changed(question)) is not None:
            return answer
        start = self.plant.position
        for begin, end in ((start, LOW + self.offset), (LOW + self.offset, HIGH + self.offset)):
            # A hand does not jump by half a turn.
            for share in np.linspace(0, 1, 5):
                self.put(begin + share * (end - begin))
                look()
        return ""
