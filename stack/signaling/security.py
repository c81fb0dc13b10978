"""Authorisation: bearer tokens, ephemeral secrets and their scopes, origins, rates.

Secrets are kept and looked up as SHA-256 digests and compared in constant time (`hmac.compare_digest`), so neither
the time of an answer nor a dump of these tables tells one. Nothing here is ever logged but a `Principal.name`,
which is derived from a digest.

Left out: tokens that an identity provider signs (JWT). An operator who needs them puts a proxy in front that
checks them.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any
from urllib.parse import urlsplit

from stack.core.errors import LocalError

MAX_SECRETS = 10_000
"""Ephemeral secrets that are alive at once; beyond that the oldest goes."""
MAX_CLIENTS = 10_000
"""Client addresses whose rate is remembered; beyond that the one that has been quiet longest is forgotten."""
SECRET_PREFIX = "ek_"
"""OpenAI's clients refuse, in a browser, a key that begins otherwise."""

_SCOPES = re.compile(r"[a-z_]+(,[a-z_]+)*")

Clock = Callable[[], float]
RandomBytes = Callable[[int], bytes]


class Scope(Enum):
    """What a token allows."""

    CALL = "call"
    """Place calls, and end those that were placed with the same token."""
    SECRETS = "secrets"
    """Make ephemeral secrets."""
    CONTROL = "control"
    """Listen to and steer the calls of all clients."""
    METRICS = "metrics"


@dataclass(frozen=True, slots=True)
class Principal:
    """Who sends a request, as the token tells; `name` may be logged."""

    name: str
    scopes: frozenset[Scope]
    session: Mapping[str, Any] = field(default_factory=dict)
    """What an ephemeral secret was made for."""


ANONYMOUS = Principal("anonymous", frozenset(Scope))
"""The client of a server without tokens."""


def read_token(text: str) -> tuple[str, frozenset[Scope]]:
    """Return the token and the scopes in `TOKEN` (may do everything) or `scope,scope=TOKEN`.

    Raises `LocalError` for what no `Authorization` header can hold, and for scopes that there are not.
    """
    names, _, token = text.partition("=")
    known = {scope.value: scope for scope in Scope}
    if not text or not (text.isascii() and text.isprintable()) or " " in text:
        raise LocalError("a token is one or more visible ASCII characters, without spaces")
    if names != text and not token and all(name in known for name in names.split(",")):
        raise LocalError(f"there is no token behind {text!r}")
    if not token.strip("=") or not _SCOPES.fullmatch(names):  # "…==" is how base64 ends
        return text, frozenset(Scope)
    unknown = [name for name in names.split(",") if name not in known]
    if unknown:
        raise LocalError(
            f"{unknown[0]!r} is no scope of a token; they are {', '.join(known)}, as in call,metrics=TOKEN "
            f"(a token with a = in it: {','.join(known)}=TOKEN)"
        )
    return token, frozenset(known[name] for name in names.split(","))


@dataclass(frozen=True, slots=True)
class _Ephemeral:
    principal: Principal
    expires_at: float


class Keys:
    """The tokens from the configuration and the ephemeral secrets that were made from them.

    `clock` is the wall clock in seconds: expiry is told to clients.
    """

    def __init__(self, tokens: Iterable[str], clock: Clock, random: RandomBytes) -> None:
        self._clock, self._random = clock, random
        self._tokens: dict[bytes, Principal] = {}
        for text in tokens:
            token, scopes = read_token(text)
            digest = _digest(token)
            self._tokens[digest] = Principal(_name(digest), scopes)
        self._ephemeral: OrderedDict[bytes, _Ephemeral] = OrderedDict()

    @property
    def required(self) -> bool:
        """True if a request needs a token."""
        return bool(self._tokens)

    def identify(self, authorization: str | None) -> Principal | None:
        """Return whose token an `Authorization` header bears; None for none, a wrong or an expired one.

        Without tokens in the configuration every client is `ANONYMOUS`, but a valid ephemeral secret counts.
        """
        scheme, _, value = (authorization or "").partition(" ")
        value = value.strip()
        # a token is ASCII (RFC 6750 §2.1); other bytes of a header can be surrogates here, which have no UTF-8
        is_token = scheme.lower() == "bearer" and value != "" and value.isascii()
        found = self._find(_digest(value)) if is_token else None
        if found is None and not self.required:
            return ANONYMOUS
        return found

    def _find(self, digest: bytes) -> Principal | None:
        found: Principal | None = None
        for known, principal in self._tokens.items():
            if hmac.compare_digest(known, digest):
                found = principal
        entry = self._ephemeral.get(digest)
        if entry is not None and entry.expires_at > self._clock():
            found = entry.principal
        return found

    def make_secret(self, seconds: float, session: Mapping[str, Any]) -> tuple[str, int]:
        """Return a new secret that may place calls for `seconds`, and when it expires (seconds since 1970)."""
        now = self._clock()
        for digest in [digest for digest, entry in self._ephemeral.items() if entry.expires_at <= now]:
            del self._ephemeral[digest]
        while len(self._ephemeral) >= MAX_SECRETS:
            self._ephemeral.popitem(last=False)
        value = SECRET_PREFIX + self._random(24).hex()
        digest = _digest(value)
        expires_at = now + seconds
        self._ephemeral[digest] = _Ephemeral(
            Principal(_name(digest), frozenset({Scope.CALL}), dict(session)), expires_at
        )
        return value, int(expires_at)


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()


def _name(digest: bytes) -> str:
    return f"key {hashlib.sha256(digest).hexdigest()[:8]}"


class RateLimit:
    """A token bucket: `rate` a second on average, `burst` at once."""

    __slots__ = ("_at", "_burst", "_rate", "_tokens")

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self._rate, self._burst = rate, burst
        self._tokens, self._at = burst, now

    def take(self, now: float) -> float:
        """Take one; return 0.0, or the seconds after which there will be one."""
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate)
        self._at = now
        if self._tokens >= 1.0:
            self._tokens -= 1.0
            return 0.0
        return (1.0 - self._tokens) / self._rate


class RateLimits:
    """One bucket for all together and one for each client."""

    def __init__(self, total: float, per_client: float, clock: Clock) -> None:
        self._clock = clock
        self._per_client = per_client
        self._total = RateLimit(total, max(1.0, 2 * total), clock())
        self._clients: OrderedDict[str, RateLimit] = OrderedDict()

    def take(self, client: str) -> float:
        """Count an offer of `client`; return 0.0, or the seconds after which it may come again."""
        now = self._clock()
        bucket = self._clients.pop(client, None)
        if bucket is None:
            bucket = RateLimit(self._per_client, max(1.0, 4 * self._per_client), now)
            while len(self._clients) >= MAX_CLIENTS:
                self._clients.popitem(last=False)
        self._clients[client] = bucket
        return bucket.take(now) or self._total.take(now)


def is_origin(text: str) -> bool:
    """Return True for what `Origin` can say (RFC 6454 §6.1), and for `*`, which stands for all."""
    parts = urlsplit(text)
    whole = f"{parts.scheme}://{parts.netloc}"
    is_whole = bool(parts.scheme and parts.hostname) and parts.port != 0 and text == whole
    return text in ("*", "null") or (is_whole and not re.search(r"\s", text))


def check_allowed(text: str) -> None:
    """Raise `LocalError` for what is no origin, and would allow no page."""
    try:
        usable = is_origin(text)
    except ValueError:
        usable = False
    if not usable:
        raise LocalError(f"{text!r} is not an origin, as https://app.example.com (no path), or *")


def allows(origins: Iterable[str], origin: str | None) -> bool:
    """Whether a page from `origin` may ask; what is no page (no `Origin` header) always may."""
    return origin is None or any(allowed in ("*", origin) for allowed in origins)


def is_same_origin(origin: str, scheme: str, host: str) -> bool:
    """Whether a page from `origin` is one of the server that is asked as `host` by `scheme` (RFC 6454 §5).

    A request that comes by plain HTTP may have been HTTPS up to a proxy that is not announced: then both will do.
    """
    page_scheme, _, page_host = origin.lower().partition("://")
    if scheme == "https" and page_scheme != "https":
        return False
    default = {"https": ":443", "http": ":80"}.get(page_scheme, "")
    return page_host.removesuffix(default) == host.lower().removesuffix(default)
