"""A process beside a relay that tells it of the nodes: `python -m stack.cluster.relay_nodes URL… [--ipv6]`.

It writes a line, `PART=HOST:PORT …`, whenever the nodes are others, and ends when its input does: that is when the
relay is gone (`stack.relay.node_list`).
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from ipaddress import ip_address

from stack.cluster.backbone import Backbone, BackboneConfig
from stack.cluster.messages import NodeRecord
from stack.cluster.nodes import NodeBook
from stack.core.machine import Address
from stack.relay.node_list import write_line

LOOK_EVERY = 0.2
"""Seconds between two looks at the nodes."""
GONE_AFTER = 120.0
"""Seconds for which a node is still told of that has said nothing: its calls may go on."""


def address_of(node: NodeRecord, is_ipv6: bool) -> Address | None:
    """Return where a relay reaches a node: its first address of the family, loopback only without others."""
    fit = [address for address in node.addresses if address.is_ipv6 == is_ipv6]
    return min(fit, key=lambda address: ip_address(address.host).is_loopback, default=None)


async def tell(backbone: Backbone, is_ipv6: bool) -> None:
    """Write the nodes whenever they are others, for ever."""
    book = NodeBook(backbone)
    await backbone.start()
    book.start()
    heard: dict[str, tuple[Address, float]] = {}
    told: dict[str, Address] = {}
    clock = asyncio.get_running_loop().time
    while True:
        now = clock()
        if not backbone.is_up:  # what is known stays
            heard = {name: (address, now) for name, (address, _) in heard.items()}
        for node in book.nodes:
            address = address_of(node, is_ipv6)
            if address is not None:
                heard[node.name] = address, now
        heard = {name: each for name, each in heard.items() if now - each[1] < GONE_AFTER}
        known = {name: address for name, (address, _) in sorted(heard.items())}
        if known != told and known:
            told = known
            sys.stdout.write(write_line(told))
            sys.stdout.flush()
        await asyncio.sleep(LOOK_EVERY)


async def _until_input_ends(backbone: Backbone, is_ipv6: bool) -> None:
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    telling = asyncio.ensure_future(tell(backbone, is_ipv6))
    await asyncio.wait({telling, asyncio.ensure_future(reader.read())}, return_when=asyncio.FIRST_COMPLETED)
    if telling.done():
        await telling  # what it raised
    else:
        os._exit(0)  # nothing is left to do, and a client of NATS that reconnects takes no cancellation


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the process."""
    parser = argparse.ArgumentParser(prog="relay_nodes")
    parser.add_argument("servers", nargs="+")
    parser.add_argument("--nats-creds", default=None)
    parser.add_argument("--ipv6", action="store_true")
    given = parser.parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    backbone = Backbone(BackboneConfig(tuple(given.servers), given.nats_creds), "relay")
    with suppress(KeyboardInterrupt):  # Ctrl-C is for the relay, which ends us
        asyncio.run(_until_input_ends(backbone, given.ipv6))


if __name__ == "__main__":
    main()
