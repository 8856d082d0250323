"""A version rebuilt from snapshot and journal, beside a running aggregator or without one."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from hocket.core.ids import Version
from hocket.core.strategy import Global
from hocket.core.terms import TaskTerms
from hocket.errors import CorruptState, HocketError, NotFound
from hocket.learn.digest import digest_of
from hocket.learn.flat import views
from hocket.task.setup import Setup
from hocket_aggregator.aggregator import JOURNAL
from hocket_aggregator.journal.entries import Settled
from hocket_aggregator.journal.reader import segments
from hocket_aggregator.recovery.history import History
from hocket_aggregator.snapshots.blobs import open_blobs
from hocket_aggregator.snapshots.place import place_of
from hocket_aggregator.snapshots.snapshots import Snapshots
from hocket_aggregator.snapshots.tensor_file import encode


@dataclass(frozen=True, slots=True)
class Replayed:
    """What came of it."""

    version: Version
    digest: str  # of the values that were rebuilt
    snapshot: Version  # from which it began
    updates: int  # lived through again


async def replay(
    setup: Setup, data_dir: Path, version: int = 0, *, blobs: str = "", output: Path | None = None
) -> Replayed:
    """Rebuild a version (0: the newest there is), checking each version's digest on the way.

    Writes it as safetensors to `output` where that is given. Raises NotFound when the version
    cannot be rebuilt any more, or not yet, and CorruptState, which names file and offset.
    """
    terms = setup.terms
    place = blobs or place_of(data_dir)
    snapshots = Snapshots(open_blobs(place), terms.name, terms.manifest, setup.strategy)
    if version:
        snapshot = await snapshots.at_or_before(Version(version))
    else:
        found = await snapshots.newest(set_aside=False)
        if found is None:
            raise NotFound(f"no snapshot is in {place}; run an aggregator there first")
        snapshot = found
    history = History(setup, snapshot, data_dir / JOURNAL)
    try:
        updates = await asyncio.to_thread(_live_until, history, version)
    except CorruptState as error:
        oldest = min(segments(data_dir / JOURNAL), default=0)
        if oldest <= snapshot.pieces_from:
            raise
        raise NotFound(
            f"version {version or 'the newest'} cannot be rebuilt any more: from version "
            f"{snapshot.newest.version} on it takes journal segment {snapshot.pieces_from}, and "
            f"the journal in {data_dir} begins at {oldest} (see AGGREGATOR_JOURNAL_KEPT_BYTES)"
        ) from error
    newest = history.core.newest
    if version and newest.version != version:
        raise NotFound(
            f"version {version} does not exist: snapshot and journal of {data_dir} end at "
            f"version {newest.version}"
        )
    if output is not None:
        await asyncio.to_thread(_write, output, newest, terms)
    return Replayed(newest.version, digest_of(newest.model), snapshot.newest.version, updates)


def _live_until(history: History, version: int) -> int:
    updates = 0
    if history.core.newest.version == version:
        return updates
    for lived in history.live():
        updates += isinstance(lived.entry, Settled)
        if lived.version is not None and lived.version == version:
            break
    return updates


def _write(output: Path, model: Global[Tensor], terms: TaskTerms) -> None:
    metadata = {
        "task": terms.name,
        "version": str(model.version),
        "digest": digest_of(model.model),
        "manifest": terms.manifest.digest,
    }
    partial = output.with_name(output.name + ".partial")
    try:
        with partial.open("wb") as file:
            file.writelines(encode(views(model.model, terms.manifest), metadata))
        partial.replace(output)
    except OSError as error:
        raise HocketError(f"{output} cannot be written: {error.strerror}") from error
    finally:
        partial.unlink(missing_ok=True)
