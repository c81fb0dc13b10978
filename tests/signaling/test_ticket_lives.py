"""Calls by tickets after their beginning: ICE restarts, the end of a worker, and what is refused then."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from interop.lab import Ask
from stack import Call
from stack.agents import echo
from stack.aio.call import control_of
from stack.aio.steering import can_share_a_port
from stack.ice import IceCredentials
from stack.sdp import SessionDescription
from stack.session import EndReason
from stack.signaling.client import DialConfig, dial
from stack.signaling.server import Serving, serving
from stack.signaling.service import SignalingConfig
from stack.stun import Message, MessageClass, Method, Username, short_term_key
from tests.listening import until
from tests.signaling.test_second_offers import hear, offer_of
from tests.signaling.test_tickets import Waiting, ask, config, connected, count, fragment

pytestmark = [pytest.mark.real_clock]


async def told_name(call: Call) -> str:
    """Return what the server calls a call by a ticket, as it tells its client on the channel."""
    async for text in await call.open_channel("events"):
        message = json.loads(text)
        if message.get("type") == "instant":
            return str(message["pc_id"])
    raise AssertionError("the channel is over")


@pytest.mark.parametrize("tokens", [(), ("call=one", "call=other", "metrics=third")])
async def test_a_call_without_http_restarts_ice_over_http(tmp_path: Path, tokens: tuple[str, ...]) -> None:
    saved, token = str(tmp_path / "saved"), "one" if tokens else None
    settings = config(instant=True)
    signaling = SignalingConfig(tokens=tokens)
    async with serving(echo, replace(settings, signaling=signaling)) as server:
        dialling = DialConfig(ticket=saved, token=token)
        async with dial(server.url, dialling) as placed:
            await connected(placed.call)
        await until(lambda: not server.host.calls)
        async with dial(server.url, dialling) as placed, aiohttp.ClientSession() as http:
            assert "ticket" in placed.signalling
            pc_id = await asyncio.wait_for(told_name(placed.call), 10)
            (theirs,) = server.host.calls.values()
            assert theirs.id == pc_id
            mine = IceCredentials("newufrag", "n" * 24)

            async def post(version: int, credentials: IceCredentials | None, **headers: str) -> tuple[int, Any]:
                sdp = await offer_of(placed.call, version, "sendrecv", credentials)
                body = {"sdp": sdp, "type": "offer", "pc_id": pc_id}
                async with http.post(f"{server.url}/api/offer", json=body, headers=headers) as response:
                    return response.status, await response.json() if response.status == 200 else None

            if tokens:
                assert (await post(2, mine, Authorization="Bearer third"))[0] == 403
                assert (await post(2, mine))[0] == 401
            headers = {"Authorization": f"Bearer {token}"} if token else {}
            status, answer = await post(2, mine, **headers)
            assert status == 200
            section = SessionDescription.parse(answer["sdp"]).media[0]
            fresh = IceCredentials.parse(section.ice_ufrag or "", section.ice_pwd or "")
            await control_of(placed.call).execute(
                Ask(lambda conversation, now: conversation.session.restart_ice(mine, fresh, now))
            )
            assert await hear(placed, 1.0) > 4000
            assert server.host.calls == {pc_id: theirs}
            status, again = await post(3, mine, **headers)  # an offer that restarts nothing
            assert status == 200
            assert SessionDescription.parse(again["sdp"]).media[0].ice_ufrag == fresh.ufrag
        assert await count(server, "ticket.made") == 2


async def checked(waiting: Waiting, server: Serving) -> MessageClass:
    """Send one more check of a client's, from elsewhere, and return the class of what is answered."""
    password = next(line[10:] for line in waiting.answer.splitlines() if line.startswith("a=ice-pwd:"))
    username = Username(f"{fragment(waiting.answer)}:{waiting.side.local.ice_ufrag}")
    check = Message(MessageClass.REQUEST, Method.BINDING, os.urandom(12), (username,)).sign(
        short_term_key(password)
    )
    address = server.host.addresses[0]
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.setblocking(False)
        for _ in range(100):  # a worker that takes the place of another is not there at once
            sender.sendto(check, (address.host, address.port))
            try:
                data = await asyncio.wait_for(loop.sock_recv(sender, 1500), 0.2)
            except TimeoutError:
                continue
            return Message.parse(data).message_class
    raise AssertionError("nothing was answered")


@pytest.mark.skipif(not can_share_a_port(), reason="several workers need Linux")
@pytest.mark.parametrize("workers", [1, 2])
async def test_no_call_is_made_again_that_was_lost_with_its_worker(workers: int) -> None:
    async with serving(echo, config(workers)) as server:
        waiting = await ask(server)
        async with waiting.calling() as call:
            await connected(call)
            await until(lambda: len(server.host.calls) == 1)
            (theirs,) = server.host.calls.values()
            made = await count(server, "ticket.made")
            pool: Any = server.host._media
            (pid,) = [link.pid for link in pool.links if link.load]
            os.kill(pid, signal.SIGKILL)
            assert (await asyncio.wait_for(theirs.wait_ended(), 10)).reason is EndReason.WORKER_FAILED
            assert await checked(waiting, server) is MessageClass.ERROR_RESPONSE
            assert await count(server, "ticket.made") == made == 1
            fresh = await ask(server)
            async with fresh.calling() as other:  # by the key that the former worker had
                await connected(other)


async def test_a_check_of_a_call_that_is_over_makes_none() -> None:
    async with serving(echo, config()) as server:
        waiting = await ask(server)
        async with waiting.calling() as call:
            await connected(call)
            await until(lambda: len(server.host.calls) == 1)
        await until(lambda: not server.host.calls)
        assert await checked(waiting, server) is MessageClass.ERROR_RESPONSE
        assert await count(server, "ticket.made") == 1


async def test_many_withdrawals_are_told_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each list of what is revoked costs milliseconds, and clients withdraw as often as they like."""
    async with serving(echo, config()) as server:
        host: Any = server.host
        answers = [await ask(server) for _ in range(6)]
        told: list[int] = []
        monkeypatch.setattr(host._media, "set_ticket_keys", lambda tickets: told.append(len(tickets.ring.revoked)))
        for answer in answers:
            assert host.withdraw(answer.pc_id)
            assert not host.withdraw(answer.pc_id)
        await until(lambda: told[-1] == len(answers))
        assert told == [1, len(answers)]
        for answer in answers:
            await answer.side.close()
