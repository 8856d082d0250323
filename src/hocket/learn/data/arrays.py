"""Arrays of many layouts and types, checked and brought to the one that models take."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hocket.errors import DataError

CHANNEL_COUNTS = (1, 3, 4)
MAX_BYTE = 255.0


def as_inputs(values: object, where: str) -> Tensor:
    """Float32 inputs: (N, F) features or (N, C, H, W) images.

    Takes a tensor or an array of shape (N, F), (N, H, W), (N, C, H, W) or (N, H, W, C); the last
    is meant if only the last axis can be one of channels (1, 3 or 4). Bytes are divided by 255;
    other numbers stay as they are. `where` names the source in messages. Raises DataError.
    """
    array = _as_array(values, where)
    if array.ndim < 2 or array.ndim > 4:
        raise DataError(
            f"{where}: inputs have shape {array.shape}; give (examples, features), "
            "(examples, height, width) or (examples, channels, height, width)"
        )
    if array.ndim == 3:
        array = array[:, None]
    elif array.ndim == 4 and _channels_are_last(array.shape):
        array = np.moveaxis(array, -1, 1)
    scaled = torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))
    if array.dtype == np.uint8:
        return scaled.div_(MAX_BYTE)
    if not torch.isfinite(scaled).all():
        raise DataError(f"{where}: inputs hold NaN or infinite values; clean the data first")
    return scaled


def as_labels(values: object, where: str) -> Tensor:
    """Int64 labels (N,) from integers of any width. Raises DataError for anything else."""
    array = _as_array(values, where)
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise DataError(
            f"{where}: labels have shape {array.shape} and type {array.dtype}; give one whole "
            "number per example, counted from 0 (no one-hot rows, no names)"
        )
    labels = torch.from_numpy(array.astype(np.int64))
    if len(labels) and int(labels.min()) < 0:
        raise DataError(f"{where}: the smallest label is {int(labels.min())}; count them from 0")
    return labels


def _as_array(values: object, where: str) -> NDArray[np.generic]:
    if isinstance(values, Tensor):
        array: NDArray[np.generic] = values.detach().cpu().numpy()
    else:
        try:
            array = np.asarray(values)
        except ValueError as error:  # ragged rows
            raise DataError(f"{where}: this is no array: {error}") from error
    if array.dtype.kind not in "biuf":
        raise DataError(f"{where}: values have type {array.dtype}; numbers are needed")
    return array


def _channels_are_last(shape: tuple[int, ...]) -> bool:
    return shape[-1] in CHANNEL_COUNTS and shape[1] not in CHANNEL_COUNTS
