"""A client in Python under `bench setup`, ours or aiortc: a process that calls each `{"url"}` on stdin.

It answers with one line, `{"connected", "voice", "channel"}`, each in seconds since 1970, or `{"error"}`. A call
that came about goes on until the next line.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np

from stack.signaling.client import DialConfig, dial

RATE = 16_000
PATIENCE = 15.0
TONE = np.asarray(8000 * np.sin(2 * np.pi * 440 * np.arange(RATE) / RATE)).astype(np.int16)


async def _note(into: dict[str, float], name: str, happens: Any) -> None:
    await happens
    into[name] = time.time()


Said = Callable[[dict[str, float]], Awaitable[None]]
"""Says when each thing happened, and returns when the call is to end."""


async def call(url: str, say: Said) -> None:
    """Place one call."""
    times: dict[str, float] = {}
    async with dial(url, DialConfig()) as placed:
        placed.call.speaker.write(TONE, RATE)
        await asyncio.wait_for(
            asyncio.gather(
                _note(times, "connected", placed.call.wait_connected()),
                _note(times, "voice", anext(aiter(placed.call.microphone))),
                _note(times, "channel", placed.call.open_channel("events")),
            ),
            PATIENCE,
        )
        await say(times)


async def call_by_aiortc(url: str, say: Said) -> None:
    """Do the same with aiortc, whose DTLS is 1.2 alone."""
    import aiohttp
    import aioice.ice
    from aiortc import RTCConfiguration, RTCPeerConnection, RTCRtpReceiver, RTCSessionDescription

    from bench.servers.aiortc_server import Speech

    aioice.ice.get_host_addresses = lambda use_ipv4, use_ipv6: ["127.0.0.1"]
    times: dict[str, float] = {}
    done = {name: asyncio.Event() for name in ("connected", "voice", "channel")}

    def note(name: str) -> None:
        times.setdefault(name, time.time())
        done[name].set()

    handle = RTCRtpReceiver._handle_rtp_packet

    async def received(self: Any, packet: Any, arrival_time_ms: int) -> None:
        note("voice")
        await handle(self, packet, arrival_time_ms=arrival_time_ms)

    RTCRtpReceiver._handle_rtp_packet = received  # type: ignore[method-assign]
    connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    try:
        connection.addTrack(Speech(np.repeat(TONE, 3)))
        connection.createDataChannel("events").on("open", lambda: note("channel"))

        @connection.on("connectionstatechange")
        def on_state() -> None:
            if connection.connectionState == "connected":
                note("connected")

        await connection.setLocalDescription(await connection.createOffer())
        offer = {"sdp": connection.localDescription.sdp, "type": "offer"}
        async with aiohttp.ClientSession() as session, session.post(url, json=offer) as response:
            answer = await response.json()
        await connection.setRemoteDescription(RTCSessionDescription(answer["sdp"], "answer"))
        await asyncio.wait_for(asyncio.gather(*(each.wait() for each in done.values())), PATIENCE)
        await say(times)
    finally:
        RTCRtpReceiver._handle_rtp_packet = handle  # type: ignore[method-assign]
        await connection.close()


async def main() -> None:
    """Call until stdin closes."""
    place = call_by_aiortc if sys.argv[1:] == ["aiortc"] else call
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)

    async def say(times: dict[str, float]) -> None:
        print(json.dumps(times), flush=True)
        await reader.readline()

    while line := await reader.readline():
        try:
            await place(json.loads(line)["url"], say)
        except Exception as error:  # a call that fails is a result
            print(json.dumps({"error": f"{type(error).__name__}: {error}"}), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
