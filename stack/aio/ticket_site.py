"""Tickets at the edge: their keys as values that cross to a worker, and the call that one has made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509 import load_der_x509_certificate

from stack.core.machine import Address
from stack.core.values import Value
from stack.dtls import Certificate
from stack.session.ticket_keys import TicketKey, TicketRing


class TicketKeyPem(Value, frozen=True):
    """One epoch: its number, secret, and the certificate and its key in PEM."""

    unshown: ClassVar[frozenset[str]] = frozenset({"secret", "private_key"})
    epoch: int
    secret: bytes
    certificate: bytes
    private_key: bytes


class TicketRingPem(Value, frozen=True):
    """The keys of a ring, and the references that are revoked."""

    keys: tuple[TicketKeyPem, ...]
    revoked: tuple[bytes, ...] = ()

    @classmethod
    def of(cls, ring: TicketRing) -> TicketRingPem:
        """Return a ring as a value."""
        keys = (TicketKeyPem(key.epoch, key.secret, *as_pem(key.certificate)) for key in ring.keys)
        return cls(tuple(keys), tuple(sorted(ring.revoked)))

    def read(self) -> TicketRing:
        """Return the ring; raises `LocalError` for keys that make none."""
        keys = (
            TicketKey(each.epoch, each.secret, Certificate.from_pem(each.certificate, each.private_key))
            for each in self.keys
        )
        return TicketRing.of(keys, self.revoked)


class CallMade(Value, frozen=True):
    """A ticket has made a call, which is connected now."""

    call: str
    ticket: bytes
    """As `SessionTicket.serialize` writes it."""
    remote: str
    """The address that it came from."""


@dataclass(frozen=True, slots=True)
class TicketMedia:
    """What a media side needs to make calls by tickets."""

    ring: TicketRingPem
    public_ips: tuple[str, ...] = ()
    relays: tuple[Address, ...] = ()
    over: tuple[str, ...] = ()
    """Calls of tickets that ended with the process which had them: none comes of their checks any more."""


def as_pem(certificate: Certificate) -> tuple[bytes, bytes]:
    """Return the chain and the key of a certificate in PEM, unencrypted: for a worker, or a private file."""
    chain = b"".join(load_der_x509_certificate(der).public_bytes(Encoding.PEM) for der in certificate.chain)
    key: Any = certificate.private_key
    return chain, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
