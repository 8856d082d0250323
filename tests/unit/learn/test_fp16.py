from __future__ import annotations

import torch
from support.codecs import decoded, encoded

from hocket.learn.codecs import Fp16


def test_values_beyond_the_largest_half_are_clamped() -> None:
    values = torch.tensor([65504.0, 65519.0, 65520.0, 1e30, -7e4])

    back = decoded(Fp16(), encoded(Fp16(), values), 5)

    assert back.tolist() == [65504.0, 65504.0, 65504.0, 65504.0, -65504.0]


def test_ties_are_rounded_to_even_and_the_small_to_zero() -> None:
    # 11 bits of precision: 2049 lies midway between 2048 and 2050, 2051 between 2050 and 2052;
    # 2^-25 lies midway between 0 and the smallest subnormal.
    values = torch.tensor([2049.0, 2051.0, 2.0**-25, 2.0**-24])

    assert decoded(Fp16(), encoded(Fp16(), values), 4).tolist() == [2048.0, 2052.0, 0.0, 2.0**-24]
