"""aiohttp without a call: it reads an offer as JSON and answers as many bytes as ours does."""

from __future__ import annotations

import asyncio

from bench.servers._common import serve_offers

ANSWER = "a=x:" + "0" * 1550
"""As long as our answer to Chromium's offer of sound and data."""


async def accept(_offer: str) -> str:
    """Return what is no answer."""
    return ANSWER


def main() -> None:
    """Serve until terminated."""
    asyncio.run(serve_offers(accept))


if __name__ == "__main__":
    main()
