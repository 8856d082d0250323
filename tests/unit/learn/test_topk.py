"""methods/codecs.md C.2: which values are sent, and what is refused."""

from __future__ import annotations

import struct

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.codecs import decoded, encoded, seeded

from hocket.errors import CorruptPayload
from hocket.learn.codecs import TopK


@pytest.mark.parametrize(
    ("ratio", "size", "k"),
    [(0.01, 1, 1), (0.01, 99, 1), (0.01, 250, 2), (0.5, 5, 2), (1.0, 7, 7), (0.3, 0, 0)],
)
def test_k_is_the_floor_of_the_share_and_at_least_one(ratio: float, size: int, k: int) -> None:
    assert TopK(ratio=ratio).count(size) == k


def test_the_largest_magnitudes_are_sent_exactly_and_the_rest_is_zero() -> None:
    values = torch.tensor([0.1, -5.0, 2.0, -0.3, 3.0, 0.0, 4.0, -1.0])

    data = encoded(TopK(ratio=0.5), values)

    # indices 1, 2, 4, 6: gaps 1, 0, 1, 1
    assert data == struct.pack("<I4B4f", 4, 1, 0, 1, 1, -5.0, 2.0, 3.0, 4.0)
    assert decoded(TopK(), data, 8).tolist() == [0.0, -5.0, 2.0, 0.0, 3.0, 0.0, 4.0, 0.0]


def test_equal_magnitudes_go_to_the_lower_index() -> None:
    values = torch.tensor([1.0, -2.0, 2.0, 3.0, 2.0, -2.0])

    assert decoded(TopK(), encoded(TopK(ratio=0.5), values), 6).tolist() == [0, -2, 2, 3, 0, 0]
    assert decoded(TopK(), encoded(TopK(ratio=0.34), values), 6).tolist() == [0, -2, 0, 3, 0, 0]


@given(
    st.lists(st.sampled_from([0.0, -0.0, 1.0, -1.0, 2.0, -2.0, 3.5]), min_size=1, max_size=50),
    st.floats(0.01, 1.0),
)
def test_selection_agrees_with_a_stable_sort(values: list[float], ratio: float) -> None:
    codec = TopK(ratio=ratio)
    ranked = sorted(range(len(values)), key=lambda i: (-abs(values[i]), i))
    kept = set(ranked[: codec.count(len(values))])

    back = decoded(codec, encoded(codec, torch.tensor(values)), len(values))

    assert back.tolist() == [v if i in kept else 0.0 for i, v in enumerate(values)]


def test_one_percent_of_a_normal_vector_costs_what_the_accounting_says() -> None:
    size, k = 1_000_000, 10_000
    values = torch.randn(size, generator=seeded(1))

    data = encoded(TopK(ratio=0.01), values)

    # 4 for the count, then 4 for each value and 1.276 for each index (C.2, density .01)
    assert len(data) == pytest.approx(4 + k * 5.276, rel=0.005)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\x01\x00\x00", "too few to hold a count"),
        (struct.pack("<I5B5f", 5, *[0] * 5, *[1.0] * 5), "5 values were sent for a tensor of 4"),
        (struct.pack("<I", 0xFFFFFFFF), "4294967295 values were sent"),
        (struct.pack("<IBf", 2, 0, 1.0), "too few for 2 values"),
        (struct.pack("<IB2f", 2, 0, 1.0, 1.0), "2 whole varints"),
        (struct.pack("<I3s", 1, b"abc"), "too few for 1 values"),
        (struct.pack("<IBf", 1, 4, 1.0), "beyond"),
        (struct.pack("<IBfB", 1, 0, 1.0, 0), "1 whole varints"),  # a trailing byte
        (struct.pack("<I6sf", 1, b"\x80\x80\x80\x80\x80\x01", 1.0), "6 bytes"),
    ],
)
def test_what_is_no_encoding_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(CorruptPayload, match=message):
        decoded(TopK(), data, 4)


@pytest.mark.parametrize("ratio", [0.0, -0.1, 1.01, float("nan")])
def test_a_share_outside_0_to_1_is_refused(ratio: float) -> None:
    with pytest.raises(ValueError, match="ratio"):
        TopK(ratio=ratio)
