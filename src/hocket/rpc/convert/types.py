"""types.proto <-> core: manifests, submodels, payloads, capabilities, links, callers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from hocket.core.capability import Capability, CostLine
from hocket.core.device import Caller
from hocket.core.link import Link
from hocket.core.manifest import Manifest, TensorSpec
from hocket.core.payload import CodecId, Packing, PayloadHeader, TensorHeader
from hocket.core.submodel import ChannelRule, SubmodelSpec
from hocket.errors import InvalidRequest
from hocket.rpc.convert import checks
from hocket.v1 import types_pb2 as pb

MAX_TENSORS = 100_000
MAX_DIMS = 8
LONGEST_TENSOR_NAME = 512
MAX_VALUES = 2**40  # of one model
MAX_LAYERS = 10_000
MAX_COST_LINES = 64
MAX_LINKS = 1000


def manifest_to_pb(manifest: Manifest) -> pb.Manifest:
    """A manifest with its digest."""
    tensors = [
        pb.TensorSpec(name=tensor.name, shape=tensor.shape, trainable=tensor.trainable)
        for tensor in manifest.tensors
    ]
    return pb.Manifest(tensors=tensors, digest=manifest.digest)


def manifest_from_pb(message: pb.Manifest) -> Manifest:
    """A manifest whose digest was recomputed and agrees."""
    where = "manifest.tensors"
    _bounded(where, len(message.tensors), MAX_TENSORS, least=1)
    manifest = Manifest(
        tuple(
            TensorSpec(
                checks.name(f"{where}[{at}].name", tensor.name, LONGEST_TENSOR_NAME),
                _shape(f"{where}[{at}].shape", tensor.shape),
                tensor.trainable,
            )
            for at, tensor in enumerate(message.tensors)
        )
    )
    names = {tensor.name for tensor in manifest.tensors}
    checks.require(
        len(names) == len(manifest.tensors), where, len(names), "named without duplicates"
    )
    checks.count("the manifest's number of values", manifest.size, most=MAX_VALUES)
    checks.require(
        message.digest == manifest.digest,
        "manifest.digest",
        message.digest,
        f"{manifest.digest}, as its tensors give",
    )
    return manifest


def spec_to_pb(spec: SubmodelSpec) -> pb.SubmodelSpec:
    """A submodel spec; the full model comes out empty."""
    if not spec.keep:
        return pb.SubmodelSpec()
    return pb.SubmodelSpec(
        keep=spec.keep, rule=pb.ChannelRule.ValueType(spec.rule.value), seed=spec.seed
    )


def spec_from_pb(message: pb.SubmodelSpec) -> SubmodelSpec:
    """A submodel spec; empty or absent means the full model."""
    if not message.keep:
        return SubmodelSpec()
    _bounded("spec.keep", len(message.keep), MAX_LAYERS)
    keep = tuple(
        checks.positive_share(f"spec.keep[{at}]", share) for at, share in enumerate(message.keep)
    )
    rule = checks.member("spec.rule", message.rule, ChannelRule)
    return SubmodelSpec(keep, rule, checks.count("spec.seed", message.seed))


def payload_header_to_pb(header: PayloadHeader) -> pb.PayloadHeader:
    """A payload's header."""
    tensors = [
        pb.TensorHeader(
            name=tensor.name,
            shape=tensor.shape,
            codec=pb.Codec.ValueType(tensor.codec.value),
            encoded_bytes=tensor.encoded_bytes,
        )
        for tensor in header.tensors
    ]
    return pb.PayloadHeader(
        tensors=tensors,
        packing=pb.Packing.ValueType(header.packing.value),
        wire_bytes=header.wire_bytes,
        checksum=header.checksum,
    )


def payload_header_from_pb(message: pb.PayloadHeader) -> PayloadHeader:
    """A payload's header, every size in it bounded; whether it fits the model is not known here."""
    where = "payload.tensors"
    _bounded(where, len(message.tensors), MAX_TENSORS)
    header = PayloadHeader(
        tuple(_tensor_header(f"{where}[{at}]", each) for at, each in enumerate(message.tensors)),
        checks.member("payload.packing", message.packing, Packing),
        checks.count("payload.wire_bytes", message.wire_bytes),
        message.checksum if message.HasField("checksum") else None,
    )
    size = sum(tensor.size for tensor in header.tensors)
    checks.count("the payload's number of values", size, most=MAX_VALUES)
    checks.count("the payload's unpacked bytes", header.unpacked_bytes)
    return header


def capability_to_pb(capability: Capability) -> pb.Capability:
    """A capability."""
    costs = [
        pb.CostLine(keep=line.keep, fixed_s=line.fixed_s, per_example_s=line.per_example_s)
        for line in capability.costs
    ]
    return pb.Capability(
        costs=costs,
        processor_share=capability.processor_share,
        memory_bytes=capability.memory_bytes,
        energy_share=capability.energy_share,
        available=capability.available,
        num_examples=capability.num_examples,
    )


def capability_from_pb(message: pb.Capability) -> Capability:
    """A capability, every number in its range."""
    _bounded("capability.costs", len(message.costs), MAX_COST_LINES)
    return Capability(
        tuple(_cost_line(f"capability.costs[{at}]", line) for at, line in enumerate(message.costs)),
        checks.share("capability.processor_share", message.processor_share),
        checks.count("capability.memory_bytes", message.memory_bytes),
        checks.share("capability.energy_share", message.energy_share),
        message.available,
        checks.count("capability.num_examples", message.num_examples),
    )


def link_to_pb(link: Link) -> pb.Link:
    """A link."""
    return pb.Link(
        peer=link.peer,
        up_bytes_per_s=link.up_bytes_per_s,
        down_bytes_per_s=link.down_bytes_per_s,
        rtt_s=link.rtt_s,
        loss=link.loss,
        transfers=link.transfers,
    )


def link_from_pb(message: pb.Link) -> Link:
    """A link, every number in its range."""
    return Link(
        checks.device_id("link.peer", message.peer),
        checks.not_negative("link.up_bytes_per_s", message.up_bytes_per_s),
        checks.not_negative("link.down_bytes_per_s", message.down_bytes_per_s),
        checks.not_negative("link.rtt_s", message.rtt_s),
        checks.share("link.loss", message.loss),
        checks.count("link.transfers", message.transfers),
    )


def links_from_pb(messages: Sequence[pb.Link]) -> tuple[Link, ...]:
    """A bounded number of links, one for each peer."""
    _bounded("links", len(messages), MAX_LINKS)
    links = tuple(map(link_from_pb, messages))
    peers = {link.peer for link in links}
    checks.require(len(peers) == len(links), "links", len(links), "at most one for each peer")
    return links


def caller_to_pb(caller: Caller) -> pb.Caller:
    """A caller."""
    return pb.Caller(device_id=caller.device_id, incarnation=caller.incarnation)


def caller_from_pb(message: pb.Caller) -> Caller:
    """A caller; an absent one is refused for its empty device_id."""
    return Caller(
        checks.device_id("caller.device_id", message.device_id),
        checks.incarnation("caller.incarnation", message.incarnation),
    )


def _cost_line(where: str, message: pb.CostLine) -> CostLine:
    return CostLine(
        checks.positive_share(f"{where}.keep", message.keep),
        checks.not_negative(f"{where}.fixed_s", message.fixed_s),
        checks.not_negative(f"{where}.per_example_s", message.per_example_s),
    )


def _tensor_header(where: str, message: pb.TensorHeader) -> TensorHeader:
    return TensorHeader(
        checks.name(f"{where}.name", message.name, LONGEST_TENSOR_NAME),
        _shape(f"{where}.shape", message.shape),
        checks.member(f"{where}.codec", message.codec, CodecId),
        checks.count(f"{where}.encoded_bytes", message.encoded_bytes),
    )


def _shape(where: str, dims: Iterable[int]) -> tuple[int, ...]:
    """At most 8 dimensions whose product, counting empty ones as 1, stays within 2**40."""
    shape = tuple(dims)
    if len(shape) > MAX_DIMS:
        raise checks.refused(where, shape, f"of at most {MAX_DIMS} dimensions")
    if math.prod(max(1, dim) for dim in shape) > MAX_VALUES:
        raise checks.refused(where, shape, f"of at most {MAX_VALUES} values")
    return shape


def _bounded(field: str, length: int, most: int, least: int = 0) -> None:
    if not least <= length <= most:
        raise InvalidRequest(
            f"{field} holds {length} entries: it must hold {least} to {most}", field=field
        )
