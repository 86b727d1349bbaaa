"""ResNet-18 whose batch normalisation, with statistics that never change, is part of convolutions.

What other projects train with batch normalisation runs here as a convolution less per layer.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from .config import EncoderConfig
from .encoder import PictureEncoder, SpatialSoftmax
from .resnet import check_size

NUM_CHANNELS = 512
_EPSILON = 1e-5  # of torchvision's batch normalisation, frozen or not
STRIDE = 32  # pixels of a side per cell of the last feature map


class FoldedBlock(nn.Module):
    """Two convolutions around a shortcut.

    Args:
        before: Channels of the input.
        channels: Channels of the output.
        stride: Of the first convolution.
    """

    def __init__(self, before: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, channels, 3, stride, 1)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1)
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or before != channels:
            self.downsample = nn.Conv2d(before, channels, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, h, w) to (B, C', h / stride, w / stride)."""
        hidden = self.conv2(F.relu(self.conv1(x)))
        return F.relu(hidden + self.downsample(x))


class Backbone(nn.Module):
    """ResNet-18 (He et al. 2016) without its last two layers, in torchvision's arrangement.

    Each normalisation is one affine map of a convolution's output, and part of that convolution.
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3)
        self.layer1 = _layer(64, 64, 1)
        self.layer2 = _layer(64, 128, 2)
        self.layer3 = _layer(128, 256, 2)
        self.layer4 = _layer(256, NUM_CHANNELS, 2)

    def forward(self, pictures: Tensor) -> Tensor:
        """Map normalised pictures (B, 3, h, w) to (B, 512, h / 32, w / 32), rounded up."""
        x = F.max_pool2d(F.relu(self.conv1(pictures)), 3, 2, 1)
        return self.layer4(self.layer3(self.layer2(self.layer1(x))))


class FoldedResNet18Encoder(PictureEncoder):
    """`Backbone`, spatial softmax, and features that are not negative.

    Args:
        size: Height and width of what it sees [px].
        num_keypoints: Points whose positions are looked for.
        num_features: Features F that are made from them.
    """

    def __init__(self, size: tuple[int, int], num_keypoints: int, num_features: int) -> None:
        super().__init__()
        self.backbone = Backbone()
        height, width = (-(-side // STRIDE) for side in size)
        self.keypoints = SpatialSoftmax(NUM_CHANNELS, num_keypoints, (height, width))
        self.features = nn.Linear(2 * num_keypoints, num_features)

    @classmethod
    def build(cls, config: EncoderConfig, size: tuple[int, int]) -> FoldedResNet18Encoder:
        """Build it with new weights; see `PictureEncoder.build`."""
        config.refuse("options", "width")
        check_size(config.kind, size)
        return cls(size, config.num_keypoints, config.num_features)

    def forward(self, pictures: Tensor) -> Tensor:
        """Turn pictures into features; see `PictureEncoder.forward`."""
        return F.relu(self.features(self.keypoints(self.backbone(pictures))))


def fold(
    weight: Tensor, scale: Tensor, shift: Tensor, mean: Tensor, variance: Tensor
) -> tuple[Tensor, Tensor]:
    """Weight and bias of a convolution that includes the normalisation behind it.

    Args:
        weight: Weight of the convolution, shape (C, ...), which has no bias.
        scale: The normalisation's scale, shape (C,).
        shift: What it adds, shape (C,).
        mean: Mean that it subtracts, shape (C,).
        variance: Variance whose root it divides by, shape (C,).
    """
    gain = scale.double() / (variance.double() + _EPSILON).sqrt()
    bias = shift.double() - mean.double() * gain
    folded = weight.double() * gain.reshape(-1, *[1] * (weight.ndim - 1))
    return folded.to(weight.dtype), bias.to(weight.dtype)


def _layer(before: int, channels: int, stride: int) -> nn.Sequential:
    return nn.Sequential(FoldedBlock(before, channels, stride), FoldedBlock(channels, channels, 1))
