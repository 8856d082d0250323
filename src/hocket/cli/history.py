"""Histories on the command line: written from an aggregator's journal, and lived through again.

Needs torch, which takes seconds to import.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from hocket_aggregator.journal import entries as journal
from hocket_aggregator.recovery.origin import Origin
from hocket_aggregator.recovery.telling import Told, tell
from hocket_aggregator.settings import data_roots

from hocket.core.ids import DeviceId
from hocket.errors import NotFound
from hocket.sim.history import (
    Closed,
    Ended,
    Entry,
    Held,
    History,
    HistoryWriter,
    Joined,
    Settled,
    beginning_of,
    new_folder,
    read_history,
)
from hocket.sim.reliving import Relived, relive
from hocket.task import Task, default_task, load_task
from hocket.task.changes import NO_CHANGES, Changes, layered
from hocket.task.setup import Setup, set_up

TASK_FILE = "task.json"


@dataclass(frozen=True, slots=True)
class Written:
    """What a history came to."""

    updates: int
    versions: int  # made by them


def write_history(setup: Setup, data_dir: Path, folder: Path, *, note: str = "") -> Written:
    """Write what an aggregator's journal holds as a history: whole, or not at all.

    `note` says which task it is of; see `note_of`.

    Raises NotFound where the journal does not reach back to the task's beginning, CorruptState for
    damage, and HocketError where `folder` is there already or cannot be written.
    """
    updates = versions = 0
    limit_bytes = setup.terms.max_update_bytes
    with new_folder(folder) as partial, HistoryWriter(partial, beginning_of(setup)) as writer:
        if note:
            (partial / TASK_FILE).write_text(note, encoding="utf-8")
        for entry in _entries(tell(data_dir, limit_bytes)):
            writer.add(entry)
            updates += isinstance(entry, Settled)
            versions += isinstance(entry, (Settled, Closed)) and bool(entry.digest)
    return Written(updates, versions)


def _entries(told: Iterator[Told]) -> Iterator[Entry]:
    """The journal's entries as a history has them.

    A journal tells the wall clock of answers only, which may have been set back; and a device's
    examples by its updates.
    """
    began_unix_s: float | None = None
    at_s = 0.0
    known: dict[DeviceId, tuple[int, int]] = {}
    for one in told:
        match one.entry:
            case journal.Settled(header) as settled:
                if began_unix_s is None:
                    began_unix_s = settled.unix_s - header.train_s
                at_s = max(at_s, settled.unix_s - began_unix_s)
                now = (header.incarnation, header.num_examples)
                if known.get(header.device_id) != now:
                    known[header.device_id] = now
                    yield Joined(at_s, header.device_id, *now)
                yield Settled(at_s, header, one.payload, settled.outcome, settled.digest)
            case journal.Closed(version, digest, unix_s):
                at_s = max(at_s, unix_s - (began_unix_s or unix_s))
                yield Closed(at_s, version, digest)
            case journal.Held(device_id, version):
                yield Held(at_s, device_id, version)
            case journal.Concluded(reason):
                yield Ended(at_s, reason)


def export_history(data_dir: Path, task_file: Path | None, folder: Path) -> Written:
    """Write an aggregator's history, with a note of the task that it is of.

    Raises as `write_history`, and NotFound or TaskError where the task cannot be found.
    """
    origin = Origin.read(data_dir) if task_file is None else _named(task_file)
    return write_history(
        set_up(_load(origin, NO_CHANGES)), data_dir, folder, note=note_of(origin, NO_CHANGES)
    )


def relive_history(folder: Path, task_file: Path | None) -> Relived:
    """Live through a history under the task that it notes, or the one that is named.

    Raises NotFound, TaskError, or CorruptState for a history that is damaged.
    """
    torch.set_num_threads(1)  # bits must not depend on how many there are
    history = read_history(folder)
    if task_file is not None:
        return relive(set_up(_load(_named(task_file), NO_CHANGES)), history)
    task, seed = task_of(history), seed_of(history)
    return relive(set_up(task if seed is None else replace(task, seed=seed)), history)


def task_of(history: History, changes: Changes = NO_CHANGES) -> Task:
    """The task that a history notes, with further changes, and of its own seed.

    Raises NotFound or TaskError.
    """
    note = _read_note(history.folder / TASK_FILE)
    return _load(note.origin, layered(note.changes, changes))


def seed_of(history: History) -> int | None:
    """The seed that a history was recorded with; None: not noted, or that of its task."""
    try:
        return _read_note(history.folder / TASK_FILE).seed
    except NotFound:
        return None


def note_of(origin: Origin, changes: Changes, seed: int | None = None) -> str:
    """What a history says of its task: where its file is, and what is otherwise than in there.

    `seed` is a simulation's. It is no change of the task, whose own seed says which examples there
    are.
    """
    note = {**asdict(origin), "changes": dict(changes), "seed": seed}
    return json.dumps(note, indent=1) + "\n"


@dataclass(frozen=True, slots=True)
class _Note:
    origin: Origin
    changes: Changes
    seed: int | None


def _read_note(file: Path) -> _Note:
    try:
        kept = json.loads(file.read_text(encoding="utf-8"))
        changes = {str(key): value for key, value in kept["changes"].items()}
        seed = kept.get("seed")
        return _Note(
            Origin(str(kept["task"]), str(kept["code_folder"])),
            changes,
            None if seed is None else int(seed),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise NotFound(
            f"{file} does not say which task this is the history of; name its file with --task"
        ) from error


def _named(task_file: Path) -> Origin:
    return Origin(str(task_file.absolute()), str(Path.cwd()))


def _load(origin: Origin, changes: Changes) -> Task:
    if not origin.task:
        return default_task(changes)
    code = (Path(origin.code_folder), Path.cwd())
    return load_task(
        Path(origin.task), data_folders=data_roots(), code_folders=code, changes=changes
    )
