"""How messages name a node of a forward pass: what it does, and the line that it comes from."""

from __future__ import annotations

import sys
from types import CodeType, FrameType

from torch.fx import Node

_NOT_THE_USERS = frozenset({"torch", *sys.stdlib_module_names})
_HERE = __name__.rpartition(".")[0]
_KIND, _LINE = "kind", "line"  # what is noted of a node


def note(node: Node, kind: str, line: str) -> None:
    """Note the class of the layer that a node calls, if it calls one, and the line of the call."""
    node.meta |= {_KIND: kind, _LINE: line}


def told(node: Node) -> str:
    """Name, kind and line of a node, for a message."""
    line = node.meta.get(_LINE, "")
    return f"node '{node.name}' ({_kind(node)}{', ' if line else ''}{line})"


def target_name(node: Node) -> str:
    """What a node calls: a layer's class, a function or a method."""
    if node.op == "call_module":
        return str(node.meta.get(_KIND) or node.target)
    return str(getattr(node.target, "__name__", node.target))


def line_of(frame: FrameType | None, within: CodeType) -> str:
    """File and line of the innermost call of the user's code, of those that `within` makes."""
    while frame is not None and frame.f_code is not within:
        if _is_users(frame):
            return f"{frame.f_code.co_filename}:{frame.f_lineno}"
        frame = frame.f_back
    return ""


def line_of_error(error: BaseException) -> str:
    """File and line of the innermost of the user's code that met an error."""
    found, step = "", error.__traceback__
    while step is not None:
        if _is_users(step.tb_frame):
            found = f"{step.tb_frame.f_code.co_filename}:{step.tb_lineno}"
        step = step.tb_next
    return found


def _is_users(frame: FrameType) -> bool:
    """Whether a frame is of neither torch, nor Python, nor this package."""
    module = str(frame.f_globals.get("__name__", ""))
    return module.partition(".")[0] not in _NOT_THE_USERS and not module.startswith(_HERE)


_WORDS: dict[str, str] = {
    "call_module": "layer",
    "call_function": "function",
    "call_method": "method",
    "get_attr": "tensor",
}


def _kind(node: Node) -> str:
    return f"{_WORDS[node.op]} {target_name(node)}" if node.op in _WORDS else node.op
