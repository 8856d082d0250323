"""A small convolutional network for 8x8 grey images.

Initialisation: He, Zhang, Ren, Sun. Delving Deep into Rectifiers. ICCV 2015. arXiv:1502.01852
"""

from __future__ import annotations

from torch import nn


def digits_cnn(classes: int = 10) -> nn.Sequential:
    """Two convolutions and two linear layers for inputs of shape (N, 1, 8, 8).

    38,282 parameters for ten classes. No normalisation layers: their running statistics mean
    little when every device sees other classes. He's initialisation saves the first epochs.
    """
    model = nn.Sequential(
        nn.Conv2d(1, 16, kernel_size=3, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 32, kernel_size=3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(32 * 4 * 4, 64),
        nn.ReLU(),
        nn.Linear(64, classes),
    )
    for layer in model:
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    return model
