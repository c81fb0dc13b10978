"""Username fragments and passwords (RFC 8445 §5.3, RFC 8839 §5.4): validated, generated and split here only.

A server puts a readable node part before the random one, so that a router in front of several servers can
forward a first check by its STUN username alone: "node+random", for example "ams3+90f1c2a7b3d4".
"""

from __future__ import annotations

import re
from base64 import b64encode
from dataclasses import dataclass, field
from typing import Self

from stack.core.errors import LocalError, ParseError
from stack.core.machine import Entropy

MAX_LOCAL_UFRAG = 223
"""Longer ones are legal, but with an embedded ClientHello a check of Chromium then exceeds its 1220 bytes."""
NODE_SEPARATOR = "+"

_UFRAG = re.compile(r"[A-Za-z0-9+/]{4,256}")
_PASSWORD = re.compile(r"[A-Za-z0-9+/]{22,256}")
_NODE = re.compile(r"[A-Za-z0-9/]{1,64}")
_RANDOM_UFRAG_SIZE = 6
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
    def generate(cls, entropy: Entropy, node: str = "") -> Self:
        """Make fresh ones: 48 random bits of username fragment, 144 of password (RFC 8445 §5.3: 24 and 128).

        `node`, letters, digits and "/", says which machine of several is meant.
        """
        if node and not _NODE.fullmatch(node):
            raise LocalError("the node part of a username fragment has 1 to 64 letters, digits or slashes")
        random = entropy(_RANDOM_UFRAG_SIZE).hex()
        ufrag = f"{node}{NODE_SEPARATOR}{random}" if node else random
        return cls(ufrag, b64encode(entropy(_RANDOM_PASSWORD_SIZE)).decode())


def node_of(ufrag: str) -> str | None:
    """Return the node part of a username fragment that `IceCredentials.generate` made; None if it has none."""
    node, separator, _ = ufrag.partition(NODE_SEPARATOR)
    return node if separator and node else None


def split_username(username: str) -> tuple[str, str] | None:
    """Split USERNAME into the receiver's and the sender's fragment (RFC 8445 §7.2.2); None if it is no pair."""
    receiver, separator, sender = username.partition(":")
    return (receiver, sender) if separator and receiver and sender else None
