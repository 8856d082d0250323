from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from hocket.core.ids import DeviceId, Incarnation, UpdateId, Version
from hocket.core.submodel import SubmodelSpec
from hocket.core.update import RefreshReport, UpdateHeader
from hocket.errors import HocketError, InvalidRequest, InvalidUpdate, PayloadTooLarge, ShapeMismatch
from hocket.learn.submodels.sliceable import Sliceable
from hocket.task import default_task
from hocket.task.setup import set_up
from hocket.task.soundness import check_update

SETUP = set_up(default_task())
EPOCHS = SETUP.terms.training.local_epochs
MODEL = Sliceable.of(SETUP.graph)
WHOLE = MODEL.encode(SETUP.first, MODEL.plan(SubmodelSpec())).header
HEADER = UpdateHeader(
    UpdateId("u"), DeviceId("d"), Incarnation(1), Version(5), 10, 10, learning_rate=0.1
)


def with_refresh(slot: int, version: int) -> UpdateHeader:
    return replace(HEADER, refresh=RefreshReport(slot, Version(version), 0.0))


@pytest.mark.parametrize(
    "header",
    [HEADER, with_refresh(1, 5), with_refresh(EPOCHS - 1, 6)],
    ids=["plain", "first slot", "last slot"],
)
def test_a_sound_header_passes(header: UpdateHeader) -> None:
    check_update(header, WHOLE, SETUP.terms, MODEL)


@pytest.mark.parametrize(
    ("header", "error", "says"),
    [
        (with_refresh(0, 6), InvalidUpdate, "refresh.slot is 0"),
        (with_refresh(EPOCHS, 6), InvalidUpdate, f"between 1 and {EPOCHS - 1}"),
        (with_refresh(1, 4), InvalidUpdate, "older than base_version 5"),
        (replace(HEADER, spec=SubmodelSpec((0.5,))), ShapeMismatch, "stands where"),
        (replace(HEADER, spec=SubmodelSpec((0.5,) * 9)), InvalidRequest, "9"),
    ],
)
def test_a_header_that_contradicts_itself_is_refused(
    header: UpdateHeader, error: type[HocketError], says: str
) -> None:
    with pytest.raises(error, match=says):
        check_update(header, WHOLE, SETUP.terms, MODEL)


def test_a_body_longer_than_the_task_takes_is_refused() -> None:
    terms = replace(SETUP.terms, max_update_bytes=WHOLE.wire_bytes)
    check_update(HEADER, WHOLE, terms, MODEL)
    with pytest.raises(PayloadTooLarge, match="max_update_bytes"):
        check_update(HEADER, WHOLE, replace(terms, max_update_bytes=WHOLE.wire_bytes - 1), MODEL)


def test_a_submodels_values_come_back_in_their_places() -> None:
    narrow = MODEL.plan(SubmodelSpec((0.5,)))
    payload = MODEL.encode(SETUP.first, narrow)
    header = replace(HEADER, spec=SubmodelSpec((0.5,)))
    check_update(header, payload.header, SETUP.terms, MODEL)
    update = MODEL.decode(header, payload, narrow)
    assert update.held is not None
    assert torch.equal(update.delta, SETUP.first * update.held)
    assert 0 < int(update.held.sum()) == narrow.sliced_manifest.size < SETUP.first.numel()
