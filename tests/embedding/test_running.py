"""A server in a thread of its own."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import threading
import traceback
import urllib.request
from collections.abc import Callable

import pytest

from stack import Call, HostConfig, ServeConfig, dial, running, serve
from stack.agents import echo
from stack.core.errors import LocalError
from stack.signaling.server import whole_config

PORTS = {"host": "127.0.0.1", "port": 0, "udp_port": 0}


def health(url: str) -> int:
    with urllib.request.urlopen(f"{url}/healthz", timeout=10) as response:
        status: int = response.status
        return status


def test_it_serves_while_inside_and_not_after() -> None:
    with running(echo, **PORTS) as server:
        assert health(server.url) == 200
        assert "up" in repr(server)
    assert "stopped" in repr(server)
    with pytest.raises(OSError):
        health(server.url)


def test_it_may_be_started_in_one_place_and_stopped_in_another() -> None:
    server = running(echo, **PORTS)
    assert health(server.url) == 200
    server.stop()
    server.stop()
    assert not any(thread.name == "voice server" for thread in threading.enumerate())


def test_a_server_that_was_stopped_is_not_entered_again() -> None:
    with running(echo, **PORTS) as server:
        pass
    with pytest.raises(LocalError, match="was stopped"), server:
        pass


def test_a_port_that_is_taken_is_raised_where_it_was_started() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(LocalError, match="in use"):
        running(echo, **(PORTS | {"port": taken.getsockname()[1]}))
    assert not any(thread.name == "voice server" for thread in threading.enumerate())


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"port": 99_999}, "port is a number from 0"),
        ({"port": 8080.5}, "port is a number from 0"),
        ({"port": "8080"}, "port is a number from 0"),
        ({"udp_port": -1}, "udp_port is a number from 0"),
        ({"workers": "two"}, "workers is 0"),
        ({"config": {"udp_port": 0}}, "`config` is a HostConfig"),
        ({"server": 5}, "`server` a ServeConfig"),
    ],
)
def test_what_is_no_setting_is_said_at_once(wrong: dict[str, object], told: str) -> None:
    with pytest.raises(LocalError, match=told):
        running(echo, **(PORTS | wrong))  # type: ignore[arg-type]
    assert not any(thread.name == "voice server" for thread in threading.enumerate())


@pytest.mark.parametrize("start", [serve, running])
@pytest.mark.parametrize("option", ["port", "udp_port"])
def test_a_port_in_use_is_said_without_our_frames(start: Callable[..., object], option: str) -> None:
    kind = socket.SOCK_STREAM if option == "port" else socket.SOCK_DGRAM
    with socket.socket(socket.AF_INET, kind) as taken:
        taken.bind(("127.0.0.1", 0))
        if option == "port":
            taken.listen()
        with pytest.raises(LocalError) as told:
            start(echo, **(PORTS | {option: taken.getsockname()[1]}))
    shown = "".join(traceback.format_exception(told.value))
    assert shown.count("Traceback") == 1
    assert len(told.traceback) == 2, "the caller's line, and ours that was called"
    assert shown.splitlines()[-1].startswith("stack.core.errors.LocalError: cannot ")
    assert f"in use; {option} (--{option.replace('_', '-')}) takes another" in shown


async def test_a_loop_that_runs_is_told_how_to_serve_beside_it(recwarn: pytest.WarningsRecorder) -> None:
    """`serve(program)` is what a reader of the README writes into a notebook first."""
    with pytest.raises(LocalError, match=r"with running\(program\)"):
        serve(echo, **PORTS)
    assert [str(each.message) for each in recwarn if "never awaited" in str(each.message)] == []


@pytest.mark.real_clock
async def test_it_runs_beside_a_loop_as_in_a_notebook() -> None:
    refused: list[LocalError] = []

    async def program(call: Call) -> None:
        try:
            server.stop()
        except LocalError as error:
            refused.append(error)
        async for frame in call.microphone:
            call.speaker.write(frame)

    server = await asyncio.to_thread(running, program, **PORTS)
    try:
        async with asyncio.timeout(30), dial(server.url) as client:
            await client.call.wait_connected()
            assert len(server.calls) == 1
            stopping = asyncio.create_task(asyncio.to_thread(server.stop))
            assert (await client.call.wait_ended()).reason.value == "the peer closed"
            await stopping
        assert "cannot stop" in str(refused[0])
    finally:
        await asyncio.to_thread(server.stop)


def test_a_script_that_ends_without_stopping_it_ends() -> None:
    code = (
        "from stack import running\nfrom stack.agents import echo\n"
        "server = running(echo, host='127.0.0.1', port=0, udp_port=0)\nprint(server.url)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.startswith("http://127.0.0.1:")
    assert done.stderr == ""


NOTHING = dict.fromkeys(("host", "media_host", "port", "udp_port", "public_ip", "pcap", "config", "server"))


def test_what_the_objects_say_counts_where_no_argument_says_anything() -> None:
    media = HostConfig(host="192.0.2.1", udp_port=4000, public_ips=("203.0.113.1",))
    for given in ({"config": media}, {"server": ServeConfig(media=media)}):
        assert whole_config(**(NOTHING | given)).media == media
    server = ServeConfig(port=9000, pcap="x.pcap", http_host="127.0.0.2")
    assert whole_config(**(NOTHING | {"server": server})) == server
    assert whole_config(**NOTHING) == ServeConfig()
    assert (ServeConfig().port, HostConfig().udp_port) == (8080, 3478)


def test_an_argument_goes_before_the_objects() -> None:
    server = ServeConfig(port=9000, pcap="x.pcap", media=HostConfig(udp_port=4000))
    given = {"port": 0, "udp_port": 0, "public_ip": "203.0.113.9", "pcap": "y.pcap", "host": "127.0.0.3"}
    whole = whole_config(**(NOTHING | given | {"server": server}))
    assert (whole.port, whole.pcap, whole.http_host) == (0, "y.pcap", "127.0.0.3")
    assert (whole.media.udp_port, whole.media.host, whole.media.public_ips) == (0, "127.0.0.3", ("203.0.113.9",))


def test_media_that_are_configured_twice_are_refused() -> None:
    twice = {"config": HostConfig(), "server": ServeConfig(media=HostConfig(udp_port=1))}
    with pytest.raises(LocalError, match="configured twice"):
        whole_config(**(NOTHING | twice))


def test_the_end_of_the_interpreter_ends_it_without_a_word() -> None:
    script = f"from stack import running; print(running(lambda turn: None, **{PORTS!r}).url)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    with pytest.raises(OSError):
        health(done.stdout.strip())
