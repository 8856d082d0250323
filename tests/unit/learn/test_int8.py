"""methods/codecs.md C.5: the test vector, the mean, the variance, the edges."""

from __future__ import annotations

import struct

import pytest
import torch
from support.codecs import decoded, encoded, seeded

from hocket.errors import CorruptPayload
from hocket.learn.codecs import Int8

VECTOR = torch.tensor([0.5, -1.27, 0.003, 1.0])


def test_the_published_vector() -> None:
    draws = 10_000
    data = encoded(Int8(), VECTOR.repeat(draws))

    (scale,) = struct.unpack_from("<f", data)
    levels = torch.frombuffer(bytearray(data[4:]), dtype=torch.int8).reshape(draws, 4)

    assert scale == pytest.approx(0.01, rel=1e-6)
    assert (levels[:, [0, 1, 3]] == torch.tensor([50, -127, 100])).all()
    assert set(levels[:, 2].tolist()) == {0, 1}
    # 1 with probability .3: five standard deviations of a mean of 10,000 are .023
    assert levels[:, 2].double().mean().item() == pytest.approx(0.3, abs=0.023)


def test_the_mean_is_the_value_and_the_variance_is_bounded() -> None:
    values = torch.randn(50, generator=seeded(1))
    draws = 10_000
    scale = values.abs().max().item() / 127

    back = decoded(Int8(), encoded(Int8(), values.repeat(draws), seed=2), 50 * draws)
    error = (back.reshape(draws, 50) - values).double()

    # The standard deviation is at most half a level, and the mean's a hundredth of that.
    assert (error.mean(0).abs() <= 5 * scale / 2 / 100).all()
    assert (error.var(0) <= 1.001 * scale**2 / 4).all()


def test_whole_levels_never_move() -> None:
    values = torch.arange(-127.0, 128.0).repeat(2000)

    assert torch.equal(decoded(Int8(), encoded(Int8(), values), len(values)), values)


def test_zeros_have_scale_one() -> None:
    assert encoded(Int8(), torch.zeros(3)) == struct.pack("<f3b", 1.0, 0, 0, 0)


@pytest.mark.parametrize("largest", [3.4028234e38, 1e-36, 1e-44])
def test_the_ends_of_float32_stay_in_range(largest: float) -> None:
    values = torch.tensor([largest, -largest, 0.0])

    back = decoded(Int8(), encoded(Int8(), values), 3)

    # An error of one level, which does not shrink below the smallest normal number.
    level = max(largest / 127, 2.0**-126)
    assert torch.isfinite(back).all()
    assert ((back - values).abs().double() <= 1.001 * level).all()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (struct.pack("<f2b", 0.0, 1, 1), "not positive"),
        (struct.pack("<f2b", -1.0, 1, 1), "not positive"),
        (struct.pack("<f2b", 1.0, -128, 1), "-128"),
        (struct.pack("<f1b", 1.0, 1), "5 bytes are not a scale and 2 signed bytes"),
        (b"", "0 bytes"),
    ],
)
def test_what_is_no_encoding_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(CorruptPayload, match=message):
        decoded(Int8(), data, 2)
