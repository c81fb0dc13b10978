"""A second offer of a connection that is up: renegotiated for who may, else refused; never a second call."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from re import compile as regexp

import aiohttp
import numpy as np
import pytest

from interop.lab import Ask
from stack import Call
from stack.agents import echo
from stack.aio import HostConfig, control_of
from stack.ice import IceCredentials
from stack.sdp import MediaDirection, SessionDescription, create_offer
from stack.sdp.grammar import SdpAttribute
from stack.signaling.client import ClientCall, dial
from stack.signaling.connections import ConnectionIdentity
from stack.signaling.server import ServeConfig, Serving, serving
from stack.signaling.service import SignalingConfig

SDP = {"Content-Type": "application/sdp"}
RATE = 16_000
TONE = (8000 * np.sin(2 * np.pi * 1000 * np.arange(RATE) / RATE)).astype(np.int16)
OTHER_UFRAG, OTHER_PWD = "otherufrag", "o" * 24


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


def later(offer: str, **changed: str) -> str:
    """The same connection's next offer: the version raised, and what else is said."""
    description = SessionDescription.parse(offer)
    media = []
    for section in description.media:
        attributes = []
        for attribute in section.attributes:
            name = attribute.name
            if name in MediaDirection._value2member_map_ and section.kind == "audio" and "direction" in changed:
                attributes.append(SdpAttribute(changed["direction"]))
            else:
                attributes.append(SdpAttribute(name, changed.get(name.replace("-", "_"), attribute.value)))
        media.append(replace(section, attributes=tuple(attributes)))
    origin = replace(description.origin, session_version=description.origin.session_version + 1)
    return replace(description, origin=origin, media=tuple(media)).serialize()


async def post(
    http: aiohttp.ClientSession, server: Serving, endpoint: str, offer: str, **headers: str
) -> tuple[int, str, str]:
    """Return status, answer (or what was said instead), and what names the call."""
    if endpoint == "/api/offer":
        async with http.post(
            server.url + endpoint, json={"sdp": offer, "type": "offer"}, headers=headers
        ) as response:
            body = await response.json()
            return response.status, body.get("sdp") or str(body["error"]), body.get("pc_id", "")
    async with http.post(server.url + endpoint, data=offer, headers={**SDP, **headers}) as response:
        return response.status, await response.text(), response.headers.get("Location", "")


def ours(answer: str) -> tuple[object, ...]:
    """What must stay the same over a renegotiation."""
    description = SessionDescription.parse(answer)
    return (
        description.origin.session_id,
        *((m.kind, m.mid, m.ice_ufrag, m.ice_pwd, m.fingerprints, m.setup, m.ssrcs) for m in description.media),
    )


ENDPOINTS = ["/api/offer", "/whip", "/whep", "/v1/realtime/calls"]
CHANGES: list[Callable[[str], str]] = [
    later,
    lambda offer: later(offer, direction="inactive"),
    lambda offer: later(offer, ice_ufrag=OTHER_UFRAG, ice_pwd=OTHER_PWD),
    lambda offer: offer.replace("a=sendrecv", "a=inactive"),  # the version as it was
    lambda offer: regexp(r"o=- \d+").sub("o=- 7", offer),  # the same ufrag in another session
]


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("endpoint", ENDPOINTS)
async def test_a_second_offer_that_names_no_call_is_refused(
    server: Serving, http: aiohttp.ClientSession, offer: str, endpoint: str, change: Callable[[str], str]
) -> None:
    assert (await post(http, server, endpoint, offer))[0] in (200, 201)
    (call,) = server.host.calls.values()
    before = await control_of(call).execute(Ask(lambda conversation, now: conversation.session.parameters))
    for other in ENDPOINTS:
        status, text, _ = await post(http, server, other, change(offer))
        assert status == 409
        assert "RTCPeerConnection" in text
        assert before.local.ice_pwd not in text
    assert list(server.host.calls.values()) == [call]
    assert not call.ended
    assert await control_of(call).execute(Ask(lambda conversation, now: conversation.session.parameters)) == before


@pytest.mark.parametrize("endpoint", ENDPOINTS)
async def test_a_request_that_is_repeated_before_the_connection_gets_the_same_answer(
    server: Serving, http: aiohttp.ClientSession, offer: str, endpoint: str
) -> None:
    first, *others = await asyncio.gather(*(post(http, server, endpoint, offer) for _ in range(4)))
    assert first[0] in (200, 201)
    assert others == [first] * 3
    assert len(server.host.calls) == 1


@pytest.mark.parametrize("endpoint", ENDPOINTS)
async def test_the_token_that_placed_a_call_may_change_it_and_no_other(
    http: aiohttp.ClientSession, offer: str, endpoint: str
) -> None:
    config = SignalingConfig(tokens=("call=mine", "call=theirs"))
    async with serving(echo, ServeConfig(port=0, media=HostConfig(udp_port=0), signaling=config)) as server:
        _, first, name = await post(http, server, endpoint, offer, Authorization="Bearer mine")
        (call,) = server.host.calls.values()
        for replayed in (offer, later(offer, direction="inactive")):
            status, text, _ = await post(http, server, endpoint, replayed, Authorization="Bearer theirs")
            assert status == 409
            assert "v=0" not in text
        status, second, again = await post(
            http, server, endpoint, later(offer, direction="recvonly"), Authorization="Bearer mine"
        )
        assert status in (200, 201)
        assert again == name
        assert ours(second) == ours(first)
        assert SessionDescription.parse(second).media[0].direction is MediaDirection.SENDONLY
        assert list(server.host.calls.values()) == [call]


def test_certificates_are_shared_and_origins_repeated_without_confusion(offer: str) -> None:
    """One process may make many connections with one certificate, and write the same o= line each time."""

    def other(text: str) -> ConnectionIdentity:
        identity = ConnectionIdentity.of(SessionDescription.parse(text))
        assert identity is not None
        return identity

    first = other(offer)
    same_line = other(offer.replace(f"ice-ufrag:{first.ice_ufrag}", "ice-ufrag:another"))
    assert not same_line.continues(first)
    same_ufrag = other(offer.replace(":D7", ":D8").replace("sha-256 ", "sha-256 00:"))
    assert same_ufrag.fingerprints != first.fingerprints
    assert not same_ufrag.continues(first)
    assert other(later(offer, ice_ufrag=OTHER_UFRAG, ice_pwd=OTHER_PWD)).continues(first)
    assert other(later(offer)).follows(first)
    assert first.precedes(other(later(offer)))
    assert ConnectionIdentity.of(SessionDescription.parse(offer.replace("a=fingerprint", "a=f"))) is None


async def test_other_peoples_offers_are_other_calls(
    server: Serving, http: aiohttp.ClientSession, offers: Iterator[str]
) -> None:
    for number in range(5):
        assert (await post(http, server, "/whip", next(offers)))[0] == 201
        assert len(server.host.calls) == number + 1


async def test_a_connection_may_call_again_when_its_call_is_over(
    server: Serving, http: aiohttp.ClientSession, offer: str
) -> None:
    for _ in range(3):
        assert (await post(http, server, "/whip", offer))[0] == 201
        (call,) = [call for call in server.host.calls.values() if not call.ended]
        call.hang_up()
        await call.wait_ended()


async def test_whip_patches_a_description(server: Serving, http: aiohttp.ClientSession, offer: str) -> None:
    _, first, location = await post(http, server, "/whip", offer)
    resource = f"{server.url}/{location}"

    async def patch(text: str, **headers: str) -> tuple[int, str, str]:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        async with http.patch(resource, data=text, headers={**SDP, **named}) as response:
            return response.status, await response.text(), response.headers.get("ETag", "")

    status, second, tag = await patch(held := later(offer, direction="recvonly"))
    assert status == 200
    assert ours(second) == ours(first)
    assert [SessionDescription.parse(text).origin.session_version for text in (first, second)] == [
        1,
        2,
    ]  # RFC 3264 §8
    assert "a=sendonly" in second
    assert (await patch(later(held), If_Match=tag))[0] == 200
    assert (await patch(later(held), If_Match='"another"'))[0] == 412
    status, text, _ = await patch(offer)
    assert (status, "overtaken" in text) == (409, True)
    assert (await patch("v=0"))[0] == 400
    for refused in (
        later(later(held), fingerprint="sha-256 " + ":".join(["00"] * 32)),
        later(later(held), mid="7"),
    ):
        status, text, _ = await patch(refused)
        assert (status, "cannot be changed" in text) == (409, True)
    restarted = later(later(held), ice_ufrag=OTHER_UFRAG, ice_pwd=OTHER_PWD, direction="sendrecv")
    status, third, fresh = await patch(restarted)
    assert status == 200
    assert fresh != tag
    old, new = SessionDescription.parse(second).media[0], SessionDescription.parse(third).media[0]
    assert old.ice_ufrag != new.ice_ufrag
    assert old.ice_pwd != new.ice_pwd
    assert old.fingerprints == new.fingerprints
    assert old.ssrcs == new.ssrcs
    assert (await post(http, server, "/whip", restarted))[0] == 409
    assert len(server.host.calls) == 1


async def test_candidates_of_other_credentials_are_refused(
    server: Serving, http: aiohttp.ClientSession, offer: str
) -> None:
    _, _, location = await post(http, server, "/whip", offer)
    tag = f'"{location.rpartition("/")[2]}"'
    headers = {"Content-Type": "application/trickle-ice-sdpfrag", "If-Match": tag}
    mine = SessionDescription.parse(offer).media[0]
    for ufrag, expected in ((mine.ice_ufrag, 204), (OTHER_UFRAG, 409)):
        body = f"a=ice-ufrag:{ufrag}\r\na=ice-pwd:{mine.ice_pwd}\r\n"
        async with http.patch(f"{server.url}/{location}", data=body, headers=headers) as response:
            assert response.status == expected


async def test_a_pc_id_names_the_call(server: Serving, http: aiohttp.ClientSession, offer: str) -> None:
    async def ask(sdp: str, **fields: object) -> tuple[int, dict]:
        body = {"sdp": sdp, "type": "offer", **fields}
        async with http.post(server.url + "/api/offer", json=body) as response:
            return response.status, await response.json()

    _, first = await ask(offer, pc_id=None)
    status, second = await ask(later(offer, direction="recvonly"), pc_id=first["pc_id"], restart_pc=False)
    assert (status, second["pc_id"]) == (200, first["pc_id"])
    assert ours(second["sdp"]) == ours(first["sdp"])
    assert "a=sendonly" in second["sdp"]
    status, refused = await ask(later(later(offer), mid="7"), pc_id=first["pc_id"])
    assert (status, "cannot be changed" in refused["error"]) == (503, True)
    assert len(server.host.calls) == 1
    for fields in ({"pc_id": 5}, {"restart_pc": "yes"}, {"requestData": "x"}, {"session": []}):
        status, _ = await ask(offer, **fields)
        assert status == 400


async def offer_of(call: Call, version: int, direction: str, credentials: IceCredentials | None = None) -> str:
    """What our own client would offer next."""
    local = await control_of(call).execute(Ask(lambda conversation, now: conversation.session.parameters.local))
    if credentials is not None:
        local = replace(local, ice_ufrag=credentials.ufrag, ice_pwd=credentials.password)
    text = create_offer(replace(local, session_version=version)).serialize()
    return text.replace("a=sendrecv", f"a={direction}")


async def hear(placed: ClientCall, seconds: float) -> float:
    """Speak, and return how loud what comes back is."""
    placed.call.speaker.write(np.tile(TONE, 3), RATE)
    loudest, heard = 0, 0
    async for frame in placed.call.microphone:
        heard += len(frame.samples)
        loudest = max(loudest, int(np.abs(frame.samples).max()))
        if heard > seconds * RATE:
            return loudest
    return 0.0


@pytest.mark.real_clock
async def test_a_call_is_held_resumed_restarted_and_cannot_be_taken(
    server: Serving, http: aiohttp.ClientSession
) -> None:
    async with asyncio.timeout(40), dial(server.url + "/whip") as placed:
        await placed.call.wait_connected()
        (theirs,) = server.host.calls.values()
        resource = f"{server.url}/whip/{theirs.id}"
        stolen = IceCredentials("stolen", "s" * 24)
        for replayed in (
            await offer_of(placed.call, 1, "sendrecv"),
            await offer_of(placed.call, 2, "inactive"),
            await offer_of(placed.call, 2, "sendrecv", stolen),
        ):
            assert (await post(http, server, "/whip", replayed))[0] == 409
        assert await hear(placed, 1.0) > 4000

        async def patch(text: str) -> SessionDescription:
            async with http.patch(resource, data=text, headers=SDP) as response:
                assert response.status == 200
                return SessionDescription.parse(await response.text())

        assert "recvonly" in (await patch(await offer_of(placed.call, 2, "sendonly"))).serialize()
        sent = (await server.host.packet_totals())["sent"]
        placed.call.speaker.write(TONE, RATE)
        await placed.call.speaker.drained()
        assert (await server.host.packet_totals())["sent"] <= sent + 1  # nothing but what was on its way
        await patch(await offer_of(placed.call, 3, "sendrecv"))
        assert await hear(placed, 1.0) > 4000

        mine = IceCredentials("newufrag", "n" * 24)
        section = (await patch(await offer_of(placed.call, 4, "sendrecv", mine))).media[0]
        fresh = IceCredentials.parse(section.ice_ufrag or "", section.ice_pwd or "")
        await control_of(placed.call).execute(
            Ask(lambda conversation, now: conversation.session.restart_ice(mine, fresh, now))
        )
        assert await hear(placed, 3.0) > 4000
        assert list(server.host.calls.values()) == [theirs]
