"""Messages <-> the words of the core.

`x_to_pb` trusts its argument. `x_from_pb` trusts nothing: what is missing, unspecified, negative,
not finite, too long or too many raises InvalidRequest with the name of the field.
"""

from hocket.rpc.convert.checks import page_size
from hocket.rpc.convert.records import (
    device_status_from_pb,
    device_status_to_pb,
    status_from_pb,
    status_to_pb,
    update_record_from_pb,
    update_record_to_pb,
    version_record_from_pb,
    version_record_to_pb,
)
from hocket.rpc.convert.registry import (
    device_filter_from_pb,
    device_filter_to_pb,
    device_from_pb,
    device_to_pb,
)
from hocket.rpc.convert.terms import (
    event_from_pb,
    event_to_pb,
    task_terms_from_pb,
    task_terms_to_pb,
)
from hocket.rpc.convert.types import (
    caller_from_pb,
    caller_to_pb,
    capability_from_pb,
    capability_to_pb,
    link_from_pb,
    link_to_pb,
    links_from_pb,
    manifest_from_pb,
    manifest_to_pb,
    payload_header_from_pb,
    payload_header_to_pb,
    spec_from_pb,
    spec_to_pb,
)
from hocket.rpc.convert.update import (
    outcome_from_pb,
    outcome_to_pb,
    pull_header_from_pb,
    pull_header_to_pb,
    push_header_from_pb,
    push_header_to_pb,
    refresh_report_from_pb,
    refresh_report_to_pb,
)

__all__ = [
    "caller_from_pb",
    "caller_to_pb",
    "capability_from_pb",
    "capability_to_pb",
    "device_filter_from_pb",
    "device_filter_to_pb",
    "device_from_pb",
    "device_status_from_pb",
    "device_status_to_pb",
    "device_to_pb",
    "event_from_pb",
    "event_to_pb",
    "link_from_pb",
    "link_to_pb",
    "links_from_pb",
    "manifest_from_pb",
    "manifest_to_pb",
    "outcome_from_pb",
    "outcome_to_pb",
    "page_size",
    "payload_header_from_pb",
    "payload_header_to_pb",
    "pull_header_from_pb",
    "pull_header_to_pb",
    "push_header_from_pb",
    "push_header_to_pb",
    "refresh_report_from_pb",
    "refresh_report_to_pb",
    "spec_from_pb",
    "spec_to_pb",
    "status_from_pb",
    "status_to_pb",
    "task_terms_from_pb",
    "task_terms_to_pb",
    "update_record_from_pb",
    "update_record_to_pb",
    "version_record_from_pb",
    "version_record_to_pb",
]
