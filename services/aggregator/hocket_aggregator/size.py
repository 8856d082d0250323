"""Which models are so small that the event loop does their work itself."""

from __future__ import annotations

from hocket.core.manifest import Manifest

SMALL_BYTES = 2 * 1024 * 1024


def is_small(manifest: Manifest) -> bool:
    """Whether decoding or a step takes about a millisecond, which the event loop can spare.

    Handing work to a thread and back takes half a millisecond while others want the interpreter.
    """
    return manifest.dense_bytes <= SMALL_BYTES
