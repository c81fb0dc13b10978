"""A server that greets: `python -m bench.servers.greeting ours|aiortc`.

It speaks as soon as it may, for as long as the call lasts, and says on stdout when the first sound of each caller
was accepted: `{"heard": seconds since 1970}`. Ours says it when the program has the first frame, aiortc when its
receiver has the first packet, before its jitter buffer. Both open no data channel: the caller does.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from typing import Any

import numpy as np

from bench.servers._common import announce, serve_offers

STACKS = ("ours", "aiortc")
RATE = 48_000
CHUNK = 0.2
"""Seconds of sound in each write."""


def tone() -> np.ndarray:
    """Return one second of 440 Hz, int16."""
    return np.asarray(8000 * np.sin(2 * np.pi * 440 * np.arange(RATE) / RATE)).astype(np.int16)


def heard() -> None:
    """Say that a caller's first sound is there."""
    print(json.dumps({"heard": time.time()}), flush=True)


async def ours(setup: str, workers: int) -> None:
    """Serve on this checkout's stack, or on another's that stands first in `sys.path`."""
    from stack.aio import HostConfig
    from stack.sdp import Setup
    from stack.signaling import ServeConfig, SignalingConfig, serving

    sound = tone()

    async def listen(call: Any) -> None:
        async for _ in call.microphone:
            heard()
            break
        async for _ in call.microphone:
            pass

    async def greet(call: Any) -> None:
        listening = asyncio.create_task(listen(call))
        size, place, due = int(RATE * CHUNK), 0, asyncio.get_running_loop().time()
        try:
            while not call.ended:
                call.speaker.write(sound[place : place + size], RATE)
                place = (place + size) % len(sound)
                due += CHUNK
                await asyncio.sleep(max(0.0, due - asyncio.get_running_loop().time()))
        finally:
            listening.cancel()

    chosen = {} if setup == "auto" else {"setup": Setup(setup)}
    media = HostConfig(host="127.0.0.1", udp_port=0, workers=workers, **chosen)  # type: ignore[arg-type]
    limits = SignalingConfig(offers_per_second=1e6, offers_per_client=1e6, calls_per_client=100_000)
    async with serving(greet, ServeConfig(port=0, media=media, signaling=limits)) as server:
        announce(server.http_port)
        await asyncio.Event().wait()


async def aiortc() -> None:
    """Serve on aiortc, with the track of the benchmarks under load."""
    import aioice.ice
    from aiortc import RTCConfiguration, RTCPeerConnection, RTCRtpReceiver, RTCSessionDescription

    from bench.servers.aiortc_server import Speech

    aioice.ice.get_host_addresses = lambda use_ipv4, use_ipv6: ["127.0.0.1"]
    handle = RTCRtpReceiver._handle_rtp_packet
    receivers: set[Any] = set()

    async def note(self: Any, packet: Any, arrival_time_ms: int) -> None:
        if self not in receivers:
            receivers.add(self)
            heard()
        await handle(self, packet, arrival_time_ms=arrival_time_ms)

    RTCRtpReceiver._handle_rtp_packet = note  # type: ignore[method-assign]
    connections: set[RTCPeerConnection] = set()
    sound = tone()

    async def accept(offer: str) -> str:
        connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))  # it would ask a STUN server otherwise
        connections.add(connection)
        connection.addTrack(Speech(sound))

        @connection.on("connectionstatechange")
        async def on_state() -> None:
            if connection.connectionState in ("failed", "closed"):
                connections.discard(connection)
                await connection.close()

        await connection.setRemoteDescription(RTCSessionDescription(offer, "offer"))
        await connection.setLocalDescription(await connection.createAnswer())
        return str(connection.localDescription.sdp)

    await serve_offers(accept)


def main() -> None:
    """Serve until terminated."""
    parser = argparse.ArgumentParser()
    parser.add_argument("stack", choices=STACKS)
    parser.add_argument("--setup", choices=("active", "passive", "auto"), default="auto", help="our part of DTLS")
    parser.add_argument("--workers", type=int, default=0, help="processes that carry the media; 0: a thread")
    parser.add_argument("--checkout", help="the folder whose `stack` serves; default: the one beside `bench`")
    chosen = parser.parse_args()
    if chosen.checkout is not None:
        sys.path.insert(0, chosen.checkout)
    asyncio.run(aiortc() if chosen.stack == "aiortc" else ours(chosen.setup, chosen.workers))


if __name__ == "__main__":
    main()
