"""Says that a program process is alive, from a thread and over a connection of its own.

A program may keep its event loop busy for seconds: that is no death, and its calls stay with it. So the word
comes from a thread, as long as the loop has turned in the last `LOOP_PATIENCE` seconds.
"""

from __future__ import annotations

import asyncio
import threading
import time
from contextlib import suppress

from stack.cluster.backbone import Backbone, BackboneConfig
from stack.cluster.messages import ALIVE, Alive, alive_subject

ALIVE_EVERY = 0.2
"""Seconds between two words."""
LOOP_PATIENCE = 10.0
"""Seconds for which the program's event loop may stand still."""


class AliveThread:
    """Use `start` and `stop` on the program's loop."""

    def __init__(self, config: BackboneConfig, agent: str) -> None:
        self._config = config
        self._agent = agent
        self._ending = threading.Event()
        self._turned = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="alive", daemon=True)
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin."""
        self._turn()
        self._thread.start()

    def _turn(self) -> None:
        self._turned = time.monotonic()
        self._timer = asyncio.get_running_loop().call_later(ALIVE_EVERY, self._turn)

    async def stop(self) -> None:
        """Say it no more."""
        self._ending.set()
        if self._timer is not None:
            self._timer.cancel()
        await asyncio.to_thread(self._thread.join, 5.0)

    def _run(self) -> None:
        with suppress(asyncio.CancelledError):
            asyncio.run(self._say())

    async def _say(self) -> None:
        backbone = Backbone(self._config, f"{self._agent} is alive")
        await backbone.start()
        word = ALIVE.encode(Alive(self._agent))
        try:
            while not self._ending.is_set():
                if time.monotonic() - self._turned < LOOP_PATIENCE:
                    backbone.post(alive_subject(self._agent), word)
                await asyncio.sleep(ALIVE_EVERY)
        finally:
            await backbone.stop()
