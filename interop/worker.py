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
from interop.peers.orders import obey
from interop.peers.registry import PEERS
from interop.peers.target import Target
from interop.runner import Pair, Plan, run_cell, settle
from interop.scenarios import SCENARIOS


def order_of(pair: Pair, plan: Plan) -> dict[str, Any]:
    """How a worker is told of a pair: peers by their names, somebody's server by its URL."""
    target = pair.server if isinstance(pair.server, Target) else None
    return {
        "client": pair.client.name,
        "server": pair.server.name,
        "side": pair.side,
        "target": None if target is None else [target.url, target.echoes, target.token],
        "keep": None if plan.keep is None else str(plan.keep),
    }


class Worker:
    """The orders."""

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
        serving: Peer = PEERS[server] if target is None else Target(*target)
        cell = await run_cell(Pair(PEERS[client], serving, side), SCENARIOS[scenario], seed)
        settle(cell, None if keep is None else Path(keep), round_)
        return {
            "verdict": cell.verdict.as_json(),
            "seconds": cell.seconds,
            "kept": cell.kept,
            "call": cell.call,
        }


def main() -> None:
    """Obey until stdin ends; what a peer or a library prints goes to stderr, away from the answers."""
    answers = os.dup(1)
    os.dup2(2, 1)
    sys.stdout = os.fdopen(answers, "w", encoding="utf-8")
    asyncio.run(obey(Worker()))


if __name__ == "__main__":
    main()
