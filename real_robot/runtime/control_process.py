"""The control process: no torch, no garbage collection, real-time scheduling if permitted."""

from __future__ import annotations

import sys
import warnings

from ..drivers import make_driver
from .loop import ControlLoop
from .realtime import follow_parent, on_signals, request_realtime
from .start import receive


def main() -> int:
    """Run the loop of this process's robot; 1 if the robot could not be connected."""
    assignment = receive()
    driver = make_driver(assignment.robot)
    loop = ControlLoop(assignment.robot, driver, assignment.channels())
    on_signals(loop.end)
    follow_parent()
    # A warning that is printed to a terminal that does not read would hold up the loop.
    warnings.simplefilter("ignore")
    loop.realtime = request_realtime() if assignment.robot.realtime else "not requested"
    try:
        loop.run()
    except OSError:
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
