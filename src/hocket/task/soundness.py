"""What an update's header claims, held against the task before any of its body is taken."""

from __future__ import annotations

from hocket.core.payload import PayloadHeader
from hocket.core.terms import TaskTerms
from hocket.core.update import UpdateHeader
from hocket.errors import InvalidUpdate, PayloadTooLarge
from hocket.learn.codecs.payload import check_header
from hocket.learn.submodels.sliceable import Sliceable


def check_update(
    header: UpdateHeader, payload: PayloadHeader, terms: TaskTerms, model: Sliceable
) -> None:
    """Refuse a header that contradicts itself, the task, or the submodel that it names.

    Raises InvalidUpdate, PayloadTooLarge or InvalidRequest.
    """
    refresh, epochs = header.refresh, terms.training.local_epochs
    if refresh is not None and not 1 <= refresh.slot < epochs:
        raise InvalidUpdate(
            f"refresh.slot is {refresh.slot}; with {epochs} local epochs a merge falls "
            f"between 1 and {epochs - 1}"
        )
    if refresh is not None and refresh.version < header.base_version:
        raise InvalidUpdate(
            f"refresh.version is {refresh.version}, older than base_version "
            f"{header.base_version}; only a fresher model can be merged"
        )
    model.check_labels(header)
    check_header(payload, model.update_manifest(model.plan(header.spec)))
    if payload.wire_bytes > terms.max_update_bytes:
        raise PayloadTooLarge(
            f"the payload claims {payload.wire_bytes} bytes; {terms.max_update_bytes} "
            "are taken at most, see max_update_bytes of GetTask"
        )
