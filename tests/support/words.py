"""Hypothesis strategies for the words of the core, as a sound peer could send any of them."""

from __future__ import annotations

from enum import IntEnum
from typing import TypeVar

from hypothesis import strategies as st

from hocket.core.capability import Capability, CostLine
from hocket.core.device import Caller, Device, DeviceFilter, DeviceState
from hocket.core.ids import DeviceId, Incarnation, UpdateId, Version
from hocket.core.link import Link
from hocket.core.manifest import Manifest, TensorSpec
from hocket.core.payload import CodecId, Packing, PayloadHeader, TensorHeader
from hocket.core.records import (
    DevicePhase,
    DeviceStatus,
    Evaluation,
    Status,
    UpdateRecord,
    VersionRecord,
)
from hocket.core.refresh import RefreshRules
from hocket.core.submodel import FULL, ChannelRule, SubmodelSpec
from hocket.core.terms import (
    EncodingTerms,
    Finished,
    LocalTerms,
    RefreshTerms,
    TaskTerms,
    TrainingTerms,
    Trigger,
)
from hocket.core.update import (
    Applied,
    Buffered,
    Dropped,
    DropReason,
    Outcome,
    RefreshReport,
    UpdateHeader,
)

E = TypeVar("E", bound=IntEnum)

counts = st.integers(0, 2**63 - 1)
from_one = st.integers(1, 2**63 - 1)
small = st.integers(1, 2**31 - 1)
reals = st.floats(allow_nan=False, allow_infinity=False)
not_negative = st.floats(0, 1e300)
positive = st.floats(1e-300, 1e300)
shares = st.floats(0, 1)
positive_shares = st.floats(0, 1, exclude_min=True)
words = st.text(max_size=30)
names = st.text("abcXYZ019._-ü/ ", min_size=1, max_size=40)
device_ids = st.from_regex(r"[A-Za-z0-9._-]{1,64}", fullmatch=True).map(DeviceId)
update_ids = names.map(UpdateId)
incarnations = from_one.map(Incarnation)
versions = counts.map(Version)
first_versions = from_one.map(Version)
shapes = st.lists(st.integers(0, 30), max_size=8).map(tuple)
labels = st.dictionaries(names, st.text(max_size=20), max_size=4)


def members(kind: type[E]) -> st.SearchStrategy[E]:
    return st.sampled_from(list(kind))


manifests = st.lists(
    st.builds(TensorSpec, names, shapes, st.booleans()),
    min_size=1,
    max_size=4,
    unique_by=lambda tensor: tensor.name,
).map(lambda tensors: Manifest(tuple(tensors)))
specs = st.just(FULL) | st.builds(
    SubmodelSpec,
    st.lists(positive_shares, min_size=1, max_size=5).map(tuple),
    members(ChannelRule),
    counts,
)
payload_headers = st.builds(
    PayloadHeader,
    st.lists(
        st.builds(TensorHeader, names, shapes, members(CodecId), st.integers(0, 2**60)), max_size=4
    ).map(tuple),
    members(Packing),
    counts,
    st.none() | st.integers(0, 2**64 - 1),
)
cost_lines = st.builds(CostLine, positive_shares, not_negative, not_negative)
capabilities = st.builds(
    Capability,
    st.lists(cost_lines, max_size=3).map(tuple),
    shares,
    counts,
    shares,
    st.booleans(),
    counts,
)
links = st.builds(Link, device_ids, not_negative, not_negative, not_negative, shares, counts)
link_sets = st.lists(links, max_size=3, unique_by=lambda link: link.peer).map(tuple)
callers = st.builds(Caller, device_ids, incarnations)
devices = st.builds(
    Device,
    device_ids,
    incarnations,
    members(DeviceState),
    capabilities,
    link_sets,
    not_negative,
    counts,
    not_negative,
    labels,
)
device_filters = st.builds(
    DeviceFilter,
    st.frozensets(device_ids, max_size=3),
    st.frozensets(members(DeviceState)),
    st.booleans(),
    shares,
    counts,
    not_negative,
    not_negative,
    labels,
)
reports = st.builds(RefreshReport, st.integers(1, 2**32 - 1), first_versions, reals)
update_headers = st.builds(
    UpdateHeader,
    update_ids,
    device_ids,
    incarnations,
    first_versions,
    from_one,
    from_one,
    positive,
    reals,
    not_negative,
    specs,
    st.none() | reports,
    not_negative,
    st.lists(st.integers(0, 2**32 - 1), max_size=4).map(tuple),
)
outcomes: st.SearchStrategy[Outcome] = (
    st.builds(Applied, first_versions, reals, counts)
    | st.builds(Buffered, first_versions, reals, counts, small, small)
    | st.builds(Dropped, members(DropReason), words, counts)
)
evaluations = st.builds(Evaluation, reals, shares)
version_records = st.builds(
    VersionRecord,
    first_versions,
    versions,
    st.text("0123456789abcdef", max_size=16),
    not_negative,
    st.lists(update_ids, max_size=3).map(tuple),
    st.none() | evaluations,
    st.booleans(),
)
update_records = st.builds(
    UpdateRecord, update_headers, outcomes, counts, counts, words, not_negative
)
device_statuses = st.builds(
    DeviceStatus,
    device_ids,
    members(DevicePhase),
    versions,
    counts,
    counts,
    counts,
    counts,
    reals,
    reals,
    counts,
    not_negative,
    st.none() | specs,
)
statuses = st.builds(
    Status,
    words,
    words,
    first_versions,
    words,
    words,
    not_negative,
    not_negative,
    counts,
    counts,
    counts,
    counts,
    counts,
    versions,
    st.none() | evaluations,
    st.lists(device_statuses, max_size=3).map(tuple),
)
events: st.SearchStrategy[Trigger | Finished] = st.builds(
    Trigger, names, from_one, st.integers(0, 2**32 - 1), positive
) | st.builds(Finished, words)
task_terms = st.builds(
    TaskTerms,
    words,
    manifests,
    st.builds(
        TrainingTerms,
        *(small, small, positive, not_negative, not_negative, not_negative),
        st.booleans(),
        st.builds(
            LocalTerms,
            names,
            st.dictionaries(names, reals, max_size=4).map(lambda d: tuple(sorted(d.items()))),
        ),
        st.booleans(),
        st.sampled_from(["off", "zero", "minus_infinity"]),
    ),
    st.builds(EncodingTerms, members(CodecId), positive_shares, st.booleans()),
    st.builds(
        RefreshTerms,
        st.booleans(),
        st.builds(RefreshRules, positive, not_negative, shares, not_negative, not_negative),
        st.integers(0, 2**32 - 1),
    ),
    st.lists(
        st.lists(st.floats(0, 1, exclude_max=True), min_size=1, max_size=3).map(tuple), max_size=3
    ).map(tuple),
    counts,
    from_one,
    st.integers(1, 1024 * 1024),
    counts,
    st.booleans(),
)
