"""A model's forward pass as a graph of nodes (torch.fx), each with the line that it comes from."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import fx, nn
from torch.fx import Node

from hocket.errors import ModelError
from hocket.learn.submodels.layout import AT_FULL_WIDTH
from hocket.learn.submodels.rules.rule import argument
from hocket.learn.submodels.where import line_of, line_of_error, note, told

_TRACING = threading.Lock()  # torch.fx patches nn.Module for all threads while it traces


def traced(module: nn.Module) -> fx.Graph:
    """The forward pass of one input; further arguments take their defaults.

    Raises:
        ModelError: it cannot be traced; the message names the last node and the line.
    """
    parameters = inspect.signature(module.forward).parameters.values()
    optional = {p.name: p.default for p in parameters if p.default is not p.empty}
    tracer = _OwnThread()
    try:
        with _TRACING:
            return tracer.trace(module, concrete_args=optional)
    except Exception as error:  # tracing runs a stranger's forward, which may raise anything
        raise _untraceable(tracer, error) from error


class _OwnThread(fx.Tracer):
    """Traces what its own thread does, and lets other threads run their models as ever."""

    proxy_buffer_attributes = True  # so that a part of one, such as of a mask, can be asked for

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

    def create_node(self, *args: Any, **kwargs: Any) -> Node:
        """As torch.fx, with the layer's class and the line of the call noted."""
        node = super().create_node(*args, **kwargs)
        called = self.root.get_submodule(str(node.target)) if node.op == "call_module" else None
        kind = "" if called is None else type(called).__name__
        note(node, kind, line_of(inspect.currentframe(), traced.__code__))
        return node

    def iter(self, obj: Any) -> Iterator[Any]:
        """As torch.fx, and of a number of chunks wherever they are unpacked."""
        chunks = argument(obj.node, 1, "chunks", None)
        if obj.node.target in {"chunk", torch.chunk} and isinstance(chunks, int):
            return iter([obj[at] for at in range(chunks)])
        return super().iter(obj)

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        """As torch.fx, in the thread that traces."""
        if threading.get_ident() != self._thread:
            return attr_val
        return super().getattr(attr, attr_val, parameter_proxy_cache)


def _untraceable(tracer: _OwnThread, error: Exception) -> ModelError:
    """What stopped it, behind which node and at which line."""
    nodes = list(tracer.graph.nodes) if hasattr(tracer, "graph") else []
    why = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
    line = line_of_error(error)
    at = f" at {line}" if line else ""
    behind = f", behind {told(nodes[-1])}" if nodes else ""
    return ModelError(
        f"the model's forward pass cannot be traced{at}{behind}: {why}. Write that in another "
        f"way, without decisions by values or sizes{AT_FULL_WIDTH}",
        **({"node": nodes[-1].name} if nodes else {}),
    )
