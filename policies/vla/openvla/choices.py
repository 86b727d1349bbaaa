"""What an OpenVLA folder does not say of itself."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class OpenVlaChoices:
    """What an OpenVLA folder does not say.

    Attributes:
        norm_key: Data set whose statistics un-normalise the actions; may be left out where there
            is one.
        camera: Observation key of the picture.
        num_actions: Actions per chunk m: 1 as published, more for models that were tuned to it.
    """

    norm_key: str = ""
    camera: str = "observation.images.front"
    num_actions: int = 1

    def __post_init__(self) -> None:
        """Reject a chunk of nothing."""
        if self.num_actions < 1:
            raise ValueError(f"openvla.num_actions must be at least 1, got {self.num_actions}")
