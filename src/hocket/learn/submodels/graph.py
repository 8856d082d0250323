"""From a module to its channel graph, by following one forward pass symbolically."""

from __future__ import annotations

import operator

from torch import fx, nn
from torch.fx import Node

from hocket.errors import ModelError
from hocket.learn.flat import manifest_of
from hocket.learn.submodels.axes import OPAQUE, Bare, Layout
from hocket.learn.submodels.layout import ChannelGraph
from hocket.learn.submodels.rules import (
    MODULE_RULES,
    NARROW_RULES,
    OPERATION_RULES,
    SEVERAL_INPUTS,
    TAKES_BARE,
    TAKES_SHAPE,
    unknown,
)
from hocket.learn.submodels.rules.counts import channels_counted
from hocket.learn.submodels.trace import Trace
from hocket.learn.submodels.tracer import traced

_SIZE_ATTRIBUTES = frozenset({"shape", "ndim", "device", "dtype"})
_ARITHMETIC = frozenset({"_operator", "builtins", "math"})
_SIZE_METHODS = frozenset({"size", "dim"})


def channel_graph(module: nn.Module, *, linear: bool = False) -> ChannelGraph:
    """Find which channels of a module can be dropped, and every axis they appear on.

    A group is a set of channels that exist or are dropped together: the filters of one
    convolution, or of several whose outputs are added. Groups are numbered in the order of the
    forward pass. The model's input and output axes belong to none. Behind a flatten a channel is
    a run of columns, behind a concatenation an axis holds several groups. Where heads of attention
    or groups of a convolution or norm must keep their number, the group is what one of them has,
    and the axis holds it several times.

    Args:
        module: a model whose forward pass `torch.fx` can trace.
        linear: whether all hidden units of linear layers can be dropped too. DISTREAL drops
            filters; a linear layer that works on each position of a sequence has them as well.
            Units that are added to filters or weigh them are dropped with them in any case.

    Raises:
        ModelError: the module cannot be traced, or a node to which droppable channels flow has
            no rule; the message names the node. Such a model trains at full width only.
    """
    nodes = traced(module)
    if linear:
        return _followed(module, nodes, None).graph()
    units = _beside_filters(module, nodes)
    try:
        return _followed(module, nodes, units).graph()
    except ModelError:
        if not units:
            raise
    return _followed(module, nodes, frozenset()).graph()


def _beside_filters(module: nn.Module, nodes: fx.Graph) -> frozenset[str]:
    """Weights of units that would go with filters, such as those that weigh a layer's channels."""
    try:
        return _followed(module, nodes, None).groups.beside_filters()
    except ModelError:
        return frozenset()


def _followed(module: nn.Module, nodes: fx.Graph, units: frozenset[str] | None) -> Trace:
    named = [*module.named_parameters(), *module.named_buffers()]
    manifest = manifest_of(module)
    held = {tensor.name for tensor in manifest.tensors}
    names = {id(tensor): name for name, tensor in named if name in held}
    trace = Trace(module, manifest, names, units)
    for node in nodes.nodes:
        trace.values[node] = _follow(trace, module, node)
    return trace


def _follow(trace: Trace, module: nn.Module, node: Node) -> Layout | None:
    """The layout of a node's value; None for sizes and other values that are no tensors."""
    match node.op:
        case "placeholder":
            return OPAQUE
        case "get_attr":
            return _attribute(trace, module, str(node.target))
        case "output":
            for argument in node.all_input_nodes:
                trace.fix(node, trace.of(node, argument).segments, "they are the model's scores")
            return None
        case "call_module":
            return _module(trace, node, module.get_submodule(str(node.target)))
        case _:
            return _operation(trace, node)


def _operation(trace: Trace, node: Node) -> Layout | None:
    tensors = [n for n in node.all_input_nodes if trace.values[n] is not None]
    if _asks_for_size(node):
        return None
    if not tensors:
        return _from_numbers(trace, node)
    if node.target in TAKES_BARE:
        inputs = [trace.values[n] or OPAQUE for n in tensors]
    else:
        inputs = [trace.of(node, n) for n in tensors]
    if not any(x.segments or x.bare for x in inputs):
        if node.target in TAKES_SHAPE:
            _keep_counted(trace, node)
        narrow = NARROW_RULES.get(node.target)
        return Layout(narrow=narrow is not None and narrow(node, inputs))
    try:
        if any(x.pieces for x in inputs) and node.target is not operator.getitem:
            return unknown(trace, node, inputs)
        return OPERATION_RULES.get(node.target, unknown)(trace, node, inputs)
    except ModelError:
        if any(trace.droppable(x.segments) for x in inputs):
            raise
        _keep_counted(trace, node)
        return unknown(trace, node, [trace.of(node, n) for n in tensors])


def _from_numbers(trace: Trace, node: Node) -> Layout | None:
    """Arithmetic on sizes, or a tensor made on the spot."""
    if getattr(node.target, "__module__", None) in _ARITHMETIC:
        return None
    _keep_counted(trace, node)
    return OPAQUE


def _keep_counted(trace: Trace, node: Node) -> None:
    """Keep all channels that a node is given the number of, since what it makes has so many."""
    for number in node.all_input_nodes:
        counted = channels_counted(trace, number)
        if counted is not None:
            trace.fix(node, counted.segments, "it makes a value with as many")


def _module(trace: Trace, node: Node, called: nn.Module) -> Layout:
    inputs = [trace.of(node, n) for n in node.all_input_nodes if trace.values[n] is not None]
    rule = MODULE_RULES.get(type(called))
    alone = len(inputs) == 1 or type(called) in SEVERAL_INPUTS
    try:
        if rule is not None and alone and not any(x.pieces for x in inputs):
            return rule(trace, node, called, inputs[0])
    except ModelError:
        if any(trace.droppable(x.segments) for x in inputs):
            raise
    for tensor in (*called.parameters(), *called.buffers()):
        if id(tensor) in trace.names:
            trace.stiffen(node, trace.names[id(tensor)])
    return unknown(trace, node, inputs)


def _attribute(trace: Trace, module: nn.Module, target: str) -> Layout:
    """A tensor used outside a layer; one that the manifest does not have keeps its size."""
    owner, _, attribute = target.rpartition(".")
    value = getattr(module.get_submodule(owner), attribute)
    name = trace.names.get(id(value))
    return OPAQUE if name is None else Layout(bare=Bare(name, tuple(value.shape)))


def _asks_for_size(node: Node) -> bool:
    if node.op == "call_method":
        return node.target in _SIZE_METHODS
    return node.target is getattr and node.args[1] in _SIZE_ATTRIBUTES
