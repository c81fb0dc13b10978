"""A server on loopback for the tests of the edge."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from stack.agents import echo
from stack.aio import HostConfig
from stack.aio.steering import Steering
from stack.sdp import SessionDescription
from stack.signaling.server import ServeConfig, Serving, serving
from stack.signaling.service import SignalingConfig
from tests.signaling.workers import run_with


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


@pytest.fixture
def workers(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """How many media workers the servers of a test have; in the modules of `WITH_WORKERS` one after the other."""
    param: str = getattr(request, "param", "0")
    number, _, steering = param.partition("-")
    run_with(int(number), monkeypatch, Steering(steering) if steering else None)
    return int(number)


WITH_WORKERS = {
    "test_calls": ("0", "1", "2", "2-forwarder"),
    "test_channels": ("0", "2", "2-forwarder"),
    "test_dialects": ("0", "2"),
    "test_echo": ("0", "1", "2-forwarder"),
    "test_pipecat": ("0", "1"),
    "test_programs": ("0", "1"),
    "test_realtime": ("0", "2"),
    "test_recording": ("0", "1", "2"),
    "test_second_offers": ("0", "2", "2-forwarder"),
    "test_whip": ("0", "2"),
}
"""The modules whose tests are about what calls do, wherever their media run: how many workers, and how datagrams
find theirs."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run what is about calls with and without workers."""
    numbers = WITH_WORKERS.get(metafunc.module.__name__.rpartition(".")[2])
    if numbers is None or not inspect.iscoroutinefunction(metafunc.function):
        return
    if "workers" not in metafunc.fixturenames:
        metafunc.fixturenames.insert(0, "workers")
    metafunc.parametrize("workers", numbers, indirect=True, ids=[f"workers={number}" for number in numbers])
