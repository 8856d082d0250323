"""LeNet-5 with ReLU and max pooling.

LeCun, Bottou, Bengio, Haffner. Gradient-based learning applied to document recognition.
Proceedings of the IEEE 86(11), 1998.
"""

from __future__ import annotations

from torch import nn


def lenet5(classes: int = 10) -> nn.Sequential:
    """Layers of 6, 16, 120 and 84 units for inputs of shape (N, 1, 28, 28), as in MNIST.

    The first convolution pads to the 32x32 of the paper. 61,706 parameters for ten classes.
    """
    return nn.Sequential(
        nn.Conv2d(1, 6, kernel_size=5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 16, kernel_size=5),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(16 * 5 * 5, 120),
        nn.ReLU(),
        nn.Linear(120, 84),
        nn.ReLU(),
        nn.Linear(84, classes),
    )
