"""The process that joins the regions of the simulated world: IP packets, each as late as its way is long.

    python -m interop.region_router us,eu,asia --seed 7

It makes a TUN device for each end (`interop.regions.machines`), named `t0`, `t1` and so on in their order; who
started it moves them into the namespaces of the ends. Commands are lines on stdin, `cut REGION`, `join REGION` and
`statistics`; each is answered by a line of JSON. A region that is cut off and its user reach each other, and no
other end. Every pair of ends has a `Link` for each direction, seeded by its name.

It ends with its input. IPv4 alone; it needs root and /dev/net/tun.
"""

from __future__ import annotations

import argparse
import asyncio
import fcntl
import json
import os
import selectors
import struct
import sys
from collections import Counter
from collections.abc import Sequence
from functools import partial
from ipaddress import IPv4Address

from interop.delay_line import DelayLine
from interop.network_model import Link
from interop.regions import REGIONS, Machine, machines, way

DEVICE = "t"
"""With a number, the name of a TUN device."""
_TUNSETIFF = 0x400454CA  # linux/if_tun.h
_TUN_WITHOUT_HEADER = 0x1001  # IFF_TUN | IFF_NO_PI
_READ_BATCH = 64
_MAX_PACKET = 65_535
_SOURCE, _TARGET = slice(12, 16), slice(16, 20)  # RFC 791 §3.1


class RegionRouter:
    """Forwards between the devices of the ends."""

    def __init__(self, ends: Sequence[Machine], seed: int | str, loop: asyncio.AbstractEventLoop) -> None:
        self.cut: set[str] = set()
        """Names of regions that are cut off."""
        self._ends = ends
        self._seed = seed
        self._loop = loop
        self._line = DelayLine(loop)
        self._tally: Counter[str] = Counter()
        self._by_address = {IPv4Address(end.address).packed: number for number, end in enumerate(ends)}
        self._links: dict[tuple[int, int], Link] = {}
        self._devices: list[int] = []

    def open(self) -> None:
        """Make the devices. Raises `OSError`."""
        for number in range(len(self._ends)):
            device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
            self._devices.append(device)
            fcntl.ioctl(
                device, _TUNSETIFF, struct.pack("16sH22x", f"{DEVICE}{number}".encode(), _TUN_WITHOUT_HEADER)
            )
            self._loop.add_reader(device, self._read, number)

    def _read(self, number: int) -> None:
        device = self._devices[number]
        for _ in range(_READ_BATCH):
            try:
                packet = os.read(device, _MAX_PACKET)
            except BlockingIOError:
                return
            except OSError:  # the namespace is going, and the device with it
                self._loop.remove_reader(device)
                return
            self._forward(packet, number)

    def _forward(self, packet: bytes, source: int) -> None:
        target = self._by_address.get(packet[_TARGET])
        if target is None or packet[0] >> 4 != 4 or self._by_address.get(packet[_SOURCE]) != source:
            self._tally["strange"] += 1  # IPv6 looks for neighbours
            return
        ours, theirs = self._ends[source].region.name, self._ends[target].region.name
        if ours != theirs and (ours in self.cut or theirs in self.cut):
            self._tally["cut"] += 1
            return
        for at in self._link(source, target).transit(len(packet), self._loop.time()):
            if not self._line.add(at, partial(self._write, packet, target)):
                self._tally["too_many_under_way"] += 1

    def _write(self, packet: bytes, target: int) -> None:
        try:
            os.write(self._devices[target], packet)
        except OSError:
            self._tally["not_taken"] += 1
        else:
            self._tally["forwarded"] += 1

    def _link(self, source: int, target: int) -> Link:
        link = self._links.get((source, target))
        if link is None:
            ends = self._ends[source], self._ends[target]
            link = self._links[source, target] = Link(way(*ends), f"{self._seed}/{ends[0].name}/{ends[1].name}")
        return link

    def statistics(self) -> dict[str, object]:
        """Return counts, and how late the router itself was, in milliseconds."""
        return {**self._tally, "late_ms": self._line.lateness.summary()}

    def carry_out(self, line: str) -> dict[str, object]:
        """Carry out a command, and return the answer."""
        word, _, region = line.strip().partition(" ")
        if word == "statistics":
            return self.statistics()
        if word == "cut":
            self.cut.add(region)
        else:
            self.cut.discard(region)
        return {"cut": sorted(self.cut)}


async def _serve(ends: Sequence[Machine], seed: str) -> None:
    loop = asyncio.get_running_loop()
    router = RegionRouter(ends, seed, loop)
    router.open()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    print(json.dumps({"devices": len(ends)}), flush=True)
    while line := await reader.readline():
        print(json.dumps(router.carry_out(line.decode())), flush=True)


def main() -> None:
    """Run the process."""
    parser = argparse.ArgumentParser(prog="python -m interop.region_router")
    parser.add_argument("regions", help="names, with commas between them")
    parser.add_argument("--seed", default="0")
    options = parser.parse_args()
    names = options.regions.split(",")
    ends = machines([region for region in REGIONS if region.name in names])
    # epoll rounds a timeout up to whole milliseconds, select does not
    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selectors.SelectSelector())) as runner:
        runner.run(_serve(ends, options.seed))


if __name__ == "__main__":
    main()
