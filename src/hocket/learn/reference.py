"""A user's own functions, named `module:function` in a task file."""

from __future__ import annotations

import difflib
import importlib
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from hocket.errors import DataError, ModelError, TaskError
from hocket.learn.data.examples import Examples

_ALONE = threading.RLock()  # sys.path and torch's generator are the whole process's


@contextmanager
def importable(folders: Sequence[Path] = ()) -> Iterator[None]:
    """Within the block, modules in `folders` are found before all others. One thread at a time."""
    added = [str(folder.absolute()) for folder in folders]
    with _ALONE:
        sys.path[:0] = added
        importlib.invalidate_caches()  # a file may have been written a moment ago
        try:
            yield
        finally:
            for folder in added:
                if folder in sys.path:  # the user's module may itself have changed the path
                    sys.path.remove(folder)


def resolve(
    reference: str,
    search_path: Sequence[Path] = (),
    error: type[TaskError] = ModelError,
) -> Callable[..., Any]:
    """The callable that "module:function" names.

    Modules are looked for in `search_path`, then as Python does. Raises `error`, which says what
    is wrong: the form, the module, the name in it, or that it is not callable.
    """
    module_name, colon, name = reference.partition(":")
    if not (module_name and colon and name) or not all(
        part.isidentifier() for part in (*module_name.split("."), *name.split("."))
    ):
        raise error(f'{reference!r} names no function; write "module:function"')
    with importable(search_path):
        found: Any = _import(module_name, reference, search_path, error)
        for part in name.split("."):
            if not hasattr(found, part):
                close = _closest(part, [known for known in dir(found) if known[0] != "_"])
                raise error(f"{reference}: module {module_name!r} has no {part!r}{close}")
            found = getattr(found, part)
    if not callable(found):
        raise error(f"{reference} is a {type(found).__name__}, no function; name a function")
    function: Callable[..., Any] = found
    return function


def call(
    reference: str,
    arguments: Mapping[str, Any],
    search_path: Sequence[Path] = (),
    error: type[TaskError] = DataError,
) -> Any:
    """What the function returns. Raises `error`, caused by whatever the function raised."""
    function = resolve(reference, search_path, error)
    with importable(search_path):  # functions may import more once they run
        try:
            return function(**arguments)
        except TaskError:
            raise
        except Exception as raised:
            given = ", ".join(f"{name}={value!r}" for name, value in arguments.items())
            raise error(
                f"{reference}({given}) raised {type(raised).__name__}: {raised}; mend the "
                "function, or its arguments in the task file"
            ) from raised


def build_model(
    reference: str,
    arguments: Mapping[str, Any] | None = None,
    *,
    seed: int = 0,
    search_path: Sequence[Path] = (),
) -> nn.Module:
    """The model that a factory function returns; the same seed gives the same initial values.

    Raises ModelError. Torch's global generator is left as it was.
    """
    with _ALONE, torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = call(reference, arguments or {}, search_path, ModelError)
    if not isinstance(model, nn.Module):
        raise ModelError(
            f"model function {reference} returned {type(model).__name__}; it must return a "
            "torch.nn.Module"
        )
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ModelError(f"the model of {reference} has no trainable parameters")
    return model


def check_fit(model: nn.Module, examples: Examples, reference: str) -> None:
    """Raise ModelError unless `model` maps the examples to a score for each class.

    Runs one example; `reference` names the model in messages.
    """
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            scores = model(examples.inputs[:1])
    except Exception as raised:
        raise ModelError(
            f"the model of {reference} does not take inputs of shape {examples.input_shape}: "
            f"{raised}"
        ) from raised
    finally:
        model.train(was_training)
    if not isinstance(scores, torch.Tensor) or scores.ndim != 2:
        shape = tuple(scores.shape) if isinstance(scores, torch.Tensor) else type(scores).__name__
        raise ModelError(
            f"the model of {reference} gives {shape}; it must give (examples, classes) scores"
        )
    largest = int(examples.labels.max())
    if largest >= scores.shape[1]:
        raise ModelError(
            f"the model of {reference} tells {scores.shape[1]} classes apart, but the data has "
            f"label {largest}; labels are counted from 0"
        )


def _import(
    module_name: str, reference: str, search_path: Sequence[Path], error: type[TaskError]
) -> Any:
    try:
        return importlib.import_module(module_name)
    except ModuleNotFoundError as missing:
        if missing.name is None or not f"{module_name}.".startswith(f"{missing.name}."):
            raise error(
                f"{reference}: importing {module_name!r} failed, since it needs the module "
                f"{missing.name!r}; install it"
            ) from missing
        files = [file.stem for folder in search_path for file in folder.glob("*.py")]
        places = ", ".join(str(folder) for folder in search_path)
        looked = f" (looked in {places}, then as Python does)" if places else ""
        raise error(
            f"{reference}: there is no module {missing.name!r}{looked}"
            f"{_closest(missing.name, files)}"
        ) from missing
    except Exception as raised:
        raise error(
            f"{reference}: importing {module_name!r} raised {type(raised).__name__}: {raised}"
        ) from raised


def _closest(name: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]!r}?" if close else ""
