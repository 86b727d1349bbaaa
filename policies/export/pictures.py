"""Pictures of all cameras side by side, as programs want them, from one input per camera."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from ..programs.program import Call


class JoinPictures(nn.Module):
    """Pictures of two cameras side by side; of one, if there is no other."""

    def forward(self, one: Tensor, other: Tensor | None = None) -> Tensor:
        """Return the bytes (R, P) of pictures of any shape (R, ...)."""
        return one.flatten(1) if other is None else torch.cat([one.flatten(1), other.flatten(1)], 1)


def join_calls(keys: Iterable[str], joined: str) -> list[Call]:
    """Calls that put the pictures of all `keys` into `joined`."""
    calls: list[Call] = []
    for key in keys:
        arguments = {"one": key}
        if calls:
            arguments = {"one": calls[-1].outputs[0], "other": key}
        calls.append(Call(JoinPictures(), arguments, (f"{joined}.{len(calls)}",)))
    last = calls.pop()
    return [*calls, Call(last.module, last.arguments, (joined,))]
