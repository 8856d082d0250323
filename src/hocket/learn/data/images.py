"""Encoded images, decoded by pillow into one float32 tensor."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from hocket.errors import DataError
from hocket.learn.data.arrays import MAX_BYTE

ColourMode = Literal["rgb", "grayscale"]
PILLOW_MODES: dict[ColourMode, str] = {"rgb": "RGB", "grayscale": "L"}


def decode(
    images: Sequence[bytes | Path], names: Sequence[str], mode: ColourMode, size: int | None
) -> Tensor:
    """Float32 (N, C, H, W) in [0, 1]; C is 3 or 1, and H = W = `size` if that is given.

    `names` says in messages which image is meant. Raises DataError for an image that cannot be
    decoded, or that differs in size from the first while `size` is None.
    """
    first = _pixels(images[0], names[0], mode, size)
    pixels = np.empty((len(images), *first.shape), dtype=np.uint8)
    for row, image in enumerate(images):
        one = _pixels(image, names[row], mode, size)
        if one.shape != first.shape:
            raise DataError(
                f"{names[row]} is {one.shape[1]}x{one.shape[0]} pixels, {names[0]} is "
                f"{first.shape[1]}x{first.shape[0]}; set data.size to resize all"
            )
        pixels[row] = one
    channels_first = pixels[:, None] if pixels.ndim == 3 else np.moveaxis(pixels, -1, 1)
    return torch.from_numpy(np.ascontiguousarray(channels_first, dtype=np.float32)).div_(MAX_BYTE)


def check_size(size: int | None) -> None:
    """Raise DataError unless a side of `size` pixels is possible."""
    if size is not None and size < 1:
        raise DataError(f"data.size is {size}; it must be at least 1 pixel")


def _pixels(
    image: bytes | Path, name: str, mode: ColourMode, size: int | None
) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    try:
        with Image.open(io.BytesIO(image) if isinstance(image, bytes) else image) as opened:
            converted = opened.convert(PILLOW_MODES[mode])
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"{name} is no image that pillow can read: {error}") from error
    if size is not None and converted.size != (size, size):
        converted = converted.resize((size, size), Image.Resampling.BILINEAR)
    return np.asarray(converted)
