"""Attention, by hand or as torch's: heads keep their number, and each keeps the same channels.

Queries and keys are multiplied channel by channel, so they drop theirs together; the values'
channels are what leaves. Diao, Ding, Tarokh. HeteroFL. ICLR 2021.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import nn
from torch.fx import Node

from hocket.learn.submodels.axes import OPAQUE, Layout
from hocket.learn.submodels.rules.norms import layer_norm
from hocket.learn.submodels.rules.rule import argument
from hocket.learn.submodels.rules.weights import linear, produced
from hocket.learn.submodels.trace import Trace, unsupported


def scaled_dot_product(trace: Trace, node: Node, _values: list[Layout]) -> Layout:
    """`F.scaled_dot_product_attention(query, key, value)`, channels last in each."""
    query, key, value = (
        trace.of(node, argument(node, at, name, None))
        for at, name in enumerate(("query", "key", "value"))
    )
    _contract(trace, node, query, key)
    return _mixture(node, value)


def matmul(trace: Trace, node: Node, _values: list[Layout]) -> Layout:
    """`a @ b`: channels last in a and second to last in b meet, or those of one side leave."""
    a = trace.of(node, argument(node, 0, "input", None))
    b = trace.of(node, argument(node, 1, "other", argument(node, 1, "mat2", None)))
    if b.segments and len(b.behind) == 1:
        _contract(trace, node, a, replace(b, behind=()))
        return OPAQUE
    if a.segments and not a.behind:  # its channels meet positions
        if trace.droppable(a.segments):
            raise unsupported(node, "its first operand's channels meet no channels of the second")
        a = OPAQUE
    if a.segments:
        if b.segments or len(a.behind) > 1:
            raise unsupported(node, "channels lie on both of its axes")
        return a.around(a.before, (None,))
    return _mixture(node, b)


def einsum(trace: Trace, node: Node, _values: list[Layout]) -> Layout:
    """`torch.einsum` of two tensors whose letters tell every axis, such as "bhqd,bhkd->bhqk"."""
    equation, *arguments = node.args
    terms, _, result = str(equation).replace(" ", "").partition("->")
    letters = terms.split(",")
    values = [trace.of(node, argument) for argument in arguments]
    if len(letters) != 2 or len(values) != 2 or "." in terms or not result:
        raise unsupported(node, "only two tensors with a letter for every axis can be followed")
    channels = [_letter(term, value) for term, value in zip(letters, values, strict=True)]
    for at in (0, 1):
        if channels[at] in letters[1 - at] and channels[at] != channels[1 - at]:
            why = f"'{equation}' has them meet what is no axis of channels"
            trace.fix(node, values[at].segments, why)
    if channels[0] == channels[1] != "":
        trace.join(node, values[0].segments, values[1].segments)
    left = [at for at in (0, 1) if channels[at] and channels[at] in result]
    kept = [at for at in left if trace.droppable(values[at].segments)] or left
    if len({channels[at] for at in kept}) > 1:
        raise unsupported(node, "channels lie on two of its axes")
    if not kept:
        return OPAQUE
    at = result.index(channels[kept[0]])
    return values[kept[0]].around((None,) * at, (None,) * (len(result) - 1 - at))


def multi_head(trace: Trace, node: Node, module: Any, _x: Layout) -> Layout:
    """`nn.MultiheadAttention` cuts what arrives into heads, so that is tied to the heads too."""
    names = ("query", "key", "value")
    arriving = [trace.of(node, argument(node, at, name, None)) for at, name in enumerate(names)]
    return replace(_heads(trace, node, module, arriving), pieces=True)


def encoder_layer(trace: Trace, node: Node, module: Any, _x: Layout) -> Layout:
    """`nn.TransformerEncoderLayer`: attention and two linear layers, added to what arrives."""
    return _encoded(trace, node, module, trace.of(node, argument(node, 0, "src", None)))


def encoder(trace: Trace, node: Node, module: Any, _x: Layout) -> Layout:
    """`nn.TransformerEncoder`: such layers one behind the other, and perhaps a norm."""
    x = trace.of(node, argument(node, 0, "src", None))
    for layer in module.layers:
        if type(layer) is not nn.TransformerEncoderLayer:
            raise unsupported(node, "its layers are not torch's own")
        x = _encoded(trace, node, layer, x)
    if module.norm is None:
        return x
    if not isinstance(module.norm, nn.LayerNorm | nn.RMSNorm):
        raise unsupported(node, "its last norm is no layer norm")
    return layer_norm(trace, node, module.norm, x)


def _encoded(trace: Trace, node: Node, layer: Any, x: Layout) -> Layout:
    if not layer.activation_relu_or_gelu:
        raise unsupported(node, "its activation is neither torch's relu nor its gelu")
    x = _heads(trace, node, layer.self_attn, [x, x, x])
    for norm in (layer.norm1, layer.norm2):
        layer_norm(trace, node, norm, x)
    back = linear(trace, node, layer.linear2, linear(trace, node, layer.linear1, x))
    trace.join(node, x.segments, back.segments)
    return x


def _heads(trace: Trace, node: Node, module: Any, arriving: list[Layout]) -> Layout:
    if module.in_proj_weight is None or module.bias_k is not None or module.add_zero_attn:
        raise unsupported(node, "it has kdim, vdim, bias_k or add_zero_attn")
    if any(value.behind or value.flattens or value.repeated for value in arriving):
        raise unsupported(node, "its channels are not on the last axis")
    if not all(trace.droppable(value.segments) for value in arriving):
        for value in arriving:
            trace.fix(node, value.segments, "what arrives beside them is always whole")
        raise unsupported(node, "what arrives is whole, so the heads are")
    query = arriving[0]
    trace.tiled(node, query.segments, module.embed_dim // module.num_heads)
    axis = trace.groups.expanded(query.segments)
    for value in arriving[1:]:
        trace.join(node, axis, value.segments)
    inner = [trace.name_of(module, f"in_proj_{tensor}") for tensor in ("weight", "bias")]
    outer = [trace.name_of(module.out_proj, tensor) for tensor in ("weight", "bias")]
    trace.register(node, inner[0], axis * 3, axis)
    trace.register(node, inner[1], axis * 3)
    trace.register(node, outer[0], axis, axis)
    trace.register(node, outer[1], axis)
    produced(trace, axis, *inner, *outer)
    return replace(query, segments=axis)


def _letter(term: str, value: Layout) -> str:
    """The letter of a value's channels; none if it has none."""
    return term[-1 - len(value.behind)] if value.segments else ""


def _contract(trace: Trace, node: Node, a: Layout, b: Layout) -> None:
    """Two channel axes, multiplied entry by entry and summed."""
    if any(v.behind or v.flattens or v.repeated for v in (a, b) if v.segments):
        raise unsupported(node, "its operands' channels are not on the axes that it multiplies")
    if not a.segments or not b.segments:
        trace.fix(node, a.segments + b.segments, "they meet a value that is always whole")
    else:
        trace.join(node, a.segments, b.segments)


def _mixture(node: Node, value: Layout) -> Layout:
    """Weighted sums over positions, whose channels stay."""
    if not value.segments:
        return OPAQUE
    if value.behind or value.flattens or value.repeated:
        raise unsupported(node, "the values' channels are not on the last axis")
    if not value.before:
        return value
    return value.around((*value.before[:-1], None), ())
