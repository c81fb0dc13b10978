"""Several servers that know nothing of one another, as one: offers go to each in turn.

    python -m bench.servers.side_by_side NUMBER COMMAND…

Each is started by the command and speaks the protocol of the others here. An offer is answered with a redirect to
the next of them (307), so that in front of the media there is nothing.
"""

from __future__ import annotations

import asyncio
import ctypes
import itertools
import json
import signal
import sys

from aiohttp import web

from bench.servers._common import serve_app


def _die_with_us() -> None:
    ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)  # PR_SET_PDEATHSIG


async def main(number: int, command: list[str]) -> None:
    """Serve until we are ended."""
    offers = []
    for _ in range(number):
        server = await asyncio.create_subprocess_exec(
            *command, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, preexec_fn=_die_with_us
        )
        assert server.stdout is not None
        offers.append(json.loads(await server.stdout.readline())["offer"])
    turns = itertools.cycle(offers)

    async def offered(_: web.Request) -> web.Response:
        raise web.HTTPTemporaryRedirect(next(turns))

    await serve_app(offered)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), sys.argv[2:]))
