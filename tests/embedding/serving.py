"""An ASGI application under a real server."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from tests.listening import until


@asynccontextmanager
async def uvicorn_runs(app: Any, **settings: Any) -> AsyncIterator[str]:
    """A real server on a free port of loopback."""
    import uvicorn

    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="auto", **settings))
    serving = asyncio.create_task(server.serve([listener]))
    try:
        await until(lambda: server.started or serving.done())
        assert server.started
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        await serving
        listener.close()
