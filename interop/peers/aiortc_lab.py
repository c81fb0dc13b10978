"""The far end of a data channel trial on aiortc: the twin of `lab.js`. Commands come as JSON lines on stdin."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from hashlib import sha256
from time import perf_counter
from typing import Any

import aioice.ice
from aiortc import RTCConfiguration, RTCDataChannel, RTCPeerConnection, RTCSessionDescription

from interop.lab import Sample, content, receipt
from interop.peers.orders import obey

_OPTIONS = {
    "ordered": "ordered",
    "maxRetransmits": "maxRetransmits",
    "maxPacketLifeTime": "maxPacketLifeTime",
    "protocol": "protocol",
    "negotiated": "negotiated",
    "id": "id",
}


async def until(condition: Callable[[], Any]) -> Any:
    """Return the value of `condition` as soon as it is true."""
    while not (value := condition()):
        await asyncio.sleep(0.004)
    return value


class End:
    """A channel and what came on it."""

    def __init__(self, channel: RTCDataChannel) -> None:
        self.channel = channel
        self.inbox: list[str | bytes] = []
        self.first = self.last = 0.0
        self.size = 0
        self.lows = 0
        self.most_at_low = 0
        self.low = asyncio.Event()
        channel.on("message", self.take)
        channel.on("bufferedamountlow", self.note_low)

    def take(self, message: str | bytes) -> None:
        self.last = perf_counter()
        self.first = self.first or self.last
        self.inbox.append(message)
        self.size += len(message)

    def note_low(self) -> None:
        self.lows += 1
        self.most_at_low = max(self.most_at_low, self.channel.bufferedAmount)
        self.low.set()

    def describe(self) -> dict[str, Any]:
        channel = self.channel
        names = ("id", "label", "protocol", "ordered", "maxRetransmits", "maxPacketLifeTime", "negotiated")
        return {name: getattr(channel, name) for name in names}


class Lab:
    """The commands, named as in `lab.js`."""

    def __init__(self) -> None:
        self._pc: RTCPeerConnection | None = None
        self._ends: dict[str, End] = {}

    @property
    def pc(self) -> RTCPeerConnection:
        assert self._pc is not None
        return self._pc

    async def offer(self) -> str:
        await self.hang_up()
        self._ends = {}
        self._pc = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self._pc.on("datachannel", lambda channel: self._ends.update({channel.label: End(channel)}))
        self._ends["bootstrap"] = End(self._pc.createDataChannel("bootstrap"))
        await self._pc.setLocalDescription(await self._pc.createOffer())
        return str(self._pc.localDescription.sdp)

    async def answer(self, sdp: str) -> dict[str, Any]:
        await self.pc.setRemoteDescription(RTCSessionDescription(sdp, "answer"))
        await self.wait_open("bootstrap")
        return {"maxMessageSize": None}

    async def open(self, label: str, options: dict[str, Any]) -> dict[str, Any]:
        chosen = {_OPTIONS[name]: value for name, value in options.items()}
        self._ends[label] = End(self.pc.createDataChannel(label, **chosen))
        return await self.wait_open(label)

    async def wait_open(self, label: str) -> dict[str, Any]:
        await until(lambda: label in self._ends and self._ends[label].channel.readyState == "open")
        return self._ends[label].describe()

    async def send(self, label: str, messages: list[dict[str, Any]]) -> None:
        for message in messages:
            self._ends[label].channel.send(Sample(**message).data)
        await self.pc.sctp._data_channel_flush()

    async def receive(self, label: str, count: int) -> list[dict[str, Any]]:
        inbox = self._ends[label].inbox
        await until(lambda: len(inbox) >= count)
        taken = [receipt(message) for message in inbox[:count]]
        del inbox[:count]
        return taken

    async def count(self, label: str) -> int:
        return len(self._ends[label].inbox)

    async def transfer(self, label: str, size: int, chunk: int, seed: int, low: int, high: int) -> dict[str, int]:
        end = self._ends[label]
        source = content(size, seed)
        end.channel.bufferedAmountLowThreshold = low
        end.lows = end.most_at_low = 0
        for at in range(0, size, chunk):
            while end.channel.bufferedAmount > high:
                end.low.clear()
                await end.low.wait()
            end.channel.send(source[at : at + chunk])
        await until(lambda: end.channel.bufferedAmount == 0)
        return {"lows": end.lows, "mostAtLow": end.most_at_low}

    async def collect(self, label: str, size: int) -> dict[str, Any]:
        end = self._ends[label]
        await until(lambda: end.size >= size)
        whole = b"".join(m for m in end.inbox if isinstance(m, bytes))
        seconds = end.last - end.first
        end.inbox.clear()
        end.size, end.first = 0, 0.0
        return {"seconds": seconds, "size": len(whole), "sha256": sha256(whole).hexdigest()}

    async def close(self, label: str) -> None:
        self._ends[label].channel.close()

    async def wait_closed(self, label: str) -> None:
        await until(lambda: self._ends[label].channel.readyState == "closed")

    async def hang_up(self) -> None:
        if self._pc is not None:
            pc, self._pc = self._pc, None
            await pc.close()


async def main() -> None:
    # aioice leaves loopback out of its candidates; here there may be nothing else.
    aioice.ice.get_host_addresses = lambda use_ipv4, use_ipv6: ["127.0.0.1"]
    await obey(Lab())


if __name__ == "__main__":
    asyncio.run(main())
