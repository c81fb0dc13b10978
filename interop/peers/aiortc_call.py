"""aiortc as either end of a call, told what to do by JSON lines; the commands are those of `gstreamer/peer.py`."""

from __future__ import annotations

import asyncio
import base64
import fractions
from collections.abc import Callable
from typing import Any

import av
import numpy as np
from aiortc import RTCConfiguration, RTCDataChannel, RTCPeerConnection, RTCRtpSender, RTCSessionDescription
from aiortc.mediastreams import MediaStreamError, MediaStreamTrack

from interop.peers.orders import obey

RATE = 48_000
FRAME = 960
PATIENCE = 20.0


class ToneTrack(MediaStreamTrack):
    """A sine in real time."""

    kind = "audio"

    def __init__(self, hertz: float, level: float) -> None:
        super().__init__()
        self._hertz, self._level, self._sent, self._began = hertz, level, 0, 0.0

    async def recv(self) -> av.AudioFrame:
        """Return the next 20 ms when it is their time."""
        loop = asyncio.get_running_loop()
        self._began = self._began or loop.time()
        await asyncio.sleep(max(0.0, self._began + self._sent / RATE - loop.time()))
        at = np.arange(self._sent, self._sent + FRAME)
        sound = (32_767 * self._level * np.sin(2 * np.pi * self._hertz * at / RATE)).astype(np.int16)
        # In stereo: from mono aiortc's encoder makes two channels that are 3 dB quieter.
        frame = av.AudioFrame.from_ndarray(np.repeat(sound, 2).reshape(1, -1), format="s16", layout="stereo")
        frame.sample_rate, frame.pts, frame.time_base = RATE, self._sent, fractions.Fraction(1, RATE)
        self._sent += FRAME
        return frame


class AiortcCall:
    """The commands."""

    def __init__(self) -> None:
        self.pc = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self.channel: RTCDataChannel | None = None
        self.inbox: list[dict[str, str]] = []
        self.sound = bytearray()
        self.pc.on("track", self._on_track)
        self.pc.on("datachannel", self._watch)

    def _on_track(self, track: MediaStreamTrack) -> None:
        if track.kind == "audio":
            self._listening = asyncio.create_task(self._keep(track))

    async def _keep(self, track: MediaStreamTrack) -> None:
        resampler = av.AudioResampler("s16", "mono", RATE)
        try:
            while True:
                for frame in resampler.resample(await track.recv()):
                    self.sound += frame.to_ndarray().astype(np.int16).tobytes()
                    del self.sound[: -20 * RATE]
        except MediaStreamError:
            return

    def _watch(self, channel: RTCDataChannel) -> None:
        self.channel = channel
        channel.on(
            "message",
            lambda data: self.inbox.append(
                {"text": data} if isinstance(data, str) else {"binary": base64.b64encode(data).decode()}
            ),
        )

    async def offer(self, hertz: float, level: float, video: bool, data: bool, codec: str = "") -> str:
        transceiver = self.pc.addTransceiver(ToneTrack(hertz, level), "sendrecv")
        if codec:
            every = RTCRtpSender.getCapabilities("audio").codecs
            transceiver.setCodecPreferences([each for each in every if codec.lower() in each.mimeType.lower()])
        if video:
            self.pc.addTransceiver("video", "recvonly")
        if data:
            self._watch(self.pc.createDataChannel("trial"))
        await self.pc.setLocalDescription(await self.pc.createOffer())
        return str(self.pc.localDescription.sdp)

    async def answer(self, sdp: str) -> None:
        await self.pc.setRemoteDescription(RTCSessionDescription(sdp, "answer"))

    async def accept(self, sdp: str, hertz: float, level: float, video: bool) -> str:
        self.pc.addTrack(ToneTrack(hertz, level))
        await self.pc.setRemoteDescription(RTCSessionDescription(sdp, "offer"))
        await self.pc.setLocalDescription(await self.pc.createAnswer())
        return str(self.pc.localDescription.sdp)

    async def connected(self) -> None:
        await until(lambda: self.pc.connectionState == "connected", f"the connection ({self.pc.connectionState})")
        if self.pc.sctp is not None:
            await until(lambda: self.channel is not None and self.channel.readyState == "open", "the channel")

    async def listen(self, seconds: float) -> str:
        self.sound.clear()
        size = round(2 * RATE * seconds)
        await until(lambda: len(self.sound) >= size, f"{seconds:g} s of sound")
        return base64.b64encode(bytes(self.sound[:size])).decode()

    async def send(self, text: str | None = None, binary: str | None = None) -> None:
        assert self.channel is not None
        self.channel.send(text if text is not None else base64.b64decode(binary or ""))

    async def receive(self) -> dict[str, str]:
        await until(lambda: self.inbox, "a message")
        return self.inbox.pop(0)

    async def hang_up(self) -> None:
        await self.pc.close()

    async def wait_ended(self) -> None:
        await until(lambda: self.pc.connectionState in ("closed", "failed"), "the end")


async def until(condition: Callable[[], Any], what: str) -> None:
    """Return as soon as the condition is true."""
    end = asyncio.get_running_loop().time() + PATIENCE
    while not condition():
        if asyncio.get_running_loop().time() > end:
            raise TimeoutError(f"no sign of {what} within {PATIENCE:g} s")
        await asyncio.sleep(0.01)


async def main() -> None:
    await obey(AiortcCall())


if __name__ == "__main__":
    asyncio.run(main())
