"""One worker whose port is flooded: calls get sockets of their own, before what strangers send takes their place.

One worker reads one socket for all its calls: that is the cheapest. But strangers fill the same queue of the
kernel, and what comes faster than it is read is dropped there, packets of calls with it: a quarter to a half of
them in a flood at the rate of one core. So the kernel is asked ten times a second how much it had to drop
(SO_MEMINFO). When it did, and more came than calls send, each path that a call has proven gets a connected socket
with a queue of its own, as with several workers (`steering.py`). It keeps it until the call leaves the path; paths
that are proven later share the port again once it has been calm for `CALM` seconds.
"""

from __future__ import annotations

import logging
import struct
from collections.abc import Callable, Sequence

from stack.aio.steering import SteeredDriver, SteeredSockets
from stack.aio.udp import UdpSocket
from stack.core.counters import declare
from stack.core.machine import Path
from stack.core.trace import PacketTrace
from stack.server import Endpoint
from stack.voice.events import ConversationEvent

OVERFLOWED = declare(
    "worker",
    "overflowed",
    "Times that others filled the port of a worker, so that its calls got sockets of their own",
)

log = logging.getLogger("stack.aio")

LOOK_EVERY = 0.1
"""Seconds between two looks at what the kernel had to drop."""
CALM = 60.0
"""Seconds without a drop after which new calls share the port's socket again."""
PER_CALL = 250
"""Datagrams a second that a call may send: sound, reports, checks, some data."""
SPARE_CALLS = 10
"""Calls more than there are, for those that are just being set up."""
AT_ONCE = 32
"""Paths that get their sockets before others on the loop have their turn: about a millisecond."""
_SO_MEMINFO = 55  # <asm-generic/socket.h>
_DROPS = struct.Struct("32xI")  # SK_MEMINFO_DROPS (<linux/sock_diag.h>), the ninth of them


def dropped_by_kernel(udp: UdpSocket) -> int:
    """Return how many datagrams the kernel has dropped for want of room, modulo 2**32; 0 where it does not say."""
    try:
        return int(_DROPS.unpack(udp.get_option(_SO_MEMINFO, _DROPS.size))[0])
    except (OSError, struct.error):
        return 0


class OverflowDriver(SteeredDriver):
    """The driver of a server's only worker."""

    def __init__(
        self,
        endpoint: Endpoint[ConversationEvent],
        sockets: SteeredSockets,
        on_events: Callable[[Sequence[tuple[str, ConversationEvent]]], None],
        trace: PacketTrace | None,
    ) -> None:
        self._listeners = tuple(sockets)
        super().__init__(
            endpoint,
            sockets,
            on_events,
            trace,
            number=0,
            workers=1,
            pass_on=_pass_to_no_other,
            on_path_taken=_pass_to_no_other,
        )
        self._bound: dict[Path, None] = {}  # paths of calls
        self._waiting: list[Path] = []  # those that are to get a socket
        self._is_apart = False  # each call gets a socket of its own
        self._read = 0  # datagrams from the port, since the last look
        self._dropped = self._count_dropped()
        self._overflowed = self._looked = self._loop.time()
        self._looking = self._loop.call_later(LOOK_EVERY, self._look)

    def _connect(self, path: Path) -> None:
        self._bound[path] = None
        if self._is_apart:
            super()._connect(path)

    def _disconnect(self, path: Path) -> None:
        self._bound.pop(path, None)
        super()._disconnect(path)

    def _receive(self, udp: UdpSocket) -> None:
        batch = udp.receive()
        self._read += len(batch)
        self._take(batch)  # there is no other worker that a check could be for

    def _count_dropped(self) -> int:
        return sum(dropped_by_kernel(udp) for udp in self._listeners)

    def _look(self) -> None:
        self._looking = self._loop.call_later(LOOK_EVERY, self._look)
        now, all_dropped = self._loop.time(), self._count_dropped()
        dropped, self._dropped = (all_dropped - self._dropped) % (1 << 32), all_dropped
        came, self._read = dropped + self._read, 0
        usual = PER_CALL * (len(self._bound) + SPARE_CALLS) * (now - self._looked)
        self._looked = now
        if dropped and came > usual:
            self._overflowed = now
            if not self._is_apart:
                self._is_apart = True
                self.counters.add(OVERFLOWED)
                log.warning(
                    "the port is flooded: %d datagrams were dropped; calls get sockets of their own", dropped
                )
                self._waiting = list(self._bound)
                self._connect_waiting()
        elif self._is_apart and now - self._overflowed >= CALM:
            self._is_apart = False
            log.info("the port is calm again")

    def _connect_waiting(self) -> None:
        """Give sockets to some of the paths that wait for one, and then to the others."""
        for path in self._waiting[:AT_ONCE]:
            if path in self._bound:
                self._connect(path)
        del self._waiting[:AT_ONCE]
        if self._waiting:
            self._loop.call_soon(self._connect_waiting)

    def close(self) -> None:
        """Stop looking, stop reading and close the sockets."""
        self._looking.cancel()
        self._waiting.clear()
        super().close()


def _pass_to_no_other(*_: object) -> None:
    """There is no other worker."""
