"""A row of a mixing step, in LLVM's own words: Numba has none for writing past the cache.

A step over a long model is bound by memory. What a device moved is not read before its next update;
written in the ordinary way, each line of it would be fetched first, and would push out of the cache
what others need at once: the new model, and what the event loop takes in meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

LINE = 16  # values of a line of the cache
LINE_BYTES = 64
VALUE_BYTES = 4

_LINE = ir.VectorType(ir.FloatType(), LINE)
_INDEX = ir.IntType(64)

Emit = Callable[[Any, Any, Any, Any], Any]  # of a context, a builder, a signature and arguments


@dataclass(frozen=True, slots=True)
class _Lines:
    """Where the vectors begin."""

    builder: Any
    alpha: Any  # in each place of a line
    old: Any
    met: Any
    step: Any
    new: Any
    moved: Any
    squares: Any

    def mix(self, count: Any, keep: Callable[[Any, Any, Any], Any] | None) -> None:
        """So many lines; `keep` writes what is moved."""
        build, read = self.builder, self._read
        with cgutils.for_range(build, count, intp=_INDEX) as loop:
            at = loop.index
            old = read(self.old, at)
            moved = build.fadd(build.fsub(read(self.met, at), old), read(self.step, at))
            if keep is not None:
                keep(moved, self.moved, at)
            self.write(build.fadd(old, build.fmul(self.alpha, moved)), self.new, at)
            square = build.fmul(moved, moved)
            self.write(build.fadd(read(self.squares, at), square), self.squares, at)

    def is_aligned(self, start: Any) -> Any:
        """Whether it begins with a line of the cache: past it there are only whole ones."""
        within = self.builder.and_(
            self.builder.ptrtoint(start, _INDEX), ir.Constant(_INDEX, LINE_BYTES - 1)
        )
        return self.builder.icmp_unsigned("==", within, ir.Constant(_INDEX, 0))

    def write(self, line: Any, start: Any, at: Any) -> Any:
        """In the ordinary way."""
        return self.builder.store(line, self.builder.gep(start, [at]), align=VALUE_BYTES)

    def write_past(self, line: Any, start: Any, at: Any) -> Any:
        """Past the cache."""
        store = self.builder.store(line, self.builder.gep(start, [at]), align=LINE_BYTES)
        yes = self.builder.module.add_metadata([ir.Constant(ir.IntType(32), 1)])
        store.set_metadata("nontemporal", yes)
        return store

    def _read(self, start: Any, at: Any) -> Any:
        return self.builder.load(self.builder.gep(start, [at]), align=VALUE_BYTES)


def _in_each_place(builder: Any, value: Any) -> Any:
    line = ir.Constant(_LINE, ir.Undefined)
    for place in range(LINE):
        line = builder.insert_element(line, value, ir.Constant(ir.IntType(32), place))
    return line


def _mix_lines(
    _: Any, old: Any, met: Any, step: Any, alpha: Any, new: Any, moved: Any, squares: Any
) -> tuple[Any, Emit]:
    """Moved = (met - old) + step; new = old + alpha moved; squares += moved^2.

    All but the last len(old) % LINE values. An empty `moved` is not written.
    """

    def emit(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        arrays = [
            context.make_array(kind)(context, builder, value)
            for kind, value in zip(signature.args, given, strict=True)
            if kind != alpha
        ]
        starts = [builder.bitcast(array.data, _LINE.as_pointer()) for array in arrays]
        lines = _Lines(builder, _in_each_place(builder, given[3]), *starts)
        count = builder.udiv(arrays[0].nitems, ir.Constant(_INDEX, LINE))
        keeps = builder.icmp_unsigned("!=", arrays[4].nitems, ir.Constant(_INDEX, 0))
        with builder.if_else(keeps) as (kept, not_kept):
            with kept, builder.if_else(lines.is_aligned(lines.moved)) as (past, through):
                with past:
                    lines.mix(count, lines.write_past)
                with through:
                    lines.mix(count, lines.write)
            with not_kept:
                lines.mix(count, None)
        return context.get_dummy_value()

    return types.void(old, met, step, alpha, new, moved, squares), emit


def _publish(_: Any) -> tuple[Any, Emit]:
    """From here on other threads see what was written past the cache."""

    def emit(context: Any, builder: Any, *_: Any) -> Any:
        builder.fence("seq_cst")
        return context.get_dummy_value()

    return types.void(), emit


mix_lines: Any = intrinsic(_mix_lines)
publish: Any = intrinsic(_publish)
