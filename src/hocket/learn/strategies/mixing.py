"""Arithmetic on global vectors (1-D float32 tensors) that the strategies share.

Nothing here changes its inputs. The order of the operations is part of the contract: replaying
a journal must give the same bits, whether a base is still in memory or was read back.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import repeat

import torch
from torch import Tensor

from hocket.core.update import Update
from hocket.learn.hands import LONG, by_two
from hocket.learn.inner import inner
from hocket.learn.pool import POOL
from hocket.learn.sparse import add_block, blocks_of, dense
from hocket.learn.strategies.displacement import Displacement

_BLOCK = 1 << 18  # values: a few such blocks stay in a processor's cache

_Block = tuple[Tensor, Tensor, Tensor | tuple[Tensor, Tensor], Tensor | None, Tensor]


@dataclass(frozen=True, slots=True)
class Mixed:
    """A server step of a mixing rule."""

    after: Tensor  # the new model
    moved: Tensor | Displacement
    """(base + delta) - model where the update holds an entry, 0 elsewhere."""
    moved_square: float  # <moved, moved>


def mix(model: Tensor, base: Tensor, update: Update[Tensor], alpha: float | Tensor) -> Tensor:
    """(1 - alpha) model + alpha (base + delta), a new tensor; what is not held stays as it was.

    `alpha` may be one for each entry (n, float32).
    """
    after = POOL.take(len(model))
    room = POOL.take(min(_BLOCK, len(model)))
    for (m, b, d, held, out), share in zip(
        _blocks(model, base, update, after), _shares(alpha), strict=False
    ):
        moved = _displace(m, b, d, held, room[: len(m)])
        _advance(m, moved, share, out)
    return after


def mix_and_measure(
    model: Tensor,
    base: Tensor,
    update: Update[Tensor],
    alpha: float | Tensor,
    *,
    in_parts: bool = False,
) -> Mixed:
    """As `mix`, and what the update would have moved the model by with alpha = 1.

    `in_parts`: that of a sparse update of a long model need not be written down.
    """
    if len(model) >= LONG and update.held is None and not isinstance(alpha, Tensor):
        from hocket.learn.strategies import long_mixing  # noqa: PLC0415 -- compiled then

        return Mixed(*long_mixing.mix(model, base, update.delta, alpha, in_parts=in_parts))
    after, moved = POOL.take(len(model)), POOL.take(len(model))

    def work(blocks: Sequence[tuple[_Block, float | Tensor, Tensor]]) -> list[float]:
        squares = []
        for (m, b, d, held, out), share, place in blocks:
            _displace(m, b, d, held, place)
            _advance(m, place, share, out)
            squares.append(inner(place, place))
        return squares

    whole = _blocks(model, base, update, after)
    blocks = list(zip(whole, _shares(alpha), _cut(moved), strict=False))
    squares = by_two(work, blocks) if len(model) >= LONG else work(blocks)
    return Mixed(after, moved, math.fsum(squares))


def make_ready(size: int) -> None:
    """Compile what steps over a model of `size` values need, before the first one waits for it."""
    if size >= LONG:
        from hocket.learn.strategies import long_mixing  # noqa: F401, PLC0415 -- as above


def square_of(update: Update[Tensor]) -> float:
    """<delta, delta>, known or computed."""
    if update.square is not None:
        return update.square
    delta = dense(update.delta)
    return inner(delta, delta)


def _displace(
    model: Tensor,
    base: Tensor,
    delta: Tensor | tuple[Tensor, Tensor],
    held: Tensor | None,
    out: Tensor,
) -> Tensor:
    """Exactly `delta` when `base` equals `model`: the difference comes first."""
    add_block(torch.sub(base, model, out=out), delta)
    return out if held is None else out.mul_(held)


def _advance(model: Tensor, moved: Tensor, alpha: float | Tensor, out: Tensor) -> None:
    """Out = model + alpha moved. By entries in two roundings, so that no bit depends on the block.

    (A fused product and sum may round otherwise where a block ends.)
    """
    if isinstance(alpha, Tensor):
        torch.mul(moved, alpha, out=out).add_(model)
    else:
        torch.add(model, moved, alpha=alpha, out=out)


def _shares(alpha: float | Tensor) -> Iterable[float | Tensor]:
    """Of each block."""
    return _cut(alpha) if isinstance(alpha, Tensor) else repeat(alpha)


def _blocks(model: Tensor, base: Tensor, update: Update[Tensor], after: Tensor) -> Iterator[_Block]:
    """Blocks that stay in a core's cache from the first operation to the last: one pass in all."""
    models, bases, outs = (_cut(vector) for vector in (model, base, after))
    held = update.held
    holds = [None] * len(models) if held is None else _cut(held)
    return zip(models, bases, blocks_of(update.delta, _BLOCK), holds, outs, strict=True)


def _cut(vector: Tensor) -> Sequence[Tensor]:
    """A small model is one block: splitting it would cost as much as adding to it."""
    return (vector,) if len(vector) <= _BLOCK else torch.split(vector, _BLOCK)
