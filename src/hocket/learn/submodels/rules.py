"""How each kind of node passes channels on: one rule a kind, in two tables.

To support a further layer, write its rule and name it in MODULE_RULES (modules) or
OPERATION_RULES (functions and tensor methods).
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own custom
from torch import nn
from torch.fx import Node

from hocket.learn.submodels.layout import Axis, Segment
from hocket.learn.submodels.trace import OPAQUE, Layout, Trace, unsupported

ModuleRule = Callable[[Trace, Node, Any, Layout], Layout]
OperationRule = Callable[[Trace, Node, list[Layout]], Layout]


def _convolution(trace: Trace, node: Node, module: Any, x: Layout) -> Layout:
    """Filters are the channels of the output; the input axis keeps what arrives."""
    if module.groups != 1:
        raise unsupported(node, "grouped convolution has no slicing rule")
    spatial = len(module.kernel_size)
    if trace.droppable(x.segments) and x.spatial != spatial:
        raise unsupported(node, "it receives channels that were flattened")
    return _weighted(trace, node, module, x, spatial=spatial, droppable=True)


def _linear(trace: Trace, node: Node, module: Any, x: Layout) -> Layout:
    """Units are the channels of the output; behind a flatten each channel is a run of columns."""
    if x.spatial:
        if trace.droppable(x.segments):
            raise unsupported(node, "it receives spatial axes; flatten(1) them first")
        x = OPAQUE
    return _weighted(trace, node, module, x, spatial=0, droppable=trace.droppable_linear)


def _weighted(
    trace: Trace, node: Node, module: Any, x: Layout, *, spatial: int, droppable: bool
) -> Layout:
    columns = trace.resolve(node, x, module.weight.shape[1])
    size = int(module.weight.shape[0])
    name = trace.names.get(id(module.weight))
    if name is None:
        raise unsupported(node, "its weight is computed from other tensors")
    known = trace.axes.get(name)
    if known is not None:  # called before: the same filters make the same channels
        out: Axis = known[0]
    else:
        out = (Segment(size, trace.new_group(str(node.target), size) if droppable else None),)
    trace.register(node, module, "weight", out, columns)
    trace.register(node, module, "bias", out)
    trace.produced(out[0].group, module)
    return Layout(out, spatial)


def _batch_norm(trace: Trace, node: Node, module: Any, x: Layout) -> Layout:
    """Each channel has its own scale, shift and running statistics."""
    axis = trace.resolve(node, x, module.num_features)
    for tensor in ("weight", "bias", "running_mean", "running_var"):
        trace.register(node, module, tensor, axis)
    return Layout(axis, x.spatial)


def _prelu(trace: Trace, node: Node, module: Any, x: Layout) -> Layout:
    """One slope for all channels, or one for each."""
    if module.num_parameters == 1:
        return x
    axis = trace.resolve(node, x, module.num_parameters)
    trace.register(node, module, "weight", axis)
    return Layout(axis, x.spatial)


def _same(_trace: Trace, _node: Node, _module: Any, x: Layout) -> Layout:
    """Each entry by itself, or each channel by itself."""
    return x


def _mixing(trace: Trace, node: Node, _module: Any, x: Layout) -> Layout:
    """All channels together make each output, so none may be missing."""
    why = "it mixes the statistics of several channels; use batch norm, or do without"
    trace.whole.append((node, x, why))
    return x


def _flatten_module(trace: Trace, node: Node, module: Any, x: Layout) -> Layout:
    return _flattened(trace, node, x, plain=(module.start_dim, module.end_dim) == (1, -1))


def _flatten(trace: Trace, node: Node, values: list[Layout]) -> Layout:
    start = _argument(node, 1, "start_dim", 0)
    end = _argument(node, 2, "end_dim", -1)
    return _flattened(trace, node, values[0], plain=(start, end) == (1, -1))


def _view(trace: Trace, node: Node, values: list[Layout]) -> Layout:
    """`view(batch, -1)` is a flatten; other shapes would be wrong for a smaller model."""
    shape: Any = node.args[1:]
    if len(shape) == 1 and isinstance(shape[0], tuple | list):
        shape = shape[0]
    plain = len(shape) == 2 and shape[1] == -1 and shape[0] != -1
    return _flattened(trace, node, values[0], plain=plain)


def _flattened(trace: Trace, node: Node, x: Layout, *, plain: bool) -> Layout:
    if not trace.droppable(x.segments) and not plain:
        return OPAQUE
    if not plain:
        raise unsupported(node, "only flatten(1) and view(batch, -1) fit every width")
    if x.segments and not x.spatial:
        return x
    return Layout(x.segments, 0, flattens=1 if x.segments else 0)


def _mean(trace: Trace, node: Node, values: list[Layout]) -> Layout:
    """A mean over all spatial axes is a global pooling."""
    (x,) = values
    dims = _argument(node, 1, "dim", None)
    dims = {dims} if isinstance(dims, int) else set(dims or ())
    rank = 2 + x.spatial
    if x.spatial and {dim % rank for dim in dims} == set(range(2, rank)):
        return x if _argument(node, 2, "keepdim", default=False) else Layout(x.segments)
    return unknown(trace, node, values)


def _elementwise(trace: Trace, node: Node, values: list[Layout]) -> Layout:
    """The operands' channels must be dropped together."""
    result = values[0]
    for other in values[1:]:
        result = _joined(trace, node, result, other)
    return result


def _joined(trace: Trace, node: Node, a: Layout, b: Layout) -> Layout:
    if not a.segments or not b.segments:
        trace.fix(a.segments + b.segments)
        return a if a.segments else b
    if not trace.droppable(a.segments + b.segments):
        return OPAQUE
    if (a.spatial, a.flattens) != (b.spatial, b.flattens):
        raise unsupported(node, "its operands differ in their axes")
    for one, other in ((a, b), (b, a)):
        if [segment.channels for segment in one.segments] == [1]:  # one map for all channels
            trace.fix(one.segments)
            return other
    trace.join(node, a.segments, b.segments)
    return a


def _concatenated(trace: Trace, node: Node, values: list[Layout]) -> Layout:
    """Channels one behind the other: the next weight's columns are dropped segment by segment."""
    if not any(trace.droppable(value.segments) for value in values):
        return OPAQUE
    dim = _argument(node, 1, "dim", 0)
    spatial = values[0].spatial
    parts = node.args[0]
    if dim not in {1, -1 - spatial} or not isinstance(parts, tuple | list):
        raise unsupported(node, "channels concatenate along axis 1 only")
    if any(not value.segments or value.spatial != spatial for value in values):
        raise unsupported(node, "it does not know all of its parts' channels")
    # A part may stand twice in the list, while `values` holds each node once.
    by_node = dict(zip(node.all_input_nodes, values, strict=True))
    ordered = [by_node[part] for part in parts if isinstance(part, Node)]
    segments = tuple(segment for value in ordered for segment in value.segments)
    return Layout(segments, spatial, sum(value.flattens for value in ordered))


def _mixing_operation(trace: Trace, node: Node, values: list[Layout]) -> Layout:
    return _mixing(trace, node, None, values[0])


def unknown(trace: Trace, node: Node, values: list[Layout]) -> Layout:
    """A node without a rule may do anything to values of which nothing can be dropped.

    Raises:
        ModelError: some channel that reaches it may be dropped.
    """
    if any(trace.droppable(value.segments) for value in values):
        raise unsupported(node, "there is no rule for it")
    return OPAQUE


def _argument(node: Node, position: int, name: str, default: Any) -> Any:
    if len(node.args) > position:
        return node.args[position]
    return node.kwargs.get(name, default)


MODULE_RULES: dict[type[nn.Module], ModuleRule] = {
    nn.Conv1d: _convolution,
    nn.Conv2d: _convolution,
    nn.Conv3d: _convolution,
    nn.Linear: _linear,
    nn.BatchNorm1d: _batch_norm,
    nn.BatchNorm2d: _batch_norm,
    nn.BatchNorm3d: _batch_norm,
    nn.PReLU: _prelu,
    nn.Flatten: _flatten_module,
} | dict.fromkeys(
    (
        *(nn.Identity, nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.SELU, nn.CELU, nn.GELU),
        *(nn.SiLU, nn.Mish, nn.Sigmoid, nn.Tanh, nn.Softplus, nn.Hardswish, nn.Hardsigmoid),
        *(nn.Hardtanh, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d),
        *(nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d),
        *(nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d),
        *(nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d),
    ),
    _same,
)
MODULE_RULES |= dict.fromkeys(
    (nn.GroupNorm, nn.LayerNorm, nn.LocalResponseNorm, nn.Softmax, nn.LogSoftmax), _mixing
)

OPERATION_RULES: dict[Any, OperationRule] = {
    torch.flatten: _flatten,
    "flatten": _flatten,
    "view": _view,
    "reshape": _view,
    torch.reshape: _view,
    torch.mean: _mean,
    "mean": _mean,
    torch.cat: _concatenated,
    torch.concat: _concatenated,
}
OPERATION_RULES |= dict.fromkeys(
    (
        *(operator.add, operator.iadd, operator.sub, operator.isub, operator.mul, operator.imul),
        *(operator.truediv, operator.neg, torch.add, torch.sub, torch.mul, torch.div),
        *("add", "add_", "sub", "sub_", "mul", "mul_", "div", "div_", "contiguous", "clone"),
        *(torch.relu, torch.tanh, torch.sigmoid, F.relu, F.relu6, F.leaky_relu, F.elu, F.selu),
        *(F.gelu, F.silu, F.mish, F.softplus, F.hardswish, F.hardsigmoid, F.hardtanh, F.tanh),
        *("relu", "relu_", "tanh", "sigmoid", F.sigmoid, F.dropout, F.dropout1d, F.dropout2d),
        *(F.max_pool1d, F.max_pool2d, F.max_pool3d, F.avg_pool1d, F.avg_pool2d, F.avg_pool3d),
        *(F.adaptive_avg_pool1d, F.adaptive_avg_pool2d, F.adaptive_avg_pool3d),
        *(F.adaptive_max_pool1d, F.adaptive_max_pool2d, F.adaptive_max_pool3d),
    ),
    _elementwise,
)
OPERATION_RULES |= dict.fromkeys(
    (F.softmax, F.log_softmax, torch.softmax, torch.log_softmax, "softmax", "log_softmax"),
    _mixing_operation,
)
