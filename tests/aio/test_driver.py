"""The driver: what raises on the way from the socket to the program costs its own step."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
from collections.abc import Iterable, Sequence

import pytest

from stack.aio.driver import Driver, MediaThread
from stack.aio.udp import bind_all
from stack.core.faults import Fault
from stack.core.machine import Address, Instant, Path, Transmit
from stack.core.trace import Direction
from stack.server import PathChange


class DatagramEndpoint:
    """Echoes and reports what it gets; raises for what begins with `!`, after it has taken what came before."""

    def __init__(self) -> None:
        self.transmits: list[Transmit] = []
        self.events: list[tuple[str, bytes]] = []
        self.deadline: Instant | None = None
        self.woken = 0

    def handle_datagrams(self, batch: Iterable[tuple[bytes, Path]], now: Instant) -> None:
        for data, path in batch:
            if data.startswith(b"!"):
                raise RuntimeError("a bug of the endpoint")
            self.transmits.append(Transmit(data, path))
            self.events.append(("call", data))

    def handle_timeout(self, now: Instant) -> None:
        self.woken += 1
        self.deadline = None
        self.events.append(("call", b"woken"))
        raise RuntimeError("a bug in waking")

    def poll_timeout(self) -> Instant | None:
        return self.deadline

    def pump(self) -> None:
        pass

    def drain_transmits(self) -> Sequence[Transmit]:
        transmits, self.transmits = self.transmits, []
        return transmits

    def drain_events(self) -> Sequence[tuple[str, bytes]]:
        events, self.events = self.events, []
        return events

    def drain_path_changes(self) -> Sequence[PathChange]:
        return ()

    def drain_faults(self) -> Sequence[Fault]:
        return ()


class Full:
    def datagram(self, direction: Direction, data: bytes, path: Path, now: Instant) -> None:
        raise OSError("no space left")


async def echoes(peer: socket.socket, *datagrams: bytes, to: Address) -> list[bytes]:
    loop = asyncio.get_running_loop()
    for data in datagrams:
        peer.sendto(data, to)
    wanted = [data for data in datagrams if data and not data.startswith(b"!")]
    return [await asyncio.wait_for(loop.sock_recv(peer, 2000), 5) for _ in wanted]


async def test_the_pump_goes_on_whatever_raises(caplog: pytest.LogCaptureFixture) -> None:
    sockets, endpoint = bind_all(["127.0.0.1"], 0), DatagramEndpoint()
    seen: list[bytes] = []

    def on_events(events: Sequence[tuple[str, bytes]]) -> None:
        seen.extend(data for _, data in events)
        if b"deaf" in seen:
            raise RuntimeError("a bug of the listener")

    driver = Driver(endpoint, sockets, on_events, Full())
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer, caplog.at_level(logging.ERROR):
        peer.setblocking(False)
        peer.bind(("127.0.0.1", 0))
        (to,) = sockets.addresses
        try:
            for _ in range(5):
                assert await echoes(peer, b"one", b"!", b"", to=to) == [b"one"]
            assert await echoes(peer, b"deaf", b"two", to=to) == [b"deaf", b"two"]
            endpoint.deadline = driver.now()
            endpoint.transmits.append(Transmit(b"nowhere", Path(to, Address("127.0.0.1", 70_000))))
            endpoint.transmits.append(Transmit(b"three", Path(to, Address(*peer.getsockname()))))
            driver.pump()
            assert await asyncio.wait_for(asyncio.get_running_loop().sock_recv(peer, 2000), 5) == b"three"
            while not endpoint.woken:
                await asyncio.sleep(0)
            await asyncio.sleep(0)
        finally:
            driver.close()
    assert endpoint.woken == 1
    assert b"woken" in seen
    assert driver.counters["driver.fault_receive"] == 5
    assert driver.counters["driver.fault_trace"] == 1, "a trace that fails is not asked again"
    assert {"driver.fault_report", "driver.fault_handle_timeout"} <= set(driver.counters.snapshot())
    told = [str(record.exc_info[1]) for record in caplog.records if record.exc_info]
    assert told.count("a bug of the endpoint") == 1, "once a minute"
    assert {"a bug of the listener", "a bug in waking", "no space left"} <= set(told)


async def test_a_command_that_raises_is_told_of_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    thread = MediaThread()

    def fail() -> None:
        raise RuntimeError("a bug in a command")

    with caplog.at_level(logging.ERROR):
        for _ in range(3):
            thread.submit(fail)
        assert await thread.run(lambda: "the next one runs") == "the next one runs"
        thread.stop()
    assert sum(record.exc_info is not None for record in caplog.records) == 1


async def test_a_command_that_is_not_waited_for_any_more_is_carried_out_and_is_no_bug(
    caplog: pytest.LogCaptureFixture,
) -> None:
    thread, done = MediaThread(), []
    gate = threading.Event()
    with caplog.at_level(logging.ERROR):
        thread.submit(gate.wait)  # type: ignore[arg-type]
        running = asyncio.ensure_future(thread.run(lambda: done.append(1)))
        await asyncio.sleep(0)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        gate.set()
        await thread.run(lambda: None)
        thread.stop()
    assert done == [1]
    assert not caplog.records
