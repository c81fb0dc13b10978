"""A client that hears nothing asks its server over HTTP whether the call is still up.

A media process that has died cannot say so on the wire, and ICE takes 30 s to give a path up (RFC 7675 §5.1). The
server's signaling knows it at once. As the page does, the client asks when nothing has come for `ASK_AFTER`
seconds, and then every `ASK_EVERY` while that lasts; a call that is quiet for good reason costs one small request.
Servers that do not know the question (`GET /api/offer?pc_id=…` is ours) are asked once.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from enum import Enum

from stack.aio import HostedCall
from stack.aio.control import CallEnded
from stack.core.errors import StackError
from stack.session import Ended, EndReason

log = logging.getLogger("stack.signaling")

WATCH_PERIOD = 0.5
"""Seconds between two looks at what has come."""
ASK_AFTER = 2.0
"""Seconds without a packet."""
ASK_EVERY = 5.0


class ServerSays(Enum):
    """What a server says of a call, other than why it has ended."""

    UP = "up"
    UNREACHABLE = "unreachable"
    """It may answer later."""
    NO_ANSWER = "no answer"
    """It does not know the question."""


AskAboutCall = Callable[[], Awaitable[EndReason | ServerSays]]
"""Asks the server about the call."""


def read_reason(name: object) -> EndReason:
    """Return why a call is over for us, by what its server says."""
    return EndReason.WORKER_FAILED if name == EndReason.WORKER_FAILED.name.lower() else EndReason.PEER_CLOSED


async def end_with_server(hosted: HostedCall, ask: AskAboutCall) -> None:
    """End a call when its server says that it is over; return when the call has ended, or asking is of no use."""
    call, loop = hosted.call, asyncio.get_running_loop()
    try:
        await call.wait_connected()
        came, last, asked = -1, loop.time(), 0.0
        while not call.ended:
            await asyncio.sleep(WATCH_PERIOD)
            now = loop.time()
            packets = (await hosted.stats()).session.transport.packets_received
            if packets != came:
                came, last = packets, now
            elif now - last >= ASK_AFTER and now - asked >= ASK_EVERY:
                asked = now
                said = await ask()
                if said is ServerSays.NO_ANSWER:
                    return
                if isinstance(said, EndReason):
                    hosted.end(Ended(said, "its server says so"))
                    return
    except CallEnded:
        pass
    except StackError as error:
        log.debug("the server is not asked about the call: %s", error)
