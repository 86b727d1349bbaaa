"""A ROS 2 node around an exported policy: joint states in, joint commands out.

Needs ROS 2 (rclpy), numpy, onnxruntime and what `hotloop export CKPT OUT` wrote, not hotloop::

    python3 hotloop_node.py --ros-args -p policy:=OUT -p joints:="[pan, lift, elbow]"

Meant for Humble and Jazzy. Its own tests run it against a stand-in of the names of rclpy that it
uses, never in a ROS 2 graph. For limits of velocity, acceleration and jerk, a stop key and a log,
let `hotloop control robot=…` with the driver ros2 move the robot instead.
"""

import importlib.util
import math
import time
from pathlib import Path

import rclpy
from rclpy.duration import Duration
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

STATE = "observation.state"
COMMANDS = {
    "trajectory": ("/joint_trajectory_controller/joint_trajectory", JointTrajectory),
    "positions": ("/forward_position_controller/commands", Float64MultiArray),
}


class HotloopNode(Node):
    """Calls the policy every `dt`; publishes nothing while joint states are missing or old.

    Parameters: ``policy``, the exported folder; ``joints``, the joint that each of its actions
    moves; ``controller``, "trajectory" (all waypoints of a plan at once) or "positions" (one at a
    time); ``states`` and ``commands``, topics; ``max_age`` of joint states [s]; ``max_jump``, how
    far from where it is a joint may be sent by the first waypoint of a plan [rad or m]; ``seed``.
    """

    def __init__(self):
        super().__init__("hotloop")
        folder = Path(self.declare_parameter("policy", "").value)
        self._joints = list(self.declare_parameter("joints", [""]).value)
        self._controller = self.declare_parameter("controller", "trajectory").value
        self._max_age = self.declare_parameter("max_age", 0.2).value
        self._max_jump = self.declare_parameter("max_jump", 0.3).value
        self._seed = self.declare_parameter("seed", 0).value
        states = self.declare_parameter("states", "/joint_states").value
        if self._controller not in COMMANDS:
            raise SystemExit(f"controller:={self._controller} is none of {', '.join(COMMANDS)}")
        topic, message = COMMANDS[self._controller]
        topic = self.declare_parameter("commands", topic).value
        runtime = load_runtime(folder)
        try:
            check_policy(runtime.read_about(folder), self._joints)
            self._policy = runtime.Runtime(folder)
        except (ValueError, OSError, ImportError) as error:
            raise SystemExit(f"policy:={folder}: {error}") from None
        self._state, self._received, self._fresh = None, -math.inf, True
        self._publisher = self.create_publisher(message, topic, 1)
        self.create_subscription(JointState, states, self.receive, qos_profile_sensor_data)
        self.create_service(Trigger, "~/reset", self.reset)
        self.create_timer(self._policy.dt, self.step)

    def receive(self, message):
        """Keep the joints that the policy reads, in its order; other messages are not for us."""
        found = dict(zip(message.name, message.position, strict=False))  # positions may be left out
        if all(math.isfinite(found.get(name, math.nan)) for name in self._joints):
            self._state = [found[name] for name in self._joints]
            self._received = time.monotonic()

    def reset(self, _request, response):
        """Begin an episode: frames, plans and noise of the one before are forgotten."""
        self._policy.reset(self._seed)
        self._fresh, response.success = True, True
        return response

    def step(self):
        """One control step."""
        if time.monotonic() - self._received > self._max_age:
            self.get_logger().warning("no joint states", throttle_duration_sec=1.0)
            if not self._fresh:  # what the policy remembers would be from before the gap
                self.reset(None, Trigger.Response())
            return
        plans = not self._policy.planned
        action = self._policy.act({STATE: self._state})
        self._fresh = False
        if plans:
            jump = max(abs(a - b) for a, b in zip(action, self._state, strict=True))
            if jump > self._max_jump:
                self.get_logger().error(f"a plan begins {jump:.3g} away, nothing is sent")
                self.reset(None, Trigger.Response())
                return
        if self._controller == "positions":
            self._publisher.publish(Float64MultiArray(data=action.tolist()))
        elif plans:
            self._publisher.publish(self.trajectory([action, *self._policy.planned]))

    def trajectory(self, waypoints):
        """Waypoints `dt` apart, the first of them `dt` from now."""
        points = [
            JointTrajectoryPoint(
                positions=waypoint.tolist(),
                time_from_start=Duration(seconds=(index + 1) * self._policy.dt).to_msg(),
            )
            for index, waypoint in enumerate(waypoints)
        ]
        return JointTrajectory(joint_names=self._joints, points=points)


def load_runtime(folder):
    """The module that every exported folder holds a copy of."""
    path = folder / "hotloop_runtime.py"
    if not path.is_file():
        raise SystemExit(f"policy:={folder} holds no {path.name}; write it with `hotloop export`")
    spec = importlib.util.spec_from_file_location("hotloop_runtime", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def check_policy(about, joints):
    """Refuse a policy that reads or moves something other than these joints' positions."""
    names, keys = about["action"]["names"], [one["key"] for one in about["observation"]]
    if len(joints) != len(names):
        raise SystemExit(f"joints:={joints}, but the policy moves {len(names)}: {names}")
    if keys != [STATE] or about["observation"][0]["shape"] != [len(joints)]:
        raise SystemExit(f"this node has {len(joints)} joint positions, the policy reads {keys}")


def main():
    """Run the node until it is shut down."""
    rclpy.init()
    try:
        rclpy.spin(HotloopNode())
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    finally:
        rclpy.try_shutdown()


if __name__ == "__main__":
    main()
