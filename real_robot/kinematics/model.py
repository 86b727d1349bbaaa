"""Read an arm's MJCF or URDF for kinematics."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from ...decoding.plumbing.extras import require
from ..config import plain_name
from ..emulator.plant import find_model
from .config import KinematicsConfig, PlaneConfig
from .contacts import plane_name
from .pose import Pose

TOOL = "kinematics.tool"  # the model's site there
SMALL = 1e-6
PLANE_SIZE = (1.0, 1.0, 0.1)  # as drawn; a plane has no end


def model_path(name: str) -> Path:
    """Path of a model: a file, one inside an installed package, or one that comes with hotloop.

    Args:
        name: A path, ``"package:path/in/it"`` or a name.

    Raises:
        FileNotFoundError: If there is no such file; the message says where it was looked for.
    """
    package, colon, inside = name.partition(":")
    if colon and package.isidentifier() and not Path(name).exists():
        # Not imported: a simulator's package may take seconds, and says much when it is.
        spec = find_spec(package)
        if spec is None or not spec.submodule_search_locations:
            raise FileNotFoundError(f"kinematics.model {name!r}: package {package} is missing")
        path = Path(spec.submodule_search_locations[0]) / inside
        if not path.is_file():
            raise FileNotFoundError(f"kinematics.model {name!r}: there is no file {path}")
        return path
    return find_model(name)


def compile_model(config: KinematicsConfig) -> Any:
    """MuJoCo's model of the arm, with a site at the tool and the planes that it must not cross.

    Raises:
        ValueError: If the file is no model, or the base is none of its frames or moves.
    """
    mujoco: Any = require("mujoco", "ik")
    path = model_path(config.model)
    try:
        spec = mujoco.MjSpec.from_file(str(path))
        # A URDF's links that are fixed to others, such as a tool's frame, stay frames.
        spec.compiler.fusestatic = False
        # Where something is does not depend on masses, which some files leave out.
        spec.compiler.boundmass = spec.compiler.boundinertia = SMALL
        spec.compiler.balanceinertia = True
        if config.meshes:
            spec.meshdir = str(Path(config.meshes).absolute())
            for mesh in spec.meshes:
                mesh.file = Path(mesh.file).name
        model = spec.compile()
        base = base_pose(model, config)
        _add_tool(mujoco, spec, model, config)
        for index, plane in enumerate(config.planes):
            _add_plane(mujoco, spec, plane, index, base)
        made = spec.compile()
    except ValueError as error:
        reason = " ".join(str(error).split())
        if "opening file" in reason:
            reason += "; kinematics.meshes=FOLDER says where the files of its meshes are"
        raise ValueError(f"kinematics.model {path}: {reason}") from error
    # MuJoCo 3.8's own routine says 0 for one pair in thirty that is centimetres apart.
    made.opt.disableflags |= int(mujoco.mjtDisableBit.mjDSBL_NATIVECCD)
    return made


def _add_tool(mujoco: Any, spec: Any, model: Any, config: KinematicsConfig) -> None:
    kind = frame_type(model, config.tool, "tool")
    view = getattr(model, kind)(config.tool)
    position, quaternion, body = np.zeros(3), np.array([1.0, 0, 0, 0]), view.id
    if kind == "site":
        position, quaternion, body = view.pos, view.quat, view.bodyid[0]
    mujoco.mju_rotVecQuat(offset := np.zeros(3), np.asarray(config.tool_offset), quaternion)
    site = spec.bodies[body].add_site()
    site.name, site.pos, site.quat = TOOL, position + offset, quaternion


def _add_plane(mujoco: Any, spec: Any, plane: PlaneConfig, index: int, base: Pose) -> None:
    normal = np.asarray(plane.normal) / np.linalg.norm(plane.normal)
    geom = spec.worldbody.add_geom()
    geom.name, geom.type = plane_name(index), mujoco.mjtGeom.mjGEOM_PLANE
    geom.size, geom.contype, geom.conaffinity = PLANE_SIZE, 0, 0
    geom.pos = base.position + base.rotation @ (plane.offset * normal)
    mujoco.mju_quatZ2Vec(quaternion := np.zeros(4), base.rotation @ normal)
    geom.quat = quaternion


def frame_type(model: Any, name: str, key: str) -> str:
    """Whether a frame is a ``"site"`` or a ``"body"`` of the model; sites come first.

    Raises:
        ValueError: If it is neither.
    """
    sites = [model.site(index).name for index in range(model.nsite)]
    bodies = [model.body(index).name for index in range(model.nbody)]
    if name not in (*sites, *bodies):
        raise ValueError(
            f"there is no site or body {name!r}, which kinematics.{key} names; sites "
            f"{[site for site in sites if site]}, bodies {bodies[1:]}"
        )
    return "site" if name in sites else "body"


def base_pose(model: Any, config: KinematicsConfig) -> Pose:
    """The frame that poses are given in, in the model's world.

    Raises:
        ValueError: If there is no such frame, or it moves with the joints.
    """
    origin = np.asarray(config.origin, np.float64)
    if not config.base:
        return Pose(-origin, np.eye(3))
    mujoco: Any = require("mujoco", "ik")
    kind = frame_type(model, config.base, "base")
    view = getattr(model, kind)(config.base)
    body = int(view.bodyid[0]) if kind == "site" else int(view.id)
    if model.body_weldid[body] != 0:
        raise ValueError(
            f"kinematics.base {config.base!r} moves with the joints; name a frame that does not, "
            "or leave it out for the model's world"
        )
    data = mujoco.MjData(model)
    mujoco.mj_kinematics(model, data)
    view = getattr(data, kind)(config.base)
    rotation = np.reshape(np.array(view.xmat, np.float64), (3, 3))
    return Pose(np.array(view.xpos) - rotation @ origin, rotation)


def joint_of(model: Any, name: str) -> int:
    """Number of the model's joint of that name.

    Raises:
        ValueError: If there is none that turns or slides.
    """
    plain = [plain_name(model.joint(index).name) for index in range(model.njnt)]
    if plain_name(name) not in plain:
        names = [model.joint(index).name for index in range(model.njnt)]
        raise ValueError(
            f"the model has no joint {name!r} but {names}; say which is which with "
            "kinematics.joints=[...], in the order of the robot's joints, '' for one that the "
            "model lacks"
        )
    joint = plain.index(plain_name(name))
    if int(model.jnt_type[joint]) not in (2, 3):
        raise ValueError(f"joint {name!r} of the model neither turns nor slides")
    return joint
