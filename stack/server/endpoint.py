"""The endpoint: one UDP port for all calls. It finds the session of each datagram and keeps every deadline.

Routing: a STUN request names its session by the ufrag before the colon of its USERNAME (RFC 8445 §7.2.2);
everything else goes by the exact path, which is bound once MESSAGE-INTEGRITY has been verified on it
(`docs/decisions/0002-ufrag-before-path.md`). Exceptions, for sessions that send checks themselves and for peers
that move (`docs/decisions/0023-connecting-from-anywhere.md`): a STUN response goes to the session whose request it
answers, SRTP over an unknown path to the session whose peer has its SSRC, and a DTLS record over an unknown path
to the sessions without media whose peer is at that host, a few of them; each verifies what it got. What finds
none here may be another process's (`drain_strays`). A check that names no known session is shown to one function,
which may make it (`admission.py`, `docs/tickets.md`). Such a session is known by the whole USERNAME, because
several may come by one ticket. The number of such checks in a second is bounded; those of calls that are up never
wait.

The endpoint hosts any `HostedMachine`; it knows nothing of what runs inside. It survives whatever one of them
raises: that costs the datagram, the wake-up or the drain in which it happened, and no other session anything. Such
a bug is counted, and handed up by `drain_faults` for the log.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from typing import ClassVar, Generic, NamedTuple, Protocol, TypeVar

from stack.core.counters import Counters, declare
from stack.core.errors import LocalError
from stack.core.faults import Fault, Faults
from stack.core.machine import Instant, Machine, Path, TerminalEvents, Transmit
from stack.core.per_second import PerSecond
from stack.server.deadlines import Deadlines
from stack.server.routes import PathChange, Routes
from stack.server.strays import Strays
from stack.stun import peek_username

DROPPED_UNKNOWN_UFRAG = declare("endpoint", "dropped_unknown_ufrag", "STUN requests that name no session")
DROPPED_UNKNOWN_UFRAG_RATE = declare(
    "endpoint",
    "dropped_unknown_ufrag_rate",
    "STUN requests that name no session, beyond those that are looked at each second",
)
DROPPED_CHECK_RATE = declare(
    "endpoint", "dropped_check_rate", "STUN messages of a session beyond those that it is given in a second"
)
DROPPED_FULL = declare(
    "endpoint", "dropped_full", "STUN requests that might have made a session, while there is room for none"
)
FAULT_FIND = declare("endpoint", "fault_find", "Exceptions survived while finding the session of a datagram")
FAULT_BIND = declare(
    "endpoint", "fault_bind", "Exceptions survived while binding the paths that a session has proven"
)
FAULT_HANDLE_DATAGRAMS = declare(
    "endpoint", "fault_handle_datagrams", "Exceptions survived while handing datagrams to a session"
)
FAULT_HANDLE_TIMEOUT = declare("endpoint", "fault_handle_timeout", "Exceptions survived while waking a session")
FAULT_DRAIN = declare("endpoint", "fault_drain", "Exceptions survived while draining a session")
DROPPED_UNKNOWN_PATH = declare(
    "endpoint", "dropped_unknown_path", "Datagrams over a path that no session has proven"
)
FOUND_BY_SOURCE = declare(
    "endpoint", "found_by_source", "SRTP over an unknown path that was tried with the session which has its SSRC"
)

TRIED_BY_HOST = declare(
    "endpoint",
    "tried_by_host",
    "DTLS records over an unknown path that were tried with the sessions without media at that host",
)

EventT = TypeVar("EventT")
EventT_co = TypeVar("EventT_co", covariant=True)

_STUN_FIRST_BYTE_END = 4  # RFC 7983 §7
_BINDING_REQUEST = b"\x00\x01"
_RESPONSE = b"\x01"  # success or error (RFC 8489 §5), of a method below 128
_TRANSACTION = slice(8, 20)
_RTP_HEADER = 12
_RTP_VERSION = 2
MAX_ASKED = 4096
"""Requests of sessions that are remembered: what a hundred full agents send in a second."""
MAX_CHECKS = 400
"""STUN messages that a session is given in one second on paths that it has proven, and on all others: an agent
sends 200 requests at most (RFC 8445 §14.2: Ta is 5 ms or more), and each costs up to 60 µs."""
MAX_TRIED = 200
"""DTLS records over unknown paths that are tried with sessions in one second."""
MAX_STRAYS = 64
"""Datagrams over unknown paths that are kept until `drain_strays`."""
_APPLICATION_DATA = 23  # of DTLS 1.2 (RFC 6347 §4.1)
_UNIFIED = range(32, 64)  # records of DTLS 1.3 (RFC 9147 §4)
FAULT_PAUSE = 0.1
"""Seconds until a machine is woken again whose wake-up has raised, if it is still due."""


class HostedMachine(Machine[EventT_co], Protocol[EventT_co]):
    """A machine that an endpoint can host: it says which paths it has proven, and when it is over."""

    def drain_routes(self) -> Sequence[Path]:
        """Return the paths proven since the last call by a verified MESSAGE-INTEGRITY."""
        ...

    @property
    def sources(self) -> Sequence[int]:
        """The SSRCs of the peer's authentic packets, by which it is recognised where it has moved."""
        ...

    @property
    def is_known_by_records(self) -> bool:
        """True where nothing but DTLS says of a packet that it is the peer's: there are no media."""
        ...

    @property
    def is_finished(self) -> bool:
        """True once the machine has nothing more to say or hear and may be forgotten."""
        ...


def may_be_of_a_moved_client(data: bytes) -> bool:
    """Return True for what a client in a call sends: SRTP, or a protected record of DTLS."""
    if len(data) < _RTP_HEADER:
        return False
    return data[0] >> 6 == _RTP_VERSION or data[0] == _APPLICATION_DATA or data[0] in _UNIFIED


def feed(machine: Machine[EventT], datagrams: Sequence[tuple[bytes, Path]], now: Instant, faults: Faults) -> None:
    """Hand a batch to a machine; an exception costs the datagram that raised it, and those behind it follow."""
    rest = iter(datagrams)
    for _ in range(len(datagrams) + 1):  # the last time without any: for what follows a batch
        try:
            machine.handle_datagrams(rest, now)
        except Exception as error:
            faults.note(FAULT_HANDLE_DATAGRAMS, error, now)
        else:
            return


class UnknownCheck(NamedTuple):
    """A STUN message whose USERNAME names no session; nothing in it is authenticated."""

    data: bytes
    username: str
    """The server's fragment, a colon, the client's (RFC 8445 §7.2.2)."""
    path: Path
    is_stray: bool = False
    """Its sender is in the middle of a session that is not here (`strays.py`)."""


Resolve = Callable[[UnknownCheck, Instant], "tuple[str, HostedMachine[EventT]] | Transmit | None"]
"""Returns a session's name and machine, or what is answered to a check of which none comes, or neither."""
MAX_UNKNOWN_CHECKS = 1000
"""Checks that name no session and are looked at in one second: each costs up to 30 µs."""
MAX_EXPECTED = 4096
"""Fragments whose first checks are looked at beside that, the latest that were answered with."""
MAX_EXPECTED_CHECKS = 20
"""Checks that are, for each of them: who floods with a fragment that was seen on the wire gets no further."""


class Endpoint(Generic[EventT]):
    """All sessions behind one port.

    `resolve` is asked for a session, its name and the machine, when a STUN request names none that is known. Feed
    a batch of datagrams, then `pump()` once, then drain.
    """

    terminal_events: ClassVar[TerminalEvents] = ()

    def __init__(
        self,
        resolve: Resolve[EventT] | None = None,
        max_sessions: int = 10_000,
        *,
        reports_paths: bool = False,
        keeps_strays: bool = False,
    ) -> None:
        self.counters = Counters()
        self._faults = Faults(self.counters)
        self._now: Instant = 0.0  # of the latest input
        self.max_sessions = max_sessions
        self.resolve = resolve
        """May be set later; None: no session is made by its first packet."""
        self.uncounted = 0
        """How many sessions take no room from others: what has made them has a bound of its own."""
        self._kept_strays: list[tuple[bytes, Path]] | None = [] if keeps_strays else None  # for other processes
        self._checks = PerSecond(MAX_CHECKS)  # of a session, on paths of its own or not
        self._tried = PerSecond(MAX_TRIED)  # records over unknown paths
        self._expected: OrderedDict[str, int] = OrderedDict()  # fragment → checks that are still looked at
        self._unknown = PerSecond(MAX_UNKNOWN_CHECKS)  # checks that name no session
        self._routes = Routes()
        self._strays = Strays()  # where such packets have come from: a check from there is in mid-session
        self._routes.changes = [] if reports_paths else None
        self._machines: dict[str, HostedMachine[EventT]] = {}
        self._deadlines: Deadlines[str] = Deadlines()
        self._asked: dict[bytes, str] = {}  # transaction of a request → session, oldest first
        self._unwell: set[str] = set()  # those whose wake-up has just raised
        self._touched: dict[str, None] = {}  # an ordered set: what happens may not depend on hashes
        self._transmits: list[Transmit] = []
        self._events: list[tuple[str, EventT]] = []

    def __len__(self) -> int:
        return len(self._machines)

    @property
    def _is_full(self) -> bool:
        return len(self._machines) - self.uncounted >= self.max_sessions

    def add(self, name: str, machine: HostedMachine[EventT], ufrag: str) -> None:
        """Host a machine: events carry its `name`, checks reach it by `ufrag`.

        Raises `LocalError` if either is taken or the endpoint is full.
        """
        if name in self._machines:
            raise LocalError(f"the name {name!r} is taken")
        if self._is_full:
            raise LocalError(f"the endpoint is full: {self.max_sessions} sessions")
        self._routes.add(name, ufrag)
        self._machines[name] = machine
        self._touched[name] = None

    def add_ufrag(self, name: str, ufrag: str) -> None:
        """Let checks that name `ufrag` reach a hosted machine too: its credentials after an ICE restart.

        The one from the restart before that is forgotten. Raises `LocalError` if it is taken or the session is
        unknown.
        """
        if name not in self._machines:
            raise LocalError(f"there is no session {name!r}")
        self._routes.add_ufrag(name, ufrag)
        self._touched[name] = None

    def expect(self, ufrag: str) -> None:
        """Look at checks that name a fragment also while there are too many of others: it was answered with."""
        if len(self._expected) >= MAX_EXPECTED:
            self._expected.popitem(last=False)
        self._expected[ufrag] = MAX_EXPECTED_CHECKS

    def touch(self, name: str) -> None:
        """Say that a command was given to a hosted machine, so that the next `pump` looks at it."""
        if name in self._machines:
            self._touched[name] = None

    def handle_datagrams(self, batch: Iterable[tuple[bytes, Path]], now: Instant) -> None:
        """Hand to each session what it has of a batch of datagrams that arrived together, and pump once.

        A datagram that belongs to no session is counted and dropped.
        """
        self._now = now
        waiting: dict[str, list[tuple[bytes, Path]]] = {}
        for datagram in batch:
            data, path = datagram
            # RFC 6263 §4.1: a datagram without a byte is a keepalive.
            is_stun = bool(data) and data[0] < _STUN_FIRST_BYTE_END
            try:
                name = self._find_by_check(data, path, now) if is_stun else self._find_by_path(path, data)
            except Exception as error:
                self._faults.note(FAULT_FIND, error, now)
                continue
            if name is None:
                for tried in () if is_stun else self._find_by_host(path, data, now):
                    waiting.setdefault(tried, []).append(datagram)
                continue
            if is_stun:  # what follows may need the path that this one proves
                # A stranger who has read a ufrag on the wire does not take the room of its peer.
                is_known = self._routes.find(path) == name
                if not self._checks.allows(now, (name, is_known)):
                    self.counters.add(DROPPED_CHECK_RATE)
                    continue
                self._hand_over(name, [*waiting.pop(name, ()), datagram], now)
                self._bind(name, now)
            elif name in waiting:
                waiting[name].append(datagram)
            else:
                waiting[name] = [datagram]
        for name, datagrams in waiting.items():
            self._hand_over(name, datagrams, now)
            if not self._routes.has_sources(name):
                self._bind_sources(name, now)
        self.pump()

    def _hand_over(self, name: str, datagrams: list[tuple[bytes, Path]], now: Instant) -> None:
        self._touched[name] = None
        feed(self._machines[name], datagrams, now, self._faults)

    def _bind(self, name: str, now: Instant) -> None:
        """Bind the paths that a check has proven."""
        try:
            for path in self._machines[name].drain_routes():
                self._routes.bind(name, path)
                self._strays.forget(path)
        except Exception as error:
            self._faults.note(FAULT_BIND, error, now)
        self._bind_sources(name, now)

    def _bind_sources(self, name: str, now: Instant) -> None:
        """Note by which SSRC the peer of a session can be recognised; a new one counts from the next check on."""
        try:
            machine = self._machines[name]
            sources = machine.sources
            if sources:
                self._routes.bind_sources(name, sources)
            elif machine.is_known_by_records:
                self._routes.bind_host_of(name)
        except Exception as error:
            self._faults.note(FAULT_BIND, error, now)

    def handle_timeout(self, now: Instant) -> None:
        """Wake every session that is due, and pump."""
        self._now = now
        for name in self._deadlines.pop_due(now):
            self._touched[name] = None
            try:
                self._machines[name].handle_timeout(now)
            except Exception as error:
                self._faults.note(FAULT_HANDLE_TIMEOUT, error, now)
                self._unwell.add(name)
        self.pump()

    def poll_timeout(self) -> Instant | None:
        """Return when the earliest session wants to be woken."""
        return self._deadlines.next

    def pump(self) -> None:
        """Collect what the touched sessions have to send and to say, and forget those that are over."""
        if not self._touched:
            return
        touched, self._touched = self._touched, {}
        for name in touched:
            machine = self._machines.get(name)
            if machine is None:
                continue
            try:
                self._drain(name, machine)
            except Exception as error:
                self._faults.note(FAULT_DRAIN, error, self._now)
                self._deadlines.set(name, self._now + FAULT_PAUSE)
        self._unwell.clear()

    def _drain(self, name: str, machine: HostedMachine[EventT]) -> None:
        transmits = machine.drain_transmits()
        for data, _ in transmits:
            if data[:2] == _BINDING_REQUEST:
                self._note_asked(data, name)
        self._transmits.extend(transmits)
        for event in machine.drain_events():
            self._events.append((name, event))
        if machine.is_finished:
            del self._machines[name]
            self._routes.remove(name)
            self._deadlines.set(name, None)
            return
        deadline = machine.poll_timeout()
        if name in self._unwell and deadline is not None:
            deadline = max(deadline, self._now + FAULT_PAUSE)
        self._deadlines.set(name, deadline)

    def drain_transmits(self) -> Sequence[Transmit]:
        """Return every datagram to be sent since the last call."""
        transmits, self._transmits = self._transmits, []
        return transmits

    def drain_events(self) -> Sequence[tuple[str, EventT]]:
        """Return what happened since the last call, each event with the name of its session."""
        events, self._events = self._events, []
        return events

    def drain_path_changes(self) -> Sequence[PathChange]:
        """Return which paths were bound and forgotten since the last call; only with `reports_paths`."""
        changes = self._routes.changes
        if not changes:
            return ()
        self._routes.changes = []
        return changes

    def drain_strays(self) -> Sequence[tuple[bytes, Path]]:
        """Return SRTP and DTLS over unknown paths that no session here may have; only with `keeps_strays`."""
        strays = self._kept_strays
        if not strays:
            return ()
        self._kept_strays = []
        return strays

    def release_path(self, path: Path) -> None:
        """Forget a path: it has proven itself to a session of another endpoint that shares our port."""
        self._routes.unbind(path)

    def drain_faults(self) -> Sequence[Fault]:
        """Return the exceptions that are to be logged: of each place in the code one a minute."""
        return self._faults.drain()

    def _find_by_check(self, data: bytes, path: Path, now: Instant) -> str | None:
        """Return the session that a STUN message is for: by the ufrag in a request, else by its path."""
        if data[:1] == _RESPONSE:  # libnice writes a USERNAME into it, the asker's own (RFC 8489 §9.1.3 has none)
            asking = self._asked.get(data[_TRANSACTION])
            return asking if asking in self._machines else self._find_by_path(path)
        username = peek_username(data)
        if username is None:
            return self._find_by_path(path)
        ufrag = username.partition(":")[0]
        name = self._routes.find_by_ufrag(ufrag)
        if name is None and self.resolve is not None:
            name = self._routes.find_by_ufrag(username)
            if name is None:
                check = UnknownCheck(data, username, path, self._strays.has(path, now))
                name = self._make(self.resolve, check, ufrag, now)
        if name is None:
            self.counters.add(DROPPED_UNKNOWN_UFRAG)
        return name

    def _make(self, resolve: Resolve[EventT], check: UnknownCheck, ufrag: str, now: Instant) -> str | None:
        """Have a session made, if there is room, and not too often; return its name."""
        if not self._unknown.allows(now) and not self._is_expected(ufrag):
            self.counters.add(DROPPED_UNKNOWN_UFRAG_RATE)
            return None
        if self._is_full:
            self.counters.add(DROPPED_FULL)
            return None
        made = resolve(check, now)
        if isinstance(made, Transmit):
            self._transmits.append(made)
            return None
        if made is None:
            return None
        name, machine = made
        self.add(name, machine, check.username)
        return name

    def _is_expected(self, ufrag: str) -> bool:
        """Return True for a check that is looked at whatever else comes, and count it."""
        left = self._expected.get(ufrag, 0)
        if left > 1:
            self._expected[ufrag] = left - 1
        elif left:
            del self._expected[ufrag]
        return left > 0

    def _find_by_path(self, path: Path, data: bytes = b"") -> str | None:
        name = self._routes.find(path)
        if name is not None:
            return name
        if len(data) >= _RTP_HEADER and data[0] >> 6 == _RTP_VERSION:
            # RFC 5761 §4: the SSRC of RTCP stands four bytes further ahead.
            source = data[4:8] if 192 <= data[1] <= 223 else data[8:12]
            name = self._routes.find_by_source(int.from_bytes(source, "big"))
            if name is not None:
                self.counters.add(FOUND_BY_SOURCE)
                return name
        self.counters.add(DROPPED_UNKNOWN_PATH)
        if self.resolve is not None:
            self._strays.note(data, path, self._now)
        return None

    def _find_by_host(self, path: Path, data: bytes, now: Instant) -> Sequence[str]:
        """Return the sessions that what came over an unknown path is tried with; keep it if there is none."""
        if not may_be_of_a_moved_client(data):
            return ()
        if self._kept_strays is not None and len(self._kept_strays) < MAX_STRAYS:
            self._kept_strays.append((data, path))
        if data[0] >> 6 == _RTP_VERSION:
            return ()
        found = self._routes.find_by_host(path.remote.host)
        if not found or not self._tried.allows(now):
            return ()
        self.counters.add(TRIED_BY_HOST)
        return found

    def _note_asked(self, request: bytes, name: str) -> None:
        """Remember whose request this is: its response may come over a path that is not proven yet."""
        if len(self._asked) >= MAX_ASKED:
            del self._asked[next(iter(self._asked))]
        self._asked[request[_TRANSACTION]] = name
