"""What our client tells a server of its candidates, and when."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
from aiohttp import web

from stack.aio.client_media import IceReport, PairReport
from stack.core.machine import Address, TransportProtocol
from stack.ice import Candidate, CandidateType
from stack.ice.gathering import GatheringOutcome, TransportPolicy
from stack.ice.servers import IceServer, LocatedServer
from stack.sdp import (
    CertificateFingerprint,
    LocalAudio,
    LocalParameters,
    SessionDescription,
    TrickleFragment,
    negotiate,
)
from stack.signaling import caller
from stack.signaling.caller import CallerConfig, place_call
from stack.signaling.caller_ice import describe_ice, explain_pairs, render_ice
from stack.signaling.client import DialConfig, DialError, dial
from stack.signaling.client_http import exchange
from stack.signaling.server import Serving

TEXT = Candidate.server_reflexive(
    Address("203.0.113.1", 7000), Address("10.0.0.1", 5000), Address("192.0.2.1", 3478)
).serialize()


@dataclass
class Recorder:
    """A server that keeps what it is sent."""

    url: str = ""
    patches: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)

    async def answer_json(self, request: web.Request) -> web.Response:
        return web.json_response({"sdp": "v=0", "type": "answer", "pc_id": "the-call"})

    async def answer_sdp(self, request: web.Request) -> web.Response:
        headers = {"Location": "/session/1", "ETag": '"tag"', "Accept-Patch": "application/trickle-ice-sdpfrag"}
        return web.Response(status=201, text="v=0", content_type="application/sdp", headers=headers)

    async def patch(self, request: web.Request) -> web.Response:
        self.patches.append((request.path, await request.text(), dict(request.headers)))
        return web.Response(status=204)


@asynccontextmanager
async def recording() -> AsyncIterator[Recorder]:
    recorder = Recorder()
    app = web.Application()
    app.router.add_post("/api/offer", recorder.answer_json)
    app.router.add_post("/whip", recorder.answer_sdp)
    app.router.add_patch("/{path:.*}", recorder.patch)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    recorder.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield recorder
    finally:
        await runner.cleanup()


async def test_candidates_follow_a_whip_offer_as_a_fragment() -> None:
    async with recording() as server:
        answered = await exchange(server.url + "/whip", "v=0", DialConfig(token="t"))
        assert answered.trickle is not None
        await answered.trickle([TEXT], True)
    ((path, body, headers),) = server.patches
    assert path == "/session/1"
    assert headers["If-Match"] == '"tag"'
    assert headers["Authorization"] == "Bearer t"
    fragment = TrickleFragment.parse(body)
    assert fragment.candidates == (TEXT,)
    assert fragment.end_of_candidates


async def test_candidates_follow_a_json_offer_as_json() -> None:
    async with recording() as server:
        answered = await exchange(server.url + "/api/offer", "v=0", DialConfig())
        assert answered.trickle is not None
        await answered.trickle([TEXT], False)
        await answered.trickle([], True)
    first, last = (body for _, body, _ in server.patches)
    assert first == (
        '{"pc_id": "the-call", "candidates": [{"candidate": "' + TEXT + '", "sdpMid": "0", "sdpMLineIndex": 0}]}'
    )
    assert '"candidate": ""' in last


async def test_a_server_that_is_gone_costs_the_candidates_and_nothing_else() -> None:
    async with recording() as server:
        answered = await exchange(server.url + "/whip", "v=0", DialConfig())
    assert answered.trickle is not None
    await answered.trickle([TEXT], True)


@pytest.mark.real_clock
@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        (TransportPolicy.ALL, {("udp", "host"), ("tcp", "host")}),
        (TransportPolicy.UDP, {("udp", "host")}),
        (TransportPolicy.TCP, {("tcp", "host")}),
        (TransportPolicy.RELAY, set()),
    ],
)
async def test_the_offer_has_the_candidates_that_the_policy_wants(
    policy: TransportPolicy, expected: set[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    offers: list[str] = []

    async def no_answer(url: str, offer: str, access: object) -> None:
        offers.append(offer)
        raise DialError("enough")

    monkeypatch.setattr("stack.signaling.client.exchange", no_answer)
    servers = (IceServer.parse("turn:u:p@127.0.0.1:9"),) if policy is TransportPolicy.RELAY else ()
    with pytest.raises(DialError, match="enough"):
        async with dial("http://127.0.0.1:9/", DialConfig(ice_transport=policy, ice_servers=servers)):
            pass
    (offer,) = offers
    (media, *_) = SessionDescription.parse(offer).media
    candidates = [Candidate.parse(text) for text in media.candidates]
    assert {(each.protocol.value, each.type.value) for each in candidates} == expected
    # More will come from servers, and without any these are all.
    assert ("a=end-of-candidates" in offer) is (not servers)


@pytest.mark.real_clock
async def test_a_dead_server_delays_no_call(server: Serving) -> None:
    dead = (IceServer.parse("stun:127.0.0.1:9"), IceServer.parse("stun:no-such-host.invalid"))
    async with asyncio.timeout(20), dial(server.url, DialConfig(ice_servers=dead)) as placed:
        await placed.call.wait_connected()
        report = await placed.report_ice()
    assert any(pair.selected and pair.local_type == "host" for pair in report.pairs)
    assert report.outcomes == ()  # it is still being waited for


@pytest.mark.real_clock
async def test_a_lite_server_is_sent_no_candidates(server: Serving) -> None:
    async with asyncio.timeout(20), dial(server.url) as placed:
        await placed.call.wait_connected()
        (theirs,) = server.host.calls.values()
        unused = (await theirs.stats()).counters.get("ice.remote_candidate_unused", 0)
    assert unused <= 2  # those of the offer itself


def report(*, selected: int) -> IceReport:
    kinds = [("host", "udp", ""), ("srflx", "udp", ""), ("relay", "udp", "turn:t:3478")]
    pairs = tuple(
        PairReport(
            f"10.0.0.{n}:1", kind, "192.0.2.1:2", "host", protocol, "succeeded" if n == selected else "failed",
            n == selected, relay, 0.01,
        )
        for n, (kind, protocol, relay) in enumerate(kinds)
    )  # fmt: skip
    server = IceServer("t", 3478, TransportProtocol.UDP, False, True, "u", "p")
    located = LocatedServer(server, Address("192.0.2.9", 3478))
    return IceReport(pairs, (GatheringOutcome(located, Address("10.0.0.1", 1), "192.0.2.9:50000"),))


def test_the_report_says_why() -> None:
    best = describe_ice(report(selected=0), TransportPolicy.ALL)
    assert best["why"] == "the best of 3 pairs"
    relayed = describe_ice(report(selected=2), TransportPolicy.ALL)
    assert relayed["pair"]["relay"] == "turn:t:3478"
    assert relayed["why"] == (
        "it answered, and better ones had not: host 10.0.0.0:1 to 192.0.2.1:2 by udp (failed); "
        "srflx 10.0.0.1:1 to 192.0.2.1:2 by udp (failed)"
    )
    assert "--ice-transport relay" in describe_ice(report(selected=2), TransportPolicy.RELAY)["why"]
    lines = render_ice(relayed)
    assert lines[0].startswith("  ICE     relay to host by udp through turn:t:3478: it answered")
    assert lines[1].endswith("turn:t:3478 from 10.0.0.1: 192.0.2.9:50000")
    nothing = describe_ice(IceReport((), ()), TransportPolicy.ALL)
    assert nothing == {"pair": None, "why": "no pair was selected", "servers": []}
    assert render_ice(nothing) == []
    assert CandidateType.RELAYED.value == relayed["pair"]["local_type"]


def a_pair(state: str, host: str = "192.0.2.1", protocol: str = "udp") -> PairReport:
    return PairReport("10.0.0.1:5000", "host", f"{host}:3478", "host", protocol, state, False, "", None)


def test_a_call_without_a_connection_says_how_far_it_came() -> None:
    assert explain_pairs(IceReport((), ())) == ""
    many = tuple(a_pair("failed", f"192.0.2.{number}") for number in range(1, 9))
    said = explain_pairs(IceReport((a_pair("in_progress"), a_pair("failed", protocol="tcp"), *many), ()))
    assert said.startswith(
        "nothing came back from 192.0.2.1:3478 by udp, 192.0.2.1:3478 by tcp, 192.0.2.2:3478 by"
    )
    assert "and 4 more, which the server says it listens on" in said
    said = explain_pairs(IceReport((a_pair("succeeded", "192.0.2.2"), a_pair("failed")), ()))
    assert said == "192.0.2.2:3478 answers by udp, and the handshake did not come to its end"


@pytest.mark.real_clock
async def test_the_caller_names_what_it_sent_to_in_vain(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server whose media port is closed by a firewall: it answers by HTTP alone."""
    monkeypatch.setattr(caller, "CONNECT_TIMEOUT", 2.0)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        port = silent.getsockname()[1]

        async def answer(request: web.Request) -> web.Response:
            local = LocalParameters(
                ice_ufrag="ufrag",
                ice_pwd="p" * 22,
                fingerprint=CertificateFingerprint("sha-256", bytes(32)),
                session_id=1,
                candidates=(f"candidate:1 1 udp 2130706431 127.0.0.1 {port} typ host",),
                ice_lite=True,
                audio=LocalAudio(ssrc=1, cname="a", red=True),
            )
            agreed = negotiate(SessionDescription.parse((await request.json())["sdp"]), local)
            return web.json_response({"sdp": agreed.answer.serialize(), "type": "answer"})

        app = web.Application()
        app.router.add_post("/api/offer", answer)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        try:
            with pytest.raises(DialError) as failed:
                await place_call(CallerConfig(f"http://127.0.0.1:{runner.addresses[0][1]}"))
        finally:
            await runner.cleanup()
    assert str(failed.value).startswith("no connection within 2 s; nothing came back from 127.0.0.1:")
    assert f"127.0.0.1:{port} by udp, which the server says it listens on" in str(failed.value)
