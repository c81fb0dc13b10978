"""A process that runs cells, one at a time, for `interop.side_by_side`: orders and results as JSON lines.

    python -m interop.worker

A cell has the process and its ports to itself, so that cells side by side share no more than the machine.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

from interop.peers.base import Peer
from interop.peers.in_browsers import KeptBrowser, kept_browser
from interop.peers.orders import obey
from interop.peers.registry import PEERS
from interop.peers.target import Target
from interop.runner import Pair, Plan, run_cell, settle
from interop.scenarios import SCENARIOS


def order_of(pair: Pair, plan: Plan) -> dict[str, Any]:
    """How a worker is told of a pair: peers by their names, the server of a target by its URL."""
    target = pair.server if isinstance(pair.server, Target) else None
    return {
        "client": pair.client.name,
        "server": pair.server.name,
        "side": pair.side,
        "target": None if target is None else [target.url, target.echoes, target.token],
        "keep": None if plan.keep is None else str(plan.keep),
    }


class Worker:
    """The orders, and the browser that is kept while they want the same one."""

    def __init__(self, browser: KeptBrowser) -> None:
        self._browser = browser

    async def run(
        self,
        client: str,
        server: str,
        side: Any,
        target: list[Any] | None,
        keep: str | None,
        scenario: str,
        seed: int,
        round_: int,
    ) -> dict[str, Any]:
        """Run one cell; what is kept of a failure is written here."""
        kept_browser.set(self._browser)
        serving: Peer = PEERS[server] if target is None else Target(*target)
        pair = Pair(PEERS[client], serving, side)
        if not pair.is_kept:
            await self._browser.close()
        cell = await run_cell(pair, SCENARIOS[scenario], seed)
        settle(cell, None if keep is None else Path(keep), round_)
        return {
            "verdict": cell.verdict.as_json(),
            "seconds": cell.seconds,
            "kept": cell.kept,
            "call": cell.call,
        }


async def work() -> None:
    """Obey until stdin ends."""
    browser = KeptBrowser()
    try:
        await obey(Worker(browser))
    finally:
        await browser.close()


def main() -> None:
    """Obey, but what a peer or a library prints goes to stderr, away from the answers."""
    answers = os.dup(1)
    os.dup2(2, 1)
    sys.stdout = os.fdopen(answers, "w", encoding="utf-8")
    asyncio.run(work())


if __name__ == "__main__":
    main()
