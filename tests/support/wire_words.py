"""Every word that crosses the wire on its own: strategy, encoder, decoder."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from google.protobuf.message import Message
from hypothesis import strategies as st
from support import words

from hocket.rpc import convert

WORDS: dict[str, tuple[st.SearchStrategy[Any], Callable[..., Message], Callable[..., Any]]] = {
    "manifest": (words.manifests, convert.manifest_to_pb, convert.manifest_from_pb),
    "spec": (words.specs, convert.spec_to_pb, convert.spec_from_pb),
    "payload": (
        words.payload_headers,
        convert.payload_header_to_pb,
        convert.payload_header_from_pb,
    ),
    "capability": (words.capabilities, convert.capability_to_pb, convert.capability_from_pb),
    "link": (words.links, convert.link_to_pb, convert.link_from_pb),
    "caller": (words.callers, convert.caller_to_pb, convert.caller_from_pb),
    "device": (words.devices, convert.device_to_pb, convert.device_from_pb),
    "filter": (words.device_filters, convert.device_filter_to_pb, convert.device_filter_from_pb),
    "terms": (words.task_terms, convert.task_terms_to_pb, convert.task_terms_from_pb),
    "event": (words.events, convert.event_to_pb, convert.event_from_pb),
    "outcome": (words.outcomes, convert.outcome_to_pb, convert.outcome_from_pb),
    "report": (words.reports, convert.refresh_report_to_pb, convert.refresh_report_from_pb),
    "version": (
        words.version_records,
        convert.version_record_to_pb,
        convert.version_record_from_pb,
    ),
    "update": (words.update_records, convert.update_record_to_pb, convert.update_record_from_pb),
    "member": (
        words.device_statuses,
        convert.device_status_to_pb,
        convert.device_status_from_pb,
    ),
    "status": (words.statuses, convert.status_to_pb, convert.status_from_pb),
}
