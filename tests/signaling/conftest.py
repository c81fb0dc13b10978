"""A server on loopback for the tests of the edge."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from stack.agents import echo
from stack.aio import HostConfig
from stack.sdp import SessionDescription
from stack.signaling.server import ServeConfig, Serving, serving
from stack.signaling.service import SignalingConfig


@pytest.fixture
async def server() -> AsyncIterator[Serving]:
    """The echo agent, on free ports, for pages from anywhere."""
    config = ServeConfig(port=0, media=HostConfig(udp_port=0), signaling=SignalingConfig(origins=("*",)))
    async with serving(echo, config) as running:
        yield running


@pytest.fixture
def offer() -> str:
    """A browser's."""
    return (Path(__file__).parent.parent / "vectors/offers/chromium156-audio_dc.sdp").read_text()


@pytest.fixture
def offers(offer: str) -> Iterator[str]:
    """Offers of as many different people, each with a certificate and a session of its own."""
    description = SessionDescription.parse(offer)
    session = str(description.origin.session_id)
    (fingerprint,) = {value for media in description.media for value in media.values("fingerprint")}
    ufrag = description.media[0].ice_ufrag
    assert ufrag is not None

    def others() -> Iterator[str]:
        for number in range(1000):
            other = fingerprint[:-5] + f"{number // 256:02X}:{number % 256:02X}"
            text = offer.replace(fingerprint, other).replace(session, str(number + 1))
            yield text.replace(f"a=ice-ufrag:{ufrag}", f"a=ice-ufrag:u{number:03}")

    return others()
