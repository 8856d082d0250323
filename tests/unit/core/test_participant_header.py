from __future__ import annotations

from hocket.core.device import Caller
from hocket.core.ids import DeviceId, Incarnation, UpdateId, Version
from hocket.core.manifest import Manifest
from hocket.core.participant_events import Push
from hocket.core.participant_header import Trained, header_of
from hocket.core.payload import CodecId
from hocket.core.submodel import SubmodelSpec
from hocket.core.terms import EncodingTerms, RefreshTerms, TaskTerms, TrainingTerms
from hocket.core.update import RefreshReport, UpdateHeader

TERMS = TaskTerms(
    name="test",
    manifest=Manifest(()),
    training=TrainingTerms(local_epochs=3, batch_size=16, learning_rate=0.05),
    encoding=EncodingTerms(CodecId.RAW),
    refresh=RefreshTerms(enabled=True),
    dropout_rows=(),
    seed=1,
    max_update_bytes=1 << 20,
    chunk_bytes=1 << 19,
    staleness_limit=99,
)


def test_a_header_says_who_trained_what_from_where() -> None:
    refresh, half = RefreshReport(2, Version(9), 0.25), SubmodelSpec((0.5,))
    header = header_of(
        Push(Version(7), 3.5, refresh, half),
        Caller(DeviceId("d1"), Incarnation(4)),
        UpdateId("u1"),
        Trained(num_examples=40, num_steps=9, train_loss=0.75, train_loss_rms=1.25, labels=(2, 7)),
        TERMS,
    )
    assert header == UpdateHeader(
        update_id=UpdateId("u1"),
        device_id=DeviceId("d1"),
        incarnation=Incarnation(4),
        base_version=Version(7),
        num_examples=40,
        num_steps=9,
        learning_rate=0.05,
        train_loss=0.75,
        train_loss_rms=1.25,
        train_s=3.5,
        spec=half,
        refresh=refresh,
        labels=(2, 7),
    )
