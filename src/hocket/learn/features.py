"""A model's features: what its last linear layer reads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from hocket.errors import ModelError
from hocket.learn.submodels.fit import call


@dataclass(slots=True)
class Watch:
    """What the layer read when it last ran."""

    features: Tensor | None = None


@dataclass(frozen=True, slots=True)
class Features:
    """Reads the features of any pass through a module, by a hook that lasts for that pass only."""

    module: nn.Module
    layer: nn.Linear

    @classmethod
    def of(cls, module: nn.Module) -> Features:
        """Of the last nn.Linear in the order of `modules()`, the head of a classifier.

        Raises ModelError for a model without one.
        """
        linear = [layer for layer in module.modules() if isinstance(layer, nn.Linear)]
        if not linear:
            raise ModelError(
                f"{type(module).__name__} has no torch.nn.Linear, whose input would be its "
                "features; end the model in one, or take a strategy that needs no features"
            )
        return cls(module, linear[-1])

    @contextmanager
    def watch(self) -> Iterator[Watch]:
        """Around a pass that someone else runs: its features, gradient and all."""
        seen = Watch()

        def read(_layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            seen.features = inputs[0]

        handle: RemovableHandle = self.layer.register_forward_pre_hook(read)
        try:
            yield seen
        finally:
            handle.remove()

    @torch.no_grad()
    def __call__(self, tensors: Mapping[str, Tensor], inputs: Tensor) -> Tensor:
        """Of a frozen model, in evaluation mode: no gradient, running statistics as they are.

        Args:
            tensors: its tensors by name.
            inputs: examples, of shape (n, ...).

        Returns:
            Features of shape (n, width).

        Raises:
            ModelError: the last linear layer is not used in the pass.
        """
        training = self.module.training
        self.module.eval()
        with self.watch() as seen:
            call(self.module, tensors, inputs)
        self.module.train(training)
        return required(seen)


def required(seen: Watch) -> Tensor:
    """The features that were read. Raises ModelError when the layer was not used."""
    if seen.features is None:
        raise ModelError(
            "the model's last torch.nn.Linear is not used in its forward pass, so it has no "
            "features; list it last among the layers that are used"
        )
    return seen.features.flatten(1)
