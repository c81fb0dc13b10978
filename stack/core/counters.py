"""Counters: what a part of the stack has dropped, or has seen that is worth a number.

Every counter has a name that is declared once, beside what counts it, with a sentence that says what it counts:

    DROPPED_CLOSED = declare("ice", "dropped_closed", "STUN messages that came after the agent's end")

`declare` returns the whole name, `ice.dropped_closed`, which is the same everywhere: in `call.stats().counters`,
at `/metrics`, and in `docs/counters.md`, which `make counters` writes from the declarations.

The grammar is `<owner>.<name>`. The owner is one of `OWNERS`. The name is in lower case, words joined by
underscores, and its first word tells the kind:

- `dropped_…`: something that was received, or was to be sent, was thrown away; then what, or why;
- `ignored_…`: part of something that was taken could not be read and was passed over;
- `fault_…`: an exception of ours that the code around it survived; then what it was doing (`stack.core.faults`);
- `failed_…` and `ended_…`: an end; then its reason;
- any other: what happened, and nothing was lost by it.

A name is never put together from what a peer has sent: where a reason is chosen at run time, `declare_each`
declares one counter for each member of an enumeration.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from enum import Enum
from typing import NamedTuple, NewType, Self, TypeVar

from stack.core.errors import LocalError

CounterName = NewType("CounterName", str)
"""The whole name of a declared counter; a plain string: counting costs a dictionary's entry, no more."""

MemberT = TypeVar("MemberT", bound=Enum)

OWNERS: Mapping[str, str] = {
    "sdp": "reading the peer's description",
    "session": "the session, which joins the protocols",
    "ice": "ICE and its STUN messages",
    "dtls": "DTLS",
    "media": "the media plane: SRTP, and frames that wait for their instant",
    "rtp": "RTP and RTCP",
    "sctp": "SCTP and the data channels",
    "jitter": "the jitter buffer",
    "decoder": "the decoder",
    "playout": "the queue of what the program says",
    "line": "the audio line",
    "conversation": "the conversation, and its client's requests",
    "recorder": "the recording of a call",
    "endpoint": "the endpoint, which finds the call of a datagram",
    "ticket": "tickets, and the sessions that they make",
    "socket": "the UDP sockets",
    "tcp": "the TCP port, and ICE over TCP",
    "driver": "the driver, and the thread or process in which it runs",
    "host": "the host: calls, programs and their recordings",
    "relay": "the relay in front of media nodes",
    "forwarder": "the process in front of several media workers, where the kernel does not steer",
    "worker": "the media workers, and what passes between them and the program",
    "backbone": "the backbone between machines, and the calls whose program is behind it",
}
"""Who counts, in the order of the page."""

GRAMMAR = re.compile(r"[a-z]+\.[a-z][a-z0-9]*(_[a-z0-9]+)*")
"""What a whole name looks like."""


class CounterDeclaration(NamedTuple):
    """A counter, and what it counts."""

    name: CounterName
    owner: str
    meaning: str
    family: str
    """What the name shares with those declared for the same place, without the underscore; else empty."""


_DECLARED: dict[str, CounterDeclaration] = {}


def declare(owner: str, name: str, meaning: str, family: str = "") -> CounterName:
    """Declare the counter `<owner>.<name>` and return its whole name, which is what `Counters.add` takes.

    Raises `LocalError` for a name outside the grammar, an unknown owner, a second declaration, or no meaning.
    """
    whole = CounterName(f"{owner}.{name}")
    if owner not in OWNERS or not GRAMMAR.fullmatch(whole):
        raise LocalError(f"{whole!r} is no name of a counter")
    if whole in _DECLARED:
        raise LocalError(f"the counter {whole!r} is declared already")
    if not meaning or "\n" in meaning or meaning.endswith("."):
        raise LocalError(f"the counter {whole!r} wants one sentence, without a full stop")
    _DECLARED[whole] = CounterDeclaration(whole, owner, meaning, family)
    return whole


def declare_each(
    owner: str, prefix: str, members: Iterable[MemberT], meaning: str
) -> Mapping[MemberT, CounterName]:
    """Declare `<owner>.<prefix>_<member>` for each member of an enumeration; return the name by the member.

    `{}` in `meaning` stands for the member: its value where that is a text, else its name.
    """
    return {
        member: declare(owner, f"{prefix}_{member.name.lower()}", meaning.format(_describe(member)), prefix)
        for member in members
    }


def _describe(member: Enum) -> str:
    return member.value if isinstance(member.value, str) else member.name.lower().replace("_", " ")


def declared_counters() -> Mapping[CounterName, CounterDeclaration]:
    """Return the counters that the modules imported so far have declared, by owner and name."""
    order = {owner: index for index, owner in enumerate(OWNERS)}
    return {
        each.name: each for each in sorted(_DECLARED.values(), key=lambda each: (order[each.owner], each.name))
    }


class Counters:
    """A tally by name; every dropped datagram of a machine stands in one of these under a reason."""

    __slots__ = ("_tally",)

    def __init__(self) -> None:
        self._tally: dict[str, int] = {}

    @classmethod
    def of(cls, tally: Mapping[str, int]) -> Self:
        """Return counters that have counted what a snapshot says."""
        counters = cls()
        counters._tally = dict(tally)
        return counters

    def add(self, name: CounterName, amount: int = 1) -> None:
        """Count `amount` more of `name`."""
        tally = self._tally
        tally[name] = tally.get(name, 0) + amount

    def __getitem__(self, name: str) -> int:
        """Return how often `name` was counted; `KeyError` if no counter has that name."""
        amount = self._tally.get(name)
        if amount is None and name not in _DECLARED:
            raise KeyError(f"no counter is named {name!r}")
        return amount or 0

    def merge(self, other: Counters) -> None:
        """Add everything that `other` counted."""
        for name, amount in other._tally.items():
            self._tally[name] = self._tally.get(name, 0) + amount

    def snapshot(self) -> Mapping[str, int]:
        """Return a copy as a plain mapping, sorted by name."""
        return dict(sorted(self._tally.items()))

    def __repr__(self) -> str:
        return f"Counters({self.snapshot()!r})"
