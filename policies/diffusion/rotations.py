"""Rotations as six numbers, which a network can learn without jumps (Zhou et al. 2019, 1812.07035).

An axis-angle vector [rad] leaps to its opposite where it turns by pi, and a gripper that points
down is there. The first two columns of the rotation matrix have no such place. On the way back they
are made orthonormal, so whatever a network says becomes a rotation.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

ANGLES, COLUMNS = 3, 6  # numbers of a rotation outside and inside of the network
_TINY = 1e-15  # least length to divide by
_NEAR = 0.5  # [rad] how far a hand turns at most from one action to the next


def check_rotations(rotations: Sequence[int], action_dim: int | None = None) -> None:
    """Raise ValueError unless each of `rotations` begins a triple of its own among the actions."""
    end = 0
    for first in rotations:
        if first < end:
            raise ValueError(
                "rotations must hold the first index of each axis-angle triple among the actions, "
                f"in ascending order and {ANGLES} apart at least, got {list(rotations)}"
            )
        end = first + ANGLES
        if action_dim is not None and end > action_dim:
            raise ValueError(
                f"rotations: {first} must be the first of {ANGLES} action dimensions, but there "
                f"are {action_dim} in all, 0 to {action_dim - 1}"
            )


def check_angles(actions: np.ndarray, rotations: Sequence[int]) -> None:
    """Raise ValueError if recorded actions (T, D) turn by more than an axis-angle vector can."""
    for first in rotations:
        angle = float(np.linalg.norm(actions[:, first : first + ANGLES], axis=1).max())
        if angle > 2 * math.pi:
            raise ValueError(
                f"policy.model.rotations: actions {first} to {first + ANGLES - 1} must be an "
                f"axis-angle vector in radians, at most 2 pi long, got one of length {angle:.4g}; "
                "name other dimensions, or convert them"
            )


def find_leaps(actions: np.ndarray, episode_ends: np.ndarray) -> dict[int, int]:
    """Where recorded actions (T, D) leap as axis-angle vectors do: first index -> how many times.

    Three numbers that turn to their opposite, although the rotation that they would be has hardly
    changed, do not do so by accident.
    """
    within = np.ones(max(len(actions) - 1, 0), bool)
    within[np.asarray(episode_ends)[:-1] - 1] = False
    found: list[tuple[int, float, int]] = []
    for first in range(actions.shape[1] - ANGLES + 1):
        vector = actions[:, first : first + ANGLES]
        angle = np.linalg.norm(vector[:-1], axis=1)
        same = vector[:-1] * (1 - 2 * math.pi / np.maximum(angle, _TINY))[:, None]
        change = np.linalg.norm(vector[1:] - same, axis=1)  # [rad]
        leaps = within & (angle > math.pi - _NEAR) & (change < _NEAR)
        if leaps.any():
            found.append((-int(leaps.sum()), float(change[leaps].mean()), first))
    chosen: dict[int, int] = {}
    # A neighbour may pass for one of the three while it is small; the true one changes least.
    for num, _, first in sorted(found):
        if all(abs(first - other) >= ANGLES for other in chosen):
            chosen[first] = -num
    return chosen


def encode_rotations(actions: Tensor, rotations: Sequence[int]) -> Tensor:
    """Actions (..., D) with axis-angle triples at `rotations` to (..., N), N = D + 3 for each."""
    return replace_parts(actions, rotations, ANGLES, to_columns)


def replace_parts(
    values: Tensor, begins: Sequence[int], size: int, change: Callable[[Tensor], Tensor]
) -> Tensor:
    """Put ``change(part)`` in place of each part (..., size) that begins at one of `begins`."""
    parts, end = [], 0
    for begin in begins:
        parts += [values[..., end:begin], change(values[..., begin : begin + size])]
        end = begin + size
    return torch.cat([*parts, values[..., end:]], dim=-1) if parts else values


def to_columns(vector: Tensor) -> Tensor:
    """Axis-angle (..., 3) [rad] to the first two columns of the rotation matrix, (..., 6).

    Rodrigues' formula, R = 1 + sin(a) / a [v] + (1 - cos(a)) / a^2 [v]^2, a the angle.
    """
    half = (vector.norm(dim=-1) / 2).clamp(min=_TINY)  # a / 2
    sinc = half.sin() / half
    first = sinc * half.cos()  # sin(a) / a
    second = sinc.square() / 2  # (1 - cos(a)) / a^2, without cancellation
    x, y, z = vector.unbind(-1)
    columns = (
        *(1 - second * (y * y + z * z), second * x * y + first * z, second * x * z - first * y),
        *(second * x * y - first * z, 1 - second * (x * x + z * z), second * y * z + first * x),
    )
    return torch.stack(columns, dim=-1)


class DecodeRotations(nn.Module):
    """The inverse of `encode_rotations`: (..., N) to (..., D), with angles of at most pi.

    Args:
        rotations: First index of each axis-angle triple among the D.
    """

    gain: Tensor
    offset: Tensor

    def __init__(self, rotations: Sequence[int]) -> None:
        super().__init__()
        self.begins = [
            first + number * (COLUMNS - ANGLES) for number, first in enumerate(rotations)
        ]
        # Constants go to a device with the module, but are no weights.
        gain, offset = _quaternion_products()
        self.register_buffer("gain", gain, persistent=False)
        self.register_buffer("offset", offset, persistent=False)

    def forward(self, values: Tensor) -> Tensor:
        """Return values (..., N) to (..., D)."""
        return replace_parts(values, self.begins, COLUMNS, self.to_axis_angle)

    def to_axis_angle(self, columns: Tensor) -> Tensor:
        """Two columns (..., 6), as a network says them, to axis-angle (..., 3) [rad].

        Exact everywhere, turns by 0 and by pi included: nothing is divided by what may vanish.
        NaN stays NaN.
        """
        first, second = _unit(columns[..., :3]), columns[..., 3:]
        second = _unit(second - (first * second).sum(-1, keepdim=True) * first)
        pairs = (first[..., :, None] * second[..., None, :]).flatten(-2)
        entries = torch.cat([first, second, pairs], dim=-1)  # (..., 15)
        # 4 q q^T of the quaternion q = (w, x, y, z). Its row with the largest diagonal entry is a
        # multiple of q, whatever the rotation.
        products = functional.linear(entries, self.gain, self.offset)  # (..., 16)
        largest = products[..., ::5].argmax(-1, keepdim=True)[..., None]  # (..., 1, 1)
        index = largest.expand(*largest.shape[:-1], 4)
        q = products.unflatten(-1, (4, 4)).gather(-2, index)[..., 0, :]  # (..., 4)
        q = torch.where(q[..., :1] < 0, -q, q)  # the same rotation, by pi at most
        cosine, axis = q[..., :1], q[..., 1:]
        sine = axis.norm(dim=-1, keepdim=True).clamp(min=_TINY)
        # tan(a / 4) = sin(a / 2) / (1 + cos(a / 2))
        quarter = (sine / (q.norm(dim=-1, keepdim=True) + cosine)).atan()
        return axis * (4 * quarter / sine)


def into_bounds(vector: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """The one of a rotation's two axis-angle vectors (..., 3) that is nearer to bounds (3,).

    A turn by a about an axis is one by 2 pi - a about the opposite axis.
    """
    angle = vector.norm(dim=-1, keepdim=True).clamp(min=_TINY)
    other = vector * (1 - 2 * math.pi / angle)

    def excess(one: Tensor) -> Tensor:
        return ((low - one).clamp(min=0) + (one - high).clamp(min=0)).sum(-1, keepdim=True)

    return torch.where(excess(other) < excess(vector), other, vector)


def _unit(vector: Tensor) -> Tensor:
    return vector / vector.norm(dim=-1, keepdim=True).clamp(min=_TINY)


def _quaternion_products() -> tuple[Tensor, Tensor]:
    """4 q q^T of a rotation as ``gain @ entries + offset``, (16, 15) and (16,).

    Entries are the first column of its matrix, the second, and the products of each number of the
    first with each of the second; the third column is the cross product.
    """
    gain = torch.zeros(4, 4, 3, 3)  # row and column of 4 q q^T, column and row of the matrix
    for i, j, k in ((0, 1, 2), (1, 2, 0), (2, 0, 1)):
        # 4 w q_k = R_ji - R_ij and 4 q_i q_j = R_ij + R_ji
        gain[0, k + 1, i, j] = gain[k + 1, 0, i, j] = 1
        gain[0, k + 1, j, i] = gain[k + 1, 0, j, i] = -1
        gain[i + 1, j + 1, i, j] = gain[j + 1, i + 1, i, j] = 1
        gain[i + 1, j + 1, j, i] = gain[j + 1, i + 1, j, i] = 1
        # 4 w^2 = 1 + trace and 4 q_k^2 = 1 + 2 R_kk - trace
        gain[0, 0, k, k] = gain[k + 1, k + 1, k, k] = 1
        gain[i + 1, i + 1, k, k] = gain[j + 1, j + 1, k, k] = -1
    unit = torch.eye(3)
    crossed = torch.linalg.cross(unit[:, None].expand(3, 3, 3), unit.expand(3, 3, 3))
    third = gain[..., 2, :] @ crossed.flatten(0, 1).T  # (4, 4, 9)
    return torch.cat([gain[..., :2, :].flatten(2), third], -1).flatten(0, 1), torch.eye(4).flatten()
