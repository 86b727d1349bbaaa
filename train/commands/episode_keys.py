"""Keys about episodes, and all the others."""

from __future__ import annotations

from ...real_robot.policies.protocol import Console

KEYS = "skdbi"
HELP = "s starts an episode, k keeps it, d drops it, b drops it and records it again, q ends"
TAKE_OVER = "i takes over from the policy and gives back, "


class EpisodeKeys:
    """A console for those inside of a recording, with the keys that are not about episodes.

    Args:
        console: The operator's.
    """

    def __init__(self, console: Console) -> None:
        self._console, self._left = console, ""

    def take(self) -> str:
        """Keys about episodes since the previous call; the others wait for `keys`."""
        pressed = self._console.keys()
        self._left = "".join(key for key in pressed if key not in KEYS)
        return "".join(key for key in pressed if key in KEYS)

    def keys(self) -> str:
        """The other keys."""
        left, self._left = self._left, ""
        return left

    def say(self, text: str) -> None:
        """Show the operator a line."""
        self._console.say(text)

    def finish(self, reason: str) -> None:
        """Ask for the end of the run."""
        self._console.finish(reason)
