"""Small files in the layout of robomimic's published ``low_dim_v15.hdf5`` and ``image_v15.hdf5``.

What they hold was simulated; names, shapes, types and ``env_args`` are those of the published ones.
"""

import copy
import json
from contextlib import closing

import h5py
import numpy as np

from hotloop.envs import make_task

LENGTH = 12
CAMERAS = ("agentview", "robot0_eye_in_hand")
# As they are in the published files, of which only env_name and the cameras differ.
ENV_ARGS = {
    "env_name": "Lift",
    "env_version": "1.5.1",
    "type": 1,
    "env_kwargs": {
        "has_renderer": False,
        "has_offscreen_renderer": False,
        "ignore_done": True,
        "use_object_obs": True,
        "use_camera_obs": False,
        "control_freq": 20,
        "controller_configs": {
            "type": "BASIC",
            "body_parts": {
                "right": {
                    "type": "OSC_POSE",
                    "input_max": 1,
                    "input_min": -1,
                    "output_max": [0.05, 0.05, 0.05, 0.5, 0.5, 0.5],
                    "output_min": [-0.05, -0.05, -0.05, -0.5, -0.5, -0.5],
                    "kp": 150,
                    "damping": 1,
                    "impedance_mode": "fixed",
                    "kp_limits": [0, 300],
                    "damping_limits": [0, 10],
                    "position_limits": None,
                    "orientation_limits": None,
                    "uncouple_pos_ori": True,
                    "control_delta": True,
                    "interpolation": None,
                    "ramp_ratio": 0.2,
                    "input_ref_frame": "world",
                    "gripper": {"type": "GRIP"},
                }
            },
        },
        "robots": ["Panda"],
        "camera_depths": False,
        "camera_heights": 84,
        "camera_widths": 84,
        "lite_physics": False,
        "reward_shaping": False,
    },
}
# What is recorded besides what the tasks observe.
OTHERS = {
    "robot0_eef_quat_site": 4,
    "robot0_gripper_qvel": 2,
    "robot0_joint_pos": 7,
    "robot0_joint_pos_cos": 7,
    "robot0_joint_pos_sin": 7,
    "robot0_joint_vel": 7,
}


def write_published(path, *, absolute=True, images=False, num_demos=2):
    """Write demonstrations of random motions in Lift; some of them with pictures of noise.

    Args:
        path: File to write.
        absolute: Whether robomimic's script has added ``actions_abs``.
        images: Whether observations are those of ``image_v15.hdf5``.
        num_demos: How many, of `LENGTH` steps each.
    """
    rng = np.random.default_rng(0)
    with closing(make_task("lift").make()) as env, h5py.File(path, "w") as file:
        data = file.create_group("data")
        data.attrs["total"] = num_demos * LENGTH
        data.attrs["env_args"] = json.dumps(ENV_ARGS, indent=4)
        for index in range(num_demos):
            demo = data.create_group(f"demo_{index}")
            _record(env, demo, index, rng)
            demo.attrs["num_samples"], demo.attrs["ep_meta"] = LENGTH, "{}"
            if not absolute:
                del demo["actions_abs"]
            for place in ("obs", "next_obs") if images else ():
                for camera in CAMERAS:
                    picture = rng.integers(0, 256, (LENGTH, 84, 84, 3), dtype=np.uint8)
                    demo[f"{place}/{camera}_image"] = picture
        file["mask/train"] = np.array([b"demo_0"])
        file["mask/valid"] = np.array([b"demo_1"])
    return path


def _record(env, demo, seed, rng):
    env.reset(seed)
    demo.attrs["model_file"] = model = env.model_xml
    # In the very model that the file holds, which was rounded when it was written.
    frames, states = [env.set_state(env.infos["states"], model)], []
    columns = {name: [] for name in ("actions", "actions_abs", "rewards")}
    for _ in range(LENGTH):
        action = np.append(rng.uniform(-0.5, 0.5, 6), rng.choice([-1.0, 1.0]))
        states.append(env.infos["states"])
        frame, reward, _ = env.step(action)
        frames.append(frame)
        columns["actions"].append(action)
        columns["actions_abs"].append(np.append(env.goal, action[-1]))
        columns["rewards"].append(reward)
    for name, values in {**columns, "states": states}.items():
        demo[name] = np.array(values)
    demo["dones"] = (np.arange(LENGTH) == LENGTH - 1).astype(np.int64)
    for key in frames[0]:
        values = np.stack([frame[key] for frame in frames]).astype(np.float64)
        name = key.removeprefix("observation.")
        demo[f"obs/{name}"], demo[f"next_obs/{name}"] = values[:-1], values[1:]
    for name, size in OTHERS.items():
        for place in ("obs", "next_obs"):
            demo[f"{place}/{name}"] = rng.normal(size=(LENGTH, size))


def change_env_args(source, path, changes):
    """Copy a file with other ``env_args``: values by dotted place; None removes one."""
    path.write_bytes(source.read_bytes())
    env_args = copy.deepcopy(ENV_ARGS)
    for place, value in changes.items():
        *parents, name = place.split(".")
        inner = env_args
        for parent in parents:
            inner = inner[parent]
        if value is None:
            del inner[name]
        else:
            inner[name] = value
    with h5py.File(path, "r+") as file:
        file["data"].attrs["env_args"] = json.dumps(env_args)
    return path
