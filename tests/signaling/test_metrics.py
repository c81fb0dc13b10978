"""What a server counts is shown at /metrics, by its name, and stays there when the call is over."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from stack import Call
from stack.agents import echo
from stack.aio import HostConfig
from stack.aio.recording_writer import find_writer
from stack.aio.tickets import TicketConfig
from stack.core.counters import OWNERS, Counters, declared_counters
from stack.sdp import IGNORED
from stack.signaling import metrics
from stack.signaling.client import dial
from stack.signaling.server import ServeConfig, Serving, serving

MANY = 10**9
"""More of each than a short call counts by itself."""


async def scrape(server: Serving) -> dict[str, float]:
    """Return the counters at /metrics, by their whole names."""
    async with aiohttp.ClientSession() as session, session.get(server.url + "/metrics") as response:
        text = await response.text()
    (family,) = [each for each in text_string_to_metric_families(text) if each.name == "voice_counters"]
    return {f"{sample.labels['owner']}.{sample.labels['name']}": sample.value for sample in family.samples}


def tallies_of_port(media: Any) -> Mapping[str, tuple[Counters, ...]]:
    sockets = media.driver.sockets
    return {
        "endpoint": (media.endpoint.counters,),
        "ticket": (media._admission.counters,),
        "socket": (sockets.counters, *(each.counters for each in sockets)),
        "tcp": (media.driver.tcp.counters,),
        "driver": (media.driver.counters, media.counters),
        "worker": (media.counters,),
    }


def tallies_of_call(conversation: Any) -> Mapping[str, tuple[Counters, ...]]:
    session, line = conversation.session, conversation.line
    return {
        "session": (session.counters,),
        "ice": (session._ice.counters,),
        "dtls": (session._dtls.counters,),
        "media": (session._media.counters,),
        "rtp": (session._media.transport.counters,),
        "sctp": (session._channels.counters,),
        "jitter": (line.receiver.buffer.counters,),
        "decoder": (line.receiver.counters,),
        "playout": (line.sender.counters,),
        "line": (line.counters,),
        "conversation": (conversation.counters,),
    }


def count(tallies: Mapping[str, tuple[Counters, ...]]) -> dict[str, int]:
    """Count `MANY` of every declared counter in each tally of its owner; return the least that is to be seen."""
    expected = {}
    for each in declared_counters().values():
        for tally in tallies.get(each.owner, ()):
            tally.add(each.name, MANY)
            expected[each.name] = expected.get(each.name, 0) + MANY
    return expected


def missing(expected: Mapping[str, int], shown: Mapping[str, float]) -> dict[str, float | None]:
    return {name: shown.get(name) for name, least in expected.items() if not shown.get(name, 0) >= least}


async def test_every_counter_is_shown_while_the_call_is_up_and_after_it(tmp_path: Path) -> None:
    media = HostConfig(udp_port=0, record_dir=tmp_path, tickets=TicketConfig())

    async def program(call: Call) -> None:
        call.speaker.write(np.full(1600, 1000, np.int16), 16_000)
        await echo(call)

    async with (
        asyncio.timeout(30),
        serving(program, ServeConfig(port=0, media=media)) as server,
        dial(server.url) as placed,
    ):
        await placed.call.wait_connected()
        await anext(aiter(placed.call.microphone))
        host = server.host
        (hosted,) = host._table.calls.values()
        media_side = host._media.media
        conversation = media_side.conversations[hosted.id]
        assert hosted.call.recording is not None
        recording = find_writer(hosted.call.recording.name)
        assert recording is not None

        def count_on_the_media_side() -> dict[str, int]:
            ignored = conversation.session.parameters.negotiation.ignored
            assert isinstance(ignored, dict)
            ignored |= dict.fromkeys(IGNORED, MANY)
            return (
                count(tallies_of_port(media_side))
                | count(tallies_of_call(conversation))
                | dict.fromkeys(IGNORED.values(), MANY)
            )

        expected = await host._media.thread.run(count_on_the_media_side)
        expected |= count({"host": (host.counters, host._table.counters)})
        assert missing(expected, await scrape(server)) == {}
        of_the_call = (await hosted.call.stats()).counters
        assert {name.partition(".")[0] for name, amount in of_the_call.items() if amount >= MANY} == {
            *tallies_of_call(conversation),
            "sdp",
        }

        recorded = count({"recorder": (recording._recorder.counters,)})
        expected |= recorded
        elsewhere = {"forwarder", "backbone", "relay"}  # a server alone, with a thread, has none of them
        assert {name.partition(".")[0] for name in expected} == set(OWNERS) - elsewhere
        placed.call.hang_up()
        while recorded.keys() & missing(recorded, shown := await scrape(server)).keys():
            assert missing({k: v for k, v in expected.items() if k not in recorded}, shown) == {}, "never less"
        assert host.calls == {}
        assert missing(expected, await scrape(server)) == {}
        assert set(await scrape(server)) == set(declared_counters())


async def test_a_stray_datagram_is_seen(server: Serving) -> None:
    before = await scrape(server)
    assert before["endpoint.dropped_unknown_path"] == 0
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        address = next(each for each in server.host.addresses if ":" not in each.host)
        stranger.sendto(b"\x80stray", address)
        async with asyncio.timeout(10):
            while (await scrape(server))["endpoint.dropped_unknown_path"] != 1:
                pass


async def test_every_step_of_a_set_up_has_its_histogram(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "SETTLED", 0.0)
    wanted = {"session_made", "ice_validated", "dtls_begun", "keys_ready"}

    async def steps(server: Serving) -> dict[str, float]:
        """Return how often each step was counted."""
        async with aiohttp.ClientSession() as session, session.get(server.url + "/metrics") as response:
            text = await response.text()
        (family,) = (f for f in text_string_to_metric_families(text) if f.name == "voice_setup_step_seconds")
        return {each.labels["step"]: each.value for each in family.samples if each.name.endswith("_count")}

    async with (
        asyncio.timeout(30),
        serving(echo, ServeConfig(port=0, media=HostConfig(udp_port=0))) as server,
        dial(server.url) as placed,
    ):
        await placed.call.wait_connected()
        while not wanted <= (counted := await steps(server)).keys():
            pass
    assert set(counted.values()) == {1.0}


async def test_a_server_says_where_it_is_and_what_the_way_to_it_costs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "SETTLED", 0.1)

    async def families(server: Serving) -> dict[str, Any]:
        async with aiohttp.ClientSession() as session, session.get(server.url + "/metrics") as response:
            return {each.name: each for each in text_string_to_metric_families(await response.text())}

    media = HostConfig(udp_port=0, node="n1", region="eu")
    async with serving(echo, ServeConfig(port=0, media=media)) as server:
        (where,) = (await families(server))["voice_node_info"].samples
        assert (where.labels, where.value) == ({"node": "n1", "region": "eu"}, 1)
        async with asyncio.timeout(30), dial(server.url) as ours:
            await ours.call.wait_connected()
            ours.call.speaker.write(np.full(480_000, 5000, np.int16), 16_000)
            while not any(
                sample.name.endswith("_count") and sample.labels == {"leg": "client"} and sample.value == 1
                for sample in (await families(server))["voice_path_seconds"].samples
            ):
                await asyncio.sleep(0.02)
            (call,) = server.host.calls.values()
            path = (await call.stats()).path
            assert path.program is None
            assert path.whole == path.client
            assert (call.context.node, call.context.region) == ("n1", "eu")
