"""Calls that are made by their first packet: with a thread and with workers, over restarts, on two servers."""

from __future__ import annotations

import asyncio
import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from stack import Call
from stack.agents import echo
from stack.aio import HostConfig, ticket_file
from stack.aio.steering import can_share_a_port
from stack.aio.tickets import TicketConfig
from stack.server.strays import ENOUGH
from stack.session import EndReason
from stack.signaling import client
from stack.signaling.client import DialConfig, DialError, dial
from stack.signaling.client_http import OfferAnswered
from stack.signaling.instant import InstantGrant, SavedTicket, read_grant, read_saved, write_saved
from stack.signaling.server import ServeConfig, Serving, serving
from stack.signaling.service import SignalingConfig
from stack.stun import ErrorCode, Message, MessageClass, Method, Username, short_term_key, verify_integrity
from tests.listening import until

pytestmark = [pytest.mark.real_clock]
WORKERS = [
    0,
    pytest.param(2, marks=pytest.mark.skipif(not can_share_a_port(), reason="several workers need Linux")),
]
MEDIA_PATIENCE = 10.0
ROOT = Path(__file__).parents[2]


def config(
    workers: int = 0, key_file: Path | None = None, *, udp_port: int = 0, instant: bool = False, **tickets: Any
) -> ServeConfig:
    media = HostConfig(
        host="127.0.0.1",
        udp_port=udp_port,
        workers=workers,
        tickets=TicketConfig(key_file, instant_connect=instant, **tickets),
    )
    return ServeConfig(port=0, media=media, signaling=SignalingConfig(claim_header="X-User"))


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    path = tmp_path / "ticket.key"
    ticket_file.add_epoch(path)
    return path


async def connected(call: Call) -> None:
    await asyncio.wait_for(call.wait_connected(), MEDIA_PATIENCE)


async def count(server: Serving, name: str) -> int:
    return (await server.host.all_counters()).get(name, 0)


class Waiting:
    """A client that has an answer, and has not sent a packet yet."""

    def __init__(self, side: client._Side, answer: str, pc_id: str) -> None:
        self.side = side
        self.answer = answer
        self.pc_id = pc_id

    @asynccontextmanager
    async def calling(self, shape: Callable[[str], str] = lambda answer: answer) -> AsyncIterator[Call]:
        placed = client._Placed(self.side, OfferAnswered(shape(self.answer), None), 0.0, None, None)
        try:
            await placed.open()
            yield placed.hosted.call
        finally:
            await placed.close()


async def ask(
    server: Serving, headers: dict[str, str] | None = None, body: dict[str, Any] | None = None, saved: Any = None
) -> Waiting:
    """Post an offer, and do nothing more."""
    return await ask_at(server.url, headers, body, saved)


async def ask_at(
    url: str, headers: dict[str, str] | None = None, body: dict[str, Any] | None = None, saved: Any = None
) -> Waiting:
    """Do the same at an address."""
    side = client._Side(client._bind_towards(url), DialConfig(), saved)
    posted = {"sdp": side.offer.serialize(), "type": "offer", **(body or {})}
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{url}/api/offer", json=posted, headers=headers) as response,
    ):
        answer = await response.json()
    assert response.status == 200, answer
    return Waiting(side, answer["sdp"], answer["pc_id"])


def fragment(answer: str) -> str:
    return next(line[12:] for line in answer.splitlines() if line.startswith("a=ice-ufrag:"))


def with_lines(answer: str, **values: str) -> str:
    lines = []
    for line in answer.splitlines():
        for name, value in values.items():
            start = f"a={name.replace('_', '-')}:"
            line = start + value if line.startswith(start) else line
        lines.append(line)
    return "\r\n".join(lines) + "\r\n"


@pytest.mark.parametrize("workers", WORKERS)
async def test_an_answer_makes_nothing_and_the_first_packet_the_call(workers: int) -> None:
    async with serving(echo, config(workers)) as server:
        waiting = await ask(server, {"X-Test": "1", "X-User": "alice"})
        assert server.host.calls == {}
        assert server.host.awaits(waiting.pc_id)
        async with waiting.calling() as call:
            await connected(call)
            await until(lambda: waiting.pc_id in server.host.calls)
            context = server.host.calls[waiting.pc_id].context
            assert context.headers["x-test"] == "1"
            assert (context.claim, context.remote) == ("alice", "127.0.0.1")
            assert len(context.ticket) == 16
            assert not server.host.awaits(waiting.pc_id)
            channel = await call.open_channel("test")
            await channel.send("through")
        await until(lambda: not server.host.calls)
        assert await count(server, "ticket.made") == 1


@pytest.mark.parametrize(("before", "after"), [(0, 2), (2, 1), (3, 2), (2, 0)])
@pytest.mark.skipif(not can_share_a_port(), reason="several workers need Linux")
async def test_a_server_that_was_started_again_takes_the_call(keys: Path, before: int, after: int) -> None:
    async with serving(echo, config(before, keys)) as server:
        waitings = [await ask(server, {"X-User": f"user {number}"}) for number in range(3)]
        port = server.host.addresses[0].port
    claims: list[str] = []

    async def program(call: Call) -> None:
        claims.append(call.context.claim)
        await call.wait_ended()

    async with serving(program, config(after, keys, udp_port=port)) as server:
        for number, waiting in enumerate(waitings):
            async with waiting.calling() as call:
                await connected(call)
                await until(lambda number=number: len(claims) == number + 1)
        context_of_none = [each for each in claims if each == ""]
        assert not context_of_none
        assert await count(server, "ticket.made") == 3
    assert claims == ["user 0", "user 1", "user 2"]


@pytest.mark.parametrize("workers", WORKERS)
async def test_one_server_answers_and_another_one_has_the_session(keys: Path, workers: int) -> None:
    async with serving(echo, config(workers, keys)) as one, serving(echo, config(workers, keys)) as other:
        waiting = await ask(one, {"X-User": "alice"})
        ports = [str(server.host.addresses[0].port) for server in (one, other)]
        async with waiting.calling(lambda answer: answer.replace(ports[0], ports[1])) as call:
            await connected(call)
            await until(lambda: len(other.host.calls) == 1)
            (theirs,) = other.host.calls.values()
            assert theirs.context.claim == "alice"
            assert theirs.context.headers == {}
            assert one.host.calls == {}


async def test_keys_of_another_server_open_nothing(keys: Path) -> None:
    async with serving(echo, config(0, keys)) as one, serving(echo, config()) as other:
        waiting = await ask(one)
        ports = [str(server.host.addresses[0].port) for server in (one, other)]
        async with waiting.calling(lambda answer: answer.replace(ports[0], ports[1])):
            await until_counted(other, "ticket.dropped_forged")
        assert other.host.calls == {}


async def until_counted(server: Serving, name: str, least: int = 1) -> None:
    async with asyncio.timeout(MEDIA_PATIENCE):
        while await count(server, name) < least:
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("workers", WORKERS)
async def test_a_client_with_another_certificate_is_refused_in_the_handshake(workers: int) -> None:
    async with serving(echo, config(workers)) as server:
        waiting = await ask(server)
        thief = client._Side(client._bind_towards(server.url), DialConfig(), None)
        stolen = Waiting(thief, waiting.answer, waiting.pc_id)
        async with stolen.calling() as call:
            end = await asyncio.wait_for(call.wait_ended(), MEDIA_PATIENCE)
            assert end.reason in (EndReason.DTLS_FAILED, EndReason.PEER_CLOSED)
        async with waiting.calling() as call:  # and it costs the owner of the ticket nothing
            await connected(call)
            await until(lambda: waiting.pc_id in server.host.calls)
        assert await count(server, "ticket.made") == 2


@pytest.mark.parametrize("workers", WORKERS)
async def test_a_second_call_by_one_ticket_ends_the_first(keys: Path, workers: int) -> None:
    ends: list[EndReason] = []

    async def program(call: Call) -> None:
        ends.append((await call.wait_ended()).reason)

    async with serving(program, config(workers, keys)) as server:
        saved = SavedTicket.begin()
        waiting = await ask(server, saved=saved)
        async with waiting.calling() as first:
            await connected(first)
            again = Waiting(
                client._Side(client._bind_towards(server.url), DialConfig(), saved), waiting.answer, ""
            )
            async with again.calling() as second:
                await connected(second)
                assert (await asyncio.wait_for(first.wait_ended(), MEDIA_PATIENCE)).reason is EndReason.PEER_CLOSED
                await until(lambda: len(ends) == 1)
                assert not second.ended
                await until(lambda: len(server.host.calls) == 1)
            assert await count(server, "ticket.superseded") == 1


async def test_an_expired_ticket_makes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    from stack.aio import media

    async with serving(echo, config()) as server:
        waiting = await ask(server)
        now = media.time.time()
        monkeypatch.setattr(media, "time", type("Clock", (), {"time": staticmethod(lambda: now + 500)}))
        async with waiting.calling():
            await until_counted(server, "ticket.dropped_expired")
        assert server.host.calls == {}


async def test_keys_are_rotated_in_the_middle_of_calls(keys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stack.aio.host.REREAD_EVERY", 0.02)
    async with serving(echo, config(2 if can_share_a_port() else 0, keys)) as server:
        before, first = await ask(server), await ask(server)
        async with first.calling() as call:
            await connected(call)
            ring = ticket_file.add_epoch(keys)
            issuer: Any = server.host._tickets
            await until(lambda: issuer.ring.newest.epoch == 2)
            assert ring.newest.certificate.fingerprint() != ring.keys[0].certificate.fingerprint()
            after = await ask(server)
            for waiting in (before, after):  # of the former epoch, and of the new one
                async with waiting.calling() as other:
                    await connected(other)
            assert not call.ended
            late = await ask(server)
            ticket_file.revoke(keys, epochs=[2])
            await until(lambda: issuer.ring.newest.epoch == 3)
            assert await count(server, "ticket.dropped_forged") == 0  # and the workers have the keys now
            async with late.calling():
                await until_counted(server, "ticket.dropped_forged")
            assert not call.ended


async def test_a_ticket_is_revoked_by_its_reference(keys: Path) -> None:
    async with serving(echo, config(2 if can_share_a_port() else 0, keys)) as server:
        saved = SavedTicket.begin()
        waiting = await ask(server, saved=saved)
        async with waiting.calling() as call:
            await connected(call)
            await until(lambda: len(server.host.calls) == 1)
            (theirs,) = server.host.calls.values()
            server.host.revoke_ticket(theirs.context.ticket)
        again = Waiting(client._Side(client._bind_towards(server.url), DialConfig(), saved), waiting.answer, "")
        async with again.calling():
            await until_counted(server, "ticket.dropped_revoked")
        assert server.host.calls == {}


async def test_what_a_ticket_cannot_hold_is_kept_in_memory() -> None:
    async with serving(echo, config()) as server:
        with_session = await ask(server, body={"session": {"voice": "alloy"}})
        assert len(server.host.calls) == 1
        with_long_claim = await ask(server, {"X-User": "x" * 95})
        assert len(server.host.calls) == 2
        for waiting in (with_session, with_long_claim):
            async with waiting.calling() as call:
                await connected(call)


async def test_a_claim_that_is_no_utf8_is_kept_in_memory() -> None:
    async with serving(echo, config()) as server:
        side = client._Side(client._bind_towards(server.url), DialConfig(), None)
        body = json.dumps({"sdp": side.offer.serialize(), "type": "offer"})
        headers = {"Content-Type": "application/json", "X-User": "caf\xe9"}  # one byte, which aiohttp cannot send

        def post() -> int:
            connection = HTTPConnection(server.http_host, server.http_port)
            try:
                connection.request("POST", "/api/offer", body, headers)
                return connection.getresponse().status
            finally:
                connection.close()

        assert await asyncio.to_thread(post) == 200
        assert len(server.host.calls) == 1
        await side.close()


async def test_statelessness_is_a_choice() -> None:
    async with serving(echo, config(stateless=False)) as server:
        waiting = await ask(server)
        assert list(server.host.calls) == [waiting.pc_id]
        await waiting.side.close()


@pytest.mark.parametrize("workers", WORKERS)
async def test_whip_before_and_after_the_first_packet(workers: int) -> None:
    async with serving(echo, config(workers)) as server, aiohttp.ClientSession() as http:
        side = client._Side(client._bind_towards(server.url), DialConfig(), None)
        headers = {"Content-Type": "application/sdp"}
        async with http.post(f"{server.url}/whip", data=side.offer.serialize(), headers=headers) as response:
            assert response.status == 201
            answer, where, tag = await response.text(), response.headers["Location"], response.headers["ETag"]
        resource = f"{server.url}/{where}"
        trickle = {"Content-Type": "application/trickle-ice-sdpfrag", "If-Match": tag}
        lines = "a=ice-ufrag:{}\r\na=ice-pwd:{}\r\nm=audio 9 UDP/TLS/RTP/SAVPF 0\r\na=mid:0\r\na=candidate:{}\r\n"
        candidate = "1 1 udp 2130706431 127.0.0.1 9 typ host"
        sent = lines.format(side.local.ice_ufrag, side.local.ice_pwd, candidate)
        async with http.patch(resource, data=sent, headers=trickle) as response:
            assert response.status == 204
        async with http.patch(resource, data=sent, headers={**trickle, "If-Match": "*"}) as response:
            assert response.status == 409
        async with Waiting(side, answer, "").calling() as call:
            await connected(call)
            await until(lambda: len(server.host.calls) == 1)
            async with http.patch(resource, data=sent, headers=trickle) as response:
                assert response.status == 204
            async with http.delete(resource) as response:
                assert response.status == 200
            await asyncio.wait_for(call.wait_ended(), MEDIA_PATIENCE)


async def test_an_answer_is_withdrawn() -> None:
    async with serving(echo, config()) as server, aiohttp.ClientSession() as http:
        side = client._Side(client._bind_towards(server.url), DialConfig(), None)
        headers = {"Content-Type": "application/sdp"}
        async with http.post(f"{server.url}/whip", data=side.offer.serialize(), headers=headers) as response:
            answer, where = await response.text(), response.headers["Location"]
        async with http.delete(f"{server.url}/{where}") as response:
            assert response.status == 200
        async with http.delete(f"{server.url}/{where}") as response:
            assert response.status == 404
        async with Waiting(side, answer, "").calling():
            await until_counted(server, "ticket.dropped_revoked")


async def test_an_answer_is_withdrawn_by_the_token_that_has_it() -> None:
    tokens = SignalingConfig(tokens=("call=one", "call=other", "call,control=operator"))
    async with serving(echo, replace(config(), signaling=tokens)) as server, aiohttp.ClientSession() as http:
        for owner in ("one", "operator"):
            sent = {"Content-Type": "application/sdp", "Authorization": "Bearer one"}
            side = client._Side(client._bind_towards(server.url), DialConfig(), None)
            async with http.post(f"{server.url}/whip", data=side.offer.serialize(), headers=sent) as response:
                assert response.status == 201
                resource = f"{server.url}/{response.headers['Location']}"
            other = {"Content-Type": "application/trickle-ice-sdpfrag", "Authorization": "Bearer other"}
            async with http.patch(resource, data="", headers=other) as response:
                assert response.status == 404
            statuses = []
            for token in ("other", owner):
                async with http.delete(resource, headers={"Authorization": f"Bearer {token}"}) as response:
                    statuses.append(response.status)
            assert statuses == [404, 200]
            await side.close()


async def test_calls_of_one_client_are_bounded_when_they_come() -> None:
    limited = replace(config(), signaling=SignalingConfig(calls_per_client=1))
    async with serving(echo, limited) as server:
        waitings = [await ask(server) for _ in range(2)]  # both before a call is up
        async with waitings[0].calling() as first:
            await connected(first)
            await until(lambda: len(server.host.calls) == 1)
            async with waitings[1].calling() as second:
                await asyncio.wait_for(second.wait_ended(), MEDIA_PATIENCE)
            assert not first.ended


async def test_an_answer_is_not_honoured_by_a_server_that_shuts_down() -> None:
    async with serving(echo, config()) as server:
        waiting = await ask(server)
        server.signaling.draining = True
        async with waiting.calling() as call:
            await asyncio.wait_for(call.wait_ended(), MEDIA_PATIENCE)


async def test_the_number_of_calls_is_bounded() -> None:
    async with serving(echo, replace(config(), media=replace(config().media, max_calls=1))) as server:
        waitings = [await ask(server) for _ in range(2)]
        async with waitings[0].calling() as first:
            await connected(first)
            await until(lambda: len(server.host.calls) == 1)
            async with waitings[1].calling():
                await until_counted(server, "endpoint.dropped_full")
            assert not first.ended


@pytest.mark.parametrize("workers", WORKERS)
async def test_a_half_open_session_takes_no_line(workers: int) -> None:
    limited = config(workers)
    async with serving(echo, replace(limited, media=replace(limited.media, max_calls=1))) as server:
        copied, waiting = await ask(server), await ask(server)
        ufrag = fragment(copied.answer)
        password = next(line[10:] for line in copied.answer.splitlines() if line.startswith("a=ice-pwd:"))
        check = Message(MessageClass.REQUEST, Method.BINDING, bytes(12), (Username(f"{ufrag}:abcd"),))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            address = server.host.addresses[0]
            stranger.sendto(check.sign(short_term_key(password)), (address.host, address.port))
            await until_counted(server, "ticket.made")
            async with waiting.calling() as call:
                await connected(call)
            assert await count(server, "ticket.given_up") == 0, "the other one is half-open still"
        await copied.side.close()


class Orphan:
    """A client in the middle of a session that its server does not have, by the answer that it once had."""

    def __init__(self, server: Serving, answer: str) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.setblocking(False)
        self.socket.connect(server.host.addresses[0])
        self._username = Username(f"{fragment(answer)}:abcd")
        password = next(line[10:] for line in answer.splitlines() if line.startswith("a=ice-pwd:"))
        self._key = short_term_key(password)

    def speak(self) -> None:
        for number in range(ENOUGH):
            self.socket.send(b"\x80\x6f" + number.to_bytes(2, "big") + bytes(40))

    async def check(self) -> int:
        """Send a check; return 0 for success, or the number of the error, which has to be signed."""
        check = Message(MessageClass.REQUEST, Method.BINDING, os.urandom(12), (self._username,))
        self.socket.send(check.sign(self._key))
        async with asyncio.timeout(MEDIA_PATIENCE):
            while True:
                data = await asyncio.get_running_loop().sock_recv(self.socket, 2048)
                if data[8:20] == check.transaction_id:
                    break
        assert verify_integrity(data, self._key)
        error = Message.parse(data).get(ErrorCode)
        return error.code if error is not None else 0


@pytest.mark.parametrize("is_first", [True, False])
async def test_a_client_whose_session_is_lost_is_told_so(is_first: bool) -> None:
    async with serving(echo, config()) as server:
        waiting = await ask(server)
        orphan = Orphan(server, waiting.answer)
        with orphan.socket:
            if not is_first:  # nothing is known of it yet
                assert await orphan.check() == 0
            orphan.speak()
            if not is_first:
                await until_counted(server, "ticket.given_up")
            assert await orphan.check() == 404
        assert await count(server, "ticket.made") == int(not is_first)
        await waiting.side.close()


async def test_so_is_one_whose_session_no_ticket_held(keys: Path) -> None:
    async with serving(echo, config(0, keys, stateless=False)) as gone:
        answered = await ask(gone)
    async with serving(echo, config(0, keys)) as server:
        orphan = Orphan(server, answered.answer)
        with orphan.socket:
            assert await orphan.check() == 404
        assert await count(server, "ticket.orphaned") == 1
    await answered.side.close()


async def test_a_file_that_others_may_read_is_refused(keys: Path) -> None:
    os.chmod(keys, 0o644)
    with pytest.raises(Exception, match="chmod 600"):
        async with serving(echo, config(0, keys)):
            pass


# -- Instant Connect -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", WORKERS)
async def test_the_next_call_needs_no_http(tmp_path: Path, workers: int) -> None:
    saved = str(tmp_path / "saved")
    asked: list[str] = []

    async def program(call: Call) -> None:
        asked.append(call.context.ticket)
        await call.wait_ended()

    async with serving(program, config(workers, instant=True, stateless=False)) as server:
        dialling = DialConfig(ticket=saved)
        async with dial(server.url, dialling) as first:
            await connected(first.call)
            assert "answer" in first.signalling
        write_saved(saved, replace(read_saved(saved), url="http://127.0.0.1:9/"))  # where no HTTP server is
        for number in range(3):
            former = read_saved(saved)
            async with dial("http://127.0.0.1:9/", dialling) as placed:
                await connected(placed.call)
                assert list(placed.signalling) == ["ticket"]
                channel = await placed.call.open_channel("events")
                async for text in channel:
                    grant = read_grant(text)
                    if grant is not None:
                        placed.keep(grant)
                        break
                await until(lambda number=number: len(asked) == number + 2)
            assert read_saved(saved).grant != former.grant
        assert asked[0] == ""
        assert len(set(asked)) == 4
        assert (os.stat(saved).st_mode & 0o077) == 0


async def test_a_ticket_that_nothing_answers_falls_back_to_http(tmp_path: Path, keys: Path) -> None:
    saved = str(tmp_path / "saved")
    async with serving(echo, config(0, keys, instant=True)) as server:
        async with dial(server.url, DialConfig(ticket=saved)) as placed:
            await connected(placed.call)
        first = read_saved(saved)
        ticket_file.revoke(keys, epochs=[1])
        await until(lambda: server.host._tickets.ring.newest.epoch == 2)  # type: ignore[union-attr]
        async with dial(server.url, DialConfig(ticket=saved)) as placed:
            await connected(placed.call)
            assert "answer" in placed.signalling
        assert read_saved(saved).grant != first.grant


async def test_a_ticket_is_for_the_server_that_it_came_from(tmp_path: Path) -> None:
    saved = str(tmp_path / "saved")
    async with serving(echo, config(instant=True)) as one, serving(echo, config()) as other:
        async with dial(one.url, DialConfig(ticket=saved)) as placed:
            await connected(placed.call)
        kept = read_saved(saved)
        assert kept.url == one.url
        async with dial(other.url, DialConfig(ticket=saved)) as placed:
            await connected(placed.call)
            assert "answer" in placed.signalling
            await until(lambda: len(other.host.calls) == 1)
        assert read_saved(saved) == kept, "the other server grants none, and this one still has"
        with pytest.raises(DialError):
            async with dial("http://127.0.0.1:9/", DialConfig(ticket=saved)):
                pass
        assert kept.towards(other.url).certificate != kept.certificate


async def test_a_server_that_grants_no_tickets_any_more(tmp_path: Path) -> None:
    saved = str(tmp_path / "saved")
    async with serving(echo, config()) as server:
        former = replace(SavedTicket.begin(), url=server.url)
        grant = InstantGrant("ufrag", "pwd", "sha-256 AA", 1, "cname", 3600.0)
        write_saved(saved, former.granted("v=0\r\n", grant))
        async with dial(server.url, DialConfig(ticket=saved)) as placed:
            await connected(placed.call)
        assert read_saved(saved) == former


@pytest.mark.parametrize("place", ["999.1.1.1 5000", "127.0.0.1 99999", "1:2 5000"])
async def test_a_file_with_an_address_that_is_none_falls_back_to_http(tmp_path: Path, place: str) -> None:
    saved = str(tmp_path / "saved")
    async with serving(echo, config(instant=True)) as server:
        grant = InstantGrant("ufrag", "pwd", "sha-256 AA", 1, "cname", 3600.0)
        answer = f"v=0\r\na=candidate:1 1 udp 2130706431 {place} typ host\r\n"
        write_saved(saved, replace(SavedTicket.begin(), url=server.url).granted(answer, grant))
        async with dial(server.url, DialConfig(ticket=saved)) as placed:
            await connected(placed.call)
            assert "answer" in placed.signalling


async def test_the_log_says_what_a_client_that_calls_again_is_revoked_by(
    tmp_path: Path, keys: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "stack.calls")
    saved = str(tmp_path / "saved")
    async with serving(echo, config(0, keys, instant=True, stateless=False)) as server:
        async with dial(server.url, DialConfig(ticket=saved)) as placed:
            await connected(placed.call)
        (given,) = re.findall(r"is given ticket ([0-9a-f]{16}) ", caplog.text)
        async with dial(server.url, DialConfig(ticket=saved)) as placed:
            await connected(placed.call)
            assert "ticket" in placed.signalling
            channel = await placed.call.open_channel("events")
            async for text in channel:
                grant = read_grant(text)
                if grant is not None:
                    placed.keep(grant)
                    break
        assert re.findall(r"comes by ticket ([0-9a-f]{16})", caplog.text) == [given]
        server.host.revoke_ticket(given)
        async with dial(server.url, DialConfig(ticket=saved)) as placed:
            await connected(placed.call)
            assert "answer" in placed.signalling
        assert await count(server, "ticket.dropped_revoked")


async def test_an_expired_ticket_is_not_tried(tmp_path: Path) -> None:
    saved = str(tmp_path / "saved")
    async with serving(echo, config(instant=True, instant_lifetime=1.0)) as server:
        for _ in range(2):
            async with dial(server.url, DialConfig(ticket=saved)) as placed:
                await connected(placed.call)
                assert "answer" in placed.signalling
    assert read_saved(saved).make_answer() is None


async def test_no_ticket_is_given_unless_it_is_allowed(tmp_path: Path) -> None:
    saved = str(tmp_path / "saved")
    async with serving(echo, config()) as server, dial(server.url, DialConfig(ticket=saved)) as placed:
        await connected(placed.call)
    assert not os.path.exists(saved)


def test_a_certificate_is_renewed_before_it_expires(monkeypatch: pytest.MonkeyPatch) -> None:
    url, grant = "http://127.0.0.1:9/", InstantGrant("ufrag", "pwd", "sha-256 AA", 1, "cname", 3600.0)
    kept = SavedTicket.begin().towards(url).granted("v=0\r\n", grant)
    assert kept.towards(url) is kept
    monkeypatch.setattr("stack.signaling.instant.CERTIFICATE_LIFETIME", timedelta(hours=23))
    old = replace(SavedTicket.begin(), url=url).granted("v=0\r\n", grant)
    monkeypatch.undo()
    renewed = old.towards(url)
    assert renewed.certificate != old.certificate
    assert (renewed.url, renewed.answer, renewed.grant) == (url, "", None), "the ticket was for the former one"
    assert renewed.towards(url) is renewed


def test_what_is_no_grant() -> None:
    good = {"ufrag": "a", "pwd": "b", "fingerprint": "sha-256 AA", "cname": "c", "ssrc": 1, "lifetime": 1.0}
    assert InstantGrant.read(good) == InstantGrant("a", "b", "sha-256 AA", 1, "c", 1.0)
    for name, value in [("ufrag", "a\r\nb"), ("pwd", 1), ("ssrc", -1), ("ssrc", True), ("lifetime", "1")]:
        assert InstantGrant.read({**good, name: value}) is None
    assert InstantGrant.read(None) is None
    assert read_grant("nonsense") is None
    assert read_grant(json.dumps({"type": "other", "instant": good})) is None
    assert read_grant(json.dumps({"type": "instant", "instant": good})) is not None


def test_a_saved_ticket_that_is_none(tmp_path: Path) -> None:
    path = tmp_path / "saved"
    path.write_text("{}")
    with pytest.raises(Exception, match="no saved ticket"):
        read_saved(str(path))
    with pytest.raises(Exception, match="cannot write"):
        write_saved(str(tmp_path / "none" / "saved"), SavedTicket.begin())


async def test_a_url_without_a_server_is_said_as_before(tmp_path: Path) -> None:
    with pytest.raises(DialError):
        async with dial("http://127.0.0.1:9/", DialConfig(ticket=str(tmp_path / "saved"))):
            pass


# -- whole processes -------------------------------------------------------------------------------------------


async def started(*arguments: str, port: int) -> asyncio.subprocess.Process:
    """Start a server, again where the port is not free yet, and return it when it is up."""
    async with asyncio.timeout(90):
        while True:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "stack", "serve", "--agent", "echo", "--host", "127.0.0.1",
                "--port", str(port), *arguments,
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=ROOT,
            )  # fmt: skip
            assert process.stdout is not None
            if b"Open " in await process.stdout.readline():
                return process
            await process.wait()


def free_port(kind: socket.SocketKind) -> int:
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.mark.skipif(not can_share_a_port(), reason="several workers need Linux")
async def test_a_server_that_is_killed_between_answer_and_first_packet(keys: Path) -> None:
    port, udp_port = free_port(socket.SOCK_STREAM), free_port(socket.SOCK_DGRAM)
    arguments = ("--udp-port", str(udp_port), "--ticket-key", str(keys), "--workers", "2")
    process = await started(*arguments, port=port)
    try:
        waiting = await ask_at(f"http://127.0.0.1:{port}")
        process.kill()
        await process.wait()
        process = await started(*arguments, port=port)
        async with waiting.calling() as call:
            await connected(call)
    finally:
        process.terminate()
        await process.wait()
