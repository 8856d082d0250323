from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from typing import Any

import pytest
from google.protobuf.internal.enum_type_wrapper import EnumTypeWrapper
from google.protobuf.message import Message
from hypothesis import given, settings
from hypothesis import strategies as st
from support import words
from support.wire_words import WORDS

from hocket.core.device import DeviceState
from hocket.core.ids import Version
from hocket.core.manifest import Manifest, TensorSpec
from hocket.core.payload import CodecId, Packing
from hocket.core.records import DevicePhase
from hocket.core.submodel import FULL, ChannelRule
from hocket.core.update import DropReason
from hocket.errors import InvalidRequest
from hocket.rpc import convert
from hocket.v1 import aggregator_pb2, registry_pb2, types_pb2

NAN, INF = float("nan"), float("inf")
RAW, LEADING = types_pb2.CODEC_RAW, types_pb2.CHANNEL_RULE_LEADING


def over_the_wire(message: Message) -> Any:
    return type(message).FromString(message.SerializeToString())


@pytest.mark.parametrize("word", WORDS)
@given(data=st.data())
@settings(max_examples=25)
def test_a_word_comes_back_as_it_went(word: str, data: st.DataObject) -> None:
    values, encode, decode = WORDS[word]
    value = data.draw(values)
    assert decode(over_the_wire(encode(value))) == value


@given(header=words.update_headers, payload=words.payload_headers)
@settings(max_examples=25)
def test_a_push_header_comes_back_as_it_went(header: Any, payload: Any) -> None:
    sent = over_the_wire(convert.push_header_to_pb(header, payload))
    assert convert.push_header_from_pb(sent) == (header, payload)


@given(version=words.first_versions, payload=words.payload_headers, spec=words.specs)
@settings(max_examples=25)
def test_a_pull_header_comes_back_as_it_went(version: Version, payload: Any, spec: Any) -> None:
    sent = over_the_wire(convert.pull_header_to_pb(version, payload, spec))
    assert convert.pull_header_from_pb(sent.header) == (version, payload, spec)


def test_the_whole_contract_is_covered_by_a_word() -> None:
    decoders = {name for name in convert.__all__ if name.endswith("_from_pb")}
    tested = {decode.__name__ for _, _, decode in WORDS.values()}
    elsewhere = {"push_header_from_pb", "pull_header_from_pb", "links_from_pb"}
    assert decoders == tested | elsewhere


@pytest.mark.parametrize(
    ("ours", "theirs", "prefix"),
    [
        (CodecId, types_pb2.Codec, "CODEC_"),
        (Packing, types_pb2.Packing, "PACKING_"),
        (ChannelRule, types_pb2.ChannelRule, "CHANNEL_RULE_"),
        (DeviceState, registry_pb2.DeviceState, "DEVICE_STATE_"),
        (DropReason, aggregator_pb2.DropReason, "DROP_REASON_"),
        (DevicePhase, aggregator_pb2.DevicePhase, "DEVICE_PHASE_"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_enums_agree(ours: type[IntEnum], theirs: EnumTypeWrapper, prefix: str) -> None:
    core = {prefix + member.name: member.value for member in ours}
    assert dict(theirs.items()) == {f"{prefix}UNSPECIFIED": 0, **core}


def test_a_ratio_keeps_all_its_bits() -> None:
    """ceil(0.1 * 10) is 1, but with 0.1 rounded to float32 it is 2: the shapes would differ."""
    message = over_the_wire(types_pb2.SubmodelSpec(keep=[0.1], rule=LEADING))
    assert convert.spec_from_pb(message).keep == (0.1,)


def test_an_absent_spec_is_the_full_model() -> None:
    request = aggregator_pb2.PullModelRequest()
    assert convert.spec_from_pb(request.spec) == FULL


def test_an_absent_filter_lets_every_device_through() -> None:
    request = registry_pb2.ListDevicesRequest()
    assert convert.device_filter_from_pb(request.filter).matches(_device())


def test_pages_have_a_default_and_a_cap() -> None:
    assert [convert.page_size(size) for size in (0, 1, 1000)] == [100, 1, 1000]
    with pytest.raises(InvalidRequest, match="page_size is 1001"):
        convert.page_size(1001)


def _device() -> Any:
    return convert.device_from_pb(
        registry_pb2.Device(device_id="d", incarnation=1, state=registry_pb2.DEVICE_STATE_ALIVE)
    )


def good_manifest() -> types_pb2.Manifest:
    return convert.manifest_to_pb(
        Manifest((TensorSpec("w", (2, 3)), TensorSpec("b", (3,), trainable=False)))
    )


def good_push() -> aggregator_pb2.PushHeader:
    return aggregator_pb2.PushHeader(
        caller=types_pb2.Caller(device_id="d1", incarnation=1),
        update_id="u1",
        base_version=1,
        num_examples=10,
        num_steps=5,
        learning_rate=0.1,
        spec=types_pb2.SubmodelSpec(keep=[0.5], rule=LEADING),
        refresh=aggregator_pb2.RefreshReport(slot=1, version=2),
        payload=types_pb2.PayloadHeader(
            tensors=[types_pb2.TensorHeader(name="w", shape=[2, 3], codec=RAW, encoded_bytes=24)],
            packing=types_pb2.PACKING_NONE,
            wire_bytes=24,
        ),
    )


def test_the_good_push_is_good() -> None:
    header, payload = convert.push_header_from_pb(good_push())
    assert (header.device_id, payload.unpacked_bytes) == ("d1", 24)


Spoil = Callable[[Any], object]


@pytest.mark.parametrize(
    ("field", "spoil"),
    [
        ("caller.device_id", lambda m: m.ClearField("caller")),
        ("caller.device_id", lambda m: setattr(m.caller, "device_id", "a/b")),
        ("caller.device_id", lambda m: setattr(m.caller, "device_id", "d" * 65)),
        ("caller.incarnation", lambda m: m.caller.ClearField("incarnation")),
        ("header.update_id", lambda m: m.ClearField("update_id")),
        ("header.update_id", lambda m: setattr(m, "update_id", "u" * 65)),
        ("header.update_id", lambda m: setattr(m, "update_id", "a\nb")),
        ("header.base_version", lambda m: m.ClearField("base_version")),
        ("header.base_version", lambda m: setattr(m, "base_version", 2**63)),
        ("header.num_examples", lambda m: m.ClearField("num_examples")),
        ("header.num_steps", lambda m: m.ClearField("num_steps")),
        ("header.learning_rate", lambda m: m.ClearField("learning_rate")),
        ("header.learning_rate", lambda m: setattr(m, "learning_rate", INF)),
        ("header.train_loss", lambda m: setattr(m, "train_loss", NAN)),
        ("header.train_s", lambda m: setattr(m, "train_s", -1.0)),
        ("header.train_loss_rms", lambda m: setattr(m, "train_loss_rms", -1.0)),
        ("header.train_loss_rms", lambda m: setattr(m, "train_loss_rms", INF)),
        ("the number of header.labels", lambda m: m.labels.extend(range(2**16 + 1))),
        ("spec.keep[0]", lambda m: m.spec.keep.__setitem__(0, 0.0)),
        ("spec.keep[0]", lambda m: m.spec.keep.__setitem__(0, NAN)),
        ("spec.keep", lambda m: m.spec.keep.extend([0.5] * 10_000)),
        ("spec.rule", lambda m: m.spec.ClearField("rule")),
        ("spec.rule", lambda m: setattr(m.spec, "rule", 77)),
        ("refresh.slot", lambda m: m.refresh.ClearField("slot")),
        ("refresh.reward", lambda m: setattr(m.refresh, "reward", NAN)),
        ("header.payload", lambda m: m.ClearField("payload")),
        ("payload.packing", lambda m: m.payload.ClearField("packing")),
        ("payload.tensors[0].name", lambda m: setattr(m.payload.tensors[0], "name", "w" * 513)),
        ("payload.tensors[0].codec", lambda m: m.payload.tensors[0].ClearField("codec")),
        ("payload.tensors[0].shape", lambda m: m.payload.tensors[0].shape.extend([1] * 7)),
        ("payload.tensors[0].shape", lambda m: m.payload.tensors[0].shape.append(2**62)),
        ("payload.tensors[0].shape", lambda m: m.payload.tensors[0].shape.extend([2**40, 0])),
        ("payload.wire_bytes", lambda m: setattr(m.payload, "wire_bytes", 2**64 - 1)),
        (
            "payload.tensors",
            lambda m: m.payload.tensors.extend([m.payload.tensors[0]] * 100_000),
        ),
        (
            "the payload's number of values",
            lambda m: m.payload.tensors.extend(
                [types_pb2.TensorHeader(name="v", shape=[2**40], codec=RAW)] * 2
            ),
        ),
    ],
)
def test_a_spoiled_push_is_refused_by_the_name_of_its_field(field: str, spoil: Spoil) -> None:
    message = good_push()
    spoil(message)
    with pytest.raises(InvalidRequest) as caught:
        convert.push_header_from_pb(message)
    assert caught.value.details["field"] == field
    assert caught.value.message.startswith(field)
    assert len(caught.value.message) < 300


@pytest.mark.parametrize(
    ("field", "spoil"),
    [
        ("manifest.digest", lambda m: setattr(m, "digest", "0" * 16)),
        ("manifest.digest", lambda m: setattr(m.tensors[0], "name", "other")),
        ("manifest.digest", lambda m: m.tensors[0].shape.__setitem__(0, 7)),
        ("manifest.digest", lambda m: setattr(m.tensors[1], "trainable", True)),
        ("manifest.tensors", lambda m: m.ClearField("tensors")),
        ("manifest.tensors", lambda m: setattr(m.tensors[1], "name", "w")),
        ("manifest.tensors[1].name", lambda m: m.tensors[1].ClearField("name")),
    ],
)
def test_a_spoiled_manifest_is_refused(field: str, spoil: Spoil) -> None:
    message = good_manifest()
    spoil(message)
    with pytest.raises(InvalidRequest) as caught:
        convert.manifest_from_pb(message)
    assert caught.value.details["field"] == field


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ("capability.processor_share", types_pb2.Capability(processor_share=1.5)),
        ("capability.energy_share", types_pb2.Capability(energy_share=NAN)),
        (
            "capability.costs[0].keep",
            types_pb2.Capability(costs=[types_pb2.CostLine(fixed_s=1.0)]),
        ),
        (
            "capability.costs[0].fixed_s",
            types_pb2.Capability(costs=[types_pb2.CostLine(keep=1.0, fixed_s=-1.0)]),
        ),
    ],
)
def test_a_capability_out_of_range_is_refused(field: str, message: types_pb2.Capability) -> None:
    with pytest.raises(InvalidRequest) as caught:
        convert.capability_from_pb(message)
    assert caught.value.details["field"] == field


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ("link.peer", types_pb2.Link()),
        ("link.up_bytes_per_s", types_pb2.Link(peer="p", up_bytes_per_s=-1.0)),
        ("link.rtt_s", types_pb2.Link(peer="p", rtt_s=INF)),
        ("link.loss", types_pb2.Link(peer="p", loss=1.01)),
    ],
)
def test_a_link_out_of_range_is_refused(field: str, message: types_pb2.Link) -> None:
    with pytest.raises(InvalidRequest) as caught:
        convert.link_from_pb(message)
    assert caught.value.details["field"] == field


def test_a_loss_mask_that_nobody_knows_is_refused() -> None:
    assert dict(aggregator_pb2.LossMask.items()) == {
        "LOSS_MASK_UNSPECIFIED": 0,
        "LOSS_MASK_ZERO": 1,
        "LOSS_MASK_MINUS_INFINITY": 2,
    }
    terms = aggregator_pb2.GetTaskResponse(
        manifest=good_manifest(),
        training=aggregator_pb2.Training(
            local_epochs=1,
            batch_size=1,
            learning_rate=0.1,
            loss_mask=aggregator_pb2.LossMask.ValueType(3),
        ),
    )
    with pytest.raises(InvalidRequest, match=r"training\.loss_mask is 3"):
        convert.task_terms_from_pb(terms)


def test_two_links_to_one_peer_are_refused() -> None:
    link = types_pb2.Link(peer="aggregator")
    with pytest.raises(InvalidRequest, match="one for each peer"):
        convert.links_from_pb([link, link])


def test_labels_are_few_and_short() -> None:
    crowded = registry_pb2.DeviceFilter(labels={str(n): "x" for n in range(17)})
    with pytest.raises(InvalidRequest, match="at most 16 labels"):
        convert.device_filter_from_pb(crowded)
    with pytest.raises(InvalidRequest, match="at most 64 characters"):
        convert.device_filter_from_pb(registry_pb2.DeviceFilter(labels={"zone": "x" * 65}))


@pytest.mark.parametrize(
    ("decode", "message", "field"),
    [
        (convert.outcome_from_pb, aggregator_pb2.Outcome(), "outcome"),
        (convert.event_from_pb, aggregator_pb2.SubscribeResponse(), "event"),
    ],
)
def test_an_empty_choice_is_refused(
    decode: Callable[[Any], object], message: Message, field: str
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        decode(message)
    assert caught.value.details["field"] == field
