"""From a module to its channel graph, by following one forward pass symbolically."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable
from typing import Any

from torch import fx, nn
from torch.fx import Node

from hocket.errors import ModelError
from hocket.learn.flat import manifest_of
from hocket.learn.submodels.layout import ChannelGraph
from hocket.learn.submodels.rules import MODULE_RULES, OPERATION_RULES, unknown
from hocket.learn.submodels.trace import OPAQUE, Layout, Trace

_SIZE_ATTRIBUTES = frozenset({"shape", "ndim", "device", "dtype"})
_ARITHMETIC = frozenset({"_operator", "builtins", "math"})
_SIZE_METHODS = frozenset({"size", "dim"})
_TRACING = threading.Lock()  # torch.fx patches nn.Module for all threads while it traces


def channel_graph(module: nn.Module, *, linear: bool = False) -> ChannelGraph:
    """Find which channels of a module can be dropped, and every axis they appear on.

    A group is a set of channels that exist or are dropped together: the filters of one
    convolution, or of several whose outputs are added. Groups are numbered in the order of the
    forward pass. The model's input and output axes belong to none. Behind a flatten a channel is
    a run of columns, behind a concatenation an axis holds several groups.

    Args:
        module: a model whose forward pass `torch.fx` can trace.
        linear: whether hidden units of linear layers can be dropped too; DISTREAL drops filters.

    Raises:
        ModelError: the module cannot be traced, or a node to which droppable channels flow has
            no rule; the message names the node. Such a model trains at full width only.
    """
    trace = _trace(module, linear=linear)
    values: dict[Node, Layout | None] = {}
    for node in _traced(module).nodes:
        values[node] = _follow(trace, module, node, values)
    return trace.graph()


def _trace(module: nn.Module, *, linear: bool) -> Trace:
    named = [*module.named_parameters(), *module.named_buffers()]
    manifest = manifest_of(module)
    held = {tensor.name for tensor in manifest.tensors}
    names = {id(tensor): name for name, tensor in named if name in held}
    return Trace(manifest, names, droppable_linear=linear)


class _OwnThread(fx.Tracer):
    """Traces what its own thread does, and lets other threads run their models as ever."""

    def __init__(self) -> None:
        super().__init__()
        self._thread = threading.get_ident()

    def call_module(
        self,
        m: nn.Module,
        forward: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        """As torch.fx, in the thread that traces."""
        if threading.get_ident() != self._thread:
            return forward(*args, **kwargs)
        return super().call_module(m, forward, args, kwargs)

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        """As torch.fx, in the thread that traces."""
        if threading.get_ident() != self._thread:
            return attr_val
        return super().getattr(attr, attr_val, parameter_proxy_cache)


def _traced(module: nn.Module) -> fx.Graph:
    """The forward pass of one input; further arguments take their defaults."""
    parameters = inspect.signature(module.forward).parameters.values()
    optional = {p.name: p.default for p in parameters if p.default is not p.empty}
    try:
        with _TRACING:
            return _OwnThread().trace(module, concrete_args=optional)
    except Exception as error:  # tracing runs a stranger's forward, which may raise anything
        msg = f"the model's forward pass cannot be traced ({error}); train it at full width"
        raise ModelError(msg) from error


def _follow(
    trace: Trace, module: nn.Module, node: Node, values: dict[Node, Layout | None]
) -> Layout | None:
    """The layout of a node's value; None for sizes and other values that are no tensors."""
    inputs = [x for x in (values[n] for n in node.all_input_nodes) if x is not None]
    match node.op:
        case "placeholder":
            return OPAQUE
        case "get_attr":
            return _attribute(trace, module, str(node.target))
        case "output":
            for layout in inputs:
                trace.fix(layout.segments)
            return None
        case "call_module":
            return _module(trace, node, module.get_submodule(str(node.target)), inputs)
        case _:
            return _operation(trace, node, inputs)


def _operation(trace: Trace, node: Node, inputs: list[Layout]) -> Layout | None:
    if _asks_for_size(node):
        return None
    if not inputs:  # arithmetic on sizes, or a tensor made on the spot
        return None if getattr(node.target, "__module__", None) in _ARITHMETIC else OPAQUE
    return OPERATION_RULES.get(node.target, unknown)(trace, node, inputs)


def _module(trace: Trace, node: Node, called: nn.Module, inputs: list[Layout]) -> Layout:
    rule = MODULE_RULES.get(type(called))
    if rule is None or len(inputs) != 1:
        for tensor in (*called.parameters(), *called.buffers()):
            if id(tensor) in trace.names:
                trace.rigid.add(trace.names[id(tensor)])
        return unknown(trace, node, inputs)
    return rule(trace, node, called, inputs[0])


def _attribute(trace: Trace, module: nn.Module, target: str) -> Layout:
    """A tensor used outside a layer keeps its size, and so does what it is combined with."""
    owner, _, attribute = target.rpartition(".")
    value = getattr(module.get_submodule(owner), attribute)
    if id(value) in trace.names:
        trace.rigid.add(trace.names[id(value)])
    return OPAQUE


def _asks_for_size(node: Node) -> bool:
    if node.op == "call_method":
        return node.target in _SIZE_METHODS
    return node.target is getattr and node.args[1] in _SIZE_ATTRIBUTES
