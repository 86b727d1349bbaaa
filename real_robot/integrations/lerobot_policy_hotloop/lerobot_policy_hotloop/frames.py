"""LeRobot's batches as hotloop's frames: numpy, physical units, pictures as bytes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hotloop.decoding import ObservationSpec
from hotloop.decoding.instruction import INSTRUCTION_KEY, encode_instruction


def frame_of(batch: Mapping[str, Any], spec: ObservationSpec) -> dict[str, np.ndarray]:
    """What a policy reads of a batch, per key an array of shape (B, ..., *shape).

    Args:
        batch: Tensors (B, ..., *shape); pictures are float (B, ..., 3, height, width) in [0, 1].
            The instruction is LeRobot's ``task``.
        spec: What the policy reads.

    Raises:
        ValueError: If a key is missing, or a picture is no longer one.
    """
    frame: dict[str, np.ndarray] = {}
    for key in spec.shapes:
        if key == INSTRUCTION_KEY:
            frame[key] = np.stack([encode_instruction(text) for text in batch["task"]])
            continue
        if key not in batch:
            raise ValueError(
                f"the policy reads {key!r}, the batch holds {sorted(batch)}; LeRobot's "
                "--rename_map gives keys other names"
            )
        value = batch[key].detach()
        value = picture_bytes(value, key) if key in spec.pictures else value.float()
        frame[key] = value.cpu().numpy()
    return frame


def picture_bytes(pictures: Tensor, key: str, check: bool = True) -> Tensor:
    """LeRobot's pictures (..., 3, height, width) as bytes (..., height, width, 3).

    Args:
        pictures: Numbers in [0, 1], or bytes.
        key: Their name.
        check: Look at them, for which the host waits for a GPU.

    Raises:
        ValueError: If values leave [0, 1], as those of normalised pictures do.
    """
    channels_last = pictures.movedim(-3, -1)
    if pictures.dtype == torch.uint8:
        return channels_last.contiguous()
    if check:
        low, high = pictures.aminmax()
        # Written so that NaN, which fails every comparison, is refused.
        if not (low >= 0 and high <= 1):
            raise ValueError(
                f"pictures {key!r} must lie within [0, 1], got {float(low):g} to {float(high):g}; "
                "hotloop normalises them itself"
            )
    return (channels_last * 255).round().to(torch.uint8).contiguous()
