"""Run by the real robomimic 0.3.0: train one step on a file, and write one as its scripts do.

    python use_robomimic.py train FILE KEY [KEY ...]
    python use_robomimic.py write FILE

It prints what it found as one JSON object. Its imports of torchvision and mujoco_py are replaced:
neither exists for the other packages' versions, and low-dimensional data needs nothing of them.
"""

import json
import sys
from types import ModuleType

for name in (
    "torchvision",
    "torchvision.transforms",
    "torchvision.transforms.functional",
    "torchvision.models",
    "mujoco_py",
    "egl_probe",
):
    sys.modules[name] = ModuleType(name)
transforms = sys.modules["torchvision.transforms"]
transforms.Lambda = transforms.Compose = transforms.functional = object
sys.modules["torchvision"].transforms = transforms
sys.modules["torchvision"].models = sys.modules["torchvision.models"]

import h5py  # noqa: E402
import numpy as np  # noqa: E402
import robomimic.utils.file_utils as FileUtils  # noqa: E402
import robomimic.utils.obs_utils as ObsUtils  # noqa: E402
import robomimic.utils.train_utils as TrainUtils  # noqa: E402
import torch  # noqa: E402
from robomimic.algo import algo_factory  # noqa: E402
from robomimic.config import config_factory  # noqa: E402


def train(path: str, keys: list[str]) -> dict:
    """Load a file with robomimic's own dataset and do one step of behaviour cloning."""
    config = config_factory("bc")
    with config.values_unlocked():
        config.train.data = path
        config.train.seq_length = 1
        config.train.hdf5_filter_key = None
        config.train.hdf5_load_next_obs = True
        config.observation.modalities.obs.low_dim = keys
        config.train.dataset_keys = ["actions", "rewards", "dones"]
    ObsUtils.initialize_obs_utils_with_config(config)
    shapes = FileUtils.get_shape_metadata_from_dataset(path, all_obs_keys=keys)
    torch.manual_seed(0)
    model = algo_factory(
        algo_name="bc",
        config=config,
        obs_key_shapes=shapes["all_shapes"],
        ac_dim=shapes["ac_dim"],
        device=torch.device("cpu"),
    )
    dataset, _ = TrainUtils.load_data_for_training(config, obs_keys=shapes["all_obs_keys"])
    batch = torch.utils.data.default_collate([dataset[index] for index in range(len(dataset))])
    model.set_train()
    info = model.train_on_batch(model.process_batch_for_training(batch), epoch=0, validate=False)
    step = dataset[0]
    return {
        "num_demos": dataset.n_demos,
        "num_sequences": len(dataset),
        "loss": float(info["losses"]["action_loss"]),
        "env": FileUtils.get_env_metadata_from_dataset(path),
        "action_dim": shapes["ac_dim"],
        "first_action": step["actions"][0].tolist(),
        "next_obs": {key: step["next_obs"][key][0].tolist() for key in keys},
    }


def write(path: str) -> dict:
    """Write a file with the layout and attributes of robomimic's dataset_states_to_obs.py."""
    rng = np.random.default_rng(0)
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        for index, length in enumerate((4, 6, 5)):
            group = data.create_group(f"demo_{index}")
            group.create_dataset("actions", data=rng.uniform(-1, 1, (length, 7)))
            group.create_dataset("states", data=rng.normal(size=(length, 32)))
            group.create_dataset("rewards", data=np.arange(length) == length - 1)
            group.create_dataset("dones", data=(np.arange(length) == length - 1).astype(int))
            for name, size in {"object": 10, "robot0_eef_pos": 3}.items():
                values = rng.normal(size=(length + 1, size))
                group.create_dataset(f"obs/{name}", data=values[:-1], compression="gzip")
                group.create_dataset(f"next_obs/{name}", data=values[1:], compression="gzip")
            group.attrs["model_file"] = "<mujoco/>"
            group.attrs["num_samples"] = length
        data.attrs["total"] = 15
        env_args = {"env_name": "Lift", "type": 1, "env_kwargs": {"control_freq": 20}}
        data.attrs["env_args"] = json.dumps(env_args, indent=4)
    FileUtils.create_hdf5_filter_key(path, demo_keys=["demo_0", "demo_2"], key_name="train")
    keys = FileUtils.get_demos_for_filter_key(path, "train")
    return {"train": keys, **train(path, ["object", "robot0_eef_pos"])}


command, path, *keys = sys.argv[1:]
print(json.dumps(write(path) if command == "write" else train(path, keys)))
