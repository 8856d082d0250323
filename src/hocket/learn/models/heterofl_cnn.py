"""The CNN of the HeteroFL experiments on MNIST and CIFAR-10.

Diao, Ding, Tarokh. HeteroFL: Computation and Communication Efficient Federated Learning for
Heterogeneous Clients. ICLR 2021. Layers as in the authors' published code.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

HIDDEN = (64, 128, 256, 512)


def heterofl_cnn(
    classes: int = 10, image_channels: int = 1, hidden: Sequence[int] = HIDDEN
) -> nn.Sequential:
    """3x3 convolutions with batch norm for inputs of shape (N, image_channels, H, W).

    1,556,874 trainable parameters for ten classes and one channel; at the widths 1/2, 1/4, 1/8 and
    1/16 of HeteroFL 391,370, 98,922, 25,274 and 6,594.
    """
    layers: list[nn.Module] = []
    inside = image_channels
    for depth, width in enumerate(hidden):
        layers += [nn.MaxPool2d(2)] if depth else []
        layers += [nn.Conv2d(inside, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()]
        inside = width
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inside, classes)]
    return nn.Sequential(*layers)
