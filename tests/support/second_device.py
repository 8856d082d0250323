"""A second device for torch that computes: on the CPU, but only with what lies in its own memory.

It stands in for a GPU where there is none. Like a GPU it refuses operations on tensors of two
devices, more strictly so (of CPU tensors it takes numbers alone, no indices); other than a GPU it
rounds like the CPU. Needs torch 2.10 or newer, which lets a device be written in Python.
"""

from __future__ import annotations

from typing import Any, Self

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

NAME = "stand_in_gpu"  # torch gives tensors and modules a method of this name: let it be rare
_BETWEEN_DEVICES = (torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default)


class Backend:
    """What torch asks of a device's module: above all the state of its random generator."""

    def __init__(self) -> None:
        self.generator = torch.Generator().manual_seed(1)

    def is_initialized(self) -> bool:
        return True

    def is_available(self) -> bool:
        return True

    def current_device(self) -> int:
        return 0

    def device_count(self) -> int:
        return 1

    def _is_in_bad_fork(self) -> bool:
        return False

    def manual_seed_all(self, seed: int) -> None:
        self.generator.manual_seed(seed)

    def get_rng_state(self, _device: object) -> Tensor:
        return self.generator.get_state()

    def set_rng_state(self, state: Tensor, _device: object) -> None:
        self.generator.set_state(state)


BACKEND = Backend()
_setup_privateuseone_for_python_backend(NAME, backend_module=BACKEND)
SECOND = torch.device(NAME, 0)


class There(Tensor):
    """A tensor in the second device's memory."""

    held: Tensor  # its values

    @staticmethod
    def __new__(cls: type[Self], held: Tensor) -> Self:
        made: Self = Tensor._make_wrapper_subclass(
            cls,
            held.shape,
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device=SECOND,
        )
        made.held = held
        return made

    def __init__(self, held: Tensor) -> None:
        """All is done."""

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]  # torch's types leave the function out
        cls, func: OpOverload, _types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        return _carried_out(func, args, kwargs or {})


class SecondDevice(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """While it is entered, tensors can be made on SECOND and moved to and fro."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.operations = 0  # carried out there

    def __torch_dispatch__(
        self, func: OpOverload, _types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        result = _carried_out(func, args, kwargs or {})
        self.operations += any(isinstance(leaf, There) for leaf in tree_leaves(result))
        return result


def _carried_out(func: OpOverload, args: Any, kwargs: dict[str, Any]) -> Any:
    given = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
    _check(func, given)
    there = _is_there(func, args, kwargs, given)
    values = tree_map(lambda leaf: leaf.held if isinstance(leaf, There) else leaf, (args, kwargs))
    inner_args, inner_kwargs = values
    if "device" in inner_kwargs:
        inner_kwargs = {**inner_kwargs, "device": torch.device("cpu")}
    result = func(*inner_args, **inner_kwargs)
    if not there:
        return result
    wrapped = tree_map(lambda leaf: There(leaf) if isinstance(leaf, Tensor) else leaf, result)
    return return_and_correct_aliasing(func, args, kwargs, wrapped)  # type: ignore[no-untyped-call]


def _check(func: OpOverload, given: list[Tensor]) -> None:
    """Raise RuntimeError where tensors of both devices meet; a CPU number may join any."""
    places = {str(one.device) for one in given if isinstance(one, There) or one.ndim}
    if len(places) > 1 and func not in _BETWEEN_DEVICES:
        raise RuntimeError(f"{func} was given tensors on {' and '.join(sorted(places))}")


def _is_there(func: OpOverload, args: Any, kwargs: dict[str, Any], given: list[Tensor]) -> bool:
    """Whether what an operation makes lies in the second device's memory."""
    if kwargs.get("device") is not None:
        return bool(kwargs["device"].type == NAME)
    if func is torch.ops.aten.copy_.default:
        return isinstance(args[0], There)
    return any(isinstance(one, There) for one in given)
