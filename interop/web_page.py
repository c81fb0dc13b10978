"""A small HTTP server on loopback, for a page that a browser opens while a trial runs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

SHUTDOWN = 0.5
"""Seconds that an open connection has to end by itself."""


@asynccontextmanager
async def on_loopback(app: web.Application, path: str = "/") -> AsyncIterator[str]:
    """Context: `app` on a free port of loopback, which browsers take for secure; yields the address of `path`."""
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=SHUTDOWN)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}{path}"
    finally:
        await asyncio.shield(runner.cleanup())
