"""The layout of a server's username fragment: who reads it finds the machine, the worker and the session.

     0                                              bytes of the fragment, all of them ice-chars (RFC 8839 §5.4)
    +---+----------------+---+----------------------------------+
    | W | node           | + | rest                             |
    +---+----------------+---+----------------------------------+
      1   0 to 64          1   12 to 221, less by the node

- `W`, the worker digit, is one of `0-9a-z` and always the first character, so that a program of a few instructions
  in the kernel can steer a check by it (`stack/aio/steering.py`). One process has the digit 0. The digit counts
  modulo the number of workers, so that a ticket has one worker after a restart with another number of them, too.
- `node` says which machine of several is meant: letters, digits and "/", for a router in front of them.
- the first "+" ends it;
- `rest` is what cannot be guessed: 48 random bits as 12 hexadecimal digits (RFC 8445 §5.3 asks for 24), or a
  sealed ticket that a session is made from (`stack/session/ticket_keys.py`): mostly 97 characters, and more with
  what is said of the caller.

The whole has at most `MAX_LOCAL_UFRAG` characters. An ICE restart makes a new `rest` and keeps the other two. A
client's own fragment has no layout: it is random, and `Ufrag.parse` takes it for what it is not.
"""

from __future__ import annotations

import re
from typing import NamedTuple, Self

from stack.core.errors import LocalError, ParseError
from stack.core.machine import Entropy

WORKER_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
MAX_WORKERS = len(WORKER_DIGITS)
MAX_LOCAL_UFRAG = 223
"""Longer ones are legal, but with an embedded ClientHello a check of Chromium then exceeds its 1220 bytes."""
MAX_NODE = 64
"""Characters of the node part."""
MAX_TICKET = MAX_LOCAL_UFRAG - 2
"""Characters of the rest, when it is a ticket and there is no node."""
SEPARATOR = "+"
RANDOM_SIZE = 6
"""Bytes of the rest, when it is random."""

_NODE = rf"[A-Za-z0-9/]{{0,{MAX_NODE}}}"
_LAYOUT = re.compile(rf"([0-9a-z])({_NODE})\+([A-Za-z0-9+/]{{12,{MAX_TICKET}}})")


def is_node_part(text: str) -> bool:
    """Return True for a text that can be the node part; an empty one can."""
    return re.fullmatch(_NODE, text) is not None


class _Parts(NamedTuple):  # no dataclass: what that imports is a third of a relay's start
    worker: int
    rest: str
    node: str = ""


class Ufrag(_Parts):
    """A server's username fragment. Raises `LocalError` for parts that have no place in the layout."""

    __slots__ = ()

    def __new__(cls, worker: int, rest: str, node: str = "") -> Self:
        """Check the parts."""
        if not 0 <= worker < MAX_WORKERS:
            raise LocalError(f"a worker has a number from 0 to {MAX_WORKERS - 1}, not {worker}")
        made = super().__new__(cls, worker, rest, node)
        whole = made.serialize()
        found = _LAYOUT.fullmatch(whole)
        if found is None or found[2] != node or len(whole) > MAX_LOCAL_UFRAG:
            raise LocalError(
                f"the node part of a username fragment has up to {MAX_NODE} letters, digits or slashes, "
                f"the rest 12 ice-chars or more, and the whole up to {MAX_LOCAL_UFRAG}"
            )
        return made

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the parts; raises `ParseError` for a fragment without this layout."""
        found = _LAYOUT.fullmatch(text)
        if found is None or len(text) > MAX_LOCAL_UFRAG:
            raise ParseError("this username fragment has no worker digit and node part")
        return cls(WORKER_DIGITS.index(found[1]), found[3], found[2])

    @property
    def prefix(self) -> str:
        """What stands before the rest."""
        return f"{WORKER_DIGITS[self.worker]}{self.node}{SEPARATOR}"

    def serialize(self) -> str:
        """Return the fragment."""
        return self.prefix + self.rest

    @classmethod
    def generate(cls, entropy: Entropy, worker: int = 0, node: str = "") -> Self:
        """Return a fresh one, with a random rest."""
        return cls(worker, entropy(RANDOM_SIZE).hex(), node)

    def restarted(self, entropy: Entropy) -> Self:
        """Return the one after an ICE restart: the same machine and worker, another rest."""
        return type(self)(self.worker, entropy(RANDOM_SIZE).hex(), self.node)


def new_transaction(entropy: Entropy, ufrag: str) -> bytes:
    """Return the 12 bytes of a transaction of ours: a server's begins with the worker digit of its fragment.

    So a response, which has no USERNAME, finds the worker that has asked. RFC 8489 §5 wants 96 random bits; 88 are
    left, and a response counts by its MESSAGE-INTEGRITY, not by a number that is hard to guess.
    """
    if SEPARATOR not in ufrag:
        return entropy(12)
    return ufrag[:1].encode() + entropy(11)


def worker_of(ufrag: str) -> int | None:
    """Return the worker digit of a fragment, as a number; None if it has none. It counts modulo the workers."""
    found = WORKER_DIGITS.find(ufrag[:1]) if ufrag else -1
    return found if found >= 0 else None
