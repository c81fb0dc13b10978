"""What a whole call with another stack has to show: the stack as a process, and the trials that it is put through.

A `Peer` takes the commands that `interop/peers/gstreamer/peer.py` documents. Each side sends a tone of its own and
measures what it hears; messages of every size and kind go from the peer to our program and back.
"""

from __future__ import annotations

import asyncio
import base64
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np

from interop.lab import ProcessLab, content, process
from interop.sound import CLIENT_TONE, LEVEL, SERVER_TONE, WIRE_RATE, Samples, Tone, sine
from stack import Call
from stack.aio import HostConfig
from stack.audio import OpusDecoder, OpusEncoder
from stack.session import EndReason
from stack.signaling.server import ServeConfig, Serving, serving
from stack.voice.conversation import ConversationConfig

ROOT = Path(__file__).resolve().parent.parent
PEERS = ROOT / "interop" / "peers"
PION = ROOT / "build" / "peers" / "pion_peer"
GSTREAMER = ("/usr/bin/python3", str(PEERS / "gstreamer" / "peer.py"))

LIFE = 45.0
"""Seconds; more than the 30 after which RFC 7675 §5.1 gives a peer up that says nothing."""
PROGRAM_RATE = 16_000
PATIENCE = 30.0
"""Seconds; only to turn what hangs into an error."""


@cache
def why_gstreamer_is_absent() -> str | None:
    """One line, or None if it is there."""
    check = (
        "import gi; [gi.require_version(n, '1.0') for n in ('Gst', 'GstSdp', 'GstWebRTC')]; "
        "from gi.repository import Gst, GstSdp, GstWebRTC; Gst.init(None); "
        "names = ('webrtcbin', 'nicesrc', 'dtlsenc', 'srtpenc', 'sctpenc', 'opusenc', 'vp8enc', 'rtpopuspay'); "
        "import sys; sys.exit(' '.join(n for n in names if Gst.ElementFactory.find(n) is None) or 0)"
    )
    try:
        done = subprocess.run([GSTREAMER[0], "-c", check], capture_output=True, text=True, check=False, timeout=60)
    except (OSError, subprocess.SubprocessError) as error:
        return f"GStreamer: {error}"
    said = done.stderr.strip().splitlines()
    return (
        None if done.returncode == 0 else f"no GStreamer with webrtcbin here: {said[-1] if said else 'it ended'}"
    )


def why_pion_is_absent() -> str | None:
    """One line, or None if it is there."""
    if not PION.exists():
        return "Pion is not built here: `make peers` builds it where there is go"
    if PION.stat().st_mtime < (PEERS / "pion" / "main.go").stat().st_mtime:
        return "Pion was built from an older main.go: `make peers` builds it again"
    return None


class Peer:
    """The other stack's side of one call."""

    def __init__(
        self, lab: ProcessLab, offer: Mapping[str, Any], *, knows_empty: bool = True, says_goodbye: bool = True
    ) -> None:
        self.knows_empty = knows_empty
        self.says_goodbye = says_goodbye
        self._lab = lab
        self._offer = offer

    async def offer(self, *, video: bool = False) -> str:
        """Make the call and return its offer."""
        sdp: str = await self._lab.do("offer", video=video, **self._offer)
        return sdp

    async def answer(self, sdp: str) -> None:
        """Take the answer, and wait until the connection and the channel stand."""
        await self._lab.do("answer", sdp=sdp)
        await self._lab.do("connected")

    async def listen(self) -> Tone:
        """Measure what it hears from now on, after half a second in which the decoder settles."""
        heard = await self._lab.do("listen", seconds=1.5)
        if isinstance(heard, str):
            return Tone.measure(np.frombuffer(base64.b64decode(heard), np.int16), WIRE_RATE)
        decoder = OpusDecoder(WIRE_RATE)
        return Tone.measure(np.concatenate([decoder.decode(base64.b64decode(p)) for p in heard]), WIRE_RATE)

    async def send(self, message: str | bytes) -> None:
        """Send a message on the channel "trial"."""
        if isinstance(message, str):
            await self._lab.do("send", text=message)
        else:
            await self._lab.do("send", binary=base64.b64encode(message).decode())

    async def receive(self) -> str | bytes:
        """Wait for the next message on the channel."""
        message = await self._lab.do("receive")
        return message["text"] if "text" in message else base64.b64decode(message["binary"])

    async def hang_up(self) -> None:
        """Close the connection; nothing is said over HTTP."""
        await self._lab.do("hang_up")

    async def wait_ended(self) -> None:
        """Wait until it has noticed that we ended the call."""
        await self._lab.do("wait_ended")


@asynccontextmanager
async def gstreamer() -> AsyncIterator[Peer]:
    """webrtcbin, which makes its own tone."""
    async with process("gstreamer", GSTREAMER) as lab:
        # Of an empty message GStreamer 1.22 makes a chunk without data (RFC 8831 §6.6 asks for a byte), which its
        # own SCTP then refuses, and the pipeline ends. One that it receives it takes for the other kind (§8).
        # A pipeline that ends sends neither BYE nor close_notify.
        offer = {"hertz": CLIENT_TONE, "level": LEVEL}
        yield Peer(lab, offer, knows_empty=False, says_goodbye=False)


@asynccontextmanager
async def pion() -> AsyncIterator[Peer]:
    """Pion, which has no encoder: it is given a tone as Opus packets, which it repeats."""
    encoder = OpusEncoder(WIRE_RATE, cbr=True)
    tone = sine(CLIENT_TONE, 2, WIRE_RATE)
    packets = [encoder.encode(tone[at : at + 960]) for at in range(0, len(tone), 960)]
    settled = [base64.b64encode(packet).decode() for packet in packets[len(packets) // 2 :]]
    async with process("pion", [str(PION)]) as lab:
        yield Peer(lab, {"packets": settled})


@dataclass(slots=True)
class Program:
    """Our end: speaks a tone as long as the call lasts, keeps the last second that it heard, returns messages."""

    heard: list[Samples] = field(default_factory=list)

    async def __call__(self, call: Call) -> None:
        """The program of a call."""
        echo = asyncio.create_task(self._return_messages(call))
        second = sine(SERVER_TONE, 1, PROGRAM_RATE)
        call.speaker.write(second, PROGRAM_RATE)
        samples = 0
        async for frame in call.microphone:
            if samples % PROGRAM_RATE == 0:
                call.speaker.write(second, PROGRAM_RATE)
            samples += len(frame.samples)
            self.heard.append(frame.samples)
            del self.heard[:-200]
        await echo

    @staticmethod
    async def _return_messages(call: Call) -> None:
        channel = await call.channels.wait_for("trial")
        await channel.send("")
        async for message in channel:
            await channel.send(message)

    async def listen(self) -> Tone:
        """Measure what arrives from now on."""
        self.heard.clear()
        async with asyncio.timeout(PATIENCE):
            while sum(map(len, self.heard)) < 1.5 * PROGRAM_RATE:
                await asyncio.sleep(0.02)
        return Tone.measure(np.concatenate(self.heard), PROGRAM_RATE)


@dataclass(frozen=True, slots=True)
class Trial:
    """A call that stands."""

    peer: Peer
    call: Call
    program: Program
    answer: str
    delete: Callable[[], Awaitable[None]]
    """Delete the WHIP session (RFC 9725 §4.2)."""


@asynccontextmanager
async def server(program: Program) -> AsyncIterator[Serving]:
    """Our server, listening as it does when it is told nothing; the program hears what arrives, unchanged."""
    conversation = ConversationConfig(echo="off", microphone_rate=PROGRAM_RATE)
    async with serving(
        program, ServeConfig(port=0, media=HostConfig(udp_port=0, conversation=conversation))
    ) as it:
        yield it


@asynccontextmanager
async def calling(peer: Peer, *, video: bool = False) -> AsyncIterator[Trial]:
    """Let the peer call our server by WHIP, whose HTTP side is done for it here."""
    program = Program()
    async with server(program) as serving, aiohttp.ClientSession(serving.url) as http:
        headers = {"Content-Type": "application/sdp"}
        async with http.post("/whip", data=await peer.offer(video=video), headers=headers) as response:
            answer, location = await response.text(), response.headers.get("Location", "")
            assert response.status == 201, answer

        async def delete() -> None:
            async with http.delete(location) as response:
                assert response.status == 200

        (call,) = serving.host.calls.values()
        await peer.answer(answer)
        async with asyncio.timeout(PATIENCE):
            await call.wait_connected()
        yield Trial(peer, call, program, answer, delete)


async def sound_both_ways(trial: Trial) -> None:
    """Each side hears the other's tone, as loud as it was said."""
    for heard, hertz in ((await trial.peer.listen(), SERVER_TONE), (await trial.program.listen(), CLIENT_TONE)):
        assert abs(heard.hertz - hertz) <= 2, heard
        assert abs(20 * np.log10(heard.amplitude / LEVEL)) < 1, heard  # dB
        assert heard.purity > 0.9, heard


MESSAGES: Sequence[str | bytes] = (
    "hello",
    "",
    "grüße 🎧",
    b"\0",
    content(1_200, 1),
    content(60_000, 2),
    "x" * 30_000,
    b"",
)


async def data_both_ways(trial: Trial) -> None:
    """Text and binary come back as they were sent, in order, after an empty text that our program begins with."""
    messages = [message for message in MESSAGES if message or trial.peer.knows_empty]
    for message in messages:
        await trial.peer.send(message)
    greeting = await trial.peer.receive()
    assert greeting == "" if trial.peer.knows_empty else not greeting
    assert [await trial.peer.receive() for _ in messages] == messages


async def declined_video(trial: Trial) -> None:
    """The answer says no to pictures and yes to everything else, and the peer goes along."""
    sections = {line.split()[0]: line.split()[1] for line in trial.answer.splitlines() if line.startswith("m=")}
    assert sections["m=video"] == "0"
    assert sections["m=audio"] != "0"
    assert sections["m=application"] != "0"
    await sound_both_ways(trial)
    await data_both_ways(trial)


async def life(trial: Trial) -> None:
    """The call lasts, and is as good at the end as at the beginning."""
    try:
        end = await asyncio.wait_for(asyncio.shield(trial.call.wait_ended()), LIFE)
    except TimeoutError:
        await sound_both_ways(trial)
        await data_both_ways(trial)
    else:
        raise AssertionError(f"the call ended: {end.reason.value}")


async def hung_up_by_us(trial: Trial) -> None:
    """The peer is told."""
    trial.call.hang_up()
    await trial.peer.wait_ended()
    assert (await trial.call.wait_ended()).reason is EndReason.HUNG_UP


async def hung_up_by_the_peer(trial: Trial) -> None:
    """Our side is told, at once and not by the peer's silence: on the path, or by WHIP."""
    await trial.peer.hang_up()
    if not trial.peer.says_goodbye:
        await trial.delete()
    async with asyncio.timeout(PATIENCE):
        reason = (await trial.call.wait_ended()).reason
    assert reason is (EndReason.PEER_CLOSED if trial.peer.says_goodbye else EndReason.HUNG_UP)
