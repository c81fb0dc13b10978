"""The file of the ticket keys: for its owner alone, shared by every server that honours the same tickets.

JSON: `{"version": 1, "epochs": [{"epoch": 1, "secret": …, "certificate": …, "private_key": …}], "revoked": […]}`,
bytes in hexadecimal, certificates in PEM. Who reads the file can take any call over that its tickets make. It is
replaced whole, so a server that reads it while it is written finds the former one or the new one.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from stack.aio.private_files import for_owner_alone
from stack.aio.ticket_site import as_pem
from stack.audio.wav import FilePath
from stack.core.errors import LocalError, ParseError
from stack.core.values import from_json, to_json
from stack.dtls import Certificate
from stack.session.ticket_keys import MAX_EPOCHS, SECRET_SIZE, TicketKey, TicketRing

CERTIFICATE_LIFETIME = timedelta(days=365)
"""Of the certificate of an epoch; no browser looks at the date."""
KEPT_EPOCHS = 3
"""Epochs that a new one leaves in the file: tickets of older ones are worth nothing any more."""


@dataclass(frozen=True, slots=True)
class _Epoch:
    epoch: int
    secret: str
    certificate: str
    private_key: str


@dataclass(frozen=True, slots=True)
class _File:
    version: int
    epochs: tuple[_Epoch, ...]
    revoked: tuple[str, ...] = ()


def make_key(epoch: int) -> TicketKey:
    """Return a new epoch with a certificate of its own."""
    certificate = Certificate.generate(os.urandom, datetime.now(UTC), CERTIFICATE_LIFETIME)
    return TicketKey(epoch, os.urandom(SECRET_SIZE), certificate)


def read_ring(path: FilePath) -> TicketRing:
    """Return the keys; raises `LocalError` for a file that is not there, is no such file, or not private."""
    name = os.fsdecode(path)
    try:
        with open(name, encoding="utf-8") as file:
            if os.name == "posix" and stat.S_IMODE(os.fstat(file.fileno()).st_mode) & 0o077:
                raise LocalError(f"others may read the ticket keys in {name}: chmod 600 it")
            text = file.read()
    except (OSError, UnicodeDecodeError) as error:
        raise LocalError(f"cannot read the ticket keys in {name}: {error}") from error
    try:
        found = from_json(_File, text)
        if found.version != 1:
            raise LocalError(f"the ticket keys in {name} are of version {found.version}")
        keys = [
            TicketKey(
                each.epoch,
                bytes.fromhex(each.secret),
                Certificate.from_pem(each.certificate.encode(), each.private_key.encode()),
            )
            for each in found.epochs
        ]
        return TicketRing.of(keys, [bytes.fromhex(each) for each in found.revoked])
    except (ParseError, ValueError) as error:
        raise LocalError(f"{name} is no file of ticket keys: {error}") from error


def write_ring(path: FilePath, ring: TicketRing) -> None:
    """Replace the file; raises `LocalError` if it cannot be written."""
    epochs = []
    for key in ring.keys:
        certificate, private_key = as_pem(key.certificate)
        epochs.append(_Epoch(key.epoch, key.secret.hex(), certificate.decode(), private_key.decode()))
    content = _File(1, tuple(epochs), tuple(sorted(each.hex() for each in ring.revoked)))
    name = os.fsdecode(path)
    beside = f"{name}.{os.getpid()}.new"
    try:
        with open(beside, "w", encoding="utf-8", opener=for_owner_alone) as file:
            file.write(to_json(content))
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, name)
    except OSError as error:
        raise LocalError(f"cannot write the ticket keys to {name}: {error.strerror}") from error


def add_epoch(path: FilePath, revoked: Sequence[bytes] = ()) -> TicketRing:
    """Add an epoch to the file, which seals from now on, or begin the file; return the ring.

    Of the former epochs the latest `KEPT_EPOCHS` stay. `revoked` are added to the references that are revoked.
    """
    if not os.path.exists(path):
        ring = TicketRing.of([make_key(1)], revoked)
    else:
        former = read_ring(path)
        ring = with_new_epoch(former, former.keys[-min(KEPT_EPOCHS, MAX_EPOCHS - 1) :], revoked)
    write_ring(path, ring)
    return ring


def revoke(path: FilePath, references: Sequence[bytes] = (), epochs: Sequence[int] = ()) -> TicketRing:
    """Add references to the list, and take epochs out of the file; return the ring.

    Where the newest is taken out, a new epoch seals: no number is used again, nor does a former epoch seal again.
    Raises `LocalError` as `read_ring` does, and for an epoch that the file does not have.
    """
    former = read_ring(path)
    missing = set(epochs) - {key.epoch for key in former.keys}
    if missing:
        there = ", ".join(str(key.epoch) for key in former.keys)
        raise LocalError(f"there is no epoch {min(missing)} in {os.fsdecode(path)}: it has {there}")
    keys = [key for key in former.keys if key.epoch not in epochs]
    if former.newest.epoch in epochs:
        ring = with_new_epoch(former, keys, references)
    else:
        ring = TicketRing.of(keys, [*former.revoked, *references])
    write_ring(path, ring)
    return ring


def with_new_epoch(former: TicketRing, kept: Sequence[TicketKey], revoked: Sequence[bytes] = ()) -> TicketRing:
    """Return the ring with an epoch more, which seals; of the former ones `kept` stay."""
    epoch = former.newest.epoch + 1
    apart = [key for key in kept if key.epoch > epoch - MAX_EPOCHS]  # two may not go by one key id
    return TicketRing.of([*apart, make_key(epoch)], [*former.revoked, *revoked])


def read_reference(text: str) -> bytes:
    """Return a reference as the log and `context.ticket` say it: 16 hexadecimal digits. Raises `LocalError`."""
    try:
        reference = bytes.fromhex(text)
    except ValueError:
        reference = b""
    if len(reference) != 8:
        raise LocalError(f"{text!r} is no reference of a ticket: 16 hexadecimal digits")
    return reference


__all__ = ["add_epoch", "make_key", "read_reference", "read_ring", "revoke", "with_new_epoch", "write_ring"]
