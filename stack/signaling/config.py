"""What a signaling service is told: who may call, for whom proxies speak, and what is too much."""

from __future__ import annotations

from dataclasses import dataclass, field

from stack.aio.host_checks import check_texts
from stack.core.errors import LocalError
from stack.ice.servers import IceServer
from stack.signaling.proxy import TrustedProxies
from stack.signaling.security import check_allowed, read_token

MAX_BODY = 256 * 1024
"""Bytes of a request; a browser's offer has 2 to 10 KiB."""


def check_stun_server(url: str) -> None:
    """Raise `LocalError` for a TURN server: `RTCPeerConnection` throws at one that has no credentials."""
    if url.startswith(("turn:", "turns:")):
        raise LocalError(f"{url} is a TURN server, which wants credentials: --turn-url with --turn-secret")


@dataclass(frozen=True, slots=True)
class SignalingConfig:
    """Which requests are authorised, and how many calls there may be."""

    tokens: tuple[str, ...] = field(default=(), repr=False)
    """Bearer tokens, each `TOKEN` or `scope,scope=TOKEN`; without any, every request is authorised."""
    origins: tuple[str, ...] = ()
    """Origins of the pages that may call, besides our own; `*`: all."""
    trusted_proxies: tuple[str, ...] = ()
    """Addresses and networks of reverse proxies that say whom they forward for; see `proxy.py`."""
    max_body: int = MAX_BODY
    offers_per_second: float = 100.0
    offers_per_client: float = 20.0
    """A second, from one address; four times as many at once."""
    calls_per_client: int = 100
    redirect: str | None = None
    """Send WHIP and WHEP clients to this base address (307) instead of taking their calls."""
    ice_servers: tuple[str, ...] = ()
    """URLs of STUN servers that clients are told."""
    turn_urls: tuple[str, ...] = ()
    """URLs of TURN servers that clients are told with credentials made from `turn_secret`."""
    turn_secret: str = field(default="", repr=False)
    """What coturn calls `static-auth-secret`."""
    turn_ttl: float = 86_400.0
    """Seconds for which such credentials last: longer than a call, for they are needed as long as it lasts."""
    claim_header: str | None = None
    """The header whose value travels in a ticket, as `context.claim`: what a proxy in front says of the caller."""

    def __post_init__(self) -> None:
        for name in ("tokens", "origins", "trusted_proxies", "ice_servers", "turn_urls"):
            check_texts(name, getattr(self, name))
        for token in self.tokens:
            read_token(token)
        for origin in self.origins:
            check_allowed(origin)
        TrustedProxies(self.trusted_proxies)
        for name in ("offers_per_second", "offers_per_client", "calls_per_client", "turn_ttl"):
            if not getattr(self, name) > 0:
                raise LocalError(f"{name} is more than 0, not {getattr(self, name)}")
        for url in self.ice_servers:
            check_stun_server(url)
        if self.turn_urls and not self.turn_secret:
            raise LocalError("the TURN servers need the secret that they share with us (turn_secret)")
        for url in self.turn_urls:
            if not IceServer.parse(url, "user", "password").turn:
                raise LocalError(f"{url} is no TURN server")
