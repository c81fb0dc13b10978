"""Instant Connect from the client's side: the answer of the last call, with a ticket, is the answer of the next.

A server that allows it (`--instant-connect`) adds `instant` to its answer over HTTP, and tells it on the channel
`events` of a call that came by a ticket: username fragment, password, fingerprint, SSRC and cname of a call to
come, and for how many seconds. Put into the last answer in the place of its own, they answer an offer of the same
shape, with the same certificate: the first packet makes the call. `stack/web/instant.js` does the same in a page.

What is kept between calls is a file for its owner alone: it opens calls in the client's name until it expires.
"""

from __future__ import annotations

import os
import re
import time
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from cryptography.x509 import load_pem_x509_certificate

from stack.aio.private_files import for_owner_alone
from stack.aio.ticket_site import as_pem
from stack.core.errors import LocalError, ParseError
from stack.core.values import from_json, read_json_object, to_json
from stack.dtls import Certificate

FALLBACK_AFTER = 0.5
"""Seconds without a connection after which a client asks over HTTP."""
MIN_LIFETIME = 5.0
"""Seconds that a ticket must have left to be tried."""
CERTIFICATE_LIFETIME = timedelta(days=30)
CERTIFICATE_MARGIN = timedelta(days=1)
"""What a certificate must have left, or another one takes its place; its ticket goes, and the call is by HTTP."""
MAX_MESSAGE = 4096
"""Characters of the message on the channel."""


@dataclass(frozen=True, slots=True)
class InstantGrant:
    """What a server grants for the next call: `instant` of its answer."""

    ufrag: str
    pwd: str = field(repr=False)
    fingerprint: str
    ssrc: int
    cname: str
    lifetime: float

    @classmethod
    def read(cls, given: object) -> InstantGrant | None:
        """Return it; None for anything else."""
        if not isinstance(given, dict):
            return None
        texts = [given.get(name) for name in ("ufrag", "pwd", "fingerprint", "cname")]
        ssrc, lifetime = given.get("ssrc"), given.get("lifetime")
        if not all(isinstance(each, str) and re.fullmatch(r"[\x21-\x7e ]{0,256}", each) for each in texts):
            return None
        if type(ssrc) is not int or not 0 <= ssrc < 1 << 32 or not isinstance(lifetime, int | float):
            return None
        ufrag, pwd, fingerprint, cname = map(str, texts)
        return cls(ufrag, pwd, fingerprint, ssrc, cname, float(lifetime))


@dataclass(frozen=True, slots=True)
class SavedTicket:
    """What a client keeps from one call to the next. `expires` is in seconds since 1970, by its own clock."""

    certificate: str
    private_key: str = field(repr=False)
    answer: str = field(default="", repr=False)
    grant: InstantGrant | None = None
    expires: float = 0.0
    url: str = ""
    """Where the answer came from: the ticket is for no other server."""

    @classmethod
    def begin(cls) -> SavedTicket:
        """Return one with a new certificate and nothing else."""
        made = Certificate.generate(os.urandom, datetime.now(UTC), CERTIFICATE_LIFETIME)
        chain, key = as_pem(made)
        return cls(chain.decode(), key.decode())

    @property
    def own_certificate(self) -> Certificate:
        """The client's certificate; raises `LocalError` if it cannot be read."""
        try:
            return Certificate.from_pem(self.certificate.encode(), self.private_key.encode())
        except ValueError as error:
            raise LocalError(f"a saved ticket has no certificate: {error}") from error

    def granted(self, answer: str, grant: InstantGrant) -> SavedTicket:
        """Return the same with a grant that has just come; `answer` is the last one that the client had."""
        return replace(self, answer=answer, grant=grant, expires=time.time() + grant.lifetime)

    def forgotten(self) -> SavedTicket:
        """Return the same without a ticket."""
        return replace(self, answer="", grant=None, expires=0.0)

    def towards(self, url: str) -> SavedTicket:
        """Return it for a call to a server: with another certificate and nothing else, if it came from another.

        So it is, too, when the certificate is about to expire. Raises `LocalError` for one that cannot be read.
        """
        try:
            expires = load_pem_x509_certificate(self.certificate.encode()).not_valid_after_utc
        except ValueError as error:
            raise LocalError(f"a saved ticket has no certificate: {error}") from error
        if self.url == url and datetime.now(UTC) + CERTIFICATE_MARGIN < expires:
            return self
        return replace(SavedTicket.begin(), url=url)

    def make_answer(self) -> str | None:
        """Return the answer of the next call; None if there is none, or it expires."""
        if self.grant is None or not self.answer or time.time() + MIN_LIFETIME > self.expires:
            return None
        return make_answer(self.answer, self.grant)


def make_answer(former: str, grant: InstantGrant) -> str:
    """Put a grant into an answer, in the place of what it says of its own call.

    A peer's INIT chunk (draft-hancke-tsvwg-snap) belongs to one connection alone: the line goes.
    """
    lines = []
    for line in former.splitlines():
        if line.startswith("a=ice-ufrag:"):
            line = f"a=ice-ufrag:{grant.ufrag}"
        elif line.startswith("a=ice-pwd:"):
            line = f"a=ice-pwd:{grant.pwd}"
        elif line.startswith("a=fingerprint:"):
            line = f"a=fingerprint:{grant.fingerprint}"
        elif line.startswith("a=ssrc:"):
            line = f"a=ssrc:{grant.ssrc} cname:{grant.cname}"
        elif line.startswith("a=sctp-init:"):
            continue
        lines.append(line)
    return "\r\n".join(lines) + "\r\n"


def read_grant(text: str | bytes) -> InstantGrant | None:
    """Return what a message on the channel `events` grants; None for any other message."""
    try:
        message = read_json_object(text, MAX_MESSAGE)
    except ParseError:
        return None
    return InstantGrant.read(message.get("instant")) if message.get("type") == "instant" else None


def read_saved(path: str) -> SavedTicket:
    """Return what was saved, or a beginning if there is no file; raises `LocalError` for another file."""
    try:
        with open(path, encoding="utf-8") as file:
            return from_json(SavedTicket, file.read())
    except FileNotFoundError:
        return SavedTicket.begin()
    except (OSError, UnicodeDecodeError, ParseError) as error:
        raise LocalError(f"{path} is no saved ticket: {error}") from error


def write_saved(path: str, saved: SavedTicket) -> None:
    """Save it, readable for its owner alone; raises `LocalError` if it cannot be written."""
    try:
        with open(f"{path}.new", "w", encoding="utf-8", opener=for_owner_alone) as file:
            file.write(to_json(saved))
        os.replace(f"{path}.new", path)
    except OSError as error:
        raise LocalError(f"cannot write {path}: {error.strerror}") from error


__all__ = ["InstantGrant", "SavedTicket", "make_answer", "read_grant", "read_saved", "write_saved"]
