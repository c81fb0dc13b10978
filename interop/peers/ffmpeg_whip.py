"""FFmpeg's WHIP muxer as the client of a call, through PyAV; the commands are those of `gstreamer/peer.py`.

It makes its offer over HTTP itself: a server on loopback takes it, and holds the response back until the harness
has the answer. The muxer is a process of its own (this module with arguments): PyAV holds the interpreter's lock
while FFmpeg waits for that response. WHIP sends and never receives (RFC 9725 §4), and FFmpeg has no data channels.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import tempfile
import threading
import time
from asyncio.subprocess import PIPE, Process
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from aiohttp import web

from interop.dtls_udp import write_pem
from interop.peers.aiortc_call import until
from interop.peers.orders import obey
from stack.dtls import Certificate

RATE = 48_000
FRAME = 960
HANDSHAKE_TIMEOUT = 20_000
"""Milliseconds that FFmpeg gives ICE and DTLS."""
LONGEST = 150
"""Seconds after which the muxer ends, also if the process that started it was killed before."""
SPEAKING = b"speaking\n"


class FfmpegCall:
    """The commands."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self._offered: asyncio.Future[str] = loop.create_future()
        self._answered: asyncio.Future[str] = loop.create_future()
        self._muxer: Process | None = None
        self._reading: list[asyncio.Task[None]] = []
        self._speaks = self._is_over = False
        self._error = b""

    async def _exchange(self, request: web.Request) -> web.Response:
        self._offered.set_result(await request.text())
        headers = {"Location": str(request.url)}
        answer = await self._answered
        return web.Response(text=answer, status=201, content_type="application/sdp", headers=headers)

    async def _deleted(self, _: web.Request) -> web.Response:
        return web.Response()

    async def offer(
        self, hertz: float, level: float, video: bool, data: bool, own_certificate: bool = False
    ) -> str:
        app = web.Application()
        app.router.add_post("/whip", self._exchange)
        app.router.add_delete("/whip", self._deleted)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}/whip"
        told = (url, str(hertz), str(level), str(int(video)), str(int(own_certificate)))
        argv = (sys.executable, "-m", "interop.peers.ffmpeg_whip", *told)
        self._muxer = await asyncio.create_subprocess_exec(*argv, stdin=PIPE, stdout=PIPE, stderr=PIPE)
        self._reading = [
            asyncio.create_task(each) for each in (self._read(self._muxer), self._listen(self._muxer))
        ]
        await until(lambda: self._offered.done() or self._is_over, "the offer")
        if not self._offered.done():
            raise RuntimeError(self._why())
        return self._offered.result()

    async def _read(self, muxer: Process) -> None:
        assert muxer.stdout is not None
        async for line in muxer.stdout:
            self._speaks = self._speaks or line == SPEAKING
        self._is_over = True

    async def _listen(self, muxer: Process) -> None:
        assert muxer.stderr is not None
        while said := await muxer.stderr.read(4096):
            self._error = (self._error + said)[-4096:]

    def _why(self) -> str:
        lines = self._error.decode(errors="replace").strip().splitlines()
        return f"FFmpeg has ended: {lines[-1] if lines else 'it said nothing'}"

    async def answer(self, sdp: str) -> None:
        self._answered.set_result(sdp)

    async def connected(self) -> None:
        await until(lambda: self._speaks or self._is_over, "the connection")
        if self._is_over:
            raise RuntimeError(self._why())

    async def hang_up(self) -> None:
        assert self._muxer is not None
        assert self._muxer.stdin is not None
        self._muxer.stdin.close()
        await until(lambda: self._is_over, "its end")

    async def wait_ended(self) -> None:
        await until(lambda: self._is_over, "the end")


def mux(url: str, hertz: float, level: float, video: bool, own_certificate: bool) -> None:
    """Call and send a sine in real time until stdin ends; FFmpeg connects when the first packet is written."""
    signal.alarm(
        LONGEST
    )  # the signal's own action, which needs no interpreter: FFmpeg holds its lock while it waits
    leave = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), leave.set()), daemon=True).start()
    with (
        tempfile.TemporaryDirectory() as folder,
        av.open(url, "w", format="whip", options=muxer_options(Path(folder), own_certificate)) as output,
    ):
        audio = output.add_stream("libopus", rate=RATE)
        audio.layout = "stereo"
        pictures = _picture_stream(output) if video else None
        began, sent = 0.0, 0
        while not leave.is_set():
            for packet in audio.encode(_sound(hertz, level, sent)):
                output.mux(packet)
                if not began:
                    sys.stdout.buffer.write(SPEAKING)
                    sys.stdout.flush()
                    began = time.monotonic()
            if pictures is not None and sent % 5 == 0:
                picture = av.VideoFrame.from_ndarray(np.full((180, 160), 128, np.uint8), format="yuv420p")
                picture.pts = sent // 5
                for packet in pictures.encode(picture):
                    output.mux(packet)
            sent += 1
            if began:
                leave.wait(max(0.0, began + sent * FRAME / RATE - time.monotonic()))


def muxer_options(folder: Path, own_certificate: bool = False) -> dict[str, str]:
    """Options with a certificate on P-256: FFmpeg 8.1 with GnuTLS makes one on P-224 (RFC 8422 §5.1.1)."""
    if own_certificate:
        return {"handshake_timeout": str(HANDSHAKE_TIMEOUT)}
    certificate, key = write_pem(Certificate.generate(os.urandom, datetime.now(UTC)), folder)
    return {"handshake_timeout": str(HANDSHAKE_TIMEOUT), "cert_file": certificate, "key_file": key}


def _sound(hertz: float, level: float, number: int) -> av.AudioFrame:
    at = np.arange(number * FRAME, (number + 1) * FRAME)
    sound = (32_767 * level * np.sin(2 * np.pi * hertz * at / RATE)).astype(np.int16)
    frame = av.AudioFrame.from_ndarray(np.repeat(sound, 2).reshape(1, -1), format="s16", layout="stereo")
    frame.sample_rate, frame.pts, frame.time_base = RATE, number * FRAME, Fraction(1, RATE)
    return frame


def _picture_stream(output: Any) -> Any:
    stream = output.add_stream("libx264", rate=10)
    stream.width, stream.height, stream.pix_fmt = 160, 120, "yuv420p"
    stream.options = {"preset": "ultrafast", "tune": "zerolatency", "profile": "baseline", "bf": "0"}
    return stream


async def main() -> None:
    await obey(FfmpegCall())


if __name__ == "__main__":
    if len(sys.argv) == 6:
        mux(sys.argv[1], float(sys.argv[2]), float(sys.argv[3]), sys.argv[4] == "1", sys.argv[5] == "1")
    else:
        asyncio.run(main())
