"""Files that hold what was said in calls, or opens it: captures, keys, recordings."""

from __future__ import annotations

import os


def for_owner_alone(path: str, flags: int) -> int:
    """Open a file as `open(…, opener=for_owner_alone)` does: one that is made is readable for its owner alone."""
    return os.open(path, flags, 0o600)
