"""How much memory an epoch of pictures takes."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from hotloop.train.data import Episodes
from hotloop.train.data.windows import Windows

TOP = "observation.images.top"


def own_memory() -> int:
    """Memory of this process that no file has [bytes]."""
    status = Path("/proc/self/status").read_text()
    found = re.search(r"RssAnon:\s+(\d+) kB", status)
    assert found is not None
    return int(found[1]) * 1024


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells whose memory it is")
def test_an_epoch_needs_no_memory_for_pictures_but_the_batch(tmp_path: Path) -> None:
    shape, num_steps = (64, 64, 3), 12_000  # 150 MB
    pictures = np.lib.format.open_memmap(tmp_path / "a.npy", "w+", np.uint8, (num_steps, *shape))
    del pictures
    mapped = np.load(tmp_path / "a.npy", mmap_mode="c")
    actions = np.zeros((num_steps, 2), np.float32)
    episodes = Episodes({TOP: mapped}, actions, np.array([num_steps // 2, num_steps]))
    before = own_memory()
    windows = Windows(episodes, (TOP,), 2, 4)
    most = 0
    for current in torch.randperm(num_steps).split(64):
        batch = windows.gather(current)
        most = max(most, own_memory() - before)
        del batch
    assert most < 32 * 2**20, f"{most / 2**20:.0f} MiB"
