"""gym-pusht's block as hotloop's Push-T policies see it.

LeRobot's environment tells the eight corners of the block's two boxes, the demonstrations of Chi et
al. nine points of its picture: both follow from where the block is and how it is turned.
"""

from __future__ import annotations

import torch
from torch import Tensor

KEY = "observation.environment_state"
NUM_CORNERS, NUM_KEYPOINTS = 8, 9
# Of `gym_pusht.envs.pusht.PushTEnv.add_tee` in the block's frame [px], in the order of its
# `get_keypoints`.
CORNERS = (
    (-60.0, 0.0), (60.0, 0.0), (60.0, 30.0), (-60.0, 30.0),
    (-15.0, 30.0), (15.0, 30.0), (15.0, 120.0), (-15.0, 120.0),
)  # fmt: skip


def keypoints_of(corners: Tensor) -> Tensor:
    """Keypoints [px], shape (..., 18), of corners [px], shape (..., 16)."""
    from hotloop.envs.pusht import block_keypoints

    here = corners.double().unflatten(-1, (NUM_CORNERS, 2))
    own = torch.tensor(CORNERS, dtype=torch.float64, device=here.device)
    # The rotation that fits best (Kabsch), about the corners' means.
    x, y = (own - own.mean(dim=0)).unbind(-1)
    u, v = (here - here.mean(dim=-2, keepdim=True)).unbind(-1)
    angle = torch.atan2((x * v - y * u).sum(dim=-1), (x * u + y * v).sum(dim=-1))
    cos, sin = angle.cos(), angle.sin()
    x, y = own.mean(dim=0)
    turned = torch.stack([cos * x - sin * y, sin * x + cos * y], dim=-1)
    position = here.mean(dim=-2) - turned
    pose = torch.cat([position, angle[..., None]], dim=-1).cpu().numpy()
    keypoints = torch.from_numpy(block_keypoints(pose)).flatten(-2)
    return keypoints.to(corners.device, torch.float32)
