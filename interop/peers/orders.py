"""A peer in a process of its own: orders come as JSON lines on stdin, answers go as JSON lines to stdout.

An order is `{"id", "command", "args"}`, an answer `{"id", "result"}` or `{"id", "error"}`; `{"id": 0}` says that
the peer is ready. `interop.lab.ProcessLab` is the other side.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any


def _say(answer: dict[str, Any]) -> None:
    print(json.dumps(answer), flush=True)


async def _carry_out(peer: object, order: dict[str, Any]) -> None:
    try:
        result = await getattr(peer, order["command"])(**order["args"])
    except Exception as error:
        _say({"id": order["id"], "error": f"{type(error).__name__}: {error}"})
    else:
        _say({"id": order["id"], "result": result})


async def obey(peer: object) -> None:
    """Carry out every order by the coroutine of `peer` that bears its name, until stdin ends; several at once."""
    loop = asyncio.get_running_loop()
    orders = asyncio.StreamReader(limit=1 << 22)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
    _say({"id": 0, "result": "ready"})
    tasks = set()
    async for line in orders:
        task = asyncio.create_task(_carry_out(peer, json.loads(line)))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
