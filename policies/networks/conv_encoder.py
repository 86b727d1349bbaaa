"""A small convolutional encoder: what one core encodes in about a millisecond."""

from __future__ import annotations

from torch import Tensor, nn

from .config import EncoderConfig
from .encoder import PictureEncoder, SpatialSoftmax, group_norm

_WIDTH = 32
_SMALLEST_SIDE = 16  # [px]; the last feature map has an eighth of it


class ConvEncoder(PictureEncoder):
    """Strided convolutions with group normalisation, then a spatial softmax.

    Three of stride 2 and one more: each feature sees 33 pixels around it, so that a picture of
    84 pixels is looked at as a 11 x 11 grid of overlapping parts.

    Args:
        size: Height and width of what it sees [px].
        width: Channels of the first convolution.
        num_keypoints: Points whose positions are looked for.
        num_features: Features F that are made from them.
    """

    def __init__(
        self, size: tuple[int, int], width: int, num_keypoints: int, num_features: int
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = 3
        for channels, kernel, stride in (
            (width, 5, 2),
            (width, 3, 2),
            (2 * width, 3, 2),
            (2 * width, 3, 1),
        ):
            layers += [
                nn.Conv2d(before, channels, kernel, stride, kernel // 2, bias=False),
                group_norm(channels),
                nn.ReLU(),
            ]
            before = channels
        self.layers = nn.Sequential(*layers)
        height, width_out = (-(-side // 8) for side in size)
        self.keypoints = SpatialSoftmax(before, num_keypoints, (height, width_out))
        self.features = nn.Linear(2 * num_keypoints, num_features)

    @classmethod
    def build(cls, config: EncoderConfig, size: tuple[int, int]) -> ConvEncoder:
        """Build it with new weights; see `PictureEncoder.build`."""
        config.refuse("options")
        if min(size) < _SMALLEST_SIDE:
            raise ValueError(
                f"encoder 'conv' needs pictures of at least {_SMALLEST_SIDE} pixels a side, got "
                f"{size}; make encoder.crop or encoder.resize larger"
            )
        width = config.width or _WIDTH
        return cls(size, width, config.num_keypoints, config.num_features)

    def forward(self, pictures: Tensor) -> Tensor:
        """Turn pictures into features; see `PictureEncoder.forward`."""
        return self.features(self.keypoints(self.layers(pictures)))
