"""Bytes of the tensors that are alive at a time: counted, so the same on every machine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from weakref import finalize

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class LiveBytes(TorchDispatchMode):
    """While it is entered, counts the storages that operations make, until they are freed.

    What was there before counts nothing, nor does what a kernel takes for itself.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call] # torch's
        self.peak_bytes = 0
        self._now_bytes = 0
        self._known: dict[int, int] = {}  # bytes by address

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        self._note((args, kwargs), new=False)
        made = func(*args, **(kwargs or {}))
        self._note(made, new=True)
        return made

    def _note(self, values: Any, *, new: bool) -> None:
        for tensor in tree_leaves(values):
            if isinstance(tensor, Tensor) and (size := tensor.untyped_storage().nbytes()):
                storage = tensor.untyped_storage()
                address = storage.data_ptr()
                if address not in self._known:
                    self._known[address] = size if new else 0
                    self._now_bytes += self._known[address]
                    self.peak_bytes = max(self.peak_bytes, self._now_bytes)
                    finalize(storage, self._freed, address)

    def _freed(self, address: int) -> None:
        self._now_bytes -= self._known.pop(address)


def peak_tensor_bytes(work: Callable[[], object]) -> int:
    """Of the tensors that `work` makes, the most that are alive at once."""
    counted = LiveBytes()
    with counted:
        work()
    return counted.peak_bytes
