"""How each kind of node passes channels on: one rule a kind, in two tables.

To support a further layer, write its rule and name it in MODULE_RULES (modules) or
OPERATION_RULES (functions and tensor methods).
"""

from __future__ import annotations

import operator
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own custom
from torch import nn

from hocket.learn.submodels.rules import (
    attention,
    axis,
    elementwise,
    narrow,
    norms,
    reshape,
    weights,
)
from hocket.learn.submodels.rules.narrow import NarrowRule
from hocket.learn.submodels.rules.rule import ModuleRule, OperationRule, unknown

__all__ = [
    "MODULE_RULES",
    "NARROW_RULES",
    "OPERATION_RULES",
    "SEVERAL_INPUTS",
    "TAKES_BARE",
    "TAKES_SHAPE",
    "ModuleRule",
    "OperationRule",
    "unknown",
]

MODULE_RULES: dict[type[nn.Module], ModuleRule] = {
    nn.Conv1d: weights.convolution,
    nn.Conv2d: weights.convolution,
    nn.Conv3d: weights.convolution,
    nn.Linear: weights.linear,
    nn.Embedding: weights.embedding,
    nn.BatchNorm1d: norms.per_channel,
    nn.BatchNorm2d: norms.per_channel,
    nn.BatchNorm3d: norms.per_channel,
    nn.InstanceNorm1d: norms.per_channel,
    nn.InstanceNorm2d: norms.per_channel,
    nn.InstanceNorm3d: norms.per_channel,
    nn.GroupNorm: norms.group_norm,
    nn.LayerNorm: norms.layer_norm,
    nn.RMSNorm: norms.layer_norm,
    nn.PReLU: norms.prelu,
    nn.Flatten: reshape.flatten_module,
} | dict.fromkeys(
    (
        *(nn.Identity, nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.SELU, nn.CELU, nn.GELU),
        *(nn.SiLU, nn.Mish, nn.Sigmoid, nn.Tanh, nn.Softplus, nn.Hardswish, nn.Hardsigmoid),
        *(nn.Hardtanh, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d),
    ),
    elementwise.same,
)
MODULE_RULES |= (
    dict.fromkeys(
        (nn.MaxPool1d, nn.AvgPool1d, nn.AdaptiveAvgPool1d, nn.AdaptiveMaxPool1d),
        elementwise.pooling(1),
    )
    | dict.fromkeys(
        (nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d),
        elementwise.pooling(2),
    )
    | dict.fromkeys(
        (nn.MaxPool3d, nn.AvgPool3d, nn.AdaptiveAvgPool3d, nn.AdaptiveMaxPool3d),
        elementwise.pooling(3),
    )
    | dict.fromkeys(
        (nn.Upsample, nn.UpsamplingNearest2d, nn.UpsamplingBilinear2d), elementwise.upsampled
    )
    | dict.fromkeys(
        (nn.ZeroPad1d, nn.ConstantPad1d, nn.ReflectionPad1d, nn.ReplicationPad1d),
        elementwise.pooling(1),
    )
    | dict.fromkeys(
        (nn.ZeroPad2d, nn.ConstantPad2d, nn.ReflectionPad2d, nn.ReplicationPad2d),
        elementwise.pooling(2),
    )
    | dict.fromkeys(
        (nn.ZeroPad3d, nn.ConstantPad3d, nn.ReflectionPad3d, nn.ReplicationPad3d),
        elementwise.pooling(3),
    )
)
SEVERAL_INPUTS: dict[type[nn.Module], ModuleRule] = {
    nn.MultiheadAttention: attention.multi_head,
    nn.TransformerEncoderLayer: attention.encoder_layer,
    nn.TransformerEncoder: attention.encoder,
}
"""Modules that may be called with more tensors than one."""

MODULE_RULES |= SEVERAL_INPUTS
MODULE_RULES |= dict.fromkeys((nn.LocalResponseNorm, nn.Softmax, nn.LogSoftmax), elementwise.mixing)

_ELEMENTWISE: tuple[Any, ...] = (
    *(operator.add, operator.iadd, operator.sub, operator.isub, operator.mul, operator.imul),
    *(operator.truediv, operator.neg, torch.add, torch.sub, torch.mul, torch.div),
    *("add", "add_", "sub", "sub_", "mul", "mul_", "div", "div_", "contiguous", "clone", "float"),
    *(torch.clamp, "clamp", "clamp_", "to", "type_as", torch.abs, "abs", torch.square, "square"),
    *(torch.relu, torch.tanh, torch.sigmoid, F.relu, F.relu6, F.leaky_relu, F.elu, F.selu),
    *(F.gelu, F.silu, F.mish, F.softplus, F.hardswish, F.hardsigmoid, F.hardtanh, F.tanh),
    *("relu", "relu_", "tanh", "sigmoid", F.sigmoid, F.dropout, F.dropout1d, F.dropout2d),
    *(operator.pow, torch.pow, "pow", torch.sqrt, "sqrt", torch.rsqrt, "rsqrt", torch.exp, "exp"),
    *(torch.maximum, "maximum", torch.minimum, "minimum", F.dropout3d, "expand_as"),
)

_POOLED: dict[int, tuple[Any, ...]] = {
    1: (F.max_pool1d, F.avg_pool1d, F.adaptive_avg_pool1d, F.adaptive_max_pool1d),
    2: (F.max_pool2d, F.avg_pool2d, F.adaptive_avg_pool2d, F.adaptive_max_pool2d),
    3: (F.max_pool3d, F.avg_pool3d, F.adaptive_avg_pool3d, F.adaptive_max_pool3d),
}
"""By the number of axes that they work along."""

_REDUCED: tuple[Any, ...] = (torch.mean, "mean", torch.sum, "sum", torch.amax, "amax")

_AXES: dict[Any, OperationRule] = {
    operator.getitem: axis.picked,
    torch.cat: axis.concatenated,
    torch.concat: axis.concatenated,
    torch.unsqueeze: axis.unsqueezed,
    "unsqueeze": axis.unsqueezed,
    "expand": axis.expanded,
    "view": reshape.view,
    "reshape": reshape.view,
    torch.reshape: reshape.view,
}

OPERATION_RULES: dict[Any, OperationRule] = (
    {
        torch.flatten: reshape.flatten,
        "flatten": reshape.flatten,
        "unflatten": reshape.unflatten,
        torch.unflatten: reshape.unflatten,
        F.linear: weights.linear_function,
        F.scaled_dot_product_attention: attention.scaled_dot_product,
        torch.permute: axis.permute,
        "permute": axis.permute,
        torch.squeeze: axis.squeezed,
        "squeeze": axis.squeezed,
        F.interpolate: elementwise.interpolated,
        F.pad: elementwise.padded,
        torch.einsum: attention.einsum,
        torch.chunk: axis.chunk,
        "chunk": axis.chunk,
        torch.unbind: axis.unbind,
        "unbind": axis.unbind,
    }
    | _AXES
    | dict.fromkeys(_ELEMENTWISE, elementwise.elementwise)
    | {
        function: elementwise.pooling_function(axes)
        for axes, functions in _POOLED.items()
        for function in functions
    }
    | dict.fromkeys(_REDUCED, axis.reduced)
    | dict.fromkeys((operator.matmul, torch.matmul, torch.bmm, "matmul", "bmm"), attention.matmul)
    | dict.fromkeys((torch.transpose, "transpose", torch.swapaxes, "swapaxes"), axis.transpose)
    | dict.fromkeys(
        (F.softmax, F.log_softmax, torch.softmax, torch.log_softmax, "softmax", "log_softmax"),
        elementwise.mixing_function,
    )
)

NARROW_RULES: dict[Any, NarrowRule] = (
    dict.fromkeys((torch.unsqueeze, "unsqueeze"), narrow.added)
    | dict.fromkeys(_ELEMENTWISE, narrow.kept)
    | dict.fromkeys(_REDUCED, narrow.reduced)
)
"""Of operations on values without channels: whether the last axis of the result has one entry."""

TAKES_BARE = frozenset(_ELEMENTWISE) | _AXES.keys() | {F.linear}
"""Operations whose rules know what to do with a parameter that is used outside its layer."""

TAKES_SHAPE = frozenset({"view", "reshape", torch.reshape, "expand", "repeat", "unflatten"})
"""Operations that are told the lengths of the axes that they make."""
