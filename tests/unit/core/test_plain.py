"""Headers and outcomes as JSON values and back."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from support.journals import APPLIED, PAYLOAD, header
from support.words import outcomes, payload_headers, update_headers

from hocket.core.payload import PayloadHeader
from hocket.core.plain import (
    compact_json,
    header_of,
    header_values,
    object_of,
    outcome_of,
    outcome_values,
    payload_of,
    payload_values,
)
from hocket.core.update import Outcome, UpdateHeader


@given(update_headers, payload_headers, outcomes)
def test_all_come_back_through_json(
    header: UpdateHeader, payload: PayloadHeader, outcome: Outcome
) -> None:
    assert header_of(object_of(compact_json(header_values(header)).encode())) == header
    assert payload_of(object_of(compact_json(payload_values(payload)).encode())) == payload
    assert outcome_of(object_of(compact_json(outcome_values(outcome)).encode())) == outcome


def test_a_header_of_an_older_hocket_says_nothing_of_squares() -> None:
    stored: dict[str, Any] = json.loads(compact_json(header_values(header("u"))))
    assert header_of(stored | {"train_loss_rms": 0.5}).train_loss_rms == 0.5
    del stored["train_loss_rms"]
    assert header_of(stored).train_loss_rms == 0.0
    with pytest.raises(ValueError, match="train_loss_rms"):
        header_of(stored | {"train_loss_rms": "much"})


def test_a_header_of_an_older_hocket_is_of_all_classes() -> None:
    stored: dict[str, Any] = json.loads(compact_json(header_values(header("u"))))
    assert stored["labels"] is None
    assert header_of(stored | {"labels": [2, 7]}).labels == (2, 7)
    del stored["labels"]
    assert header_of(stored).labels == ()
    for wrong in ("2", [2, -1], [2.5], {"2": 7}):
        with pytest.raises(ValueError, match="labels"):
            header_of(stored | {"labels": wrong})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("update_id", 3),
        ("device_id", None),
        ("incarnation", -1),
        ("base_version", 1.0),
        ("num_examples", True),
        ("num_steps", 2**64),
        ("learning_rate", "0.1"),
        ("train_loss", float("inf")),
        ("train_s", False),
        ("spec", []),
        ("refresh", 1),
    ],
)
def test_a_header_of_other_types_is_refused_by_name(name: str, value: object) -> None:
    stored: dict[str, Any] = json.loads(compact_json(header_values(header("u"))))
    stored[name] = value
    with pytest.raises(ValueError, match=name):
        header_of(stored)
    del stored[name]
    with pytest.raises(ValueError, match=f"{name} is missing"):
        header_of(stored)


@pytest.mark.parametrize(
    "changed",
    [
        {"kind": "Applauded"},
        {"kind": "Buffered"},
        {"kind": "Dropped"},
        {"kind": None},
        {"tau": -1},
        {"weight": None},
        {"version": "2"},
    ],
)
def test_an_outcome_of_no_kind_is_refused(changed: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="is "):
        outcome_of({**outcome_values(APPLIED), **changed})


@pytest.mark.parametrize(
    "tensor",
    [[], ["w", [1], 1], ["w", 3, 1, 12], [1, [1], 1, 4], ["w", [-1], 1, 4], ["w", [1], 9, 4]],
)
def test_a_tensor_of_another_form_is_refused(tensor: list[Any]) -> None:
    stored = json.loads(compact_json(payload_values(PAYLOAD)))
    with pytest.raises(ValueError, match=r"tensors|shape|codec|CodecId"):
        payload_of({**stored, "tensors": [tensor]})
