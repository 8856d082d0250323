"""Reference models. Each is a factory that returns an `nn.Sequential`: name it in a task file."""

from __future__ import annotations

from hocket.learn.models.cifar_cnn import cifar_cnn
from hocket.learn.models.digits_cnn import digits_cnn
from hocket.learn.models.lenet5 import lenet5
from hocket.learn.models.mlp import mlp

__all__ = ["cifar_cnn", "digits_cnn", "lenet5", "mlp"]
