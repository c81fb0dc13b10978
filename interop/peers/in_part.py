"""This project's stack in a process of its own with one part of another in it: its DTLS, or its SCTP.

    python -m interop.peers.in_part openssl

What speaks that part is a program around the other stack; everything else of the call, ICE, SRTP and sound, is
ours. The commands are those of `gstreamer/peer.py`.
"""

from __future__ import annotations

import asyncio
import base64
import sys
from contextlib import AsyncExitStack
from typing import Any

import numpy as np

from interop.evidence import Side
from interop.peers import sctp_tools
from interop.peers.base import End, Wishes
from interop.peers.dtls_tools import replace_dtls
from interop.peers.orders import obey
from interop.peers.ours import Ours
from interop.sound import WIRE_RATE
from stack.audio import resample


class CallInPart:
    """The commands, carried out by an end of ours."""

    def __init__(self, stack: AsyncExitStack) -> None:
        self._stack = stack
        self._end: End | None = None

    async def _start(self, side: Side, wishes: Wishes) -> End:
        self._end = await self._stack.enter_async_context(Ours().start(side, wishes))
        return self._end

    def _the_end(self) -> End:
        assert self._end is not None
        return self._end

    async def offer(
        self, hertz: float, level: float, video: bool, data: bool, dtls: str = ""
    ) -> str:  # the tone is the side's own
        wishes = Wishes(data=data, dtls=dtls)
        return await (await self._start("client", wishes)).offer(wishes)

    async def answer(self, sdp: str) -> None:
        await self._the_end().answer(sdp)

    async def accept(
        self, sdp: str, hertz: float, level: float, video: bool, setup: str = "", dtls: str = ""
    ) -> str:
        wishes = Wishes(data="m=application" in sdp, setup=setup, dtls=dtls)
        return await (await self._start("server", wishes)).accept(sdp, wishes)

    async def connected(self) -> None:
        await self._the_end().connected()

    async def listen(self, seconds: float) -> str:
        heard = await self._the_end().listen(seconds)
        assert heard is not None
        samples = resample(np.asarray(heard[0]), heard[1], WIRE_RATE)
        return base64.b64encode(samples.astype(np.int16).tobytes()).decode()

    async def send(self, text: str | None = None, binary: str | None = None) -> None:
        await self._the_end().send(text if text is not None else base64.b64decode(binary or ""))

    async def receive(self) -> dict[str, str]:
        message = await self._the_end().receive()
        if isinstance(message, str):
            return {"text": message}
        return {"binary": base64.b64encode(message).decode()}

    async def hang_up(self) -> None:
        await self._the_end().hang_up()

    async def wait_ended(self) -> None:
        await self._the_end().wait_ended()


async def main(tool: str) -> None:
    if tool in sctp_tools.PROGRAMS:
        sctp_tools.replace_sctp(tool)
    else:
        replace_dtls(tool)
    async with AsyncExitStack() as stack:
        call: Any = CallInPart(stack)
        await obey(call)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
