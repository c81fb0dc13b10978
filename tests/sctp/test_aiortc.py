"""Against another SCTP, aiortc's, in the same process and in virtual time, without DTLS."""

import asyncio
import random

import pytest

from bench._data_ends import AiortcEnd, OurEnd
from bench._virtual import Link, VirtualLoop
from interop.network_model import NetworkModel

pytestmark = pytest.mark.peer


def run(make):
    loop = VirtualLoop()
    asyncio.set_event_loop(loop)
    try:
        return loop.run_until_complete(make(loop))
    finally:
        asyncio.set_event_loop(None)
        loop.close()


def connect(loop, loss, we_are_client):
    model = NetworkModel(delay=0.025, loss=loss)
    there, back = Link(loop, 1, model), Link(loop, 2, model)
    ours = OurEnd(loop, there, back, we_are_client, 1, peer_max_message_size=262_144)
    theirs = AiortcEnd(loop, back, there, not we_are_client)
    return ours, theirs


@pytest.mark.parametrize("loss", [0.0, 0.05])
@pytest.mark.parametrize("we_are_client", [True, False])
def test_both_ways_from_either_side(loss, we_are_client):
    noise = random.Random(5)
    messages = [noise.randbytes(size) for size in (1, 1000, 1200, 5000, 60_000, 200_000)] + [
        "text",
        "",
        "ß" * 5000,
        b"",
    ]

    async def scenario(loop):
        ours, theirs = connect(loop, loss, we_are_client)
        got = {"ours": [], "theirs": []}
        opened = {"ours": [], "theirs": []}
        ours.on_message = lambda channel, data: got["ours"].append(data)
        theirs.on_message = lambda channel, data: got["theirs"].append(data)
        ours.on_channel = opened["ours"].append
        theirs.on_channel = opened["theirs"].append
        await asyncio.gather(ours.start(), theirs.start())
        await asyncio.sleep(10)
        from_us, from_them = ours.open("from us"), theirs.open("from them")
        await asyncio.sleep(10)
        for data in messages:
            ours.send(from_us, data)
            theirs.send(from_them, data)
        await asyncio.sleep(120)
        assert theirs.sctp.state == "connected"
        assert [channel.label for channel in opened["theirs"]] == ["from us"]
        assert len(opened["ours"]) == 1
        # Back over the channel that the other side opened.
        ours.send(opened["ours"][0], "back to you")
        opened["theirs"][0].send("and to you")
        await asyncio.sleep(10)
        assert got["theirs"] == [*messages, "back to you"]
        assert got["ours"] == [*messages, "and to you"]
        # Closing from their side; then ours.
        opened["theirs"][0].close()
        ours.channels.close_channel(opened["ours"][0], loop.time())
        ours._pump()
        await asyncio.sleep(20)
        assert not ours.channels._channels
        assert opened["theirs"][0].readyState == "closed"
        await ours.close()
        await asyncio.sleep(1)
        assert theirs.sctp.state == "closed"
        await theirs.close()

    run(scenario)
