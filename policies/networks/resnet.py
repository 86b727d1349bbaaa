"""ResNet-18 with group normalisation and a spatial softmax: Diffusion Policy's encoder.

He et al. 2016, "Deep Residual Learning for Image Recognition", in torchvision's arrangement and
with its names of the weights, so that a file of them can be read; what follows the last feature map
is replaced (Chi et al. 2023, section III).
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from .config import EncoderConfig
from .encoder import PictureEncoder, SpatialSoftmax, group_norm

_SMALLEST_SIDE = 32  # [px]; the last feature map has a thirty-second of it


class BasicBlock(nn.Module):
    """Two convolutions around a shortcut.

    Args:
        before: Channels of the input.
        channels: Channels of the output.
        stride: Of the first convolution.
    """

    def __init__(self, before: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, channels, 3, stride, 1, bias=False)
        self.bn1 = group_norm(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = group_norm(channels)
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or before != channels:
            self.downsample = nn.Sequential(
                nn.Conv2d(before, channels, 1, stride, bias=False), group_norm(channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, h, w) to (B, C', h / stride, w / stride)."""
        hidden = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(hidden)) + self.downsample(x))


class ResNet18Encoder(PictureEncoder):
    """ResNet-18 whose batch normalisation is replaced, and spatial softmax.

    Args:
        size: Height and width of what it sees [px].
        num_keypoints: Points whose positions are looked for.
        num_features: Features F that are made from them.
    """

    def __init__(self, size: tuple[int, int], num_keypoints: int, num_features: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = group_norm(64)
        self.layer1 = _layer(64, 64, 1)
        self.layer2 = _layer(64, 128, 2)
        self.layer3 = _layer(128, 256, 2)
        self.layer4 = _layer(256, 512, 2)
        height, width = (-(-side // 32) for side in size)
        self.keypoints = SpatialSoftmax(512, num_keypoints, (height, width))
        self.features = nn.Linear(2 * num_keypoints, num_features)

    @classmethod
    def build(cls, config: EncoderConfig, size: tuple[int, int]) -> ResNet18Encoder:
        """Build it with new weights; see `PictureEncoder.build`."""
        config.refuse("options", "width")
        check_size(config.kind, size)
        return cls(size, config.num_keypoints, config.num_features)

    def feature_map(self, pictures: Tensor) -> Tensor:
        """Turn pictures (B, 3, h, w) into the last feature map (B, 512, h / 32, w / 32)."""
        x = F.relu(self.bn1(self.conv1(pictures)))
        x = F.max_pool2d(x, 3, 2, 1)
        return self.layer4(self.layer3(self.layer2(self.layer1(x))))

    def forward(self, pictures: Tensor) -> Tensor:
        """Turn pictures into features; see `PictureEncoder.forward`."""
        return self.features(self.keypoints(self.feature_map(pictures)))


class ReluResNet18Encoder(ResNet18Encoder):
    """`ResNet18Encoder` whose features are not negative, as the original's are."""

    def forward(self, pictures: Tensor) -> Tensor:
        """Turn pictures into features; see `PictureEncoder.forward`."""
        return F.relu(super().forward(pictures))


def check_size(kind: str, size: tuple[int, int]) -> None:
    """Raise ValueError if pictures of this height and width are too small for a ResNet-18."""
    if min(size) < _SMALLEST_SIDE:
        raise ValueError(
            f"encoder {kind!r} needs pictures of at least {_SMALLEST_SIDE} pixels a side, "
            f"got {size}; make encoder.crop or encoder.resize larger, or choose 'conv'"
        )


def _layer(before: int, channels: int, stride: int) -> nn.Sequential:
    return nn.Sequential(BasicBlock(before, channels, stride), BasicBlock(channels, channels, 1))
