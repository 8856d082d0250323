"""Reference models. Each is a factory that returns an `nn.Module`: name it in a task file."""

from __future__ import annotations

from hocket.learn.models.cifar_cnn import cifar_cnn
from hocket.learn.models.densenet import densenet40
from hocket.learn.models.digits_cnn import digits_cnn
from hocket.learn.models.heterofl_cnn import heterofl_cnn
from hocket.learn.models.lenet5 import lenet5
from hocket.learn.models.mlp import mlp
from hocket.learn.models.resnet import resnet18
from hocket.learn.models.transformer import transformer

__all__ = [
    "cifar_cnn",
    "densenet40",
    "digits_cnn",
    "heterofl_cnn",
    "lenet5",
    "mlp",
    "resnet18",
    "transformer",
]
