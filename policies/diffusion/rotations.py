"""Rotations as six numbers, which a network can learn without jumps (Zhou et al. 2019, 1812.07035).

An axis-angle vector [rad] leaps to its opposite where it turns by pi, which is where a gripper
points down. The first two columns of the rotation matrix have no such place. On the way back they
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
_TINY = 1e-30  # keeps a square root away from 0 in float32 and changes nothing else


def check_rotations(rotations: Sequence[int], action_dim: int | None = None) -> None:
    """Raise ValueError unless each of `rotations` begins a triple that no other one shares."""
    end = 0
    for first in rotations:
        if first < end:
            raise ValueError(
                "rotations must hold the first index of each axis-angle triple among the "
                f"actions, in ascending order and {ANGLES} apart at least, got {list(rotations)}"
            )
        if action_dim is not None and first + ANGLES > action_dim:
            raise ValueError(
                f"rotations: {first} must be the first of {ANGLES} action dimensions, but "
                f"there are {action_dim} in all, 0 to {action_dim - 1}"
            )
        end = first + ANGLES


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


def unfold(actions: Tensor, rotations: Sequence[int]) -> Tensor:
    """Actions (..., D) with axis-angle triples at `rotations` to (..., N), N = D + 3 each."""
    return replace(actions, rotations, ANGLES, to_columns)


def replace(
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
    half = (vector.square().sum(-1) / 4 + _TINY).sqrt()  # a / 2
    sinc = half.sin() / half
    first = sinc * half.cos()  # sin(a) / a
    second = sinc.square() / 2  # (1 - cos(a)) / a^2, without cancellation
    x, y, z = vector.unbind(-1)
    columns = (
        *(1 - second * (y * y + z * z), second * x * y + first * z, second * x * z - first * y),
        *(second * x * y - first * z, 1 - second * (x * x + z * z), second * y * z + first * x),
    )
    return torch.stack(columns, dim=-1)


class Fold(nn.Module):
    """The inverse of `unfold`: (..., N) to (..., D), with angles of at most pi.

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
        # Constants move to a device with the module, but are no weights.
        gain, offset = _outer_product()
        self.register_buffer("gain", gain, persistent=False)
        self.register_buffer("offset", offset, persistent=False)

    def forward(self, values: Tensor) -> Tensor:
        """Return values (..., N) to (..., D)."""
        return replace(values, self.begins, COLUMNS, self.to_axis_angle)

    def to_axis_angle(self, columns: Tensor) -> Tensor:
        """Two columns (..., 6), as a network says them, to axis-angle (..., 3) [rad].

        Exact everywhere, turns by 0 and by pi included: there is no division by what may vanish.
        NaN stays NaN.
        """
        first, rest = _unit(columns[..., :3]), columns[..., 3:]
        second = _unit(rest - (first * rest).sum(-1, keepdim=True) * first)
        third = first.roll(-1, -1) * second.roll(1, -1) - first.roll(1, -1) * second.roll(-1, -1)
        matrix = torch.cat([first, second, third], dim=-1)  # column by column, (..., 9)
        # 4 q q^T of the quaternion q = (w, x, y, z) is linear in the matrix. Its row with the
        # largest diagonal entry is a multiple of q, whatever the rotation.
        outer = functional.linear(matrix, self.gain, self.offset)  # (..., 16)
        largest = outer[..., ::5].argmax(-1, keepdim=True)[..., None]  # (..., 1, 1)
        index = largest.expand(*largest.shape[:-1], 4)
        q = outer.unflatten(-1, (4, 4)).gather(-2, index)[..., 0, :]  # (..., 4)
        q = torch.where(q[..., :1] < 0, -q, q)  # the same rotation, by pi at most
        axis, norm = q[..., 1:], q.square().sum(-1, keepdim=True).sqrt()
        sine = (axis.square().sum(-1, keepdim=True) + _TINY).sqrt()
        # tan(a / 4) = sin(a / 2) / (1 + cos(a / 2))
        return axis * (4 * (sine / (norm + q[..., :1])).atan() / sine)


def within(vector: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """The one of a rotation's two axis-angle vectors (..., 3) that is nearer to the bounds (3,).

    A turn by a about an axis is one by 2 pi - a about the opposite axis.
    """
    angle = (vector.square().sum(-1, keepdim=True) + _TINY).sqrt()
    other = vector * (1 - 2 * math.pi / angle)

    def excess(one: Tensor) -> Tensor:
        return ((low - one).clamp(min=0) + (one - high).clamp(min=0)).sum(-1, keepdim=True)

    return torch.where(excess(other) < excess(vector), other, vector)


def _unit(vector: Tensor) -> Tensor:
    return vector / (vector.square().sum(-1, keepdim=True) + _TINY).sqrt()


def _outer_product() -> tuple[Tensor, Tensor]:
    """4 q q^T as ``gain @ matrix + offset``, (16, 9) and (16,), a matrix column by column."""
    entries: dict[tuple[int, int], tuple[tuple[int, int, int], ...]] = {
        # row and column of 4 q q^T: what it sums, a sign and an entry of the matrix each
        (0, 1): ((1, 2, 1), (-1, 1, 2)),
        (0, 2): ((1, 0, 2), (-1, 2, 0)),
        (0, 3): ((1, 1, 0), (-1, 0, 1)),
        (1, 2): ((1, 1, 0), (1, 0, 1)),
        (1, 3): ((1, 0, 2), (1, 2, 0)),
        (2, 3): ((1, 2, 1), (1, 1, 2)),
    }
    for index in range(4):
        signs = [1 if index in (0, axis) else -1 for axis in (1, 2, 3)]
        entries[index, index] = tuple((sign, axis, axis) for axis, sign in enumerate(signs))
    gain = torch.zeros(4, 4, 3, 3)
    for (row, column), terms in entries.items():
        for sign, i, j in terms:
            gain[row, column, j, i] = gain[column, row, j, i] = sign
    return gain.reshape(16, 9), torch.eye(4).reshape(16)
