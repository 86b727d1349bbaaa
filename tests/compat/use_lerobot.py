"""Run by the real LeRobot 0.4.4: load a dataset for training, and record one.

    python use_lerobot.py load FOLDER
    python use_lerobot.py record FOLDER

It prints what it found as one JSON object. torchvision, which does not exist for the other
versions here, is replaced by what LeRobot takes from it: a conversion of images, and frames of a
video at given times.
"""

import importlib.machinery
import json
import sys
from types import ModuleType

import av
import numpy as np
import torch

for name in (
    "torchvision",
    "torchvision.transforms",
    "torchvision.transforms.v2",
    "torchvision.transforms.v2.functional",
):
    module = ModuleType(name)
    module.__spec__ = importlib.machinery.ModuleSpec(name, None)
    sys.modules[name] = module
    parent, _, child = name.rpartition(".")
    if parent:
        setattr(sys.modules[parent], child, module)


class ToTensor:
    def __call__(self, image):
        pixels = np.asarray(image).transpose(2, 0, 1).copy()
        return torch.from_numpy(pixels).float() / 255


sys.modules["torchvision.transforms"].ToTensor = ToTensor
sys.modules["torchvision.transforms.v2"].Transform = object

from lerobot.datasets import lerobot_dataset  # noqa: E402
from lerobot.datasets.lerobot_dataset import LeRobotDataset  # noqa: E402


def decode_video_frames(path, timestamps, tolerance_s, backend):
    """Frames at some times [s], none further away than LeRobot tolerates."""
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
    times = np.array([frame.time for frame in frames])
    nearest = [int(np.abs(times - moment).argmin()) for moment in timestamps]
    assert all(np.abs(times[nearest] - timestamps) < tolerance_s), (times, timestamps)
    return torch.stack([ToTensor()(frames[one].to_ndarray(format="rgb24")) for one in nearest])


lerobot_dataset.decode_video_frames = decode_video_frames


def load(folder: str) -> dict:
    """What a policy's training sees of a dataset: windows, tasks and statistics."""
    offsets = {"action": [0, 0.1, 0.2]}
    dataset = LeRobotDataset("local/test", root=folder, delta_timestamps=offsets)
    batch = next(iter(torch.utils.data.DataLoader(dataset, batch_size=len(dataset))))
    stats = dataset.meta.stats
    return {
        "num_frames": len(dataset),
        "num_episodes": dataset.num_episodes,
        "task": batch["task"][0],
        "state": batch["observation.state"].tolist(),
        "action": batch["action"].tolist(),
        "padded": batch["action_is_pad"].tolist(),
        "pixel": (batch["observation.images.top"][:, 1, 2, 3] * 255).tolist(),
        "mean": stats["observation.state"]["mean"].tolist(),
        "image_mean_shape": list(stats["observation.images.top"]["mean"].shape),
    }


def record(folder: str) -> dict:
    """Three episodes of a brightening picture, the second camera as a video."""
    size = (64, 96, 3)
    names = ["height", "width", "channels"]
    features = {
        "observation.state": {"dtype": "float32", "shape": (3,), "names": ["x", "y", "z"]},
        "action": {"dtype": "float32", "shape": (2,), "names": ["dx", "dy"]},
        "next.reward": {"dtype": "float32", "shape": (1,), "names": None},
        "next.success": {"dtype": "bool", "shape": (1,), "names": None},
        "observation.images.still": {"dtype": "image", "shape": size, "names": names},
        "observation.images.top": {"dtype": "video", "shape": size, "names": names},
    }
    dataset = LeRobotDataset.create("local/test", fps=10, features=features, root=folder)
    for episode, length in enumerate((4, 6, 5)):
        for step in range(length):
            value = 40 * episode + 10 * step
            picture = np.full(size, value, np.uint8)
            dataset.add_frame(
                {
                    "observation.state": np.full(3, value, np.float32),
                    "action": np.full(2, value / 100, np.float32),
                    "next.reward": np.full(1, step, np.float32),
                    "next.success": np.array([step == length - 1 and episode == 1]),
                    "observation.images.still": picture,
                    "observation.images.top": picture,
                    "task": "brighten",
                }
            )
        dataset.save_episode()
    dataset.finalize()
    return {"num_frames": dataset.num_frames}


command, folder = sys.argv[1:]
print(json.dumps(load(folder) if command == "load" else record(folder)))
