"""Pictures of all cameras to features: cut, scaled and encoded, in training and at run time.

Pictures of all cameras travel side by side as one row of bytes (P,), so that a program has one
input for them however many cameras there are.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...decoding.placed import placed
from .config import EncoderConfig
from .encoder import build_encoder


class Resize(nn.Module):
    """Brings pictures to another size by two products with constants.

    The numbers are those of `_resized`; but every runtime filters in its own way where it resizes.

    Args:
        before: Height and width of the pictures [px].
        after: Height and width that they get [px].
    """

    rows: Tensor
    columns: Tensor

    def __init__(self, before: tuple[int, int], after: tuple[int, int]) -> None:
        super().__init__()
        for name, whole, part in zip(("rows", "columns"), before, after, strict=True):
            identity = torch.eye(whole)[None, ..., None].expand(1, whole, whole, 3)
            # What each new pixel takes of the old ones along a side, shape (part, whole).
            share = _resized(identity, (part, whole))[0, ..., 0].contiguous()
            self.register_buffer(name, share, persistent=False)

    def forward(self, frame: Tensor) -> Tensor:
        """Map (B, height, width, 3) to floats of the new height and width."""
        narrow = torch.einsum("wv,bhvc->bhwc", self.columns, frame.to(self.columns))
        return torch.einsum("gh,bhwc->bgwc", self.rows, narrow)


class Standardize(nn.Module):
    """Scales the colours of pictures (B, 3, h, w)."""

    scale: Tensor
    offset: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("scale", torch.ones(3, 1, 1))
        self.register_buffer("offset", torch.zeros(3, 1, 1))

    def forward(self, pictures: Tensor) -> Tensor:
        """Map colours from -1 to 1 to those that the encoder is given."""
        return pictures * self.scale + self.offset


class Vision(nn.Module):
    """The encoders of all cameras.

    Args:
        config: Encoder, and what is done to the pictures first.
        shapes: Shape (height, width, 3) of each camera's pictures, by observation key.

    Attributes:
        shapes: As given.
        num_bytes: Bytes P of one frame of all cameras.
        num_features: Features F of one frame of all cameras.
        seen: Height and width that the encoder of each camera sees.
    """

    def __init__(self, config: EncoderConfig, shapes: Mapping[str, tuple[int, ...]]) -> None:
        super().__init__()
        self.config, self.shapes = config, dict(shapes)
        self.num_bytes = sum(height * width * 3 for height, width, _ in shapes.values())
        self.seen = {key: _seen(config, key, shape) for key, shape in shapes.items()}
        if config.shared and len(set(self.seen.values())) > 1:
            raise ValueError(
                f"encoder.shared needs pictures of one size, the encoders see {self.seen}; set "
                "encoder.resize, or encoder.shared=false"
            )
        sizes = list(self.seen.values())[:1] if config.shared else self.seen.values()
        self.encoders = nn.ModuleList(build_encoder(config, size) for size in sizes)
        self.colours = nn.ModuleList(
            Standardize() if config.standardize else nn.Identity() for _ in shapes
        )
        resize = config.resize
        self.resizes = nn.ModuleList(
            nn.Identity() if resize in (None, shape[:2]) else Resize((shape[0], shape[1]), resize)
            for shape in shapes.values()
        )
        self.num_features = len(shapes) * config.num_features

    def forward(self, pictures: Tensor) -> Tensor:
        """Turn whole frames (B, P), uint8, into features (B, F); crops are from the middle."""
        begin, frames = 0, []
        for resize, (key, (height, width, _)) in zip(
            self.resizes, self.shapes.items(), strict=True
        ):
            end = begin + height * width * 3
            frame = pictures[:, begin:end].unflatten(1, (height, width, 3))
            frames.append(self._cut(resize(frame), key))
            begin = end
        return self._encode(frames)

    def crop(self, frames: Mapping[str, Tensor], generator: torch.Generator | None) -> Tensor:
        """Cut what the encoders see out of whole frames.

        Args:
            frames: Per camera uint8 of shape (B, To, height, width, 3).
            generator: Draws the place for each sample and camera, the same for its To frames; the
                middle without it.

        Returns:
            Bytes of shape (B, To, P'), for `encode`.
        """
        parts = []
        for key, seen in self.seen.items():
            whole = frames[key]
            if self.config.resize is not None and tuple(whole.shape[2:4]) != self.config.resize:
                resized = _resized(whole.flatten(0, 1).float(), self.config.resize)
                pixels = resized.round().clamp(0, 255).to(torch.uint8)
                whole = pixels.unflatten(0, whole.shape[:2])
            part = self._cut(whole, key) if generator is None else _anywhere(whole, seen, generator)
            parts.append(part.flatten(2))
        return torch.cat(parts, dim=-1) if len(parts) > 1 else parts[0]

    def encode(self, cropped: Tensor) -> Tensor:
        """Turn the output of `crop`, shape (B, To, P'), into features (B, To, F)."""
        steps = cropped.shape[:2]
        sizes = [height * width * 3 for height, width in self.seen.values()]
        frames = [
            part.flatten(0, 1).unflatten(1, (*seen, 3))
            for part, seen in zip(cropped.split(sizes, dim=-1), self.seen.values(), strict=True)
        ]
        return self._encode(frames).unflatten(0, steps)

    def _cut(self, frame: Tensor, key: str) -> Tensor:
        """What the encoder sees at run time of pictures (..., height, width, 3)."""
        height, width = self.seen[key]
        sides = frame.shape[-3:-1]
        middle = (sides[0] - height) // 2, (sides[1] - width) // 2
        top, left = self.config.crop_at or middle
        return frame[..., top : top + height, left : left + width, :]

    def _encode(self, frames: list[Tensor]) -> Tensor:
        """Features (B, F) of pictures of 0 to 255, shape (B, h, w, 3) for each camera."""
        # A view: what convolutions read is still channels last, the fastest on a CPU.
        scaled = [
            colour(frame.permute(0, 3, 1, 2).to(self.dtype) / 127.5 - 1)
            for colour, frame in zip(self.colours, frames, strict=True)
        ]
        if self.config.shared:
            # Rows outermost, so that any number of them is the same graph.
            together = torch.stack(scaled, dim=1).flatten(0, 1)  # (b cameras, 3, h, w)
            return self.encoders[0](together).unflatten(0, (-1, len(frames))).flatten(1)
        features = [encode(one) for encode, one in zip(self.encoders, scaled, strict=True)]
        return torch.cat(features, dim=-1)

    @property
    def dtype(self) -> torch.dtype:
        """Type of the weights."""
        return next(self.encoders.parameters()).dtype


def _seen(config: EncoderConfig, key: str, shape: tuple[int, ...]) -> tuple[int, int]:
    """Height and width that the encoder sees of a picture."""
    whole = config.resize or (shape[0], shape[1])
    seen = config.crop or whole
    if seen[0] > whole[0] or seen[1] > whole[1]:
        resized = f", resized to {whole}" if config.resize else ""
        raise ValueError(
            f"encoder.crop {seen} is larger than the pictures of {key!r}, {shape[:2]}{resized}; "
            "make it smaller"
        )
    top, left = config.crop_at or (0, 0)
    if top + seen[0] > whole[0] or left + seen[1] > whole[1]:
        raise ValueError(
            f"encoder.crop_at {config.crop_at} with encoder.crop {seen} ends beyond the pictures "
            f"of {key!r}, {whole}; make it smaller"
        )
    return seen


def _resized(frame: Tensor, size: tuple[int, int]) -> Tensor:
    """Pictures (B, height, width, 3) in another size, bilinear without aliasing."""
    first = frame.permute(0, 3, 1, 2)
    resized = F.interpolate(first, list(size), mode="bilinear", antialias=True)
    return resized.permute(0, 2, 3, 1)


def _anywhere(frame: Tensor, size: tuple[int, int], generator: torch.Generator) -> Tensor:
    """Parts of pictures (B, To, height, width, 3), at one place for all To frames of a sample."""
    batch, sides = len(frame), frame.shape[2:4]
    places = [
        torch.randint(whole - part + 1, (batch,), generator=generator, device=generator.device)
        for whole, part in zip(sides, size, strict=True)
    ]
    row, column = (placed(one, frame.device) for one in places)
    # Every part as a view, of which one per sample is copied.
    parts = frame.unfold(2, size[0], 1).unfold(3, size[1], 1)  # (b, to, rows, columns, 3, h, w)
    parts = parts.permute(0, 2, 3, 1, 5, 6, 4)  # (b, rows, columns, to, h, w, 3)
    return parts[torch.arange(batch, device=frame.device), row, column]
