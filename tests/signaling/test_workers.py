"""Media workers as processes: what the end of one does, and of the program; signals, logs, odd checks."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import pytest

from stack import Call, low_priority
from stack.agents import echo
from stack.aio import CallEnded, Host, HostConfig, control_of, worker_link, worker_start, workers
from stack.aio.media import AddUfrag, CountCalls
from stack.aio.steering import CannotSteer, Steering, bind_group
from stack.aio.workers import check_workers, default_workers
from stack.core.errors import LocalError
from stack.core.machine import Address
from stack.ice import IceCredentials, Ufrag
from stack.sdp import SessionDescription
from stack.session import EndReason
from stack.signaling.client import ClientCall, dial
from stack.signaling.server import ServeConfig, Serving, serving
from stack.stun import IceControlling, Message, MessageClass, Method, Priority, TransactionId, Username
from stack.voice.client import read_goaway
from stack.voice.commands import SendDigits
from tests.listening import listen, until
from tests.signaling.workers import STEERINGS

pytestmark = [
    pytest.mark.real_clock,
    pytest.mark.skipif(not default_workers(), reason="media workers need Linux or macOS"),
]
needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="it reads /proc, or sends to 127.0.0.1 alone")
with_steerings = pytest.mark.parametrize("steering", STEERINGS)

ROOT = Path(__file__).parents[2]
TONE = (4000 * np.sin(np.arange(16_000) / 4)).astype(np.int16)


def config(number: int = 1, **media: Any) -> ServeConfig:
    return ServeConfig(port=0, media=HostConfig(udp_port=0, workers=number, **media))


def pool_of(server: Serving) -> Any:
    return server.host._media


def is_alive(pid: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return status != "Z"


@contextlib.asynccontextmanager
async def calls_on_both(server: Serving) -> AsyncIterator[tuple[ClientCall, ClientCall]]:
    """Context: a call that the first worker carries, and one that the second does, both connected."""
    async with dial(server.url) as one, dial(server.url) as other:
        for placed in (one, other):
            await placed.call.wait_connected()
        assert [link.load for link in pool_of(server).links] == [1, 1]
        yield one, other


@needs_linux
@with_steerings
async def test_a_worker_that_dies_takes_its_calls_with_it_and_is_replaced(steering: Steering) -> None:
    ends: dict[str, EndReason] = {}

    async def program(call: Call) -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await echo(call)
        ends[call.id] = (await call.wait_ended()).reason

    whole = config(2, steering=steering)
    async with asyncio.timeout(60), serving(program, whole) as server, calls_on_both(server) as (one, other):
        pool = pool_of(server)
        descriptors = len(os.listdir("/proc/self/fd"))
        lost, kept = sorted(server.host._table.calls.values(), key=lambda hosted: hosted.link.number)
        former = pool.links[0].pid
        os.kill(former, signal.SIGKILL)
        assert (await lost.call.wait_ended()).reason is EndReason.WORKER_FAILED
        with pytest.raises(CallEnded):
            await lost.call.stats()
        for placed in (one, other):  # which of them it is does not matter: the other side is still there
            placed.call.speaker.write(TONE, 16_000)
        heard = [asyncio.create_task(listen(placed.call, 0.5)) for placed in (one, other)]
        await asyncio.wait(heard, return_when=asyncio.FIRST_COMPLETED)
        assert not kept.call.ended
        await until(lambda: pool.links[0].is_up)
        assert pool.links[0].pid != former
        await until(lambda: lost.id in ends)
        assert ends[lost.id] is EndReason.WORKER_FAILED
        async with dial(server.url) as again:
            await again.call.wait_connected()
            assert pool.links[0].load == 1
            again.call.speaker.write(TONE, 16_000)
            await listen(again.call, 0.2)
        tally = await server.host.tally()
        assert tally.counters["worker.lost"] == 1
        assert tally.counters["worker.started"] == 3
        assert tally.counters["host.ended_worker_failed"] == 1
        async with aiohttp.ClientSession() as http, http.get(f"{server.url}/api/offer?pc_id={lost.id}") as answer:
            assert await answer.json() == {"state": "ended", "reason": "worker_failed"}
        async with aiohttp.ClientSession() as http, http.get(f"{server.url}/api/offer?pc_id={kept.id}") as answer:
            assert await answer.json() == {"state": "up"}
        async with aiohttp.ClientSession() as http, http.get(f"{server.url}/api/offer?pc_id=unknown") as answer:
            assert answer.status == 404
        await until(lambda: len(os.listdir("/proc/self/fd")) <= descriptors + 1)
        pids = [link.pid for link in pool.links]
        for task in heard:
            task.cancel()
        # the client whose worker is gone would wait for an answer: it gives up by itself
    assert not any(is_alive(pid) for pid in [former, *pids])


@needs_linux
async def test_a_worker_in_the_place_of_another_delays_no_call_while_it_loads() -> None:
    def threads(pid: int) -> list[int]:
        """Return how nice each thread is: the main one, then those that load."""
        found = []
        with contextlib.suppress(OSError):
            for task in sorted(Path(f"/proc/{pid}/task").iterdir(), key=lambda each: int(each.name)):
                found.append(int((task / "stat").read_text().rpartition(")")[2].split()[16]))
        return found

    async def replaced(link: Any) -> list[list[int]]:
        """Kill a worker, and return what was seen until another is up in its place."""
        former = link.pid
        os.kill(former, signal.SIGKILL)
        seen: list[list[int]] = []
        async with asyncio.timeout(60):
            while not (link.is_up and link.pid != former):
                if link.pid != former:
                    seen.append(threads(link.pid))
                await asyncio.sleep(0.001)
        seen.append(threads(link.pid))
        return seen

    usual = os.getpriority(os.PRIO_PROCESS, 0)
    async with serving(echo, config(2)) as server:
        pool = pool_of(server)
        for nice in await replaced(pool.links[0]):  # there is no call that could be delayed
            assert set(nice) <= {usual}
        async with dial(server.url) as placed:
            await placed.call.wait_connected()
            (without_calls,) = (link for link in pool.links if not link.load)
            while_loading = await replaced(without_calls)
            placed.call.speaker.write(TONE, 16_000)
            await listen(placed.call, 0.2)
    assert [usual, usual + low_priority.NICENESS] in while_loading
    assert while_loading[-1] == [usual], "all that is left is as urgent as ever"


@needs_linux
async def test_calls_go_on_when_the_forwarder_is_replaced() -> None:
    whole = config(2, steering=Steering.FORWARDER)
    async with asyncio.timeout(60), serving(echo, whole) as server, calls_on_both(server) as both:
        forwarder = pool_of(server).forwarder
        former = forwarder.pid
        os.kill(former, signal.SIGKILL)
        await until(lambda: forwarder.is_up and forwarder.pid != former)
        for placed in both:
            placed.call.speaker.write(TONE, 16_000)
            await listen(placed.call, 0.3)
        assert not any(hosted.call.ended for hosted in server.host._table.calls.values())
        async with dial(server.url) as another:
            await another.call.wait_connected()
        counters = (await server.host.tally()).counters
        assert counters["forwarder.lost"] == 1
        assert counters["worker.started"] == 2
        pids = [forwarder.pid, *(link.pid for link in pool_of(server).links)]
    assert not any(is_alive(pid) for pid in [former, *pids])


async def test_what_waits_for_a_worker_that_dies_is_told(tmp_path: Path) -> None:
    problems: list[BaseException] = []

    async def program(call: Call) -> None:
        recording = await call.start_recording(tmp_path / "call.wav")
        os.kill(pool_of(server).links[0].pid, signal.SIGSTOP)
        asking = asyncio.ensure_future(call.stats())
        await asyncio.sleep(0.01)
        os.kill(pool_of(server).links[0].pid, signal.SIGKILL)
        for waiting in (asking, recording.wait_finished()):
            try:
                await waiting
            except (CallEnded, LocalError) as error:
                problems.append(error)

    async with asyncio.timeout(30), serving(program, config()) as server:
        placing = asyncio.create_task(call_until_it_is_over(server.url))
        await until(lambda: len(problems) == 2, 20)
        placing.cancel()
    assert isinstance(problems[0], CallEnded)
    assert "broke off" in str(problems[1])


async def call_until_it_is_over(url: str) -> EndReason:
    async with dial(url) as placed:
        return (await placed.call.wait_ended()).reason


async def test_a_worker_that_hangs_is_ended_and_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "PING_EVERY", 0.02)
    monkeypatch.setattr(worker_link, "MAX_UNANSWERED", 50)
    async with asyncio.timeout(30), serving(echo, config()) as server:
        link = pool_of(server).links[0]
        former = link.pid
        async with dial(server.url) as placed:
            await placed.call.wait_connected()
            (call_id,) = server.host.calls
            os.kill(former, signal.SIGSTOP)
            await until(lambda: link.is_late)
            question = f"{server.url}/api/offer?pc_id={call_id}"
            async with aiohttp.ClientSession() as http, http.get(question) as answer:
                assert await answer.json() == {"state": "up", "late": True}
            await until(lambda: link.pid != former and link.is_up)
        assert (await server.host.tally()).counters["worker.hung"] == 1
        assert not is_alive(former)


async def test_a_command_that_no_worker_can_read_is_its_callers_error() -> None:
    raised: list[BaseException] = []

    async def program(call: Call) -> None:
        for wrong in (SendDigits(5), SendDigits(object()), SendDigits("x")):  # type: ignore[arg-type]
            try:
                await control_of(call).execute(wrong)
            except LocalError as error:
                raised.append(error)
        await call.stats()
        raised.append(StopAsyncIteration())

    async with asyncio.timeout(30), serving(program, config()) as server:
        former = pool_of(server).links[0].pid
        async with dial(server.url) as placed:
            await placed.call.wait_ended()
        assert pool_of(server).links[0].pid == former
    assert [type(each) for each in raised] == [LocalError] * 3 + [StopAsyncIteration]


async def test_a_program_that_writes_more_than_its_worker_takes_fails_alone() -> None:
    """Ten minutes of stereo, again and again without waiting: more than 256 MB, beside a call that goes on."""
    much = np.zeros((int(599.0 * 48_000), 2), np.int16)
    refused: list[LocalError] = []
    calls: list[Call] = []

    async def program(call: Call) -> None:
        calls.append(call)
        if len(calls) == 1:
            await echo(call)
            return
        for _ in range(4):
            try:
                call.speaker.write(much, 48_000)
                call.speaker.flush()
            except LocalError as error:
                refused.append(error)
        raise refused[0]

    async with asyncio.timeout(90), serving(program, config()) as server:
        former = pool_of(server).links[0].pid
        async with dial(server.url) as standing:
            await standing.call.wait_connected()
            async with dial(server.url) as placed:
                assert (await placed.call.wait_ended()).reason is EndReason.PEER_CLOSED
            standing.call.speaker.write(TONE, 16_000)
            await listen(standing.call, 0.3)
            assert not calls[0].ended
        assert pool_of(server).links[0].pid == former
        assert "worker.lost" not in (await server.host.tally()).counters
    assert "write less at once" in str(refused[0])


async def test_what_cannot_be_read_ends_the_link_with_a_clear_error(caplog: pytest.LogCaptureFixture) -> None:
    async with asyncio.timeout(30), serving(echo, config()) as server:
        link = pool_of(server).links[0]
        former = link.pid
        link._connection.send(b"nonsense")
        await until(lambda: link.pid != former and link.is_up)
    assert f"(process {former}) is lost" in caplog.text


async def test_a_worker_of_another_version_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "package_version", lambda: "0.0.9")
    with pytest.raises(LocalError, match=r"runs version 0\.0\.9.*start it again"):
        async with serving(echo, config()):
            pass


@pytest.mark.parametrize("number", [-1, 37])
def test_numbers_of_workers_that_cannot_be(number: int) -> None:
    with pytest.raises(LocalError, match="workers is"):
        check_workers(number)


def test_where_workers_cannot_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    check_workers(2)
    with pytest.raises(CannotSteer, match="does not steer"):
        bind_group(["127.0.0.1"], 0, 2)
    monkeypatch.setattr(sys, "platform", "win32")
    assert default_workers() == 0
    with pytest.raises(LocalError, match="need Linux or macOS"):
        check_workers(1)
    check_workers(0)


@needs_linux
@with_steerings
async def test_a_capture_has_the_datagrams_of_all_workers(steering: Steering, tmp_path: Path) -> None:
    path = tmp_path / "calls.pcap"
    whole = ServeConfig(port=0, media=HostConfig(udp_port=0, workers=2, steering=steering), pcap=str(path))
    ports = []
    async with asyncio.timeout(30), serving(echo, whole) as server, calls_on_both(server) as both:
        for placed in both:
            assert placed.call.connected is not None
            ports.append(placed.call.connected.path.local.port)
    data, place, seen = path.read_bytes(), 24, set()
    while place < len(data):
        size = int.from_bytes(data[place + 8 : place + 12], "little")
        udp = data[place + 16 + 20 : place + 16 + 24]
        seen |= {("from", int.from_bytes(udp[:2], "big")), ("to", int.from_bytes(udp[2:], "big"))}
        place += 16 + size
    assert seen >= {(way, port) for way in ("from", "to") for port in ports}


async def test_a_workers_log_is_the_programs(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def program(call: Call) -> None:
        with pytest.raises(LocalError, match="cannot record"):
            await call.start_recording(tmp_path / "no" / "such.wav")

    async with asyncio.timeout(30), serving(program, config()) as server:
        async with dial(server.url) as placed:
            await placed.call.wait_ended()
        (record,) = [each for each in caplog.records if each.name == "stack.recording"]
        assert record.process == pool_of(server).links[0].pid
        assert "cannot record to" in record.getMessage()


def signed_check(ours: IceCredentials, theirs: str) -> bytes:
    attributes = (Username(f"{ours.ufrag}:{theirs}"), Priority(1), IceControlling(1))
    message = Message(MessageClass.REQUEST, Method.BINDING, TransactionId(os.urandom(12)), attributes)
    return message.sign(ours.password.encode())


@needs_linux
@with_steerings
async def test_one_port_of_a_peer_may_have_calls_of_several_workers(steering: Steering, offer: str) -> None:
    """With the kernel, their checks come into the socket that one worker has connected, which passes them on."""
    theirs = SessionDescription.parse(offer).media[0].ice_ufrag
    assert theirs is not None
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(30), serving(echo, config(2, steering=steering)) as server:
        host = server.host
        address = next(each for each in host.addresses if each.host == "127.0.0.1")
        credentials = []
        for _ in range(2):
            answer = SessionDescription.parse((await host.accept(offer)).answer).media[0]
            credentials.append(IceCredentials(str(answer.ice_ufrag), str(answer.value("ice-pwd"))))
        assert [Ufrag.parse(each.ufrag).worker for each in credentials] == [0, 1]
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
            peer.setblocking(False)
            peer.bind(("127.0.0.1", 0))
            for ours in (*credentials, *credentials):
                await loop.sock_sendto(peer, signed_check(ours, theirs), tuple(Address(*address)))
                while True:
                    data, source = await loop.sock_recvfrom(peer, 2000)
                    if data[0] == 1:  # a success response; DTLS may stand beside it
                        break
                assert source == tuple(address)
        counters = (await host.tally()).counters
        if steering is Steering.KERNEL:
            assert counters["worker.passed_on_check"] >= 2
        else:
            assert (
                counters["forwarder.moved_path"] == 1
            )  # as in one process: a path is proven once to each session


async def test_an_ice_restart_stays_with_its_worker() -> None:
    async with asyncio.timeout(30), serving(echo, config()) as server, dial(server.url) as placed:
        await placed.call.wait_connected()
        (hosted,) = server.host._table.calls.values()
        fresh = await server.host.restart_ice(hosted.call, IceCredentials.generate(os.urandom))
        assert Ufrag.parse(fresh.ufrag).worker == hosted.link.number
        with pytest.raises(LocalError):
            await hosted.link.execute(AddUfrag("no such call", "0+0123456789ab"))
        assert await hosted.link.execute(CountCalls()) == 1


SERVER = """
import sys
from stack import HostConfig, serve
from stack.aio.steering import Steering

print("the script runs", flush=True)

async def program(call):
    await call.wait_ended()

config = HostConfig(workers=int(sys.argv[2]), steering=Steering.FORWARDER)
serve(program, port=int(sys.argv[1]), udp_port=0, host="127.0.0.1", config=config)
"""


@contextlib.contextmanager
def script(tmp_path: Path, port: int, workers: int = 1) -> Any:
    """Context: a program without a `__main__` guard, in a session of its own; several workers have a forwarder."""
    path = tmp_path / "program.py"
    path.write_text(SERVER)
    with open(tmp_path / "output", "wb") as output:
        process = subprocess.Popen(
            [sys.executable, str(path), str(port), str(workers)],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            cwd=tmp_path,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=_die_with_us,
        )
        try:
            yield process
        finally:
            process.kill()
            process.wait()


def _die_with_us() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)  # PR_SET_PDEATHSIG


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def children(pid: int) -> list[int]:
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(each) for each in found]


async def until_it_listens(port: int) -> str:
    url = f"http://127.0.0.1:{port}"
    async with asyncio.timeout(30), aiohttp.ClientSession() as http:
        while True:
            with contextlib.suppress(aiohttp.ClientError):
                async with http.get(url + "/healthz"):
                    return url
            await asyncio.sleep(0.02)


@needs_linux
@pytest.mark.parametrize(("number", "workers"), [(signal.SIGTERM, 1), (signal.SIGINT, 1), (signal.SIGTERM, 2)])
async def test_a_signal_to_the_whole_group_ends_the_calls_in_order(
    tmp_path: Path, number: int, workers: int
) -> None:
    port = free_port()
    with script(tmp_path, port, workers) as process:
        url = await until_it_listens(port)
        processes = children(process.pid)
        assert len(processes) == (1 if workers == 1 else 3)
        async with asyncio.timeout(30), dial(url) as placed:
            await placed.call.wait_connected()
            os.killpg(process.pid, number)
            assert (await placed.call.wait_ended()).reason is EndReason.PEER_CLOSED
        assert await asyncio.to_thread(process.wait, 20) == 0
        assert not any(is_alive(each) for each in processes)
    output = (tmp_path / "output").read_text()
    assert output.count("the script runs") == 1  # a worker does not run it again
    assert "Traceback" not in output


async def first_goaway(call: Call) -> str:
    """Return the id in the first message of that kind; an empty text if the call ends without one."""
    async for text in await call.channels.wait_for("events"):
        if former := read_goaway(text):
            return former
    return ""


@needs_linux
@pytest.mark.parametrize("workers", [1, 2])
async def test_calls_outlive_their_program_by_a_stated_grace(tmp_path: Path, workers: int) -> None:
    port = free_port()
    with script(tmp_path, port, workers) as process:
        url = await until_it_listens(port)
        processes = children(process.pid)
        async with asyncio.timeout(40), dial(url) as placed:
            await placed.call.wait_connected()
            told = asyncio.ensure_future(first_goaway(placed.call))
            began = time.monotonic()
            os.kill(process.pid, signal.SIGKILL)
            assert await told
            assert (await placed.call.wait_ended()).reason is EndReason.PEER_CLOSED
            assert time.monotonic() - began > 3.0  # the grace is 5 s
        await until(lambda: not any(is_alive(each) for each in processes))


@needs_linux
@pytest.mark.parametrize("workers", [1, 2])
async def test_a_program_that_is_gone_without_calls_takes_its_workers_at_once(
    tmp_path: Path, workers: int
) -> None:
    port = free_port()
    with script(tmp_path, port, workers) as process:
        await until_it_listens(port)
        processes = children(process.pid)
        os.kill(process.pid, signal.SIGKILL)
        await until(lambda: not any(is_alive(each) for each in processes), 4.0)


async def test_codecs_of_the_script_itself_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_start, "registered_codecs", lambda: [type("C", (), {"make_decoder": home})()])
    monkeypatch.setattr(home, "__module__", "__main__")
    with pytest.raises(LocalError, match="put it into a module"):
        async with Host(echo, HostConfig(udp_port=0, workers=1)):
            pass
    monkeypatch.setattr(home, "__module__", "no_such_module_here")
    with pytest.raises(LocalError, match="cannot import 'no_such_module_here'"):
        async with Host(echo, HostConfig(udp_port=0, workers=1)):
            pass


def home() -> None:
    """Stands where a codec's factory would."""
