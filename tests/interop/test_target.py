"""A server that is known by its URL: what it answers over HTTP, and whose fault it is."""

from __future__ import annotations

import asyncio
import socket
import ssl
import subprocess
import sys
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from click.testing import CliRunner

from interop.cli import main
from interop.http_reason import reason
from interop.judging_server import VisitingEnd, Visitor
from interop.peers import ours, target
from interop.peers.base import DialectError, EndError, Traits, UnsupportedError, Wishes
from interop.peers.ours import LONGEST_ANSWER
from interop.peers.registry import PEERS
from interop.peers.target import Target
from interop.runner import Pair, run_cell, without_a_call
from interop.scenarios import SCENARIOS
from interop.verdict import NO_ANSWER, Blame, Outcome

DECLINED = "v=0\r\nm=audio 0 UDP/TLS/RTP/SAVPF 111\r\n"
HTML = "<!doctype html>\n<title>A page</title>" + 200 * "x"


@asynccontextmanager
async def answering(response: web.Response, path: str = "/whip") -> AsyncIterator[str]:
    """A server that answers every request alike; yields the address to which an offer is sent."""

    async def handle(request: web.Request) -> web.Response:
        made = web.Response(status=response.status, body=response.body, headers=response.headers)
        return made if request.path != "/page" else web.Response(text="a page")

    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", handle)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}{path}"
    finally:
        await runner.cleanup()


async def refused(response: web.Response, path: str = "/whip", codec: str = "opus") -> Exception:
    """What is raised when such a server is offered a call."""
    async with answering(response, path) as url, Target(url).start("server", Wishes()) as end:
        with pytest.raises((EndError, UnsupportedError)) as raised:
            await end.accept("v=0\r\n", Wishes(codec=codec))
    return raised.value


@pytest.mark.parametrize(
    ("response", "section", "seen"),
    [
        (web.Response(text=HTML, content_type="text/html"), "RFC 9725 §4.2", "200, text/html; charset=utf-8"),
        (web.Response(status=201), "RFC 9725 §4.2", "and an empty body"),
        (web.Response(status=204), "RFC 9725 §4.2", "204"),
        (web.Response(status=302, headers={"Location": "/page"}), "RFC 9725 §4.5", "302 to /page"),
        (web.Response(status=500, text="broken"), "RFC 9725 §4.2, RFC 9110 §15.6", "'broken'"),
        (web.Response(status=201, text=DECLINED), "RFC 9725 §4.4.3", "every section of sound is declined"),
        (web.Response(status=201, text="v=0\r\n"), "RFC 9725 §4.4.3", "without sections"),
    ],
)
async def test_a_whip_server_that_sends_no_answer_is_at_fault(
    response: web.Response, section: str, seen: str
) -> None:
    error = await refused(response)
    assert isinstance(error, DialectError)
    assert section in error.section
    assert seen in error.seen
    assert len(error.seen) < 180


@pytest.mark.parametrize("body", ["null", "[]", '"v=0"', '{"sdp": 5}', "{", HTML, ""])
async def test_json_without_an_answer_is_shown(body: str) -> None:
    error = await refused(web.Response(text=body, content_type="application/json"), "/api/offer")
    assert not isinstance(error, DialectError)
    assert "JSON with the answer in `sdp`: 200, application/json" in str(error)


async def test_who_is_not_let_in_is_told_of_the_token() -> None:
    said = str(await refused(web.Response(status=401, text="no"), codec="PCMU"))
    assert "no --token was given" in said
    assert "401" in said


async def test_a_codec_that_is_declined_or_refused_is_unsupported() -> None:
    for response in (web.Response(status=406), web.Response(status=201, text=DECLINED)):
        assert isinstance(await refused(response, codec="PCMU"), UnsupportedError)


async def test_an_answer_is_read_up_to_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(target, "MAX_ANSWER", 1_000)
    assert "more than 1000 bytes" in str(await refused(web.Response(status=201, text="v=0" + 9_000 * "x")))


async def test_a_request_that_fails_has_a_reason() -> None:
    assert reason(TimeoutError()) == "it took too long"
    async with Target("http://127.0.0.1:1/whip").start("server", Wishes()) as end:
        with pytest.raises(EndError, match="gave no answer: no connection to"):
            await end.accept("v=0\r\n", Wishes())


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(main, ["run", "ours", "audio", *arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.output


@pytest.mark.parametrize(
    "url", ["http://", "http://[::1", "http://127.0.0.1:99999/whip", "http://127.0.0.1:1/whip", "http://a..b/whip"]
)
def test_a_target_that_cannot_be_called_is_one_line(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    async def never(*_: object) -> None:
        raise AssertionError("the run began")

    monkeypatch.setattr("interop.cli.run_plan", never)
    code, text = run("--target", url)
    assert code == 2
    assert url in text
    assert len(text.strip().splitlines()) == 1


def test_a_target_that_says_nothing_is_given_up_before_the_first_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(target, "PROBE_TIMEOUT", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        code, text = run("--target", f"http://127.0.0.1:{silent.getsockname()[1]}/whip")
    assert code == 2
    assert "does not answer within 0.05 s" in text


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://127.0.0.1:99999/whip", "Port out of range"),
        ("http://", "it is no address of a server"),
    ],
)
def test_an_address_that_is_none_is_said_to_be_none(url: str, words: str) -> None:
    code, text = run("--target", url)
    assert code == 2
    assert words in text


def test_the_scheme_of_a_target_is_read_in_any_case() -> None:
    code, text = run("--target", "HTTP://127.0.0.1:1/whip")
    assert code == 2
    assert "no connection to 127.0.0.1 port 1" in text


async def test_a_name_and_a_password_of_a_url_are_sent_and_never_shown() -> None:
    asked: list[tuple[str, str]] = []

    async def take(request: web.Request) -> web.Response:
        asked.append((request.method, request.headers.get("Authorization", "")))
        if request.method == "DELETE":
            return web.Response()
        if len(asked) > 1:
            return web.Response(status=401)
        answer = "v=0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\n"
        location = {"Location": "/whip/1"}
        return web.Response(status=201, text=answer, content_type="application/sdp", headers=location)

    app = web.Application()
    app.router.add_route("*", "/{any:.*}", take)
    async with TestServer(app) as server:
        url = str(server.make_url("/whip")).replace("://", "://someone:s%40cret@")
        async with Target(url).start("server", Wishes()) as end:
            await end.accept("v=0\r\n", Wishes())
            assert await end.delete() == 200
            with pytest.raises(EndError) as refusal:
                await end.accept("v=0\r\n", Wishes())
        assert await target.probe(url) is None
    basic = f"Basic {b64encode(b'someone:s@cret').decode()}"
    assert [each for _, each in asked] == [basic] * len(asked)
    assert [method for method, _ in asked[:3]] == ["POST", "DELETE", "POST"]
    assert "(the name and the password of the URL were sent)" in str(refusal.value)
    assert "cret" not in str(refusal.value)


def test_a_password_is_not_shown_when_a_target_is_refused() -> None:
    for more in ((), ("--netns",)):
        code, text = run("--target", "http://someone:secret@127.0.0.1:1/whip", *more)
        assert code == 2
        assert "http://127.0.0.1:1/whip" in text
        assert "secret" not in text
    code, text = run("--target", "http://someone:secret@127.0.0.1:1/whip", "--token", "token")
    assert (code, len(text.splitlines())) == (2, 1)
    assert "one or the other" in text


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.1.2.3", "[::1]"])
def test_a_target_on_the_loopback_is_not_in_a_namespace(host: str) -> None:
    code, text = run("--netns", "--target", f"http://{host}:8000/whip")
    assert code == 2
    assert "--netns" in text


def test_a_client_that_is_absent_is_named_and_nothing_was_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(PEERS["pion"]), "why_absent", lambda _: "it is not built")
    result = CliRunner().invoke(main, ["run", "--target", "http://127.0.0.1:1/whip", "pion", "audio"])
    assert result.exit_code == 1
    assert "nothing of it has passed: pion\n" in result.output
    assert "nothing was tried" in result.output
    cell = without_a_call(Pair(PEERS["pion"], Target("http://127.0.0.1:1"), "server"), SCENARIOS["audio"])
    assert cell is not None
    assert cell.verdict.sentence == "pion: it is not built"


def refused_connection(port: int = 443) -> aiohttp.client_reqrep.ConnectionKey:
    return aiohttp.client_reqrep.ConnectionKey("example.org", port, True, True, None, None, None)


def untrusted() -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError(1, "certificate verify failed")
    error.verify_message = "self-signed certificate"
    return error


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            aiohttp.ClientConnectorCertificateError(refused_connection(), untrusted()),
            "its certificate is not trusted: self-signed certificate (SSL_CERT_FILE=",
        ),
        (
            aiohttp.ClientConnectorSSLError(
                refused_connection(80), ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER]")
            ),
            "there is no TLS at example.org port 80: http:// may be meant",
        ),
        (
            aiohttp.ClientConnectorError(refused_connection(), ConnectionRefusedError(111, "Connection refused")),
            "no connection to example.org port 443: Connection refused",
        ),
        (aiohttp.ServerDisconnectedError(), "it closes the connection without a response: https:// may be meant"),
        (ValueError(), "ValueError"),
    ],
)
def test_why_a_request_came_to_nothing_leads_to_the_fault(error: Exception, words: str) -> None:
    assert reason(error).startswith(words)


async def test_what_is_no_server_of_http_is_shown() -> None:
    async def greet(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-OpenSSH_9.2\r\n")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(greet, "127.0.0.1", 0) as server:
        why = await target.probe(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/whip")
    assert why is not None
    assert why.startswith("what answers there speaks no HTTP: ")
    assert "SSH-2.0" in why


@pytest.mark.parametrize(
    ("response", "words"),
    [
        (web.Response(status=307, headers={"Location": "/whip"}), "it redirects without end, 10 times so far"),
        (
            web.Response(status=404),
            "answers 404, no Content-Type, and an empty body; there is nothing at this path",
        ),
        (web.Response(status=405, text="no"), "answers 405, text/plain; charset=utf-8, 'no'; this path takes no"),
        (web.Response(status=418, text="tea"), "answers 418, text/plain; charset=utf-8, 'tea'"),
    ],
)
async def test_what_a_status_says_of_an_offer(response: web.Response, words: str) -> None:
    assert words in str(await refused(response))


async def test_a_server_that_hangs_says_for_how_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(target, "HTTP_TIMEOUT", 0.05)
    monkeypatch.setattr(target, "FAREWELL_TIMEOUT", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/whip"
        async with Target(url).start("server", Wishes()) as end:
            with pytest.raises(EndError, match=r"gave no answer within 0\.05 s"):
                await end.accept("v=0\r\n", Wishes())


async def test_any_response_shows_that_a_target_is_there() -> None:
    async with answering(web.Response(status=405)) as url:
        assert await target.probe(url) is None


async def test_the_verdict_blames_the_server() -> None:
    async with answering(web.Response(text=HTML, content_type="text/html")) as url:
        async with asyncio.timeout(20):
            cell = await run_cell(Pair(PEERS["ours"], Target(url), "server"), SCENARIOS["audio"])
    verdict = cell.verdict
    assert (verdict.outcome, verdict.blame, verdict.rule) == (Outcome.FAILED, Blame.THEIRS, "dialect")
    assert "RFC 9725 §4.2" in verdict.sentence
    assert "<!doctype html>" in verdict.sentence


async def test_a_server_that_gives_no_answer_is_not_taken_for_a_fault_of_ours(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert LONGEST_ANSWER > 4 * target.HTTP_TIMEOUT  # our client would wait longer
    monkeypatch.setattr(target, "HTTP_TIMEOUT", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/whip"
        cell = await run_cell(Pair(PEERS["ours"], Target(url), "server"), SCENARIOS["audio"])
    assert (cell.verdict.outcome, cell.verdict.rule) == (Outcome.FAILED, NO_ANSWER)
    assert "gave no answer within 0.05 s" in cell.verdict.sentence


async def test_a_client_of_ours_that_gave_up_waiting_is_taken_down_without_noise(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(ours, "LONGEST_ANSWER", 0.5)
    monkeypatch.setattr(target, "HTTP_TIMEOUT", 1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/whip"
        cell = await run_cell(Pair(PEERS["ours"], Target(url), "server"), SCENARIOS["audio"])
    assert cell.verdict.outcome.is_red
    assert caplog.records == []


def test_a_whip_server_whose_port_is_taken_is_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        command = [sys.executable, "-m", "interop.peers.whip", "ours", "--port", str(port)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].endswith(f"cannot listen on 127.0.0.1 port {port}: the address is in use")


async def test_a_profile_of_srtp_is_asked_of_no_two_ends_that_cannot_be_told() -> None:
    """A browser and a server known by its URL agree on what they like, and neither is at fault."""

    class Browser(Visitor):
        traits = Traits()

    visitor = Browser("a browser", VisitingEnd("v=0\r\n"))
    cell = await run_cell(
        Pair(visitor, Target("http://127.0.0.1:1/whip"), "server"), SCENARIOS["SRTP AEAD_AES_256_GCM"]
    )
    assert cell.verdict.outcome is Outcome.UNSUPPORTED
    said = "neither a browser nor target can be told which SRTP profiles to know"
    assert cell.verdict.sentence == said
