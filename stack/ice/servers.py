"""ICE servers: their URIs (RFC 7064, RFC 7065), and credentials that expire, as they are handed to clients.

    stun:stun.example.com            turn:turn.example.com:3478?transport=tcp
    turns:turn.example.com           turn:user:password@turn.example.com

RFC 7065 has no user in the URI; on a command line it is handy, so it is read there, and never handed on that way.
Left out: STUN over TLS (`stuns:`), which finds no candidate that is of use here, and TURN over DTLS.
"""

from __future__ import annotations

import re
from base64 import b64encode
from dataclasses import dataclass, field
from hmac import digest as hmac_digest
from typing import Self
from urllib.parse import unquote

from stack.core.errors import LocalError
from stack.core.machine import Address, TransportProtocol

STUN_PORT = 3478
TURNS_PORT = 5349
"""RFC 7065 §3.2 and RFC 8656 §5."""
GRAMMAR = "stun:HOST[:PORT] or turn[s]:[USER:PASSWORD@]HOST[:PORT][?transport=tcp]"
"""What `IceServer.parse` reads, for messages."""

_URI = re.compile(
    r"(?P<scheme>stun|turns?):"
    r"(?:(?P<user>[^@:/?]+):(?P<password>[^@/?]+)@)?"
    r"(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)"
    r"(?::(?P<port>[0-9]{1,5}))?"
    r"(?:\?transport=(?P<transport>udp|tcp))?"
)


@dataclass(frozen=True, slots=True)
class IceServer:
    """A STUN or TURN server by its name."""

    host: str
    port: int
    protocol: TransportProtocol = TransportProtocol.UDP
    tls: bool = False
    turn: bool = False
    username: str = ""
    password: str = field(default="", repr=False)

    @classmethod
    def parse(cls, uri: str, username: str = "", password: str = "") -> Self:
        """Read a URI; a user in it goes before the arguments. Raises `LocalError` for anything else."""
        found = _URI.fullmatch(uri)
        if found is None:
            raise LocalError(f"an ICE server is {GRAMMAR}")
        scheme, transport = found["scheme"], found["transport"]
        tls, turn = scheme == "turns", scheme != "stun"
        if (tls and transport == "udp") or (transport and not turn):
            raise LocalError("TURN over DTLS and STUN over TCP are not spoken")
        port = int(found["port"] or (TURNS_PORT if tls else STUN_PORT))
        if not 0 < port < 65536:
            raise LocalError(f"{port} is no port")
        if found["user"]:
            username, password = unquote(found["user"]), unquote(found["password"])
        if turn and not (username and password):
            raise LocalError("a TURN server wants a user name and a password")
        stream = tls or transport == "tcp"
        protocol = TransportProtocol.TCP if stream else TransportProtocol.UDP
        return cls(found["host"].strip("[]"), port, protocol, tls, turn, username, password)

    def __str__(self) -> str:
        scheme = "stun" if not self.turn else "turns" if self.tls else "turn"
        host = f"[{self.host}]" if ":" in self.host else self.host
        query = "?transport=tcp" if self.protocol is TransportProtocol.TCP and not self.tls else ""
        return f"{scheme}:{host}:{self.port}{query}"


@dataclass(frozen=True, slots=True)
class LocatedServer:
    """A server at one of the addresses that its name has."""

    server: IceServer
    address: Address


@dataclass(frozen=True, slots=True)
class EphemeralCredentials:
    """A user name and a password that a TURN server takes until the instant in the user name."""

    username: str
    password: str = field(repr=False)


def make_ephemeral_credentials(secret: str, expires_at: int, user: str = "") -> EphemeralCredentials:
    """Return credentials by the convention that coturn calls `use-auth-secret` (draft-uberti-behave-turn-rest-00).

    The user name is the Unix time in seconds at which they expire, with `:user` behind it if there is one, and the
    password base64(HMAC-SHA1(secret, user name)). The server has the same secret and nothing else to store.
    """
    username = f"{expires_at}:{user}" if user else str(expires_at)
    password = b64encode(hmac_digest(secret.encode(), username.encode(), "sha1")).decode()
    return EphemeralCredentials(username, password)
