"""Clients from npm, installed and bundled once into a folder that git ignores, and served as one page.

`build()` needs npm and, the first time, a network (`python -m interop.peers.clients` calls it); `page()` serves
what it made on loopback.
"""

from __future__ import annotations

import fcntl
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from aiohttp import web

from interop.web_page import on_loopback

HERE = Path(__file__).parent
BUNDLE = HERE / "node_modules" / "clients.bundle.js"
TIMEOUT = 300.0
"""Seconds for npm, and for esbuild."""
_PAGE = '<!doctype html><meta charset="utf-8"><title>clients</title><script src="/clients.js"></script>'


def available() -> bool:
    """True if there is what `build` needs, or its result."""
    return BUNDLE.exists() or (shutil.which("npm") is not None and shutil.which("node") is not None)


def build() -> Path:
    """Return the bundle, made anew if its sources are younger; several processes may ask at once."""
    with open(HERE / "package.json") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if is_built():
            return BUNDLE
        _run(
            "npm",
            "install",
            "--no-audit",
            "--no-fund",
            "--no-package-lock",
            "--ignore-scripts",
            "--loglevel=error",
        )
        _run(
            str(HERE / "node_modules/.bin/esbuild"),
            "entry.js",
            "--bundle",
            "--format=iife",
            "--global-name=clients",
            "--platform=browser",
            "--conditions=browser",
            "--log-level=error",
            f"--outfile={BUNDLE}",
        )
    return BUNDLE


def is_built() -> bool:
    """True if there is a bundle that is younger than its sources."""
    sources = (HERE / "package.json", HERE / "entry.js")
    return BUNDLE.exists() and BUNDLE.stat().st_mtime > max(path.stat().st_mtime for path in sources)


def _run(*command: str) -> None:
    done = subprocess.run(command, cwd=HERE, capture_output=True, text=True, timeout=TIMEOUT, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{command[0]} failed: {(done.stderr or done.stdout)[-2000:]}")


@asynccontextmanager
async def page(*routes: web.RouteDef) -> AsyncIterator[str]:
    """Serve the page with the bundle, and other routes, on a free port of loopback; yields its address."""
    bundle = BUNDLE.read_bytes()

    async def index(request: web.Request) -> web.Response:
        return web.Response(text=_PAGE, content_type="text/html")

    async def script(request: web.Request) -> web.Response:
        return web.Response(body=bundle, content_type="text/javascript")

    app = web.Application()
    app.router.add_get("/", index)
    app.router.add_get("/clients.js", script)
    app.router.add_routes(routes)
    async with on_loopback(app) as url:
        yield url
