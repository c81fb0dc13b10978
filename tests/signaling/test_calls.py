"""Whole calls on loopback: our client, our server, real sockets and threads."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from contextlib import AsyncExitStack

import numpy as np
import pytest

from stack import Call
from stack.agents import echo
from stack.aio import HostConfig
from stack.core.machine import Address
from stack.dtls import Version
from stack.session import EndReason
from stack.signaling.client import DialConfig, DialError, dial
from stack.signaling.server import ServeConfig, Serving, serving
from stack.voice.conversation import ConversationConfig
from tests.listening import until

pytestmark = pytest.mark.real_clock

RATE = 16_000
TONE = (8000 * np.sin(2 * np.pi * 1000 * np.arange(RATE) / RATE)).astype(np.int16)


async def hear(call: Call, seconds: float) -> np.ndarray:
    """Collect so much of what is heard."""
    frames: list[np.ndarray] = []
    async for frame in call.microphone:
        frames.append(frame.samples)
        if sum(map(len, frames)) >= seconds * RATE:
            break
    return np.concatenate(frames)


def loudest_frequency(sound: np.ndarray) -> float:
    spectrum = np.abs(np.fft.rfft(sound.astype(float)))
    return float(np.argmax(spectrum) * RATE / len(sound))


@pytest.mark.parametrize("version", [None, Version.DTLS_1_2, Version.DTLS_1_3])
@pytest.mark.parametrize("endpoint", ["/", "/whip", "/api/offer"])
async def test_what_is_said_comes_back(server: Serving, version: Version | None, endpoint: str) -> None:
    config = DialConfig(ConversationConfig(dtls_version=version))
    async with asyncio.timeout(30), dial(server.url + endpoint, config) as placed:
        connected = await placed.call.wait_connected()
        assert connected.dtls_version == (version or Version.DTLS_1_3).label
        placed.call.speaker.write(TONE, RATE)
        sound = await hear(placed.call, 0.8)
    assert loudest_frequency(sound[RATE // 5 :]) == pytest.approx(1000, abs=5)


async def hear_a_tone(call: Call) -> float:
    """Listen until 200 ms hold one tone and little else, and return its frequency in Hz.

    What a busy machine sends late is made up or stretched at the other end, and has no frequency to speak of.
    """
    while True:
        power = np.abs(np.fft.rfft(await hear(call, 0.2))) ** 2
        peak = int(np.argmax(power))
        if power[max(peak - 2, 0) : peak + 3].sum() > 0.9 * power.sum() > 0:
            return peak / 0.2


async def test_fifty_at_once_on_one_port() -> None:
    """Both ends of fifty calls share one interpreter: the encoders take it easy, and ten speak at a time."""
    cheap = ConversationConfig(complexity=0, echo="off")
    media = HostConfig(udp_port=0, conversation=cheap)
    frequencies = [400.0 + 50 * index for index in range(50)]
    busy = asyncio.Semaphore(10)
    all_are_up = asyncio.Barrier(len(frequencies))

    async def one(frequency: float) -> float:
        tone = (8000 * np.sin(2 * np.pi * frequency * np.arange(20 * RATE) / RATE)).astype(np.int16)
        async with AsyncExitStack() as stack:
            async with busy:
                placed = await stack.enter_async_context(dial(server.url, DialConfig(cheap)))
                await placed.call.wait_connected()
            await all_are_up.wait()
            async with busy:
                placed.call.speaker.write(tone, RATE)
                return await hear_a_tone(placed.call)

    async with asyncio.timeout(120), serving(echo, ServeConfig(port=0, media=media)) as server:
        heard = await asyncio.gather(*(one(frequency) for frequency in frequencies))
    assert heard == pytest.approx(frequencies, abs=20)  # each hears its own call
    assert len({address.port for address in server.host.addresses}) == 1


LISTENER = """
import asyncio, json, sys, time
from stack.signaling.client import dial
async def main():
    async with dial(sys.argv[1]) as placed:
        stamps = []
        async for frame in placed.call.microphone:
            stamps.append(time.monotonic())
            if len(stamps) == 10: print("it has begun", flush=True)
            if len(stamps) == 120: break
        gaps = [later - earlier for earlier, later in zip(stamps, stamps[1:])]
        print(json.dumps([len(stamps), max(gaps)]), flush=True)
asyncio.run(main())
"""


async def test_a_program_that_blocks_its_loop_does_not_stall_the_voice() -> None:
    """The listener is another process, because this loop is the one that is blocked until it has heard enough."""
    told: list[str] = []

    async def busy(call: Call) -> None:
        call.speaker.write(np.tile(TONE, 3), RATE)
        assert listener.stdout is not None
        await asyncio.to_thread(listener.stdout.readline)
        told.append(listener.stdout.readline())  # what no program should do: it waits for more than two seconds
        await call.wait_ended()

    async with (
        asyncio.timeout(30),
        serving(busy, ServeConfig(port=0, media=HostConfig(udp_port=0))) as server,
    ):
        command = [sys.executable, "-c", LISTENER, server.url]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as listener:
            await until(lambda: told, seconds=25)
            await asyncio.to_thread(listener.wait)
    frames, longest = json.loads(told[0])
    assert frames == 120
    assert longest < 1.0  # the program's loop stood still for more than two


async def test_a_program_that_raises_ends_its_call_and_no_other(caplog: pytest.LogCaptureFixture) -> None:
    async def program(call: Call) -> None:
        async for frame in call.microphone:
            if np.abs(frame.samples).max() > 100:
                raise ZeroDivisionError("what programs do")

    async with (
        asyncio.timeout(30),
        serving(program, ServeConfig(port=0, media=HostConfig(udp_port=0))) as server,
        dial(server.url) as healthy,
    ):
        await healthy.call.wait_connected()
        async with dial(server.url) as placed:
            await placed.call.wait_connected()
            placed.call.speaker.write(TONE, RATE)
            assert (await placed.call.wait_ended()).reason is EndReason.PEER_CLOSED
        assert not healthy.call.ended
        assert server.host.counters["host.program_failed"] == 1
    assert "what programs do" in caplog.text


async def test_a_program_that_asks_something_of_a_call_that_is_over_has_not_failed(
    caplog: pytest.LogCaptureFixture,
) -> None:
    asked = asyncio.Event()

    async def program(call: Call) -> None:
        await call.wait_ended()
        asked.set()
        await call.stats()

    async with (
        asyncio.timeout(30),
        serving(program, ServeConfig(port=0, media=HostConfig(udp_port=0))) as server,
    ):
        async with dial(server.url) as placed:
            await placed.call.wait_connected()
        await asked.wait()
        await server.drain(10)
        assert server.host.counters["host.program_failed"] == 0
    assert "failed" not in caplog.text


async def test_a_program_that_returns_is_heard_to_its_end() -> None:
    async def program(call: Call) -> None:
        call.speaker.write(TONE, RATE)

    async with (
        asyncio.timeout(30),
        serving(program, ServeConfig(port=0, media=HostConfig(udp_port=0))) as server,
        dial(server.url) as placed,
    ):
        sound = [frame.samples async for frame in placed.call.microphone]
        assert (await placed.call.wait_ended()).reason is EndReason.PEER_CLOSED
    assert sum(map(len, sound)) == pytest.approx(RATE, abs=RATE * 0.05)


async def test_a_stopped_server_says_goodbye() -> None:
    async def program(call: Call) -> None:
        await call.wait_ended()

    async with asyncio.timeout(30):
        async with serving(program, ServeConfig(port=0, media=HostConfig(udp_port=0))) as server:
            context = dial(server.url)
            placed = await context.__aenter__()
            await placed.call.wait_connected()
        assert (await placed.call.wait_ended()).reason is EndReason.PEER_CLOSED
        await context.__aexit__(None, None, None)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("http://127.0.0.1:9/", "cannot reach"),
        ("ftp://127.0.0.1/", "not an http"),
        ("nonsense", "not an http"),
        ("http://no-such-host.invalid/", "cannot reach"),
    ],
)
async def test_a_call_to_nowhere_is_one_clear_line(url: str, message: str) -> None:
    with pytest.raises(DialError, match=message):
        async with dial(url):
            pytest.fail("there was an answer")


async def test_a_refusal_is_shown(server: Serving) -> None:
    with pytest.raises(DialError, match="refused the call: 404"):
        async with dial(server.url + "/nowhere"):
            pytest.fail("there was an answer")


async def test_several_addresses_share_the_port() -> None:
    async def program(call: Call) -> None:
        await call.wait_ended()

    async with serving(program, ServeConfig(port=0, media=HostConfig(host="localhost", udp_port=0))) as server:
        ports = {address.port for address in server.host.addresses}
        assert len(ports) == 1
        assert Address("127.0.0.1", ports.pop()) in server.host.addresses
