"""Username fragments and passwords (RFC 8445 §5.3, RFC 8839 §5.4): validated, generated and split here only.

A server's fragment has a layout (`ufrag.py`), so that a first check finds its machine and its worker by the STUN
username alone; a client's is random.
"""

from __future__ import annotations

import re
from base64 import b64encode
from dataclasses import dataclass, field
from typing import Self

from stack.core.errors import LocalError, ParseError
from stack.core.machine import Entropy
from stack.core.ufrag import RANDOM_SIZE, Ufrag

_UFRAG = re.compile(r"[A-Za-z0-9+/]{4,256}")
_PASSWORD = re.compile(r"[A-Za-z0-9+/]{22,256}")
_RANDOM_PASSWORD_SIZE = 18


@dataclass(frozen=True, slots=True)
class IceCredentials:
    """One side's username fragment and password for one ICE session; the password stays out of `repr`."""

    ufrag: str
    password: str = field(repr=False)

    def __post_init__(self) -> None:
        if not _UFRAG.fullmatch(self.ufrag):
            raise LocalError("a username fragment has 4 to 256 ice-chars (RFC 8839 §5.4)")
        if not _PASSWORD.fullmatch(self.password):
            raise LocalError("an ICE password has 22 to 256 ice-chars (RFC 8839 §5.4)")

    @classmethod
    def parse(cls, ufrag: str, password: str) -> Self:
        """Take what a peer signalled; raise `ParseError` if it is not what RFC 8839 §5.4 allows."""
        try:
            return cls(ufrag, password)
        except LocalError as error:
            raise ParseError(str(error)) from error

    @classmethod
    def generate(cls, entropy: Entropy) -> Self:
        """Make a client's: 48 random bits of username fragment, 144 of password (RFC 8445 §5.3: 24 and 128)."""
        return cls(entropy(RANDOM_SIZE).hex(), _random_password(entropy))

    @classmethod
    def generate_for(cls, entropy: Entropy, worker: int, node: str = "") -> Self:
        """Make a server's: its fragment says which worker, and which machine of several, has the session."""
        return cls(Ufrag.generate(entropy, worker, node).serialize(), _random_password(entropy))

    @classmethod
    def renew(cls, entropy: Entropy, ufrag: str) -> Self:
        """Make those after an ICE restart; what the former fragment says of machine and worker stays."""
        try:
            fresh = Ufrag.parse(ufrag).restarted(entropy).serialize()
        except ParseError:
            return cls.generate(entropy)
        return cls(fresh, _random_password(entropy))


def _random_password(entropy: Entropy) -> str:
    return b64encode(entropy(_RANDOM_PASSWORD_SIZE)).decode()


def split_username(username: str) -> tuple[str, str] | None:
    """Split USERNAME into the receiver's and the sender's fragment (RFC 8445 §7.2.2); None if it is no pair."""
    receiver, separator, sender = username.partition(":")
    return (receiver, sender) if separator and receiver and sender else None
