"""aiortc as either end of a call, told what to do by JSON lines; the commands are those of `gstreamer/peer.py`."""

from __future__ import annotations

import asyncio
import base64
import fractions
from collections.abc import Callable
from typing import Any

import av
import numpy as np
from aiortc import (
    RTCBundlePolicy,
    RTCConfiguration,
    RTCDataChannel,
    RTCPeerConnection,
    RTCRtpSender,
    RTCSessionDescription,
)
from aiortc.mediastreams import MediaStreamError, MediaStreamTrack
from aiortc.sdp import candidate_from_sdp

from interop.peers.orders import obey

RATE = 48_000
FRAME = 960
PATIENCE = 20.0


class ToneTrack(MediaStreamTrack):
    """A sine in real time."""

    kind = "audio"

    def __init__(self, hertz: float, level: float, speech: str = "") -> None:
        super().__init__()
        self.is_muted = False
        self._speech = np.frombuffer(base64.b64decode(speech), np.int16)
        self._hertz, self._level, self._sent, self._began = hertz, level, 0, 0.0

    async def recv(self) -> av.AudioFrame:
        """Return the next 20 ms when it is their time."""
        loop = asyncio.get_running_loop()
        self._began = self._began or loop.time()
        await asyncio.sleep(max(0.0, self._began + self._sent / RATE - loop.time()))
        at = np.arange(self._sent, self._sent + FRAME)
        if len(self._speech):
            sound = np.take(self._speech, at // 3, mode="wrap")  # at 16 kHz: each sample three times
        else:
            sound = (32_767 * self._level * np.sin(2 * np.pi * self._hertz * at / RATE)).astype(np.int16)
        if self.is_muted:
            sound = np.zeros_like(sound)
        # In stereo: from mono aiortc's encoder makes two channels that are 3 dB quieter.
        frame = av.AudioFrame.from_ndarray(np.repeat(sound, 2).reshape(1, -1), format="s16", layout="stereo")
        frame.sample_rate, frame.pts, frame.time_base = RATE, self._sent, fractions.Fraction(1, RATE)
        self._sent += FRAME
        return frame


class AiortcCall:
    """The commands."""

    def __init__(self) -> None:
        self._pc: RTCPeerConnection | None = None
        self.channels: dict[str, RTCDataChannel] = {}
        self.inboxes: dict[str, list[dict[str, str]]] = {}
        self.track: ToneTrack | None = None
        self.sound = bytearray()

    @property
    def pc(self) -> RTCPeerConnection:
        assert self._pc is not None
        return self._pc

    def _begin(self, hertz: float, level: float, speech: str, bundle: str = "") -> ToneTrack:
        policy = RTCBundlePolicy(bundle) if bundle else RTCBundlePolicy.BALANCED
        self._pc = RTCPeerConnection(RTCConfiguration(iceServers=[], bundlePolicy=policy))
        self.pc.on("track", self._on_track)
        self.pc.on("datachannel", self._watch)
        self.track = ToneTrack(hertz, level, speech)
        return self.track

    def _on_track(self, track: MediaStreamTrack) -> None:
        if track.kind == "audio":
            self._listening = asyncio.create_task(self._keep(track))

    async def _keep(self, track: MediaStreamTrack) -> None:
        resampler = av.AudioResampler("s16", "mono", RATE)
        try:
            while True:
                for frame in resampler.resample(await track.recv()):
                    self.sound += frame.to_ndarray().astype(np.int16).tobytes()
                    del self.sound[: -40 * RATE]  # 20 s
        except MediaStreamError:
            return

    def _watch(self, channel: RTCDataChannel) -> None:
        self.channels[channel.label] = channel
        inbox = self.inboxes[channel.label] = []
        channel.on(
            "message",
            lambda data: inbox.append(
                {"text": data} if isinstance(data, str) else {"binary": base64.b64encode(data).decode()}
            ),
        )

    async def offer(
        self,
        hertz: float,
        level: float,
        video: bool,
        data: bool,
        codec: str = "",
        speech: str = "",
        bundle: str = "",
        audio_sections: int = 1,
        **_: Any,
    ) -> str:
        track = self._begin(hertz, level, speech, bundle)
        transceiver = self.pc.addTransceiver(track, "sendrecv")
        if codec:
            every = RTCRtpSender.getCapabilities("audio").codecs
            transceiver.setCodecPreferences([each for each in every if codec.lower() in each.mimeType.lower()])
        if video:
            self.pc.addTransceiver("video", "recvonly")
        for _section in range(1, audio_sections):
            self.pc.addTransceiver("audio", "recvonly")
        if data:
            self._watch(self.pc.createDataChannel("trial"))
        await self.pc.setLocalDescription(await self.pc.createOffer())
        return str(self.pc.localDescription.sdp)

    async def answer(self, sdp: str) -> None:
        await self.pc.setRemoteDescription(RTCSessionDescription(sdp, "answer"))

    async def accept(self, sdp: str, hertz: float, level: float, video: bool, speech: str = "", **_: Any) -> str:
        track = self._begin(hertz, level, speech)
        self.pc.addTrack(track)
        await self.pc.setRemoteDescription(RTCSessionDescription(sdp, "offer"))
        await self.pc.setLocalDescription(await self.pc.createAnswer())
        return str(self.pc.localDescription.sdp)

    async def connected(self) -> None:
        await until(lambda: self.pc.connectionState == "connected", f"the connection ({self.pc.connectionState})")
        if self.pc.sctp is not None:
            await self._open("trial")

    async def listen(self, seconds: float) -> str:
        self.sound.clear()
        size = round(2 * RATE * seconds)
        await until(lambda: len(self.sound) >= size, f"{seconds:g} s of sound", seconds + 3)
        return base64.b64encode(bytes(self.sound[:size])).decode()

    async def send(self, text: str | None = None, binary: str | None = None, label: str = "trial") -> None:
        self.channels[label].send(text if text is not None else base64.b64decode(binary or ""))

    async def receive(self, label: str = "trial") -> dict[str, str]:
        await until(lambda: self.inboxes.get(label), "a message")
        return self.inboxes[label].pop(0)

    async def _open(self, label: str) -> RTCDataChannel:
        await until(
            lambda: label in self.channels and self.channels[label].readyState == "open", f"the channel {label}"
        )
        return self.channels[label]

    async def open(self, label: str, init: dict[str, Any]) -> None:
        self._watch(self.pc.createDataChannel(label, **init))
        await self._open(label)

    async def channel(self, label: str) -> dict[str, Any]:
        channel = await self._open(label)
        names = ("id", "protocol", "ordered", "maxRetransmits", "maxPacketLifeTime", "negotiated")
        return {name: getattr(channel, name) for name in names}

    async def close(self, label: str) -> None:
        self.channels[label].close()

    async def closed(self, label: str) -> None:
        await until(lambda: self.channels[label].readyState == "closed", f"the end of the channel {label}")

    async def mute(self, muted: bool) -> None:
        assert self.track is not None
        self.track.is_muted = muted

    async def trickle(self, candidates: list[str]) -> None:
        for line in candidates:
            candidate = candidate_from_sdp(line.removeprefix("candidate:"))
            candidate.sdpMLineIndex = 0
            await self.pc.addIceCandidate(candidate)

    async def hang_up(self) -> None:
        await self.pc.close()

    async def wait_ended(self) -> None:
        await until(lambda: self.pc.connectionState in ("closed", "failed"), "the end")


async def until(condition: Callable[[], Any], what: str, patience: float = PATIENCE) -> None:
    """Return as soon as the condition is true."""
    end = asyncio.get_running_loop().time() + patience
    while not condition():
        if asyncio.get_running_loop().time() > end:
            raise TimeoutError(f"no sign of {what} within {patience:g} s")
        await asyncio.sleep(0.01)


async def main() -> None:
    await obey(AiortcCall(), AiortcCall)


if __name__ == "__main__":
    asyncio.run(main())
