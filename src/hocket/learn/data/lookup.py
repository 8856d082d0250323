"""Where relative paths and a user's own modules are looked for. It reads no environment."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from hocket.errors import DataError


@dataclass(frozen=True, slots=True)
class Lookup:
    """Folders in order of preference: the first that holds the name wins."""

    data: tuple[Path, ...] = ()  # the task file's folder, then those of HOCKET_DATA
    code: tuple[Path, ...] = ()  # put in front of sys.path while a user's function is loaded

    def find(self, path: str) -> Path:
        """The file or folder that `path` means.

        Raises DataError, naming each place tried, if there is none.
        """
        wanted = Path(path).expanduser()
        places = [wanted] if wanted.is_absolute() else [folder / wanted for folder in self.data]
        for place in places or [wanted]:
            if place.exists():
                return place
        tried = ", ".join(str(place.absolute()) for place in places or [wanted])
        raise DataError(
            f"no data at {path!r} (looked at {tried}); give an absolute path, or set HOCKET_DATA "
            "to the folder that holds it"
        )
