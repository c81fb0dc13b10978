"""So many in a second, and no more: the bound of what strangers can have done. No queue, no burst saved up."""

from __future__ import annotations

from collections.abc import Hashable

from stack.core.machine import Instant


class PerSecond:
    """Allows `most` in a second, of each kind. A second begins with the first that comes after the one before."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._since: Instant = 0.0
        self._allowed: dict[Hashable, int] = {}

    def allows(self, now: Instant, kind: Hashable = None) -> bool:
        """Return True, and count it, unless there were as many in this second."""
        if now - self._since >= 1.0:
            self._since = now
            self._allowed.clear()
        allowed = self._allowed.get(kind, 0)
        if allowed >= self._most:
            return False
        self._allowed[kind] = allowed + 1
        return True
