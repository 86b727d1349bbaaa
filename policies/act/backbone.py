"""ResNet-18 up to its last feature map, with its frozen normalisation folded into convolutions."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

NUM_CHANNELS = 512
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

    ACT trains with batch statistics that never change, so that each normalisation is one affine map
    of a convolution's output, and part of that convolution here.
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


def _layer(before: int, channels: int, stride: int) -> nn.Sequential:
    return nn.Sequential(FoldedBlock(before, channels, stride), FoldedBlock(channels, channels, 1))
