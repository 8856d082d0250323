"""Inputs shifted and scaled per channel, after pixels have come to [0, 1]."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from hocket.errors import DataError


@dataclass(frozen=True, slots=True)
class Normalisation:
    """`(input - mean) / std`, one value per channel (or feature), or one for all."""

    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)

    def __post_init__(self) -> None:
        if not self.mean or not self.std:
            raise DataError("data.normalise needs at least one value for mean and for std")
        if min(self.std) <= 0.0:
            raise DataError(f"data.normalise.std is {list(self.std)}; each must be above 0")

    def apply(self, inputs: Tensor, where: str) -> Tensor:
        """Float32 `inputs` (N, C, H, W) or (N, F), changed in place and returned.

        Raises DataError if neither one value nor one per channel is given.
        """
        return inputs.sub_(self._fit(self.mean, "mean", inputs, where)).div_(
            self._fit(self.std, "std", inputs, where)
        )

    def _fit(self, values: tuple[float, ...], name: str, inputs: Tensor, where: str) -> Tensor:
        channels = inputs.shape[1]
        if len(values) not in (1, channels):
            raise DataError(
                f"{where}: data.normalise.{name} has {len(values)} values, but the inputs have "
                f"{channels} channels; give {channels} values or one"
            )
        return torch.tensor(values).view(1, -1, *[1] * (inputs.ndim - 2))
