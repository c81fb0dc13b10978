"""A peer in a process of its own: orders come as JSON lines on stdin, answers go as JSON lines to stdout.

An order is `{"id", "command", "args"}`, with the number of the call among its arguments where a process makes
several; an answer `{"id", "result"}` or `{"id", "error"}`; `{"id": 0}` says that
the peer is ready. `interop.lab.ProcessLab` is the other side.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from typing import Any


def _say(answer: dict[str, Any]) -> None:
    print(json.dumps(answer), flush=True)


async def _carry_out(peer_of: Callable[[int], object], order: dict[str, Any]) -> None:
    try:
        peer = peer_of(order["args"].pop("call", 0))
        result = await getattr(peer, order["command"])(**order["args"])
    except Exception as error:
        _say({"id": order["id"], "error": f"{type(error).__name__}: {error}"})
    else:
        _say({"id": order["id"], "result": result})


async def obey(peer: object, another: Callable[[], object] | None = None) -> None:
    """Carry out every order by the coroutine of `peer` that bears its name, until stdin ends; several at once.

    `another` makes the peer of each further call of the process.
    """
    peers = {0: peer}

    def peer_of(call: int) -> object:
        if call not in peers and another is not None:
            peers[call] = another()
        return peers[call]

    loop = asyncio.get_running_loop()
    orders = asyncio.StreamReader(limit=1 << 22)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
    _say({"id": 0, "result": "ready"})
    tasks = set()
    async for line in orders:
        task = asyncio.create_task(_carry_out(peer_of, json.loads(line)))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
