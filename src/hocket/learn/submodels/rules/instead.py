"""What to write in place of what has no rule, by the name of a layer, function or method."""

from __future__ import annotations

_EXPAND = "multiply by a value of the wanted length, or use expand_as"
_LAYERS = "make it a layer of the model, so that its weight is known"
_MASK = "multiply by a mask .unsqueeze(-1)"
_RECURRENT = (
    "use attention or a convolution over time, or put it where nothing is dropped before it"
)
_UPSAMPLE = "use torch.nn.Upsample and a convolution"

INSTEAD: dict[str, str] = {
    "ConvTranspose1d": _UPSAMPLE,
    "ConvTranspose2d": _UPSAMPLE,
    "ConvTranspose3d": _UPSAMPLE,
    "PixelShuffle": _UPSAMPLE,
    "pixel_shuffle": _UPSAMPLE,
    "LSTM": _RECURRENT,
    "GRU": _RECURRENT,
    "RNN": _RECURRENT,
    "split": "use chunk, which cuts equal pieces, or a layer for each piece",
    "tensor_split": "use chunk, which cuts equal pieces, or a layer for each piece",
    "stack": "use unsqueeze and torch.cat, or add the values",
    "max": "use amax, or torch.maximum of two values",
    "min": "use torch.minimum of two values",
    "repeat": _EXPAND,
    "masked_fill": _MASK,
    "where": _MASK,
    "conv1d": _LAYERS,
    "conv2d": _LAYERS,
    "conv3d": _LAYERS,
    "batch_norm": _LAYERS,
    "group_norm": _LAYERS,
    "layer_norm": _LAYERS,
    "normalize": "use a norm layer",
    "var": "use a norm layer",
    "std": "use a norm layer",
    "GLU": "multiply the halves of chunk(2, 1), one of them behind a sigmoid",
    "glu": "multiply the halves of chunk(2, 1), one of them behind a sigmoid",
}
