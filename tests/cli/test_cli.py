"""The command line as a user meets it: in a process of its own."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from interop.browsers import addressed_namespace, loopback_namespace
from interop.browsers.namespace import ADDRESS
from stack.audio import read_wav, write_wav
from stack.signaling.server import Serving
from tests.signaling.conftest import server  # noqa: F401


def run(
    *arguments: str, expect: int = 0, environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "stack", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environment)
    assert done.returncode == expect, done.stderr
    assert "Traceback" not in done.stderr
    return done


async def call(*arguments: str) -> dict:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "stack", "call", *arguments, "--json", stdout=-1, stderr=-1
    )
    output, errors = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0, errors
    return json.loads(output)


def test_version() -> None:
    assert run("version").stdout.startswith("voice-stack 0.")


def test_help_shows_the_commands() -> None:
    text = run("--help").stdout
    assert all(command in text for command in ("serve", "call", "version"))


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["serve", "--agent", "unknown"], 2, "neither one of"),
        (["serve", "--agent", "no.such.module:program"], 2, "cannot import"),
        (["serve", "--agent", "stack.agents:nothing"], 2, "has no 'nothing'"),
        (["serve", "--port", "70000"], 2, "range"),
        (["serve", "--host", "no.such.host.invalid"], 1, "unknown host"),
        (["serve", "--port", "0", "--udp-port", "0", "--pcap", "/no/such/folder/x.pcap"], 1, "cannot write"),
        (["serve", "--port", "0", "--udp-port", "0", "--record-dir", "/dev/null/x"], 1, "cannot record into"),
        (["call", "http://127.0.0.1:9/"], 1, "cannot reach"),
        (["call", "http://127.0.0.1:9/", "--play", "/no/such/file.wav"], 1, "/no/such/file.wav"),
        (["call", "http://127.0.0.1:9/", "--record", "/no/such/folder/x.wav"], 1, "cannot write"),
        (
            ["serve", "--detector", "unknown"],
            1,
            "a detector is auto, earshot, energy or silero:FILE, not 'unknown'",
        ),
        (["serve", "--echo", "maybe"], 1, "echo is auto, aec3 or off, not 'maybe'"),
        (
            ["serve", "--endpointer", "smart-turn"],
            1,
            "an endpointer is rules or smart-turn:FILE, not 'smart-turn'",
        ),
        (["call", "http://127.0.0.1:9/", "--dtls", "1.1"], 2, "1.1"),
        (["nonsense"], 2, "No such command"),
    ],
)
def test_a_mistake_is_one_clear_line(arguments: list[str], code: int, message: str) -> None:
    assert message in run(*arguments, expect=code).stderr


@pytest.mark.parametrize(
    ("name", "value", "module", "message"),
    [
        ("DETECTOR", "silero:/no/such.onnx", "onnxruntime", "/no/such.onnx needs `pip install onnxruntime`"),
        ("ENDPOINTER", "smart-turn:/no/such.onnx", "onnxruntime", "/no/such.onnx needs `pip install onnxruntime`"),
        ("ECHO", "aec3", "livekit", "AEC3 needs `pip install livekit`"),
    ],
)
def test_what_is_not_installed_is_one_clear_line_at_the_start(
    name: str, value: str, module: str, message: str, tmp_path: Path
) -> None:
    (tmp_path / f"{module}.py").write_text("raise ImportError('not here')")
    environment = os.environ | {f"VOICE_STACK_{name}": value, "PYTHONPATH": str(tmp_path)}
    assert message in run("serve", "--port", "0", "--udp-port", "0", expect=1, environment=environment).stderr


def test_a_model_that_is_not_there_is_one_clear_line_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "onnxruntime.py").touch()
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    for option in ("--detector=silero:/no/such.onnx", "--endpointer=smart-turn:/no/such.onnx"):
        assert "there is no file /no/such.onnx" in run("serve", option, expect=1, environment=environment).stderr


def test_a_port_in_use_is_one_clear_line() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        port = str(taken.getsockname()[1])
        assert "in use" in run("serve", "--port", "0", "--udp-port", port, expect=1).stderr
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        assert "in use" in run("serve", "--port", port, "--udp-port", "0", expect=1).stderr


def test_a_file_that_is_no_wav_is_one_clear_line(tmp_path: Path) -> None:
    broken = tmp_path / "broken.wav"
    broken.write_bytes(b"RIFF but not really")
    assert "broken.wav" in run("call", "http://127.0.0.1:9/", "--play", str(broken), expect=1).stderr


@pytest.mark.real_clock
async def test_a_call_reports_how_it_went(server: Serving, tmp_path: Path) -> None:  # noqa: F811
    speech, heard, capture = tmp_path / "in.wav", tmp_path / "out.wav", tmp_path / "call.pcap"
    tone = (8000 * np.sin(2 * np.pi * 500 * np.arange(16_000) / 16_000)).astype(np.int16)
    write_wav(speech, tone, 16_000)
    report = await call(
        server.url, "--play", str(speech), "--record", str(heard), "--dtls", "1.2", "--pcap", str(capture)
    )
    assert report["dtls"]["version"] == "DTLS 1.2"
    assert report["dtls"]["srtp_profile"] == "AEAD_AES_128_GCM"
    assert report["sent"]["packets"] == pytest.approx(50, abs=1)
    assert report["received"]["packets"] == pytest.approx(50, abs=3)
    assert report["received"]["lost"] == 0
    assert report["round_trip_time_ms"] > 0
    assert list(report["steps_ms"])[:2] == ["offer", "answer"]
    samples, rate = read_wav(heard)
    assert rate == 16_000
    assert len(samples) >= 0.9 * rate
    assert capture.read_bytes()[:4] == bytes.fromhex("d4c3b2a1")


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
async def test_a_signal_ends_the_server_in_an_orderly_way(name: str) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "stack", "serve", "--port", "0", "--udp-port", "0", stdout=-1, stderr=-1
    )
    assert process.stdout is not None
    line = (await asyncio.wait_for(process.stdout.readline(), 30)).decode()
    url = line.split()[1]
    caller = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "stack", "call", url, "--duration", "60", "--json", stdout=-1, stderr=-1
    )
    assert process.stderr is not None
    while b"connected" not in (log := await asyncio.wait_for(process.stderr.readline(), 30)):
        assert log, "the server ended before the call was there"
    os.kill(process.pid, getattr(signal, name))
    report, _ = await asyncio.wait_for(caller.communicate(), 30)
    assert json.loads(report)["end"] == "the peer closed"
    _, errors = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 0
    assert b"Traceback" not in errors


async def first_lines(*arguments: str, count: int = 1) -> list[str]:
    """Start the server, read the first lines that it prints, and end it."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "stack", "serve", "--port", "0", "--udp-port", "0", *arguments),
        stdout=-1,
        stderr=-1,
    )
    assert process.stdout is not None
    lines = [(await asyncio.wait_for(process.stdout.readline(), 30)).decode() for _ in range(count)]
    process.send_signal(signal.SIGINT)
    rest, _ = await asyncio.wait_for(process.communicate(), 30)
    return [*lines, *rest.decode().splitlines()]


def media_of(line: str) -> list[str]:
    return re.findall(r"([0-9a-f.:]+):\d+[,;]", line.partition("UDP")[2])


async def test_where_it_listens() -> None:
    with addressed_namespace() as absent:
        if absent is not None:
            pytest.skip(f"no network of our own: {absent}")
        for arguments, page, media in (
            ([], "127.0.0.1", [ADDRESS, "127.0.0.1"]),
            (["--host", "127.0.0.1"], "127.0.0.1", ["127.0.0.1"]),
            (["--host", "0.0.0.0"], "127.0.0.1", [ADDRESS]),
            (["--host", "127.0.0.1", "--media-host", ADDRESS], "127.0.0.1", [ADDRESS]),
            (["--media-host", ADDRESS], "127.0.0.1", [ADDRESS]),
        ):
            lines = await first_lines(*arguments)
            assert f"Open http://{page}:" in lines[0]
            assert media_of(lines[0]) == media
            assert ("leave out --host" in lines[1]) == (media == ["127.0.0.1"])


async def test_a_machine_with_loopback_alone_is_told_that_browsers_will_not_call_it() -> None:
    with loopback_namespace() as isolated:
        if not isolated:
            pytest.skip("network namespaces are not permitted here")
        lines = await first_lines(count=2)
        assert media_of(lines[0]) == ["127.0.0.1"]
        assert "no network address but loopback" in lines[1]


def test_help_shows_the_environment() -> None:
    text = run("serve", "--help").stdout
    for name in ("VOICE_STACK_PORT", "VOICE_STACK_TOKEN", "VOICE_STACK_UPSTREAM", "VOICE_STACK_ENDPOINTER"):
        assert name in text


def test_tls_files_that_are_no_use_are_one_clear_line(tmp_path: Path) -> None:
    ports = ["--port", "0", "--udp-port", "0"]
    assert "needs both" in run("serve", *ports, "--tls-cert", "x.pem", expect=1).stderr
    broken = tmp_path / "x.pem"
    broken.write_text("nothing")
    tls = ["--tls-cert", str(broken), "--tls-key", str(broken)]
    assert "cannot use" in run("serve", *ports, *tls, expect=1).stderr


async def test_the_environment_configures_https_and_tokens_and_a_second_signal_does_not_wait(
    tmp_path: Path,
) -> None:
    import ssl

    import aiohttp

    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1"]
        + ["-subj", "/CN=localhost", "-keyout", str(key), "-out", str(certificate)],
        check=True,
        capture_output=True,
    )
    settings = {
        "PORT": "0",
        "UDP_PORT": "0",
        "TOKEN": "call=one metrics=two",
        "TLS_CERT": str(certificate),
        "TLS_KEY": str(key),
        "DRAIN_SECONDS": "300",
    }
    environment = os.environ | {f"VOICE_STACK_{name}": value for name, value in settings.items()}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "stack", "serve", stdout=-1, stderr=-1, env=environment
    )
    assert process.stdout is not None
    url = (await asyncio.wait_for(process.stdout.readline(), 30)).decode().split()[1]
    assert url.startswith("https://")
    offer = (Path(__file__).parent.parent / "vectors/offers/chromium156-audio_dc.sdp").read_text()
    trust = ssl.create_default_context()
    trust.check_hostname, trust.verify_mode = False, ssl.CERT_NONE
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=trust)) as http:
        for token, status in (("wrong", 401), ("two", 403), ("one", 200)):
            header = {"Authorization": f"Bearer {token}"}
            async with http.post(url + "/api/offer", json={"sdp": offer}, headers=header) as response:
                assert response.status == status
        process.send_signal(signal.SIGTERM)
        assert b"Draining" in await asyncio.wait_for(process.stdout.readline(), 30)
        async with http.get(url + "/readyz") as response:
            assert response.status == 503
    process.send_signal(signal.SIGTERM)
    _, errors = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 0
    assert b"Traceback" not in errors
    assert not any(secret in errors for secret in (b"call=one", b"wrong"))
