"""What a policy and the operator of its run say to each other."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .channels import MESSAGE, Channels, read_text


class PolicyConsole:
    """The policy's end of the rings of keys and messages; see `policies.protocol.Console`.

    Args:
        channels: Of the run.
        finish: Takes why the policy wants the run to end.
    """

    def __init__(self, channels: Channels, finish: Callable[[str], None]) -> None:
        self._channels, self._finish = channels, finish

    def keys(self) -> str:
        """Keys pressed since the previous call that the run does not use itself."""
        return "".join(read_text(record, "key") for record in self._channels.keys.pop())

    def say(self, text: str) -> None:
        """Show the operator a line; dropped if too many wait already."""
        record = np.zeros((), MESSAGE)
        record["text"] = text.encode()[:600]
        self._channels.messages.push(record)

    def finish(self, reason: str) -> None:
        """Ask for a braked stop and the end of the run, as a success."""
        self._finish(reason or "policy")
