"""A browser talks to a Realtime model, and the model may ask this process what time it is.

OPENAI_API_KEY=… python examples/bridge_with_tools.py wss://…/v1/realtime?model=…
"""

import os
import sys
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from stack import serve
from stack.agents import BridgeConfig, bridge
from stack.signaling import ServeConfig

CLOCK = {
    "type": "function",
    "name": "clock",
    "description": "The time at the server.",
    "parameters": {"type": "object", "properties": {}},
}


async def clock(arguments: Mapping[str, Any]) -> str:
    """Return the time."""
    return datetime.now().strftime("%H:%M")


def make(url: str, key: str) -> BridgeConfig:
    """Return how to reach the model, and what it may call."""
    session = {"instructions": "Answer in one sentence.", "tools": [CLOCK]}
    return BridgeConfig(url, key=key, session=session, tools={"clock": clock})


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    config = make(sys.argv[1], os.environ.get("OPENAI_API_KEY", ""))
    serve(bridge(config), server=ServeConfig(program_passes_events=True))
