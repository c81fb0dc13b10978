"""The peers of one TURN allocation: permissions by host, channels by address (RFC 8656 §9, §12).

What the client asks before it sends: is there a permission, is there a channel, which of them are to be renewed.
Peers are those that our own agent sends to, so their number is bounded by its pairs; the bounds here hold all the
same.
"""

from __future__ import annotations

from collections import deque

from stack.core.counters import Counters, declare
from stack.core.machine import Address, Instant
from stack.core.timers import earliest
from stack.ice.turn_framing import FIRST_CHANNEL, LAST_CHANNEL

DROPPED_TURN_FORBIDDEN = declare(
    "ice", "dropped_turn_forbidden", "Datagrams to a peer to which the TURN server does not relay"
)
DROPPED_TURN_QUEUE_FULL = declare(
    "ice", "dropped_turn_queue_full", "Datagrams beyond those that wait for a permission of the TURN server"
)
DROPPED_TURN_TOO_MANY_PEERS = declare(
    "ice", "dropped_turn_too_many_peers", "Datagrams to a peer beyond those that one allocation serves"
)

PERMISSION_LIFETIME = 300.0
"""Seconds (§9)."""
CHANNEL_LIFETIME = 600.0
"""Seconds (§12)."""
RENEW_AFTER = 240.0
"""Seconds after which a permission or channel that was used is renewed. A channel renews its permission, too
(§12)."""
MAX_HOSTS = 64
"""Hosts with a permission, as many as an agent keeps candidates of its peer; and as many channels."""
MAX_HOSTS_OF_SERVER = 1024
"""The same where one allocation serves all calls of a server."""
NUMBER_PAUSE = 300.0
"""Seconds from the end of a channel until its number may be bound to another peer (§12)."""
MAX_WAITING = 8
"""Datagrams that wait for a permission, for each host."""
FORBIDDEN_PAUSE = 30.0
"""Seconds in which a host that the server has refused is not asked for again."""


class _Permission:
    __slots__ = ("asked", "expires_at", "refused", "renew_at", "used", "waiting")

    def __init__(self) -> None:
        self.asked = False
        self.expires_at: Instant | None = None
        self.renew_at: Instant | None = None
        self.refused = False
        self.used = False
        self.waiting: list[tuple[bytes, Address]] = []


class _Channel:
    __slots__ = ("expires_at", "number", "permitted_until", "renew_at", "used")

    def __init__(self, number: int) -> None:
        self.number = number
        self.used = False
        self.permitted_until: Instant = 0.0
        self.expires_at: Instant | None = None
        self.renew_at: Instant | None = None


class TurnPeers:
    """Permissions and channels, and what is to be done for them."""

    def __init__(self, counters: Counters, max_hosts: int = MAX_HOSTS) -> None:
        """`max_hosts`: how many hosts have a permission at once, and how many peers a channel."""
        self._counters = counters
        self._max_hosts = max_hosts
        self._permissions: dict[str, _Permission] = {}
        self._channels: dict[Address, _Channel] = {}
        self._by_number: dict[int, Address] = {}
        self._next_number = FIRST_CHANNEL
        self._free_numbers: deque[tuple[Instant, int]] = deque()  # from when on a number may be used again
        self._renew_at: Instant | None = None  # no later than what is due first
        self._wanted_permissions: dict[str, None] = {}
        self._wanted_channels: dict[Address, None] = {}
        self._renew_at_once = False

    # --- permissions ----------------------------------------------------------------------------------------

    def may_send(self, data: bytes, peer: Address, now: Instant) -> bool:
        """Return True if there is a permission; else keep the datagram until there is, as far as there is room."""
        permission = self._permissions.get(peer.host)
        if permission is None:
            if len(self._permissions) >= self._max_hosts:
                self._counters.add(DROPPED_TURN_TOO_MANY_PEERS)
                return False
            permission = self._permissions[peer.host] = _Permission()
        permission.used = True
        if permission.expires_at is not None and now < permission.expires_at:
            return True
        if permission.refused:
            self._counters.add(DROPPED_TURN_FORBIDDEN)
            return False
        if len(permission.waiting) >= MAX_WAITING:
            self._counters.add(DROPPED_TURN_QUEUE_FULL)
        else:
            permission.waiting.append((data, peer))
        if not permission.asked:
            self._wanted_permissions[peer.host] = None
        return False

    def permissions_to_ask(self, now: Instant) -> list[str]:
        """Return the hosts for which a permission is to be asked now, for the first time or again.

        One that is due and was not used since it was asked for is let go, as is one that was refused a while ago.
        """
        for host, permission in list(self._permissions.items()):
            if permission.renew_at is not None and permission.renew_at <= now:
                permission.renew_at = None
                if permission.used and not permission.refused:
                    self._wanted_permissions[host] = None
                else:
                    del self._permissions[host]
        hosts = [host for host in self._wanted_permissions if host in self._permissions]
        self._wanted_permissions.clear()
        for host in hosts:
            self._permissions[host].asked, self._permissions[host].used = True, False
        return hosts

    def note_permitted(self, host: str, now: Instant) -> list[tuple[bytes, Address]]:
        """There is a permission; return the datagrams that have waited for it."""
        permission = self._permissions.get(host)
        if permission is None:
            return []
        permission.asked = False
        permission.expires_at, permission.renew_at = now + PERMISSION_LIFETIME, self._due(now + RENEW_AFTER)
        waiting, permission.waiting = permission.waiting, []
        return waiting

    def note_forbidden(self, host: str, now: Instant) -> None:
        """The server has refused, or not responded: nothing is sent there for a while."""
        permission = self._permissions.get(host)
        if permission is not None:
            self._counters.add(DROPPED_TURN_FORBIDDEN, len(permission.waiting))
            permission.asked, permission.refused, permission.expires_at = False, True, None
            permission.renew_at = self._due(now + FORBIDDEN_PAUSE)
            permission.waiting.clear()

    # --- channels -------------------------------------------------------------------------------------------

    def channel_of(self, peer: Address, now: Instant) -> int | None:
        """Return the number of the channel that is bound to a peer."""
        channel = self._channels.get(peer)
        if channel is None or channel.expires_at is None or now >= channel.expires_at:
            return None
        if not channel.used:
            channel.used = True
            if channel.renew_at == channel.expires_at:  # it was about to be let go
                channel.renew_at = self._due(now)
                self._renew_at_once = True
        # It outlives its permission if it was not renewed for want of use: then what is sent waits for another.
        return channel.number if now < channel.permitted_until else None

    def peer_of(self, number: int) -> Address | None:
        """Return the peer of a channel."""
        return self._by_number.get(number)

    def want_channel(self, peer: Address) -> None:
        """Have a channel bound to a peer that has none."""
        if peer not in self._channels and len(self._channels) + len(self._wanted_channels) < self._max_hosts:
            self._wanted_channels[peer] = None

    def channels_to_bind(self, now: Instant) -> list[tuple[Address, int]]:
        """Return peers and numbers of the channels that are to be bound now, for the first time or again.

        One that was not used since it was bound is let go when the server lets go of it, and not before: a peer
        that has a channel there cannot have another (§12.2). A number is used again `NUMBER_PAUSE` seconds after
        its end.
        """
        bind: list[tuple[Address, int]] = []
        for peer, channel in list(self._channels.items()):
            if channel.renew_at is None or channel.renew_at > now:
                continue
            if channel.used or channel.expires_at is None:
                channel.renew_at, channel.used = None, False
                bind.append((peer, channel.number))
            elif now < channel.expires_at:
                channel.renew_at = channel.expires_at
            else:
                del self._channels[peer]
                del self._by_number[channel.number]
                self._free_numbers.append((now + NUMBER_PAUSE, channel.number))
        for peer in self._wanted_channels:
            number = self._take_number(now)
            if number is not None:
                self._channels[peer] = _Channel(number)
                self._by_number[number] = peer
                bind.append((peer, number))
        self._wanted_channels.clear()
        self._renew_at_once = False
        self._renew_at = earliest(
            *(permission.renew_at for permission in self._permissions.values()),
            *(channel.renew_at for channel in self._channels.values()),
        )
        return bind

    def _take_number(self, now: Instant) -> int | None:
        if self._next_number <= LAST_CHANNEL:
            self._next_number += 1
            return self._next_number - 1
        if self._free_numbers and self._free_numbers[0][0] <= now:
            return self._free_numbers.popleft()[1]
        return None

    def _due(self, at: Instant) -> Instant:
        """Note that something is due then."""
        self._renew_at = at if self._renew_at is None else min(at, self._renew_at)
        return at

    def note_bound(self, peer: Address, now: Instant) -> None:
        """The channel is bound, and with it the permission for its host is fresh (§12)."""
        channel = self._channels.get(peer)
        if channel is None:
            return
        channel.expires_at, channel.renew_at = now + CHANNEL_LIFETIME, self._due(now + RENEW_AFTER)
        channel.permitted_until = now + PERMISSION_LIFETIME
        permission = self._permissions.get(peer.host)
        if permission is not None and permission.expires_at is not None:
            permission.expires_at = channel.permitted_until

    def note_unbound(self, peer: Address, now: Instant) -> None:
        """The server has not bound it: the peer is served without, and it is asked again in a while."""
        channel = self._channels.get(peer)
        if channel is not None:
            channel.expires_at, channel.renew_at = None, self._due(now + FORBIDDEN_PAUSE)

    @property
    def wanted(self) -> bool:
        """True if something is to be asked of the server at once."""
        return bool(self._wanted_permissions or self._wanted_channels or self._renew_at_once)

    @property
    def renew_at(self) -> Instant | None:
        """When something is due, or earlier: who asks finds out by `channels_to_bind`."""
        return self._renew_at
