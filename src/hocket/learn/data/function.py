"""A user's own function as the source: arrays or tensors, made or read however it likes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from hocket.errors import DataError
from hocket.learn.data.arrays import as_inputs, as_labels
from hocket.learn.data.examples import Split
from hocket.learn.data.lookup import Lookup
from hocket.learn.data.normalisation import Normalisation
from hocket.learn.data.source import Unread, check_limit, check_share
from hocket.learn.reference import call


@dataclass(frozen=True, slots=True)
class Function:
    """`function(split="train" or "test", **arguments)` returns inputs and labels.

    Inputs and labels are arrays or tensors as `hocket.learn.data.arrays` takes them. With
    `test_share`, only "train" is asked for, and split.
    """

    function: str  # "module:function"
    kind: Literal["function"] = "function"
    arguments: dict[str, Any] = field(default_factory=dict)
    test_share: float | None = None
    limit: int | None = None
    normalise: Normalisation | None = None

    def __post_init__(self) -> None:
        check_share(self.test_share)
        check_limit(self.limit)

    @property
    def held_out_share(self) -> float | None:
        """Share of the training part that is held out; None if the function gives a test part."""
        return self.test_share

    def open(self, split: Split, lookup: Lookup) -> Unread:
        """Call the function. Raises DataError for what it raises or wrongly returns."""
        result = call(
            self.function, {"split": split, **self.arguments}, lookup.code, error=DataError
        )
        if not isinstance(result, tuple | list) or len(result) != 2:
            raise DataError(
                f"data function {self.function} returned {type(result).__name__}; it must return "
                "two arrays or tensors: inputs and labels"
            )
        labels = as_labels(result[1], f"labels from {self.function}")
        inputs = as_inputs(result[0], f"inputs from {self.function}")
        if len(inputs) != len(labels):
            raise DataError(
                f"data function {self.function} returned {len(inputs)} inputs and {len(labels)} "
                "labels; each input needs one label"
            )
        return Unread(labels, inputs.__getitem__)
