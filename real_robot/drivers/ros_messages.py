"""The messages of ROS 2 that move a robot, as DDS types: `pip install 'hotloop[ros2]'`.

ROS 2 puts ``rt/`` before a topic's name, ``dds_::`` and ``_`` around a type's, and sends plain CDR.
Imported only by who has `cyclonedds`. Annotations are read by it, so they are no strings here.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cyclonedds.idl import IdlStruct
from cyclonedds.idl.annotations import final
from cyclonedds.idl.types import int32, uint32

if TYPE_CHECKING:
    from builtins import list as sequence
else:
    from cyclonedds.idl.types import sequence


@dataclass
@final
class Time(IdlStruct, typename="builtin_interfaces.msg.dds_.Time_"):
    """Seconds since 1970, and nanoseconds beyond them."""

    sec: int32 = 0
    nanosec: uint32 = 0


@dataclass
@final
class Duration(IdlStruct, typename="builtin_interfaces.msg.dds_.Duration_"):
    """Seconds, and nanoseconds beyond them."""

    sec: int32
    nanosec: uint32


@dataclass
@final
class Header(IdlStruct, typename="std_msgs.msg.dds_.Header_"):
    """When and in which frame; a zero stamp means now."""

    stamp: Time
    frame_id: str


@dataclass
@final
class JointState(IdlStruct, typename="sensor_msgs.msg.dds_.JointState_"):
    """Measured joints, in an order of the sender's: rad and rad/s, or m and m/s."""

    header: Header
    name: sequence[str]
    position: sequence[float]
    velocity: sequence[float]
    effort: sequence[float]


@dataclass
@final
class JointTrajectoryPoint(IdlStruct, typename="trajectory_msgs.msg.dds_.JointTrajectoryPoint_"):
    """Where joints are to be after a time; what is empty is left to the controller."""

    positions: sequence[float]
    velocities: sequence[float]
    accelerations: sequence[float]
    effort: sequence[float]
    time_from_start: Duration


@dataclass
@final
class JointTrajectory(IdlStruct, typename="trajectory_msgs.msg.dds_.JointTrajectory_"):
    """What a `joint_trajectory_controller` follows."""

    header: Header
    joint_names: sequence[str]
    points: sequence[JointTrajectoryPoint]


@dataclass
@final
class MultiArrayDimension(IdlStruct, typename="std_msgs.msg.dds_.MultiArrayDimension_"):
    """Never filled in; controllers read the data alone."""

    label: str
    size: uint32
    stride: uint32


@dataclass
@final
class MultiArrayLayout(IdlStruct, typename="std_msgs.msg.dds_.MultiArrayLayout_"):
    """Never filled in; controllers read the data alone."""

    dim: sequence[MultiArrayDimension]
    data_offset: uint32


@dataclass
@final
class Float64MultiArray(IdlStruct, typename="std_msgs.msg.dds_.Float64MultiArray_"):
    """What a `forward_command_controller` follows: one number per joint, in its own order."""

    layout: MultiArrayLayout
    data: sequence[float]
