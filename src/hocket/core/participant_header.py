"""What a participant says of an update that it offers."""

from __future__ import annotations

from dataclasses import dataclass

from hocket.core import participant_events as ev
from hocket.core.device import Caller
from hocket.core.ids import UpdateId
from hocket.core.terms import TaskTerms
from hocket.core.update import UpdateHeader


@dataclass(frozen=True, slots=True)
class Trained:
    """What a training came to, but for its values."""

    num_examples: int  # distinct examples
    num_steps: int  # optimiser steps, of all local epochs
    train_loss: float  # mean over the last local epoch
    train_loss_rms: float = 0.0  # root of the mean square, over the same examples; 0: not known
    labels: tuple[int, ...] = ()  # of the classes that counted in the loss; empty: all


def header_of(
    push: ev.Push,
    caller: Caller,
    update_id: UpdateId,
    training: Trained,
    terms: TaskTerms,
) -> UpdateHeader:
    """The header of the update that `push` asks for, from this caller."""
    return UpdateHeader(
        update_id=update_id,
        device_id=caller.device_id,
        incarnation=caller.incarnation,
        base_version=push.base_version,
        num_examples=training.num_examples,
        num_steps=training.num_steps,
        learning_rate=terms.training.learning_rate,
        train_loss=training.train_loss,
        train_loss_rms=training.train_loss_rms,
        train_s=push.train_s,
        spec=push.spec,
        refresh=push.refresh,
        labels=training.labels,
    )
