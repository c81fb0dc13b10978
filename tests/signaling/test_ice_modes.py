"""Who sends the checks: a lite server, a full one, and one that turns full where the offer shows a need."""

from __future__ import annotations

import asyncio
import os
from functools import partial
from typing import Any

import pytest

from stack.agents import echo
from stack.aio import Host, HostConfig, IceMode
from stack.aio.workers import default_workers
from stack.core.errors import LocalError
from stack.ice import IceCredentials, Ufrag
from stack.sdp import NegotiationError, SessionDescription, awaits_checks
from stack.session import LocalWishes
from stack.signaling import client
from stack.signaling.client import dial
from stack.signaling.server import ServeConfig, serving, whole_config
from tests.listening import listen, until
from tests.signaling.tcp_relay import in_front

pytestmark = pytest.mark.real_clock

HOST = "127.0.0.1"
LIBPEER = "a=msid-semantic: iot"


def config(workers: int = 0, ice: IceMode = IceMode.AUTO, **media: Any) -> ServeConfig:
    whole = HostConfig(host=HOST, udp_port=0, tcp_port=None, workers=workers, ice=ice, **media)
    return ServeConfig(port=0, media=whole)


def like_libpeer(offer: str) -> str:
    """Return the offer of a lite agent that does not say so, as libpeer writes it."""
    lines = [line for line in offer.splitlines() if line != "a=ice-lite" and "msid-semantic" not in line]
    lines.insert(lines.index("t=0 0") + 1, LIBPEER)
    return "\r\n".join(lines) + "\r\n"


@pytest.mark.parametrize("says_so", [True, False], ids=["lite", "like libpeer"])
@pytest.mark.parametrize("workers", [0, 1, 2])
async def test_a_client_that_only_answers_checks(
    workers: int, says_so: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if workers and not default_workers():
        pytest.skip("media workers need Linux or macOS")
    monkeypatch.setattr(client, "LocalWishes", partial(LocalWishes, ice_lite=True))
    change = str if says_so else like_libpeer
    async with serving(echo, config(workers)) as server, in_front(server.url, change) as url:
        for _ in range(2):  # with two workers, one call for each
            async with dial(url) as placed:
                await placed.call.wait_connected()
                (hosted,) = server.host.calls.values()
                assert not (await server.host.parameters(hosted)).local.ice_lite
                placed.call.speaker.write(b"\x11\x11" * 32_000, 16_000)
                await asyncio.wait_for(listen(placed.call, 0.5), 10)
            await until(lambda: not server.host.calls)


@pytest.mark.parametrize("mode", list(IceMode))
async def test_a_browser_is_answered_as_it_was_said(mode: IceMode, offer: str) -> None:
    async with Host(echo, config(ice=mode).media) as host:
        accepted = await host.accept(offer)
        answer = SessionDescription.parse(accepted.answer)
        assert answer.is_ice_lite == (mode is not IceMode.FULL)
        asked = await host.accept(offer, ice=IceMode.FULL)
        assert SessionDescription.parse(asked.answer).is_ice_lite == (mode is IceMode.LITE)


async def test_a_full_server_serves_full_clients() -> None:
    async with serving(echo, config(ice=IceMode.FULL)) as server, dial(server.url) as placed:
        await placed.call.wait_connected()
        (hosted,) = server.host.calls.values()
        assert not (await server.host.parameters(hosted)).local.ice_lite


async def test_a_device_asks_for_checks(offer: str) -> None:
    import aiohttp

    async with serving(echo, config()) as server, aiohttp.ClientSession() as session:
        for asked, status, is_lite in (("?ice=full", 201, False), ("", 201, True), ("?ice=half", 400, None)):
            headers = {"Content-Type": "application/sdp"}
            body = offer.replace("a=ice-ufrag:", f"a=ice-ufrag:{status}{is_lite}".replace("None", ""))
            fresh = body.replace("a=fingerprint:sha-256 ", f"a=fingerprint:sha-256 {'A0' if is_lite else 'B0'}:")
            fresh = "\r\n".join(
                line[:-3] if line.startswith("a=fingerprint") else line for line in fresh.splitlines()
            )
            async with session.post(f"{server.url}/whip{asked}", data=f"{fresh}\r\n", headers=headers) as response:
                text = await response.text()
                assert response.status == status, text
                if is_lite is not None:
                    assert SessionDescription.parse(text).is_ice_lite == is_lite


async def test_two_lite_agents_cannot_talk_where_lite_was_said(offer: str) -> None:
    lite = "\r\n".join(offer.replace("t=0 0", "t=0 0\na=ice-lite").splitlines()) + "\r\n"
    assert awaits_checks(SessionDescription.parse(lite))
    async with Host(echo, config(ice=IceMode.LITE).media) as host:
        with pytest.raises(NegotiationError, match="ICE-lite"):
            await host.accept(lite)


async def test_behind_nats_the_bound_addresses_stay_known(offer: str) -> None:
    outside = ("203.0.113.7", "203.0.113.8")
    media = config(ice=IceMode.FULL, public_ips=outside).media
    async with Host(echo, media) as host:
        accepted = await host.accept(offer)
        local = (await host.parameters(accepted.call)).local
        port = host.addresses[0].port
        assert [line.split()[4] for line in local.candidates] == [*outside]
        assert next(line.split()[4:6] for line in local.bases) == [HOST, str(port)]
        assert "127.0.0.1" not in accepted.answer.replace("IN IP4 127.0.0.1", "")


async def test_a_public_address_of_a_family_that_is_not_listened_on_is_refused() -> None:
    media = config(public_ips=("203.0.113.7", "2001:db8::7")).media
    with pytest.raises(LocalError, match="2001:db8::7 leads nowhere: media listens on no IPv6 address"):
        async with Host(echo, media):
            pass


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"public_ips": ("0.0.0.0",)}, "not an address of one host"),
        ({"public_ips": ("::",)}, "not an address of one host"),
        ({"public_ips": ("239.1.2.3",)}, "not an address of one host"),
        ({"public_ips": ("fe80::1%eth0",)}, "not an address of one host"),
        ({"public_ips": ("example.org",)}, "not an IP address"),
        ({"public_ips": ("2001:db8::7", "2001:db8:0::7")}, "twice"),
        ({"resume_timeout": float("nan")}, "cannot be kept for nan s"),
        ({"resume_timeout": float("inf")}, "cannot be kept for inf s"),
        ({"resume_timeout": -1.0}, "cannot be kept for -1.0 s"),
        ({"host": HOST, "interfaces": ("lo",)}, "both were given"),
    ],
)
def test_what_cannot_be_is_refused_at_once(wrong: dict[str, Any], why: str) -> None:
    with pytest.raises(LocalError, match=why):
        HostConfig(**wrong)


def test_interfaces_are_for_media_where_a_host_is_for_http() -> None:
    whole = whole_config(host="0.0.0.0", config=HostConfig(interfaces=("lo",)))
    assert (whole.http_host, whole.media.host, whole.media.interfaces) == ("0.0.0.0", None, ("lo",))


async def test_the_fragment_keeps_machine_and_worker_over_restarts(offer: str) -> None:
    async with Host(echo, config(node="eu/7").media) as host:
        accepted = await host.accept(offer)
        first = Ufrag.parse((await host.parameters(accepted.call)).local.ice_ufrag)
        assert (first.worker, first.node) == (0, "eu/7")
        restarted = Ufrag.parse((await host.restart_ice(accepted.call, IceCredentials.generate(os.urandom))).ufrag)
        ufrag = SessionDescription.parse(offer).media[0].ice_ufrag or ""
        again = Ufrag.parse((await host.renegotiate(accepted.call, offer.replace(ufrag, "other"))).ice_ufrag)
        for later in (restarted, again):
            assert (later.worker, later.node) == (0, "eu/7")
        assert len({first.rest, restarted.rest, again.rest}) == 3


async def test_a_node_that_fits_no_fragment_is_refused() -> None:
    with pytest.raises(LocalError, match="node"):
        async with Host(echo, config(node="a+b").media):
            pass


async def test_an_interface_is_chosen_by_name() -> None:
    async with Host(echo, HostConfig(udp_port=0, interfaces=("lo",))) as host:
        assert {address.host for address in host.addresses} <= {"127.0.0.1", "::1"}
    async with Host(echo, HostConfig(udp_port=0, interfaces=("lo", "lo"))) as twice:
        assert len(set(twice.addresses)) == len(twice.addresses)
    with pytest.raises(LocalError, match=r"no network interface 'nosuch'; there are .*lo"):
        async with Host(echo, HostConfig(udp_port=0, interfaces=("nosuch",))):
            pass
