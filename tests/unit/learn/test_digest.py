from __future__ import annotations

import struct

import torch
import xxhash

from hocket.learn.digest import digest_of, octets_of


def test_a_digest_is_the_hash_of_little_endian_float32() -> None:
    values = [0.0, 1.5, -2.25]
    written = struct.pack("<3f", *values)
    vector = torch.tensor(values)
    assert bytes(octets_of(vector)) == written
    assert digest_of(vector) == xxhash.xxh3_64_hexdigest(written)


def test_octets_are_a_view_of_the_vector() -> None:
    vector = torch.zeros(2)
    octets = octets_of(vector)
    vector[0] = 1.0
    assert octets[:4] == struct.pack("<f", 1.0)
