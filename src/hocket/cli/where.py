"""Where a system is: its addresses while it runs, its folder always."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from hocket.errors import NotFound

SYSTEM_FILE = "system.json"
DEFAULT_HOME = ".hocket"
DEFAULT_REGISTRY = "127.0.0.1:50051"
DEFAULT_AGGREGATOR = "127.0.0.1:50052"


@dataclass(frozen=True, slots=True)
class System:
    """Addresses of the services, and the folder that they keep their state in."""

    registry: str
    aggregator: str
    home: Path | None  # None: a system of which only the addresses are known
    pid: int = 0

    @property
    def registry_dir(self) -> Path:
        """The registry's part of the folder."""
        return self._folder() / "registry"

    @property
    def aggregator_dir(self) -> Path:
        """The aggregator's part of the folder."""
        return self._folder() / "aggregator"

    @property
    def is_up(self) -> bool:
        """Whether the process that started it is alive; unknown systems count as up."""
        return self.home is None or _alive(self.pid)

    def write(self) -> None:
        """Leave a note in the folder for later commands; raises OSError."""
        path = self._folder() / SYSTEM_FILE
        path.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps(asdict(self) | {"home": str(self.home)}, indent=2)
        partial = path.with_suffix(".partial")
        partial.write_text(text)
        partial.replace(path)

    def _folder(self) -> Path:
        if self.home is None:
            raise NotFound("only addresses are known of this system, not its folder: pass --home")
        return self.home


def home_folder(given: Path | None) -> Path:
    """`--home`, else HOCKET_HOME, else .hocket here."""
    return given or Path(os.environ.get("HOCKET_HOME", DEFAULT_HOME))


def find(home: Path | None, registry: str | None, aggregator: str | None) -> System:
    """The system that a command talks about.

    With an address given, a running system anywhere; else the one whose folder is `home`.
    Raises NotFound where there is none.
    """
    if registry or aggregator:
        return System(registry or DEFAULT_REGISTRY, aggregator or DEFAULT_AGGREGATOR, None)
    folder = home_folder(home)
    path = folder / SYSTEM_FILE
    try:
        known = json.loads(path.read_text())
        return System(known["registry"], known["aggregator"], folder, int(known["pid"]))
    except FileNotFoundError:
        raise NotFound(
            f"there is no system in {folder}: start one with `hocket up`, name another folder "
            "with --home, or a running system with --registry and --aggregator"
        ) from None
    except (ValueError, KeyError, TypeError, OSError) as cause:
        raise NotFound(f"{path} cannot be read ({cause}); start the system again") from cause


def _alive(pid: int) -> bool:
    if pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
