"""Error feedback's residual on disk: one safetensors file."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from hocket.core.submodel import ChannelRule, SubmodelSpec
from hocket.errors import DataError
from hocket.hosting.files import replace_file
from hocket.learn.codecs.feedback import ErrorFeedback

TENSOR = "residual"


def save_residual(feedback: ErrorFeedback, file: Path) -> None:
    """Keep the residual; no file if there is none. Raises OSError."""
    if feedback.residual is None or feedback.part is None:
        return
    digest, spec = feedback.part
    metadata = {"manifest": digest, "spec": json.dumps(asdict(spec))}
    replace_file(file, save({TENSOR: feedback.residual.contiguous()}, metadata))


def load_residual(feedback: ErrorFeedback, file: Path) -> None:
    """Take back what was kept. Raises DataError for a damaged file."""
    if not feedback.enabled:
        return
    try:
        with safe_open(file, "pt") as kept:
            metadata = kept.metadata() or {}
            residual = kept.get_tensor(TENSOR)
        spec = json.loads(metadata["spec"])
        part = SubmodelSpec(tuple(spec["keep"]), ChannelRule(spec["rule"]), int(spec["seed"]))
        _require_vector(residual)
        feedback.part = (metadata["manifest"], part)
        feedback.residual = residual
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, ArithmeticError) as error:
        raise DataError(f"{file} is damaged ({error}); delete it") from error


def _require_vector(residual: torch.Tensor) -> None:
    if residual.dtype != torch.float32 or residual.dim() != 1:
        raise TypeError(f"a residual of shape {tuple(residual.shape)} and {residual.dtype}")
