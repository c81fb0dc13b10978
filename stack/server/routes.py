"""Which session does a datagram belong to? By the ufrag in a STUN request, otherwise by its exact path.

A client that has moved is recognised by its SSRC, and its session then finds out whether the packet is authentic.
One that sends no media is looked for among those like it that are known at its host: a NAT that gives it another
port seldom gives it another address.

A path is bound to a session only after the session has verified a MESSAGE-INTEGRITY on it; nothing is ever
scanned. One path belongs to one session: the latest that proved itself there.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import NamedTuple

from stack.core.errors import LocalError
from stack.core.machine import Path


class PathChange(NamedTuple):
    """A path was bound to a session, or is bound to none any more."""

    path: Path
    is_bound: bool


class Routes:
    """The two indices of the endpoint: ufrag to session, path to session (a session has a name of its own)."""

    MAX_PATHS_PER_SESSION = 16
    MAX_SOURCES_PER_SESSION = 4
    MAX_TRIED = 4
    """Sessions at one host that a record over an unknown path is tried with."""

    def __init__(self) -> None:
        self.changes: list[PathChange] | None = None
        """What was bound and what was forgotten, oldest first, for who keeps a list here; None: it is not kept."""
        self._by_path: dict[Path, str] = {}
        self._by_ufrag: dict[str, str] = {}
        self._paths: dict[str, dict[Path, None]] = {}
        self._ufrags: dict[str, list[str]] = {}
        self._by_source: dict[int, str] = {}
        self._sources: dict[str, tuple[int, ...]] = {}
        self._by_host: dict[str, dict[str, None]] = {}  # those that DTLS alone recognises, the latest last
        self._hosts: dict[str, str] = {}

    def __len__(self) -> int:
        return len(self._paths)

    def add(self, name: str, ufrag: str) -> None:
        """Make a session known under its ufrag, with no path yet. Raises `LocalError` if the ufrag is taken."""
        self._check_free(ufrag)
        self._paths[name] = {}
        self._ufrags[name] = [ufrag]
        self._by_ufrag[ufrag] = name

    def add_ufrag(self, name: str, ufrag: str) -> None:
        """Give a known session one more ufrag: the first one and the latest are kept.

        Raises `LocalError` if it is taken.
        """
        self._check_free(ufrag)
        ufrags = self._ufrags[name]
        for former in ufrags[1:]:
            del self._by_ufrag[former]
        self._ufrags[name] = [ufrags[0], ufrag]
        self._by_ufrag[ufrag] = name

    def _check_free(self, ufrag: str) -> None:
        if ufrag in self._by_ufrag:
            raise LocalError(f"the ufrag {ufrag!r} is taken")

    def remove(self, name: str) -> None:
        """Forget a session, its ufrags and every path bound to it."""
        for path in self._paths.pop(name, ()):
            self._by_path.pop(path, None)
            self._note(path, False)
        for ufrag in self._ufrags.pop(name, ()):
            self._by_ufrag.pop(ufrag, None)
        for source in self._sources.pop(name, ()):
            del self._by_source[source]
        self.bind_host(name, None)

    def bind_sources(self, name: str, sources: Sequence[int]) -> None:
        """Note the SSRCs of a session's peer; one that another session has already stays its."""
        known = self._sources.get(name, ())
        for source in sources:
            if source not in self._by_source and len(known) < self.MAX_SOURCES_PER_SESSION:
                known = (*known, source)
                self._by_source[source] = name
        if known:
            self._sources[name] = known

    def has_sources(self, name: str) -> bool:
        """Return True if a session's peer can be recognised by its SSRC."""
        return name in self._sources

    def find_by_source(self, source: int) -> str | None:
        """Return the session whose peer sends with this SSRC. It is no proof: a stranger may write it."""
        return self._by_source.get(source)

    def bind_host(self, name: str, host: str | None) -> None:
        """Note at which host the peer of a session is that DTLS alone recognises; None: at none any more."""
        former = self._hosts.pop(name, None)
        if former is not None:
            there = self._by_host[former]
            del there[name]
            if not there:
                del self._by_host[former]
        if host is not None:
            self._hosts[name] = host
            self._by_host.setdefault(host, {})[name] = None

    def bind_host_of(self, name: str) -> None:
        """Do that for the host at the end of the path that the session has proven last."""
        paths = self._paths[name]
        if paths:
            host = next(reversed(paths)).remote.host
            if self._hosts.get(name) != host:
                self.bind_host(name, host)

    def find_by_host(self, host: str) -> tuple[str, ...]:
        """Return the sessions there that DTLS alone recognises, at most `MAX_TRIED`. It is no proof."""
        there = self._by_host.get(host)
        return () if there is None else tuple(islice(reversed(there), self.MAX_TRIED))

    def bind(self, name: str, path: Path) -> None:
        """Bind `path` to a known session; the session's oldest path goes when it has too many."""
        holder = self._by_path.get(path)
        if holder == name:
            return
        if holder is not None:
            del self._paths[holder][path]
        paths = self._paths[name]
        if len(paths) >= self.MAX_PATHS_PER_SESSION:
            oldest = next(iter(paths))
            del paths[oldest], self._by_path[oldest]
            self._note(oldest, False)
        paths[path] = None
        self._by_path[path] = name
        self._note(path, True)

    def unbind(self, path: Path) -> None:
        """Forget a path, which has proven itself to a session elsewhere; harmless for one that is not bound."""
        holder = self._by_path.pop(path, None)
        if holder is not None:
            del self._paths[holder][path]
            self._note(path, False)

    def _note(self, path: Path, is_bound: bool) -> None:
        if self.changes is not None:
            self.changes.append(PathChange(path, is_bound))

    def find(self, path: Path) -> str | None:
        """Return the session to which `path` is bound."""
        return self._by_path.get(path)

    def find_by_ufrag(self, ufrag: str) -> str | None:
        """Return the session that has this ufrag, from its beginning or its latest ICE restart."""
        return self._by_ufrag.get(ufrag)

    def paths(self, name: str) -> tuple[Path, ...]:
        """Return the paths bound to a session, oldest first."""
        return tuple(self._paths.get(name, ()))
