"""One worker's port that strangers fill: calls get sockets of their own, and lose them when they end."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stack.agents import echo
from stack.aio import HostConfig
from stack.aio.overflow import OverflowDriver, dropped_by_kernel
from stack.aio.steering import SteeredSockets, bind_group
from stack.aio.udp import UdpSocket
from stack.server import Endpoint
from stack.signaling.client import dial
from stack.signaling.server import ServeConfig, Serving, serving
from stack.voice.events import ConversationEvent
from tests.listening import listen, until

pytestmark = [
    pytest.mark.real_clock,
    pytest.mark.skipif(
        sys.platform != "linux", reason="only Linux says what a socket has dropped, and shares a port"
    ),
]
TONE = (4000 * np.sin(np.arange(32_000) / 4)).astype(np.int16)
MORE_THAN_FITS = 60_000
"""Datagrams: a queue of 4 MB holds some ten thousand small ones."""


def connected_to(port: int) -> int:
    """Return how many sockets of this machine are bound to a UDP port and connected."""
    rows = [line.split() for line in Path("/proc/net/udp").read_text().splitlines()[1:]]
    return sum(row[1].endswith(f":{port:04X}") and not row[2].endswith(":0000") for row in rows)


def flood(address: tuple[str, int], count: int) -> None:
    """Send what is no packet of any call."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        for _ in range(count):
            stranger.sendto(b"\x80" + bytes(60), address)


async def fill(server: Serving) -> None:
    """Stop the worker, fill its queue, and let it go on."""
    pool: Any = server.host._media
    (link,) = pool.links
    address = next(each for each in pool.addresses if each.host == "127.0.0.1")
    os.kill(link.pid, signal.SIGSTOP)
    try:
        await asyncio.to_thread(flood, tuple(address), MORE_THAN_FITS)
    finally:
        os.kill(link.pid, signal.SIGCONT)


async def test_calls_get_sockets_of_their_own_when_the_port_is_flooded() -> None:
    config = ServeConfig(port=0, media=HostConfig(host="127.0.0.1", udp_port=0, workers=1))
    async with asyncio.timeout(60), serving(echo, config) as server:
        port = server.host.addresses[0].port
        async with dial(server.url) as early:
            await early.call.wait_connected()
            early.call.speaker.write(TONE, 16_000)
            await listen(early.call, 0.2)
            assert connected_to(port) == 0, "while it is calm they share the port"
            await fill(server)
            await until(lambda: connected_to(port) == 1)
            assert (await server.host.tally()).counters["worker.overflowed"] == 1
            early.call.speaker.write(TONE, 16_000)
            await listen(early.call, 0.2)
            async with dial(server.url) as late:
                await late.call.wait_connected()
                late.call.speaker.write(TONE, 16_000)
                await listen(late.call, 0.2)
                assert connected_to(port) == 2
        await until(lambda: connected_to(port) == 0)


class Clock:
    """A loop's time, set by hand."""

    now = 0.0

    def time(self) -> float:
        """Return it."""
        return self.now


async def test_drops_that_calls_may_have_caused_themselves_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    (sockets,) = bind_group(["127.0.0.1"], 0, 1)
    steered = SteeredSockets(list(sockets))
    endpoint: Endpoint[ConversationEvent] = Endpoint(reports_paths=True)
    driver = OverflowDriver(endpoint, steered, lambda events: None, None)
    dropped = 0
    monkeypatch.setattr("stack.aio.overflow.dropped_by_kernel", lambda udp: dropped)
    try:
        began = driver.now()
        clock = Clock()
        clock.now = began + 1.0
        monkeypatch.setattr(driver._loop, "time", clock.time)
        dropped = 100
        driver._look()
        assert driver.counters["worker.overflowed"] == 0
        clock.now += 1.0
        dropped = 100 + 100_000
        driver._look()
        assert driver.counters["worker.overflowed"] == 1
        clock.now += 1.0
        dropped += 100_000
        driver._look()
        assert driver.counters["worker.overflowed"] == 1, "the same flood"
        clock.now += 59.0
        driver._look()
        assert driver._is_apart
        clock.now += 1.0
        driver._look()
        assert not driver._is_apart
        clock.now += 1.0
        dropped = (dropped + 100_000) % (1 << 32)
        driver._look()
        assert driver.counters["worker.overflowed"] == 2
    finally:
        driver.close()


def test_what_the_kernel_has_dropped_is_counted() -> None:
    udp = UdpSocket("127.0.0.1", 0)
    try:
        assert dropped_by_kernel(udp) == 0
        flood(tuple(udp.address), MORE_THAN_FITS)
        assert dropped_by_kernel(udp) > 0
    finally:
        udp.close()
    assert dropped_by_kernel(udp) == 0, "a socket that is closed says nothing"
