"""The LeRobot plugin beside a stand-in of LeRobot, and what its tests share."""

from __future__ import annotations

import sys
from collections.abc import Generator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import lerobot_stub
import numpy as np
import pytest
import torch
from tiny import SHAPES, SPEC, tiny_model

from hotloop.decoding import Executor
from hotloop.policies import Checkpoint, StreamingSampling, load_checkpoint, save_checkpoint

DISTRIBUTION = Path(__file__).parents[1] / "real_robot" / "integrations" / "lerobot_policy_hotloop"
NAME = "lerobot_policy_hotloop"
PARTS = ("average", "frames", "pusht", "training")
Batch = dict[str, torch.Tensor]


@contextmanager
def loaded_plugin() -> Generator[SimpleNamespace, None, None]:
    """Its classes and parts."""
    with pytest.MonkeyPatch.context() as patch:
        for name, module in lerobot_stub.modules().items():
            patch.setitem(sys.modules, name, module)
        patch.syspath_prepend(str(DISTRIBUTION))
        import_module(NAME)
        parts = ("configuration_hotloop", "modeling_hotloop", "processor_hotloop")
        modules: list[ModuleType] = [import_module(f"{NAME}.{part}") for part in parts]
        others = {part: import_module(f"{NAME}.{part}") for part in PARTS}
        yield SimpleNamespace(
            Config=modules[0].HotloopConfig,
            Policy=modules[1].HotloopPolicy,
            processors=modules[2].make_hotloop_pre_post_processors,
            **others,
        )
        for name in [name for name in sys.modules if name.startswith(NAME)]:
            del sys.modules[name]


def tiny_checkpoint(path: Path) -> str:
    """A streaming policy of random weights."""
    sampling = StreamingSampling(num_execute=4, calls_per_step=2)
    save_checkpoint(path, Checkpoint("sdp", tiny_model(), SPEC, sampling, {"task": "recorded"}))
    return str(path)


def features(**shapes: tuple[int, ...]) -> dict[str, Any]:
    known = {**{key.replace(".", "_"): shape for key, shape in SHAPES.items()}, **shapes}
    return {
        key.replace("_", ".", 1): lerobot_stub.PolicyFeature("STATE", shape)
        for key, shape in known.items()
    }


def frames(step: int, num_rows: int) -> Batch:
    """What LeRobot's preprocessor hands over: more than the policy reads, float32 tensors."""
    generator = torch.Generator().manual_seed(step)
    batch = {
        key: torch.rand(num_rows, *shape, generator=generator) for key, shape in SHAPES.items()
    }
    return {**batch, "observation.other": torch.zeros(num_rows, 7)}


def acted(policy: Any, num_steps: int, num_rows: int) -> np.ndarray:
    """Actions of an episode as LeRobot's rollout has them, (T, R, D)."""
    policy.reset()
    return np.stack([policy.select_action(frames(k, num_rows)).numpy() for k in range(num_steps)])


def expected(checkpoint: str, seeds: list[int], num_steps: int, **sampling: Any) -> np.ndarray:
    executor = Executor(load_checkpoint(checkpoint).policy(sampling))
    executor.reset(seeds)
    rows = len(seeds)
    return np.stack(
        [
            executor.act({key: frames(k, rows)[key].numpy() for key in SHAPES})
            for k in range(num_steps)
        ]
    ).astype(np.float32)
