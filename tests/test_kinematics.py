"""Where a tool is, and how it is brought elsewhere, against formulas that know neither library."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from arms import desktop_arm, needs_panda, panda
from hypothesis import given
from hypothesis import strategies as st

from hotloop.real_robot.kinematics.actions import ROTATIONS
from hotloop.real_robot.kinematics.arm import Arm
from hotloop.real_robot.kinematics.config import GripperConfig, KinematicsConfig, PlaneConfig
from hotloop.real_robot.kinematics.model import compile_model
from hotloop.real_robot.kinematics.pose import Pose, rotation_matrix, rotation_numbers

URDF = """<robot name="two links">
<link name="root"/>
<joint name="first" type="revolute"><parent link="root"/><child link="upper"/>
<origin xyz="0 0 0.1"/><axis xyz="0 0 1"/><limit lower="-2" upper="2" effort="1" velocity="1"/>
</joint>
<link name="upper"/>
<joint name="second" type="revolute"><parent link="upper"/><child link="fore"/>
<origin xyz="0.4 0 0"/><axis xyz="0 0 1"/><limit lower="-2" upper="2" effort="1" velocity="1"/>
</joint>
<link name="fore"/>
<joint name="flange" type="fixed"><parent link="fore"/><child link="tip"/><origin xyz="0.3 0 0"/>
</joint>
<link name="tip"/></robot>"""


def turn(axis: int, angle: float) -> np.ndarray:
    """Rotation about x, y or z, from the textbook."""
    matrix = np.eye(3)
    one, other = (axis + 1) % 3, (axis + 2) % 3
    matrix[one, one] = matrix[other, other] = np.cos(angle)
    matrix[other, one], matrix[one, other] = np.sin(angle), -np.sin(angle)
    return matrix


@given(st.lists(st.floats(-3, 3), min_size=3, max_size=3), st.sampled_from(sorted(ROTATIONS)))
def test_a_rotation_survives_every_way_of_writing_it(angles: list[float], kind: str) -> None:
    rotation = turn(2, angles[2]) @ turn(1, angles[1]) @ turn(0, angles[0])
    numbers = rotation_numbers(kind, rotation)
    assert numbers.shape == (ROTATIONS[kind],)
    assert np.allclose(rotation_matrix(kind, numbers), rotation, atol=1e-7)


def test_rotations_are_written_as_others_write_them() -> None:
    quarter = turn(2, np.pi / 2)
    half = np.sqrt(0.5)
    expected = {
        "axis-angle": [0, 0, np.pi / 2],
        "roll-pitch-yaw": [0, 0, np.pi / 2],
        "6d-rows": [0, -1, 0, 1, 0, 0],
        "6d-columns": [0, 1, 0, -1, 0, 0],
        "quaternion-xyzw": [0, 0, half, half],
        "quaternion-wxyz": [half, 0, 0, half],
    }
    for kind, numbers in expected.items():
        assert np.allclose(rotation_numbers(kind, quarter), numbers, atol=1e-12), kind
    # Fixed axes, in the order x, y, z.
    assert np.allclose(
        rotation_matrix("roll-pitch-yaw", np.array([0.1, 0.2, 0.3])),
        turn(2, 0.3) @ turn(1, 0.2) @ turn(0, 0.1),
    )


def test_six_numbers_of_a_network_are_the_nearest_rotation() -> None:
    numbers = np.array([2.0, 0.0, 0.0, 1.0, 3.0, 0.0])
    assert np.allclose(rotation_matrix("6d-rows", numbers), np.eye(3))
    for none in ([0.0] * 6, [1.0, 0, 0, 2.0, 0, 0]):
        with pytest.raises(ValueError, match="give no rotation"):
            rotation_matrix("6d-columns", np.array(none))
    with pytest.raises(ValueError, match="quaternion"):
        rotation_matrix("quaternion-xyzw", np.zeros(4))


def test_ways_are_along_the_axes_that_they_are_said_to_be() -> None:
    pose = Pose(np.array([1.0, 2.0, 3.0]), turn(2, np.pi / 2))
    way, quarter = np.array([1.0, 0, 0]), turn(0, np.pi / 2)
    along_base = pose.moved(way, quarter, in_own_axes=False)
    along_tool = pose.moved(way, quarter, in_own_axes=True)
    assert np.allclose(along_base.position, [2, 2, 3])
    assert np.allclose(along_tool.position, [1, 3, 3])
    assert np.allclose(along_base.rotation, quarter @ pose.rotation)
    assert np.allclose(along_tool.rotation, pose.rotation @ quarter)
    assert np.allclose(pose.distances(along_tool), [1, np.pi / 2])
    assert np.allclose(along_tool.within(pose).out_of(pose).rotation, along_tool.rotation)


@needs_panda
def test_the_pandas_hand_is_where_its_makers_table_puts_it() -> None:
    """Modified Denavit-Hartenberg parameters of Franka's documentation, and a flange."""
    a = [0, 0, 0, 0.0825, -0.0825, 0, 0.088]
    d = [0.333, 0, 0.316, 0, 0.384, 0, 0]
    alpha = [0, -np.pi / 2, np.pi / 2, np.pi / 2, -np.pi / 2, np.pi / 2, np.pi / 2]
    arm = Arm(panda(planes=(), collisions="none"))
    for angles in np.random.default_rng(0).uniform(arm.low, arm.high, (20, 7)):
        place = np.eye(4)
        for joint in range(7):
            link = np.eye(4)
            link[:3, :3] = turn(0, alpha[joint]) @ turn(2, angles[joint])
            link[:3, 3] = [a[joint], *(turn(0, alpha[joint]) @ [0, 0, d[joint]])[1:]]
            place = place @ link
        flange = place @ [0, 0, 0.107, 1]
        pose = arm.tool_pose(angles)
        assert np.allclose(pose.position, flange[:3], atol=1e-3)
        assert np.allclose(pose.rotation[:, 2], place[:3, 2], atol=1e-3)


def test_a_urdf_keeps_its_fixed_frames_and_base_origin_and_offset_add_up(tmp_path) -> None:
    path = tmp_path / "arm.urdf"
    path.write_text(URDF)
    robot = desktop_arm()
    limits = replace(
        robot.control.limits, **{key: (value,) * 2 for key, value in
        {"low": -1.5, "high": 1.5, "velocity": 2.0, "acceleration": 9.0, "jerk": 90.0}.items()}
    )  # fmt: skip
    kinematics = KinematicsConfig(str(path), "tip", origin=(0.0, 1.0, 0.0), collisions="none")
    made = replace(
        robot, joints=("first", "second"), kinematics=kinematics, cameras={},
        control=replace(robot.control, limits=limits, tracking_error=()),
    )  # fmt: skip
    angles = np.array([0.3, 0.4])
    expected = [0.4 * np.cos(0.3) + 0.3 * np.cos(0.7), 0.4 * np.sin(0.3) + 0.3 * np.sin(0.7), 0.1]
    assert np.allclose(Arm(made).tool_pose(angles).position, expected + np.array([0, 1, 0]))
    longer = replace(kinematics, tool_offset=(0.1, 0.0, 0.0), base="root", origin=(0.0, 0.0, 0.0))
    further = Arm(replace(made, kinematics=longer)).tool_pose(angles)
    assert np.allclose(further.position, expected + 0.1 * turn(2, 0.7)[:, 0])


def test_a_urdf_that_names_packages_is_told_where_its_meshes_are(tmp_path) -> None:
    mesh = '<geometry><mesh filename="package://maker/meshes/fore.obj"/></geometry>'
    path = tmp_path / "arm.urdf"
    path.write_text(
        URDF.replace(
            '<link name="fore"/>',
            f'<link name="fore"><visual>{mesh}</visual><collision>{mesh}</collision></link>',
        )
    )
    config = KinematicsConfig(str(path), "tip")
    with pytest.raises(ValueError, match=r"fore.obj'; kinematics.meshes=FOLDER says where"):
        compile_model(config)
    corners = ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1))
    lines = [f"v {x} {y} {z}" for x, y, z in corners] + ["f 1 3 2", "f 1 2 4", "f 2 3 4", "f 3 1 4"]
    (tmp_path / "fore.obj").write_text("\n".join(lines))
    assert compile_model(replace(config, meshes=str(tmp_path))).ngeom == 1


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"tool": "claw"}, "no site or body 'claw', which kinematics.tool names"),
        ({"base": "hand"}, "kinematics.base 'hand' moves with the joints"),
        ({"joints": ("a",) * 6}, "the model has no joint 'a' but"),
        ({"joints": ("elbow",)}, "needs one name for each of the 6 joints"),
        ({"joints": ("elbow",) * 5 + ("gripper",)}, "names a joint twice"),
        ({"model": "no_such"}, "no MuJoCo model 'no_such'"),
        ({"model": "numpy:no/such.xml"}, "there is no file"),
        ({"model": "no_such_package:a.xml"}, "package no_such_package is missing"),
        ({"gripper": GripperConfig("claw", 0.0, 1.0)}, "'claw' is none of the joints"),
        ({"gripper": GripperConfig("gripper", 0.0, 9.0)}, "open 9.0 is outside the limits"),
        ({"may_touch": (("hand", "foot"),)}, "there is no body 'foot'"),
    ],
)
def test_a_model_that_does_not_fit_is_refused(changes: dict, match: str) -> None:
    with pytest.raises((ValueError, OSError), match=match):
        Arm(desktop_arm(**changes))


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: PlaneConfig((0.0, 0.0, 0.0)), "normal that is not zero"),
        (lambda: GripperConfig("gripper", 1.0, 1.0), "two different finite positions"),
        (lambda: KinematicsConfig("arm6", ""), "kinematics.tool must be given"),
        (lambda: KinematicsConfig("arm6", "hand", clearance=float("nan")), "from 0 to 1, got nan"),
        (lambda: KinematicsConfig("arm6", "hand", origin=(0, 0, float("inf"))), "must be finite"),
    ],
)
def test_settings_without_meaning_are_refused(make, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        make()


def test_an_arm_without_a_model_and_one_that_is_no_model(tmp_path) -> None:
    with pytest.raises(ValueError, match="has no kinematics"):
        Arm(replace(desktop_arm(), kinematics=None))
    path = tmp_path / "arm.xml"
    path.write_text("<mujoco><worldbody><body name='a'></worldbody></mujoco>")
    with pytest.raises(ValueError, match=r"kinematics.model .*arm.xml"):
        Arm(desktop_arm(model=str(path)))
