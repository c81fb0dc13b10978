"""Which session does a datagram belong to? By the ufrag in a STUN request, otherwise by its exact path.

A path is bound to a session only after the session has verified a MESSAGE-INTEGRITY on it; nothing is ever
scanned. One path belongs to one session: the latest that proved itself there.
"""

from __future__ import annotations

from stack.core.machine import Path


class Routes:
    """The two indices of the endpoint: ufrag to session, path to session (a session is named by its ufrag)."""

    MAX_PATHS_PER_SESSION = 16

    def __init__(self) -> None:
        self._by_path: dict[Path, str] = {}
        self._paths: dict[str, dict[Path, None]] = {}

    def __len__(self) -> int:
        return len(self._paths)

    def __contains__(self, ufrag: str) -> bool:
        return ufrag in self._paths

    def add(self, ufrag: str) -> None:
        """Make a session known under its ufrag, with no path yet."""
        self._paths.setdefault(ufrag, {})

    def remove(self, ufrag: str) -> None:
        """Forget a session and every path bound to it."""
        for path in self._paths.pop(ufrag, ()):
            self._by_path.pop(path, None)

    def bind(self, ufrag: str, path: Path) -> None:
        """Bind `path` to a known session; the session's oldest path goes when it has too many."""
        holder = self._by_path.get(path)
        if holder == ufrag:
            return
        if holder is not None:
            del self._paths[holder][path]
        paths = self._paths[ufrag]
        if len(paths) >= self.MAX_PATHS_PER_SESSION:
            oldest = next(iter(paths))
            del paths[oldest], self._by_path[oldest]
        paths[path] = None
        self._by_path[path] = ufrag

    def find(self, path: Path) -> str | None:
        """Return the ufrag of the session to which `path` is bound."""
        return self._by_path.get(path)

    def paths(self, ufrag: str) -> tuple[Path, ...]:
        """Return the paths bound to a session, oldest first."""
        return tuple(self._paths.get(ufrag, ()))
