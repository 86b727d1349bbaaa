"""A stand-in for the names of rclpy and of ROS 2's messages that the node uses."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar

import pytest


class Duration:
    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def to_msg(self) -> SimpleNamespace:
        nanoseconds = round(self.seconds * 1e9)
        return SimpleNamespace(sec=nanoseconds // 10**9, nanosec=nanoseconds % 10**9)


class Logger:
    def __init__(self) -> None:
        self.lines: list[str] = []

    def warning(self, text: str, throttle_duration_sec: float) -> None:
        self.lines.append(text)

    def error(self, text: str) -> None:
        self.lines.append(text)


class Node:
    """Keeps what it is asked for; a test calls what ROS 2 would call."""

    given: ClassVar[dict[str, Any]] = {}

    def __init__(self, name: str) -> None:
        self.name, self.logger, self.published = name, Logger(), []
        self.topics: dict[str, type] = {}

    def declare_parameter(self, name: str, default: Any) -> SimpleNamespace:
        value = self.given.get(name, default)
        assert type(value) is type(default), f"ROS 2 refuses another type for {name}"
        return SimpleNamespace(value=value)

    def create_publisher(self, kind: type, topic: str, depth: int) -> SimpleNamespace:
        self.topics[topic] = kind

        def publish(message: Any) -> None:
            assert isinstance(message, kind)
            self.published.append(message)

        return SimpleNamespace(publish=publish)

    def create_subscription(self, kind: type, topic: str, callback: Any, quality: object) -> None:
        self.topics[topic], self.hear = kind, callback

    def create_service(self, kind: type, name: str, callback: Any) -> None:
        self.services = {name: lambda: callback(kind.Request(), kind.Response())}

    def create_timer(self, period: float, callback: Any) -> None:
        self.period, self.tick = period, callback

    def get_logger(self) -> Logger:
        return self.logger


def message(*fields: str) -> type:
    """A message class that knows its fields, as generated ones do."""

    def init(self: Any, **values: Any) -> None:
        assert values.keys() <= set(fields), values.keys()
        vars(self).update(values)

    return type("Message", (), {"__init__": init})


Response = type("Response", (), {"success": False, "message": ""})
STUBS: dict[str, dict[str, Any]] = {
    "rclpy": {"init": lambda: None, "spin": lambda node: None, "try_shutdown": lambda: None},
    "rclpy.duration": {"Duration": Duration},
    "rclpy.executors": {"ExternalShutdownException": type("Shutdown", (Exception,), {})},
    "rclpy.node": {"Node": Node},
    "rclpy.qos": {"qos_profile_sensor_data": object()},
    "sensor_msgs.msg": {"JointState": message("header", "name", "position", "velocity", "effort")},
    "std_msgs.msg": {"Float64MultiArray": message("layout", "data")},
    "std_srvs.srv": {"Trigger": type("Trigger", (), {"Request": object, "Response": Response})},
    "trajectory_msgs.msg": {
        "JointTrajectory": message("header", "joint_names", "points"),
        "JointTrajectoryPoint": message("positions", "velocities", "time_from_start"),
    },
}


def install(monkeypatch: pytest.MonkeyPatch, **parameters: Any) -> None:
    """Put the stand-in where ROS 2 would be, with a node's parameters."""
    for name, members in STUBS.items():
        module = ModuleType(name)
        vars(module).update(members)
        for entry in (name.partition(".")[0], name):
            if entry == name or entry not in STUBS:
                monkeypatch.setitem(sys.modules, entry, module)
    monkeypatch.setattr(Node, "given", parameters)
