"""What a device is told before it trains: the terms of the task, as GetTask answers."""

from __future__ import annotations

from dataclasses import dataclass, field

from hocket.core.manifest import Manifest
from hocket.core.payload import CodecId
from hocket.core.refresh import RefreshRules

PLAIN = "plain"
FULL_SIZE = "full"


@dataclass(frozen=True, slots=True)
class LocalTerms:
    """What a device does besides plain gradient descent: the client half of a strategy."""

    kind: str = PLAIN  # that alone
    values: tuple[tuple[str, float], ...] = ()  # its settings, in the order of their names


@dataclass(frozen=True, slots=True)
class SizingTerms:
    """By which rule a device chooses the part of the model that it trains."""

    kind: str = FULL_SIZE
    values: tuple[tuple[str, tuple[float, ...]], ...] = ()  # settings, in the order of their names


@dataclass(frozen=True, slots=True)
class TrainingTerms:
    """How devices train."""

    local_epochs: int
    batch_size: int
    learning_rate: float
    momentum: float = 0.0
    weight_decay: float = 0.0
    gradient_clip_norm: float = 0.0  # 0: none
    rescale: bool = True  # outputs of a layer of which k of K channels are trained, times K / k
    local: LocalTerms = field(default_factory=LocalTerms)
    static_norm: bool = False  # batch norm keeps no running statistics
    masked_loss: str = "off"  # what stands for scores of classes that a device has no example of


@dataclass(frozen=True, slots=True)
class EncodingTerms:
    """How devices write their updates."""

    codec: CodecId
    topk_ratio: float = 1.0
    error_feedback: bool = True


@dataclass(frozen=True, slots=True)
class RefreshTerms:
    """Whether and how a device merges the fresh model in mid-training."""

    enabled: bool = False
    rules: RefreshRules = field(default_factory=RefreshRules)
    fixed_slot: int = 0  # 0: the slot is learned


@dataclass(frozen=True, slots=True)
class TaskTerms:
    """Everything a device must know of a task, but its own data and code."""

    name: str
    manifest: Manifest
    training: TrainingTerms
    encoding: EncodingTerms
    refresh: RefreshTerms
    dropout_rows: tuple[tuple[float, ...], ...]  # empty: no dropout
    seed: int
    max_update_bytes: int
    chunk_bytes: int
    staleness_limit: int
    exchanges: bool = False  # one more vector travels with the model, and with each update
    sizing: SizingTerms = field(default_factory=SizingTerms)

    @property
    def travelling(self) -> Manifest:
        """What a pull for training and a push hold: the model's tensors, or twice as many."""
        return self.manifest.doubled if self.exchanges else self.manifest

    @property
    def down_bytes(self) -> int:
        """Bytes of a pull for training, and of a raw update, of the whole model."""
        return self.travelling.dense_bytes


@dataclass(frozen=True, slots=True)
class Trigger:
    """The aggregator asks an idle device to train once."""

    trigger_id: str
    version: int  # newest version when the trigger was sent
    slot: int  # suggested local epoch after which to pull afresh; 0: none
    timeout_s: float


@dataclass(frozen=True, slots=True)
class Finished:
    """The task has reached its end."""

    reason: str
