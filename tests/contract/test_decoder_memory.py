"""No decoder takes more memory than it may, whatever a sender claims."""

from __future__ import annotations

import asyncio
import json
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import xxhash
import zstandard
from hocket_aggregator.journal.frame import BEGINNING_BYTES, MAX_DATA_BYTES, MAX_HEAD_BYTES
from hocket_aggregator.journal.heads import Kind, entry_of
from hocket_aggregator.journal.reader import cut_torn_tail, read_entries
from support.codecs import manifest_of, raw_payload, seeded
from support.fuzzing import typed
from support.journals import piece, write_segment
from support.snapshot_bytes import BODY, decoded, sealed

from hocket.core.payload import Packing, PayloadHeader
from hocket.errors import CorruptPayload, NotFinite, PayloadTooLarge, TaskError
from hocket.learn.codecs import Int8, Raw, TopK
from hocket.learn.codecs.payload import decode_payload, encode_payload
from hocket.rpc.chunks import Assembler
from hocket.task.document import BYTES_PER_CHARACTER, MOST_CHARACTERS
from hocket.task.reading import load_task

KIB, MIB = 1024, 1024 * 1024
MANIFEST = manifest_of((32, 40), (40,), (1100,))
SIZE = 300  # values of one tensor
RECORD_BYTES = MAX_HEAD_BYTES + MAX_DATA_BYTES  # of the largest that a journal may hold
WINDOW_BYTES = MIB  # in which a journal is searched
JSON_BYTES = 32  # for each byte of text: a list of two bytes and a comma becomes 64 or 72
COMPLAINT_BYTES = 96  # for each byte of text where every few of them are wrong
COUNT = 10_000  # of what is repeated in a hostile text


def values(size: int) -> torch.Tensor:
    return torch.randn(size, generator=seeded(7))


def peak_bytes(work: Callable[[], object]) -> int:
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_claim_takes_no_memory() -> None:
    claims = PayloadHeader((), Packing.NONE, 64 * MIB, None)
    assert peak_bytes(lambda: Assembler(claims, limit_bytes=64 * MIB)) < 16 * KIB
    with pytest.raises(PayloadTooLarge):
        Assembler(claims, limit_bytes=MIB)


def test_a_body_unpacks_to_no_more_than_its_header_says() -> None:
    bomb = zstandard.ZstdCompressor().compress(bytes(64 * MIB))
    payload = raw_payload(
        bomb,
        *encode_payload(values(MANIFEST.size), MANIFEST, Raw(), seeded()).header.tensors,
        packing=Packing.ZSTD,
    )

    def decode() -> None:
        with pytest.raises(PayloadTooLarge):
            decode_payload(payload, MANIFEST)

    assert peak_bytes(decode) < 256 * KIB


def test_a_frame_that_lies_about_its_size_takes_no_more_than_it_says() -> None:
    honest = zstandard.ZstdCompressor().compress(bytes(MANIFEST.dense_bytes))
    more = zstandard.ZstdCompressor().compress(bytes(64 * MIB))
    head = zstandard.frame_header_size(honest)
    liar = honest[:head] + more[zstandard.frame_header_size(more) :]
    tensors = encode_payload(values(MANIFEST.size), MANIFEST, Raw(), seeded()).header.tensors
    payload = raw_payload(liar, *tensors, packing=Packing.ZSTD)

    def decode() -> None:
        with pytest.raises((CorruptPayload, PayloadTooLarge)):
            decode_payload(payload, MANIFEST)

    assert peak_bytes(decode) < MIB


def test_a_count_beyond_the_tensor_takes_no_memory() -> None:
    data = memoryview(struct.pack("<I", 2**32 - 1) + bytes(64))
    out = torch.empty(SIZE)

    def decode() -> None:
        with pytest.raises(CorruptPayload):
            TopK().decode_into(data, out)

    assert peak_bytes(decode) < 64 * KIB
    scale = np.float32(np.inf).tobytes() + bytes(SIZE)
    with pytest.raises(NotFinite):
        Int8().decode_into(memoryview(scale), out)


def journal_header(mark: bytes, number: int, head_bytes: int, data_bytes: int, kind: Kind) -> bytes:
    """A record's first bytes, with all of its claims sealed, as frame.py lays them out."""
    header = struct.pack(
        "<8sQQIIBxHI", mark, number, 0, head_bytes, data_bytes, kind, 0, number - 1
    )
    return header + struct.pack("<Q", xxhash.xxh3_64_intdigest(header))


def test_a_journal_takes_the_room_of_a_record_however_long_it_is(tmp_path: Path) -> None:
    count = 12
    asyncio.run(write_segment(tmp_path, [piece("u", bytes(MIB), MIB * i) for i in range(count)]))
    read = 0

    def decode() -> None:
        nonlocal read
        for found in read_entries(tmp_path, 1):
            assert found.segment == 1
            read += 1

    assert peak_bytes(decode) < RECORD_BYTES < count * MIB
    assert read == count


@pytest.mark.parametrize(
    ("head_bytes", "data_bytes"),
    [(MAX_HEAD_BYTES, MAX_DATA_BYTES), (2**32 - 1, 0), (2, 2**32 - 1), (2**32 - 1, 2**32 - 1)],
)
def test_a_record_of_a_journal_takes_no_more_than_it_may_whatever_it_claims(
    tmp_path: Path, head_bytes: int, data_bytes: int
) -> None:
    file = asyncio.run(write_segment(tmp_path, []))
    mark = file.read_bytes()[16:24]
    with file.open("r+b") as stored:
        stored.truncate(BEGINNING_BYTES)
        stored.seek(BEGINNING_BYTES)
        stored.write(journal_header(mark, 1, head_bytes, data_bytes, Kind.PIECE))
        stored.truncate(64 * MIB)  # sparse

    def decode() -> None:
        assert list(read_entries(tmp_path, 1)) == []
        assert cut_torn_tail(tmp_path) > 0

    assert peak_bytes(decode) < RECORD_BYTES + 2 * WINDOW_BYTES


HOSTILE_JSON = {
    "lists": "[" + "[]," * COUNT + "0]",
    "objects": "[" + "{}," * COUNT + "0]",
    "numbers": "[" + "1000," * COUNT + "0]",
    "keys": json.dumps({str(i): 0 for i in range(COUNT)}),
    "names": json.dumps(["a"] * COUNT),
    "nothing": "[" + "0," * COUNT + "0]",
    "nested": "[" * COUNT + "]" * COUNT,
    "digits": "9" * COUNT,
    "wide": json.dumps("\N{MUSICAL NOTE}" + "a" * COUNT, ensure_ascii=False),
}


@pytest.mark.parametrize("text", HOSTILE_JSON.values(), ids=HOSTILE_JSON)
def test_a_head_of_a_journal_takes_a_multiple_of_its_length(text: str) -> None:
    for kind in (Kind.OPENED, Kind.SETTLED, Kind.CLOSED):
        head = f'{{"header":{text},"digest":{text}}}'.encode()

        def decode(kind: Kind = kind, head: bytes = head) -> None:
            with pytest.raises(ValueError, match=r"\w"):
                entry_of(kind, head, b"", 0)

        assert peak_bytes(decode) < JSON_BYTES * len(head)


@pytest.mark.parametrize("field", ["memory_facts", "pending_ids", "bases", "holds", "another"])
@pytest.mark.parametrize("text", HOSTILE_JSON.values(), ids=HOSTILE_JSON)
def test_a_manifest_takes_a_multiple_of_its_length(field: str, text: str) -> None:
    decoded(sealed(json.dumps(BODY).encode()))  # whatever is made once
    said = {**BODY, field: "HERE"}
    for value in (text, f'{{"a":{text}}}'):
        data = sealed(json.dumps(said).replace('"HERE"', value).encode())

        def decode(data: bytes = data) -> None:
            decoded(data)

        assert peak_bytes(decode) < COMPLAINT_BYTES * len(data)


TASK = '[model]\nfunction = "m:f"\n[data]\nkind = "digits"\n'
HOSTILE_TASKS = {
    "one key of many parts": "x" + ".a" * (COUNT // 4) + " = 1\n",
    "one quoted key of many parts": "x" + " . 'a'" * (COUNT // 4) + " = 1\n",
    "one table of many parts": "[x" + '."\\"a"' * (COUNT // 4) + "]\n",
    "keys of some parts": "".join(f"b{i}" + ".a" * 15 + " = 1\n" for i in range(COUNT // 50)),
    "tables of some parts": "".join(f"[b{i}" + ".a" * 15 + "]\n" for i in range(COUNT // 50)),
    "keys": "".join(f"a{i} = 1\n" for i in range(COUNT // 10)),
    "tables": "[[x]]\n" * (COUNT // 4),
    "lists": "x = [" + "[]," * COUNT + "]\n",
    "nested": "x = " + "[" * COUNT + "]" * COUNT,
    "decimal digits": "seed = " + "9" * COUNT + "\n",
    "hexadecimal digits": "seed = 0x" + "f" * COUNT + "\n",
    "wide": 'x = "\N{MUSICAL NOTE}' + "a" * COUNT + '"\n',
}


@pytest.mark.parametrize("text", HOSTILE_TASKS.values(), ids=HOSTILE_TASKS)
def test_a_task_file_takes_a_multiple_of_its_length(tmp_path: Path, text: str) -> None:
    file = tmp_path / "task.toml"
    file.write_text(TASK, encoding="utf-8")
    load_task(file)  # whatever is made once
    file.write_text(text + TASK, encoding="utf-8")

    def decode() -> None:
        typed(lambda: load_task(file))

    assert peak_bytes(decode) < 2 * MOST_CHARACTERS + BYTES_PER_CHARACTER * len(text + TASK)


def test_an_endless_task_file_is_refused_for_its_length() -> None:
    def decode() -> None:
        with pytest.raises(TaskError, match=f"longer than {MOST_CHARACTERS} characters"):
            load_task("/dev/zero")

    assert peak_bytes(decode) < 8 * MOST_CHARACTERS
