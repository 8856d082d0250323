"""Where the channels of a value lie among its axes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from hocket.learn.submodels.layout import Axis

Sizes = tuple[int | None, ...]
"""Lengths of axes; None where the forward pass alone does not tell it."""


@dataclass(frozen=True, slots=True)
class Bare:
    """A parameter or buffer that the forward pass uses itself, outside any layer."""

    name: str
    shape: Sizes  # of its own axes, some perhaps cut short, behind those that were added
    added: int = 0  # axes in front that the tensor itself does not have


@dataclass(frozen=True, slots=True)
class Layout:
    """One value of the forward pass: the segments of its channel axis, and the axes around that.

    No segments: no axis of the value can be dropped, and nothing else is known of it.
    """

    segments: Axis = ()
    before: Sizes | None = None  # the axes before the channels; None: not known how many
    behind: Sizes = ()  # the axes behind the channels
    # Flattened values in it: of a single one the next weight will tell the length of a block.
    flattens: int = 0
    repeated: bool = False  # its runs come several times over; the next weight will tell how often
    tokenwise: bool = False  # channels last, behind an axis of positions as well as of examples
    pieces: bool = False  # a tuple of values of this layout
    bare: Bare | None = None
    narrow: bool = False  # no channels, and one entry on the last axis, such as a mask of positions

    def offset(self, dim: int) -> int:
        """Where axis `dim` lies: 0 is the channels, below 0 before them, above 0 behind.

        If it is not known how many axes are before them, one counted from the front is.
        """
        if dim < 0:
            return dim + 1 + len(self.behind)
        return -1 if self.before is None else dim - len(self.before)

    def around(self, before: Sizes | None, behind: Sizes) -> Layout:
        """The same channels among other axes."""
        tokenwise = not behind and (self.tokenwise if before is None else len(before) > 1)
        return replace(self, before=before, behind=behind, tokenwise=tokenwise)

    def stretched(self) -> Layout:
        """After it met a value of unknown axes: no axis behind has one entry for certain."""
        return replace(self, behind=tuple(None if n == 1 else n for n in self.behind))

    def permuted(self, order: Sequence[int]) -> Layout:
        """With axis `order[i]` as its axis i; `before` must be known."""
        before = self.before or ()
        front = len(before)
        sizes: Sizes = (*before, None, *self.behind)
        at = list(order).index(front)
        moved = [sizes[dim] for dim in order]
        # An axis of one entry before the channels may have been stretched since.
        behind = (
            None if dim < front and sizes[dim] == 1 else sizes[dim] for dim in order[at + 1 :]
        )
        return self.around(tuple(moved[:at]), tuple(behind))

    def ranked(self, rank: int) -> Layout:
        """With so many axes in all, if it is not known how many there are."""
        if self.before is not None:
            return self
        return self.around((None,) * max(0, rank - 1 - len(self.behind)), self.behind)


OPAQUE = Layout()
