"""DenseNet-40 for 32x32 colour images, plain and with bottlenecks.

Huang, Liu, van der Maaten, Weinberger. Densely Connected Convolutional Networks. CVPR 2017.
arXiv:1608.06993
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own custom
from torch import Tensor, nn

CONVOLUTIONS = 39  # and one linear layer
BLOCKS = 3
EXPANSION = 4  # of a bottleneck, times the growth
COMPRESSION = 2  # of a transition behind bottlenecks


class DenseLayer(nn.Module):
    """Norm, ReLU and a 3x3 convolution, whose filters join what arrived."""

    def __init__(self, inside: int, growth: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(inside)
        self.conv = nn.Conv2d(inside, growth, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(N, inside, H, W) to (N, inside + growth, H, W)."""
        return torch.cat([x, self.conv(F.relu(self.norm(x)))], 1)


class BottleneckLayer(nn.Module):
    """As `DenseLayer`, with a 1x1 convolution to `EXPANSION` times the growth before it."""

    def __init__(self, inside: int, growth: int) -> None:
        super().__init__()
        between = EXPANSION * growth
        self.norm1 = nn.BatchNorm2d(inside)
        self.conv1 = nn.Conv2d(inside, between, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(between)
        self.conv2 = nn.Conv2d(between, growth, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(N, inside, H, W) to (N, inside + growth, H, W)."""
        new = self.conv1(F.relu(self.norm1(x)))
        return torch.cat([x, self.conv2(F.relu(self.norm2(new)))], 1)


def densenet40(classes: int = 10, growth: int = 12, *, bottleneck: bool = False) -> nn.Sequential:
    """39 convolutions in three dense blocks for inputs of shape (N, 3, 32, 32).

    The plain form (stem of 16 filters, twelve layers a block) has 1,019,722 trainable parameters
    for ten classes. The bottleneck form (stem of 2 x growth, six layers a block of two convolutions
    each, transitions that halve) has 176,122; 188,092 for a hundred classes.
    """
    layer = BottleneckLayer if bottleneck else DenseLayer
    depth = (CONVOLUTIONS - BLOCKS) // BLOCKS // (2 if bottleneck else 1)
    width = 2 * growth if bottleneck else 16
    parts: list[nn.Module] = [nn.Conv2d(3, width, 3, padding=1, bias=False)]
    for block in range(BLOCKS):
        if block:
            narrow = width // COMPRESSION if bottleneck else width
            parts.append(_transition(width, narrow))
            width = narrow
        parts += [layer(width + n * growth, growth) for n in range(depth)]
        width += depth * growth
    parts += [nn.BatchNorm2d(width), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*parts, nn.Linear(width, classes))


def _transition(inside: int, outside: int) -> nn.Sequential:
    convolution = nn.Conv2d(inside, outside, 1, bias=False)
    return nn.Sequential(nn.BatchNorm2d(inside), nn.ReLU(), convolution, nn.AvgPool2d(2))
