"""What survives a restart, kept so that a kill at any moment leaves one whole state.

What is big is a file of its own, written once under a new name and never changed; `device.json`
says which of those files count. So the renaming of `device.json` is the one moment at which the
participant's state, the residual, what the task's local rule keeps, the outbox and the tally
change, all together. A training has two such moments:

1. Before the first byte of its push is sent: the update is in the outbox, the residual is what it
   leaves out, the participant is as it waits for the outcome.
2. When the outcome is known and what follows from it is done: the outbox is empty, the residual
   holds the update again if it was not used, the participant rests.

A kill before 1 loses the training, and the residual is the one from before it. After a kill between
1 and 2 the next life pushes the same bytes under the same update_id, gets the one outcome that this
update_id will ever have, and does what follows from it. So at every moment the messages accepted,
the one in the outbox and the residual together are the deltas given: no part is lost, none counted
twice (but an update whose end stays unclear is given up: see `Performer`). What the local rule
keeps is, after 1, kept twice: with this training and as it was before, to which it comes back if
the update is not used. If 2 cannot be written, nothing is lost either: the next 1 contains it, and
until then a restart only asks for the outcome again.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import structlog

from hocket.core.ids import DeviceId
from hocket.errors import CorruptState, HocketError
from hocket_device.learner import Learner
from hocket_device.outbox import Parcel, read_parcel, write_parcel
from hocket_device.state import State, load_state, save_state

FILES = ("residual-*.safetensors", "local-*.safetensors", "outbox-*.update", "*.new")

log = structlog.get_logger()


class Keeper:
    """One device's state folder. Blocking: the agent runs every method in the training thread.

    Args:
        folder: of this device alone.
        state: what `load_state` read there.
        learner: whose residual is kept.
    """

    def __init__(self, folder: Path, state: State, learner: Learner) -> None:
        self.state = state
        self.parcel: Parcel | None = None  # of which no outcome is known
        self._folder = folder
        self._learner = learner
        self._number = state.number
        self._residual: object = None  # what the file of state.residual holds
        self._locals: list[tuple[object, int]] = []  # what the files of the local rule hold

    def open(self, task: str, device_id: DeviceId) -> None:
        """Take back what an earlier life left of `task`; what it left of another is forgotten.

        A damaged outbox is set aside. Raises DataError for a damaged residual.
        """
        if self.state.task != task:
            if self.state.outbox:
                log.warning("outbox_forgotten", of_task=self.state.task, this_task=task)
            self.state = replace(
                self.state, participant=None, residual=0, outbox=0, local=0, local_before=0
            )
        if self.state.outbox:
            self.parcel = self._find_parcel(device_id)
            if self.parcel is None:
                self.state = replace(self.state, local=self.state.local_before)
        file = self._file_of_residual(self.state.residual) if self.state.residual else None
        if file is not None and not file.exists():
            log.warning("residual_missing", file=str(file))
            file = None
        self._learner.restore(file, self.parcel)
        self._residual = self._learner.residual
        residual = self.state.residual if file is not None else 0
        self.state = replace(self.state, task=task, device_id=device_id, residual=residual)
        self._restore_local()
        self.try_to_commit(self.state.participant, self.parcel)

    def commit(self, participant: Mapping[str, Any] | None, parcel: Parcel | None) -> None:
        """Keep all of it: the participant, the learner's residual, and `parcel` in the outbox.

        Raises OSError; then what was kept before still is.
        """
        self._number += 1
        locals_before = list(self._locals)
        try:
            local = self._keep_local(self._learner.kept)
            before = local if parcel is None else self._keep_local(self._learner.kept_before)
            kept = replace(
                self.state,
                participant=participant,
                residual=self._keep_residual(),
                outbox=self._keep_parcel(parcel),
                local=local,
                local_before=before,
                number=self._number,
            )
            save_state(kept, self._folder)
        except OSError:
            self._locals = locals_before  # what was written since is swept away
            raise
        finally:
            self._sweep()
        self.state, self.parcel, self._residual = kept, parcel, self._learner.residual
        self._know_local()

    def try_to_commit(self, participant: Mapping[str, Any] | None, parcel: Parcel | None) -> None:
        """Keep it if the disk takes it; else say so, and leave it to the next time."""
        try:
            self.commit(participant, parcel)
        except OSError as error:
            log.warning("state_not_saved", folder=str(self._folder), problem=str(error))

    def _keep_residual(self) -> int:
        if self._learner.residual is self._residual:
            return self.state.residual
        if self._learner.residual is None:
            return 0
        self._learner.save(self._file_of_residual(self._number))
        return self._number

    def _keep_local(self, kept: Mapping[str, Any]) -> int:
        """The number of the file that holds it; 0 for nothing."""
        if not kept:
            return 0
        known = next((number for held, number in self._locals if held is kept), 0)
        if known:
            return known
        self._number += 1
        self._learner.save_kept(kept, self._file_of_local(self._number))
        self._locals.append((kept, self._number))
        return self._number

    def _restore_local(self) -> None:
        files: list[Path | None] = []
        for number in (self.state.local, self.state.local_before):
            file = self._file_of_local(number) if number else None
            if file is not None and not file.exists():
                log.warning("local_rule_starts_anew", missing=str(file))
                file = None
            files.append(file)
        self._learner.restore_kept(*files)
        self._know_local()

    def _know_local(self) -> None:
        """Which objects the files hold that count from here on."""
        learner, state = self._learner, self.state
        held = ((learner.kept, state.local), (learner.kept_before, state.local_before))
        self._locals = [(kept, number) for kept, number in held if kept and number]

    def _keep_parcel(self, parcel: Parcel | None) -> int:
        if parcel is None:
            return 0
        if parcel is self.parcel:
            return self.state.outbox
        write_parcel(parcel, self._file_of_parcel(self._number))
        return self._number

    def _find_parcel(self, device_id: DeviceId) -> Parcel | None:
        """The update that was on its way; None, and a line in the log, if it cannot be pushed."""
        file = self._file_of_parcel(self.state.outbox)
        try:
            parcel = read_parcel(file)
        except CorruptState as error:
            _set_aside(file, error.message)
            return None
        owner = parcel.header.device_id
        if owner != device_id:
            _set_aside(file, f"{file} is of device {owner!r}, this is {device_id!r}")
            return None
        log.info("outbox_found", update=parcel.header.update_id)
        return parcel

    def _sweep(self) -> None:
        """Delete the files that `device.json`, as it now is on disk, does not name."""
        with suppress(OSError, HocketError):
            kept = load_state(self._folder)
            named = {self._file_of_residual(kept.residual), self._file_of_parcel(kept.outbox)}
            named |= {self._file_of_local(number) for number in (kept.local, kept.local_before)}
            for pattern in FILES:
                for file in set(self._folder.glob(pattern)) - named:
                    with suppress(OSError):
                        file.unlink()

    def _file_of_residual(self, number: int) -> Path:
        return self._folder / f"residual-{number}.safetensors"

    def _file_of_local(self, number: int) -> Path:
        return self._folder / f"local-{number}.safetensors"

    def _file_of_parcel(self, number: int) -> Path:
        return self._folder / f"outbox-{number}.update"


def _set_aside(file: Path, problem: str) -> None:
    """Keep for a person what cannot be pushed."""
    aside = file.with_name(file.name + ".damaged")
    log.warning("outbox_set_aside", problem=problem, kept_as=str(aside))
    with suppress(OSError):
        file.replace(aside)
