"""Record the call of *Learn*: `python -m tools.record_call` places one over loopback and keeps its bytes.

Both ends are ours: the server runs an echo that also answers on a data channel, the client speaks for a fifth of a
second, sends a message and hangs up. Into `docs/learn/call` go the offer, the answer, every datagram as the client
saw it, and the secrets of DTLS, with which the pages and any reader of theirs can open what is encrypted.
"""

from __future__ import annotations

import asyncio
import io
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from aiohttp import web

from stack import Call
from stack.aio import Host, HostConfig
from stack.core.trace import PcapWriter
from stack.signaling.client import DialConfig, dial
from stack.voice.config import ConversationConfig

FOLDER = Path(__file__).parents[1] / "docs" / "learn" / "call"
RATE = 16_000
PLAIN = ConversationConfig(dtls_in_stun=False)
"""As browsers do it: the handshake of DTLS comes behind the checks of ICE, not inside of them."""
SPOKEN = 0.2
"""Seconds that the client speaks."""
MIDNIGHT = 1_790_000_000.0
"""What the capture says that the clock said: its times begin at a round second."""


@dataclass(frozen=True, slots=True)
class RecordedCall:
    """What was kept of a call."""

    offer: str
    answer: str
    pcap: bytes
    keys: str

    def save(self, folder: Path) -> None:
        """Write the four files."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "offer.sdp").write_text(self.offer, "utf-8", newline="")
        (folder / "answer.sdp").write_text(self.answer, "utf-8", newline="")
        (folder / "call.pcap").write_bytes(self.pcap)
        (folder / "call.keys").write_text(self.keys, "utf-8")

    @classmethod
    def load(cls, folder: Path = FOLDER) -> RecordedCall:
        """Read the four files."""
        return cls(
            (folder / "offer.sdp").read_bytes().decode(),
            (folder / "answer.sdp").read_bytes().decode(),
            (folder / "call.pcap").read_bytes(),
            (folder / "call.keys").read_text("utf-8"),
        )


async def echo_and_answer(call: Call) -> None:
    """Send back what is heard, and answer the first message."""

    async def chat() -> None:
        channel = await call.channels.wait_for("chat")
        async for message in channel:
            await channel.send(f"you said: {message}")

    chatting = asyncio.create_task(chat())
    async for frame in call.microphone:
        call.speaker.write(frame)
    chatting.cancel()


async def converse(call: Call) -> None:
    """Speak, send a message, and stay until the first reports have come."""
    await call.wait_connected()
    wave = np.sin(2 * np.pi * 440 * np.arange(int(SPOKEN * RATE)) / RATE)
    call.speaker.write((9000 * wave).astype(np.int16), RATE)
    chat = await call.open_channel("chat")
    await chat.send("hello")
    await anext(aiter(chat))
    await call.speaker.drained()
    while (await call.stats()).round_trip_time is None:
        await asyncio.sleep(0.02)


async def record() -> RecordedCall:
    """Place the call and return what was seen of it."""
    described: dict[str, str] = {}

    async def take(request: web.Request) -> web.Response:
        lines = (await request.text()).splitlines(keepends=True)
        # as browsers do it: the association of SCTP is set up by its handshake
        described["offer"] = "".join(line for line in lines if not line.startswith("a=sctp-init:"))
        accepted = await host.accept(described["offer"])
        described["answer"] = accepted.answer
        return web.Response(status=201, text=accepted.answer, content_type="application/sdp")

    file, keys = io.BytesIO(), list[str]()
    app = web.Application()
    app.router.add_post("/whip", take)
    async with Host(echo_and_answer, HostConfig(host="127.0.0.1", udp_port=0)) as host:
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}/whip"
        trace = PcapWriter(file, epoch=MIDNIGHT, origin=time.monotonic())
        try:
            async with dial(url, DialConfig(PLAIN, trace=trace, key_log=keys.append)) as placed:
                await converse(placed.call)
        finally:
            await runner.cleanup()
    return RecordedCall(described["offer"], described["answer"], file.getvalue(), "\n".join(keys) + "\n")


if __name__ == "__main__":
    asyncio.run(record()).save(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER)
