"""The CNN of the FedDU, FedDUAP and FedDUMAP experiments on CIFAR-10 and CIFAR-100.

Zhang et al. FedDUAP: Federated Learning with Dynamic Update and Adaptive Pruning Using Shared
Data on the Server. IJCAI 2022. Architecture and initialisation from the authors' published code.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import nn


def cifar_cnn(classes: int = 10, filters: Sequence[int] = (32, 64, 64)) -> nn.Sequential:
    """Three unpadded 3x3 convolutions for inputs of shape (N, 3, 32, 32).

    122,570 parameters for ten classes, 128,420 for a hundred.
    """
    first, second, third = filters
    model = nn.Sequential(
        nn.Conv2d(3, first, kernel_size=3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(first, second, kernel_size=3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(second, third, kernel_size=3),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(third * 4 * 4, 64),
        nn.ReLU(),
        nn.Linear(64, classes),
    )
    for layer in model:
        if isinstance(layer, nn.Conv2d):
            height, width = layer.kernel_size
            nn.init.normal_(layer.weight, std=math.sqrt(2 / (height * width * layer.out_channels)))
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    return model
