"""Updates on their way, as the outbox keeps them."""

from __future__ import annotations

from dataclasses import replace

import xxhash
from hocket_device.outbox import FORMAT, Parcel
from hypothesis import strategies as st
from support.words import payload_headers, update_headers

from hocket.core.payload import Payload

parcels = st.builds(
    lambda header, payload, body: Parcel(
        header, Payload(replace(payload, wire_bytes=len(body)), body)
    ),
    update_headers,
    payload_headers,
    st.binary(max_size=300),
)


def sealed(line: bytes, body: bytes = b"") -> bytes:
    """A file whose checksum is right whatever it holds."""
    rest = line + b"\n" + body
    return FORMAT + xxhash.xxh3_64(rest).digest() + rest
