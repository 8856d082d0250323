"""Residual networks in pre-activation form for small colour images.

He, Zhang, Ren, Sun. Identity Mappings in Deep Residual Networks. ECCV 2016. arXiv:1603.05027.
The eighteen layers and their shortcuts are those of HeteroFL (ICLR 2021).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F  # noqa: N812 - torch's own custom
from torch import Tensor, nn

WIDTHS = (64, 128, 256, 512)


class PreActBlock(nn.Module):
    """Two 3x3 convolutions, each behind its norm; the shortcut starts behind the first ReLU."""

    def __init__(self, inside: int, outside: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inside)
        self.conv1 = nn.Conv2d(inside, outside, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outside)
        self.conv2 = nn.Conv2d(outside, outside, 3, padding=1, bias=False)
        self.shortcut: nn.Module | None = None
        if stride != 1 or inside != outside:
            self.shortcut = nn.Conv2d(inside, outside, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(N, inside, H, W) to (N, outside, H / stride, W / stride)."""
        active = F.relu(self.bn1(x))
        beside = x if self.shortcut is None else self.shortcut(active)
        x = self.conv1(active)
        x = self.conv2(F.relu(self.bn2(x)))
        x += beside
        return x


class ResNet(nn.Module):
    """Two blocks a stage, each stage but the first at half the resolution of the one before."""

    def __init__(self, widths: Sequence[int], classes: int = 10) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, widths[0], 3, padding=1, bias=False)
        blocks: list[nn.Module] = []
        inside = widths[0]
        for stage, width in enumerate(widths):
            blocks += [PreActBlock(inside, width, 2 if stage else 1), PreActBlock(width, width, 1)]
            inside = width
        self.blocks = nn.Sequential(*blocks)
        self.norm = nn.BatchNorm2d(inside)
        self.head = nn.Linear(inside, classes)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) to scores of shape (N, classes)."""
        x = F.relu(self.norm(self.blocks(self.stem(x))))
        scores: Tensor = self.head(x.mean((2, 3)))
        return scores


def resnet18(classes: int = 10, widths: Sequence[int] = WIDTHS) -> ResNet:
    """HeteroFL's ResNet18 for inputs of shape (N, 3, H, W).

    11,172,170 trainable parameters for ten classes; at the widths 1/2, 1/4, 1/8 and 1/16 of
    HeteroFL 2,796,714, 701,018, 176,178 and 44,510.
    """
    return ResNet(widths, classes)
