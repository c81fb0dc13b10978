"""aiortc as a server: `python -m bench.servers.aiortc_server MODE`.

Modes: `packets` (its echo, with the Opus decoder and encoder taken out), `echo`, `speaking`.
"""

from __future__ import annotations

import asyncio
import fractions
import time
from typing import Any

import aioice.ice
import av
import numpy as np
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from aiortc.codecs import opus
from aiortc.mediastreams import MediaStreamTrack

from bench.servers._common import Companion, arguments, read_sound, serve_offers

MODES = ("packets", "echo", "speaking")
RATE, FRAME = 48_000, 960


def pass_packets_through() -> None:
    """Have the decoder hand on the packet itself; the encoder then packs it as it is."""

    def decode(_: Any, encoded: Any) -> list[Any]:
        packet = av.Packet(encoded.data)
        packet.pts, packet.time_base = encoded.timestamp, fractions.Fraction(1, RATE)
        return [packet]

    opus.OpusDecoder.decode = decode  # type: ignore[assignment, method-assign]


class Speech(MediaStreamTrack):
    """Frames of 20 ms on a clock, paced as aiortc's own AudioStreamTrack paces them."""

    kind = "audio"

    def __init__(self, samples: np.ndarray) -> None:
        super().__init__()
        self._samples = samples
        self._began: float | None = None
        self._number = 0

    async def recv(self) -> av.AudioFrame:
        if self._began is None:
            self._began = time.time()
        else:
            self._number += 1
            await asyncio.sleep(max(0.0, self._began + self._number * FRAME / RATE - time.time()))
        place = self._number % (len(self._samples) // FRAME) * FRAME
        frame = av.AudioFrame.from_ndarray(self._samples[None, place : place + FRAME], format="s16", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = RATE, self._number * FRAME, fractions.Fraction(1, RATE)
        return frame


def main() -> None:
    chosen = arguments(MODES)
    companion = Companion(chosen.beside)
    connections: set[RTCPeerConnection] = set()
    aioice.ice.get_host_addresses = lambda use_ipv4, use_ipv6: ["127.0.0.1"]
    if chosen.mode == "packets":
        pass_packets_through()
    if chosen.mode == "speaking":
        from stack.audio.resample import resample

        samples, rate = read_sound(chosen.sound)
        speech = np.clip(resample(samples.astype(np.float32), rate, RATE), -32768, 32767).astype(np.int16)

    async def accept(offer: str) -> str:
        connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        connections.add(connection)
        companion.begin()
        if chosen.mode == "speaking":
            connection.addTrack(Speech(speech))

        @connection.on("track")
        def on_track(track: MediaStreamTrack) -> None:
            if chosen.mode != "speaking":
                connection.addTrack(track)

        @connection.on("connectionstatechange")
        async def on_state() -> None:
            if connection.connectionState in ("failed", "closed"):
                connections.discard(connection)
                await connection.close()

        await connection.setRemoteDescription(RTCSessionDescription(offer, "offer"))
        await connection.setLocalDescription(await connection.createAnswer())
        return connection.localDescription.sdp

    asyncio.run(serve_offers(accept))


if __name__ == "__main__":
    main()
