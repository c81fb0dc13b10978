"""A server on loopback for the tests of the edge."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from stack.agents import echo
from stack.aio import HostConfig
from stack.signaling.server import ServeConfig, Serving, serving


@pytest.fixture
async def server() -> AsyncIterator[Serving]:
    """The echo agent, on free ports."""
    async with serving(echo, ServeConfig(port=0, media=HostConfig(udp_port=0))) as running:
        yield running


@pytest.fixture
def offer() -> str:
    """A browser's."""
    return (Path(__file__).parent.parent / "vectors/offers/chromium156-audio_dc.sdp").read_text()
