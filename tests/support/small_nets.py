"""Small networks of each shape that slicing must understand, written as a user would."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own custom
from torch import Tensor, nn

from hocket.learn.models.heterofl_cnn import heterofl_cnn
from hocket.learn.models.resnet import ResNet

__all__ = [
    "ConcatNet",
    "NormNet",
    "PlainNet",
    "ResNet",
    "headless",
    "heterofl_cnn",
    "normed",
    "shake",
]


class PlainNet(nn.Module):
    """Three 3x3 convolutions, maps of 32, 16 and 8, and a linear head: DISTREAL 2.8 item 4."""

    def __init__(
        self, widths: tuple[int, int, int] = (32, 64, 128), maps: int = 32, classes: int = 10
    ) -> None:
        super().__init__()
        one, two, three = widths
        self.conv1 = nn.Conv2d(3, one, 3, padding=1)
        self.conv2 = nn.Conv2d(one, two, 3, padding=1)
        self.conv3 = nn.Conv2d(two, three, 3, padding=1)
        self.head = nn.Linear(three * (maps // 4) ** 2, classes)

    def forward(self, x: Tensor, masks: tuple[Tensor, ...] | None = None) -> Tensor:
        for layer, conv in enumerate((self.conv1, self.conv2, self.conv3)):
            if layer:
                x = F.max_pool2d(x, 2)
            x = torch.relu(conv(x))
            if masks is not None:
                x = x * masks[layer].view(1, -1, 1, 1)
        logits: Tensor = self.head(torch.flatten(x, 1))
        return logits


class NormNet(nn.Module):
    """Convolution, batch norm, ReLU, twice; global pooling; a view instead of a flatten."""

    def __init__(self, one: int = 6, two: int = 10) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, one, 3, padding=1, bias=False),
            nn.BatchNorm2d(one),
            nn.ReLU(),
            nn.Conv2d(one, two, 3, padding=1),
            nn.BatchNorm2d(two),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
        )
        self.head = nn.Linear(two, 4)

    def forward(self, x: Tensor) -> Tensor:
        features = self.body(x)
        logits: Tensor = self.head(features.view(features.size(0), -1))
        return logits


class ConcatNet(nn.Module):
    """A convolution that reads two others' outputs side by side, then a wide flatten."""

    def __init__(self) -> None:
        super().__init__()
        self.left = nn.Conv2d(1, 5, 3, padding=1)
        self.right = nn.Conv2d(5, 7, 3, padding=1)
        self.norm = nn.BatchNorm2d(12)
        self.join = nn.Conv2d(12, 8, 3, padding=1)
        self.head = nn.Linear((12 + 8) * 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        left = F.relu(self.left(x))
        both = F.relu(self.norm(torch.cat([left, F.relu(self.right(left))], dim=1)))
        dense = torch.cat([both, F.relu(self.join(both))], 1)
        logits: Tensor = self.head(F.avg_pool2d(dense, 2).flatten(1))
        return logits


def shake(module: nn.Module, seed: int = 0) -> None:
    """Give every tensor, running statistics included, values unlike any initial value."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for tensor in (*module.parameters(), *module.buffers()):
            if tensor.is_floating_point():
                tensor.copy_(torch.rand(tensor.shape, generator=generator) * 0.6 - 0.2)
        for name, buffer in module.named_buffers():
            if name.endswith("running_var"):
                buffer.abs_().add_(0.5)


def headless() -> nn.Sequential:
    """A classifier of 1x8x8 images without any linear layer."""
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 10, 6), nn.Flatten())


def normed() -> nn.Sequential:
    """As NormNet for 1x8x8 images, in layers of torch alone, with dropout before the last one."""
    return nn.Sequential(
        *(nn.Conv2d(1, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(6, 10, 3, padding=1), nn.BatchNorm2d(10), nn.ReLU()),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.5), nn.Linear(10, 4)),
    )
