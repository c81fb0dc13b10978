"""The command line as a user meets it: in a process of its own."""

from __future__ import annotations

import asyncio
import json
import math
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from interop.browsers import addressed_namespace, loopback_namespace
from interop.browsers.namespace import ADDRESS
from stack import Call
from stack.agents import default_agent, echo
from stack.aio import HostConfig
from stack.aio.tickets import TicketConfig
from stack.audio import read_wav, write_wav
from stack.cli import TELLING, cli, main
from stack.core.errors import LocalError
from stack.signaling.caller import render
from stack.signaling.client import dial
from stack.signaling.server import ServeConfig, Serving, serving
from stack.signaling.service import SignalingConfig
from tests.listening import until
from tests.signaling.conftest import server  # noqa: F401

pytestmark = pytest.mark.real_clock


def run(
    *arguments: str, expect: int = 0, environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "stack", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environment)
    assert done.returncode == expect, done.stderr
    assert "Traceback" not in done.stderr
    return done


def test_a_python_without_what_is_needed_says_what_to_do() -> None:
    """`python -m stack` in a clone, with the system's Python: the commonest first mistake."""
    command = [sys.executable, "-S", "-m", "stack", "serve"]
    root = Path(__file__).parents[2]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"Error: {sys.executable} has no module '")
    assert line.endswith("Elsewhere: `pip install voice-stack`.")
    assert ". .venv/bin/activate" in line


async def call(*arguments: str) -> dict:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "stack", "call", *arguments, "--json", stdout=-1, stderr=-1
    )
    output, errors = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0, errors
    return json.loads(output)


def mistake(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    *arguments: str,
    expect: int = 2,
    **settings: str,
) -> str:
    """Run the command line in this process, where it has to end with a mistake, and return what it says."""
    monkeypatch.setattr(sys, "argv", ["stack", *arguments])
    monkeypatch.setattr(sys, "path", list(sys.path))
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == expect
    return capsys.readouterr().err


MEDIA = ("media", "--nats", "nats://127.0.0.1:9", "--node", "n1")
SIGNALING = ("signaling", "--nats", "nats://127.0.0.1:9", "--ticket-key", "x")


def test_version() -> None:
    assert run("version").stdout == run("--version").stdout
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
        (["serve", "--port", "70000"], 2, "70000 is not a whole number from 0 to 65535"),
        (["serve", "--port", "1.5"], 2, "1.5 is not a whole number from 0 to 65535"),
        (["serve", "--max-calls", "0"], 2, "0 is not a whole number, 1 or more"),
        (["serve", "--resume-seconds", "1e300"], 2, "1e300 is not a finite number from 0 to 86400"),
        (["serve", "--agent", ""], 2, "'' is neither one of"),
        (["serve", "--host", ""], 2, "'' is not an address or a name of this machine without a port"),
        (["serve", "--host", "[::1]"], 2, "'[::1]' is not an address or a name of this machine without a port"),
        (["serve", "--host", "127.0.0.1:8080"], 2, "as 0.0.0.0, :: or localhost"),
        (["serve", "--host", "http://127.0.0.1"], 2, "'http://127.0.0.1' is not an address or a name"),
        (["serve", "--media-host", "256.1.1.1"], 2, "'256.1.1.1' is not an address or a name"),
        (["serve", "--interface", ""], 2, "'' is not the name of a network interface, as eth0"),
        (["serve", "--origin", "https://a b"], 2, "is not an origin, as https://app.example.com"),
        (["serve", "--tls-cert", "", "--tls-key", ""], 2, "'' is no file: name one, or leave it out"),
        (["serve", "--record-dir", ""], 2, "'' is no folder: name one, or leave it out"),
        (["serve", "--turn-url", "turn:x", "--turn-secret", "s", "--turn-ttl", "59"], 2, "from 60 to 315360000"),
        (["call"], 2, "Missing argument 'URL': python -m stack call [OPTIONS] URL"),
        (["call", "http://127.0.0.1:9", "--record", ""], 2, "'' is no file"),
        (["call", "http://127.0.0.1:9", "--ice-password", "p"], 2, "--ice-password does nothing without --ice-s"),
        (
            ["call", "http://127.0.0.1:9", "--ice-server", "turn:x"],
            2,
            "turn:x needs --ice-user NAME and --ice-pass",
        ),
        (["agent", "http", "--nats", "nats://127.0.0.1:9"], 2, "PROGRAM: http has options of its own"),
        (["agent", "nothing", "--nats", "nats://127.0.0.1:9"], 2, "PROGRAM: 'nothing' is neither one of"),
        (["agent", "echo", "--nats", "nats://127.0.0.1:9", "--program", ""], 2, "'' is no name: letters"),
        (["agent", "echo", "--nats", "nats://127.0.0.1:99999"], 2, "is not the URL of a NATS server"),
        (["relay", "--node", "n1=127.0.0.1:9", "--drain-seconds", "nan"], 2, "nan is not a finite number from 0"),
        (["relay", "--node", "n1=127.0.0.1:9", "--flows", ""], 2, "'' is no file"),
        (["relay", "--nats", "nats://127.0.0.1:0"], 2, "is not the URL of a NATS server, as nats://"),
        ([*MEDIA, "--http-url", "foo"], 2, "'foo' is not an address, as https://n1.example.com"),
        ([*MEDIA, "--agent", "echo", "--upstream", "ws://x"], 2, "--agent and --upstream exclude each other"),
        ([*MEDIA, "--media-host", "127.0.0.1", "--interface", "lo"], 2, "--media-host and --interface exclude"),
        ([*MEDIA, "--greeting", "hi"], 2, "--greeting does nothing without --agent http"),
        ([*MEDIA, "--tls-cert", "c"], 2, "--tls-cert does nothing without --tls-key"),
        ([*MEDIA, "--claim-header", "X", "--stateless", "never"], 2, "--claim-header does nothing without"),
        ([*SIGNALING, "--turn-url", "turn:x"], 2, "--turn-url does nothing without --turn-secret"),
        ([*SIGNALING, "--tls-key", "k"], 2, "--tls-key does nothing without --tls-cert"),
        ([*SIGNALING, "--claim-bytes", "9"], 2, "--claim-bytes does nothing without --claim-header"),
        (["ticket-key", ""], 2, "'' is no file"),
        (["serve", "--host", "no.such.host.invalid"], 1, "unknown host 'no.such.host.invalid' (--host"),
        (["serve", "--port", "0", "--udp-port", "0", "--pcap", "/no/such/folder/x.pcap"], 1, "cannot write"),
        (["serve", "--port", "0", "--udp-port", "0", "--key-log", "/no/such/folder/x.keys"], 1, "cannot write"),
        (["call", "http://127.0.0.1:9/", "--key-log", "/no/such/folder/x.keys"], 1, "cannot write"),
        (["serve", "--port", "0", "--udp-port", "0", "--record-dir", "/dev/null/x"], 1, "cannot record into"),
        (["call", "http://127.0.0.1:9/"], 1, "cannot reach"),
        (["call", "http://127.0.0.1:9/", "--play", "/no/such/file.wav"], 1, "/no/such/file.wav"),
        (["call", "http://127.0.0.1:9/", "--record", "/no/such/folder/x.wav"], 1, "cannot write"),
        (["serve", "--detector", "unknown"], 2, "'unknown' is not auto, earshot, energy or silero:FILE"),
        (["serve", "--echo", "maybe"], 2, "'maybe' is not auto, aec3 or off"),
        (["serve", "--noise-reduction", "much"], 2, "'much' is not off or webrtc"),
        (
            ["serve", "--endpointer", "smart-turn"],
            2,
            "'smart-turn' is not rules or smart-turn:FILE",
        ),
        (["call", "http://127.0.0.1:9/", "--dtls", "1.1"], 2, "1.1"),
        (["nonsense"], 2, "No such command"),
        (["serve", "--nonsense"], 2, "No such option"),
        (["serve", "--public-ip", "foo"], 2, "'foo' is not an IP address, as 203.0.113.7"),
        (["serve", "--token", "bogus=abc"], 2, "'bogus' is no scope of a token; they are call, secrets"),
        (["serve", "--token", "a b"], 2, "without spaces"),
        (["serve", "--origin", "example.com"], 2, "is not an origin, as https://app.example.com (no path), or *"),
        (["serve", "--origin", "https://example.com/app"], 2, "no path"),
        (["serve", "--redirect", "foo"], 2, "is not an address, as https://other.example.com"),
        (["serve", "--public-ip", "0.0.0.0"], 2, "'0.0.0.0' is not an address of one host"),
        (["serve", "--public-ip", "ff02::1"], 2, "'ff02::1' is not an address of one host"),
        (["serve", "--public-ip", "192.0.2.1", "--public-ip", "192.0.2.1"], 1, "192.0.2.1 is there twice"),
        (["serve", "--ice-server", "foo"], 2, "as stun:stun.example.com:3478"),
        (["serve", "--ice-server", "turn:turn.example"], 2, "--turn-url with --turn-secret"),
        (["serve", "--ice-server", "turn:u:p@"], 2, "an ICE server is stun:HOST"),
        (["serve", "--ice-server", "turn:u:p@turn.example", "--ice", "lite"], 2, "of no use with --ice lite"),
        (["serve", "--ice-server", "stun:stun.example:99999"], 2, "99999 is no port"),
        (
            ["serve", "--ice-server", "stun:stun.example", "--turn-secret", "x"],
            2,
            "--ice-server with a TURN server",
        ),
        (["serve", "--ice-server", "turns:turn.example:443?transport=tcp"], 2, "--turn-url with --turn-secret"),
        (["serve", "--resume-seconds", "nan"], 2, "nan is not a finite number"),
        (["serve", "--resume-seconds", "inf"], 2, "inf is not a finite number"),
        (["serve", "--drain-seconds", "inf"], 2, "inf is not a finite number"),
        (
            ["serve", "--media-host", "127.0.0.1", "--interface", "lo"],
            2,
            "--media-host and --interface exclude each other: each says where media listens",
        ),
        (["call", "http://127.0.0.1:9/", "--ice-transport", "relay"], 1, "need a TURN server"),
        (["serve", "--upstream", "http://x"], 2, "as wss://api.example.com/v1/realtime"),
        (["serve", "--upstream", "ws://x", "--agent", "echo"], 2, "--agent and --upstream exclude each other"),
        (["serve", "--turns", "stack"], 2, "--turns does nothing without --upstream"),
        (["serve", "--upstream-format", "pcmu"], 2, "--upstream-format does nothing without --upstream"),
        (["serve", "--tls-cert", "x.pem"], 2, "--tls-cert does nothing without --tls-key"),
        (["serve", "--tls-key", "x.pem"], 2, "--tls-key does nothing without --tls-cert"),
        (["serve", "--agent", "http"], 2, "--agent http needs --llm URL, as --llm http://127.0.0.1:11434/v1"),
        (["serve", "--agent", "http", "--llm", "foo"], 2, "as http://127.0.0.1:8000/v1"),
        (["serve", "--greeting", "hi"], 2, "--greeting does nothing without --agent http"),
        (["serve", "--agent", "tests.cli.programs:noargs"], 2, "takes one argument"),
        (["serve", "--agent", "tests.cli.programs:NUMBER"], 2, "is not a function"),
        (["serve", "--agent", "tests.cli.broken:program"], 2, "RuntimeError: no database"),
        (["serve", "--agent", "tests/cli/broken.py:program"], 2, "as in an import, tests.cli.broken:program"),
        (["serve", "--agent", "tests.cli.serves:echo"], 2, "it serves by itself when it is imported"),
        (["serve", "--agent", "tests.cli.serves_beside:echo"], 2, "it serves by itself when it is imported"),
        (["call", "foo"], 2, "'foo' is not an address, as http://127.0.0.1:8080"),
        (["serve", "--trusted-proxy", "proxy.example"], 2, "an address or a network, as 127.0.0.1 or 10.0.0.0/8"),
        (["serve", "--path-prefix", "voice"], 2, "'voice' is not a path, as /voice"),
        (["serve", "--path-prefix", "/voice/../x"], 2, "'/voice/../x' is not a path, as /voice"),
        (["serve", "--path-prefix", "/."], 2, "'/.' is not a path, as /voice"),
        (["call", "http://me:secret@127.0.0.1:9/x"], 1, "cannot reach http://127.0.0.1:9/x: Connection refused"),
        (["call", "http://me:secret@127.0.0.1:9", "--token", "t"], 2, "--token does nothing beside the user in"),
        (["health", "http://127.0.0.1:9"], 1, "http://127.0.0.1:9/healthz: Connection refused"),
        (
            ["serve", "--stateless", "never", "--claim-header", "X-User"],
            2,
            "--claim-header does nothing without --stateless auto, --ticket-key or --instant-connect",
        ),
        (
            ["serve", "--agent", "echo", "--ticket-key", "/no/such", "--workers", "0"],
            1,
            "cannot read the ticket keys",
        ),
        (["serve", "--claim-bytes", "9"], 2, "--claim-bytes does nothing without --claim-header"),
        (
            [
                "serve",
                "--agent",
                "echo",
                "--workers",
                "0",
                "--udp-port",
                "0",
                "--claim-header",
                "X-User",
                "--claim-bytes",
                "80",
            ],
            1,
            "claims of 80 bytes have no room in a ticket: at most 79",
        ),
        (["call", "http://127.0.0.1:9/", "--ice-server", "foo"], 2, "'foo': an ICE server is stun:HOST"),
        (["call", "http://127.0.0.1:9/", "--ice-user", "x"], 2, "--ice-user does nothing without --ice-server"),
        (["call", "http://127.0.0.1:9/", "--token", "a b"], 2, "without spaces"),
        (["call", "http://127.0.0.1:9/"], 1, "Connection refused"),
        (["health", "foo"], 2, "'foo' is not an address, as http://127.0.0.1:8080"),
        (["agent", "stack.agents:echo", "--nats", "foo"], 2, "'foo' is not the URL of a NATS server, as nats://"),
        (["agent", "stack.agents:echo", "--nats", "http://user:secret@x"], 2, "'http://x' is not the URL"),
        (["relay", "--nats", "nats://"], 2, "'nats://' is not the URL of a NATS server, as nats://"),
        (
            ["relay", "--nats", "nats://x", "--nats-creds", "/no/such"],
            1,
            "cannot read the NATS credentials in /no",
        ),
        (["media", "--nats", "nats://127.0.0.1:9"], 2, "media needs --node NAME"),
        (["media", "--nats", "nats://x", "--goaway-seconds", "nan"], 2, "nan is not a finite number"),
        (["ticket-key", "/no/such/file"], 1, "cannot write the ticket keys to /no/such/file"),
        (
            ["ticket-key", "/no/such", "--revoke", "foo"],
            2,
            "'foo' is no reference of a ticket: 16 hexadecimal digits",
        ),
    ],
)
def test_a_mistake_is_one_clear_line(
    arguments: list[str],
    code: int,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    errors = mistake(monkeypatch, capsys, *arguments, expect=code)
    assert message in errors
    assert errors.count("\n") == 1


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
        told = run("serve", "--port", "0", "--udp-port", port, expect=1).stderr
        assert "in use" in told
        assert "--udp-port" in told
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        told = run("serve", "--port", port, "--udp-port", "0", expect=1).stderr
        assert "in use" in told
        assert "--port" in told


def test_a_relay_names_what_it_cannot_have_and_spares_a_file_that_is_not_its_own(tmp_path: Path) -> None:
    of_others = tmp_path / "notes.txt"
    of_others.write_text("what I know")
    relay = (
        "relay",
        "--node",
        "n1=127.0.0.1:9",
        "--host",
        "127.0.0.1",
        "--inner",
        "127.0.0.1",
        "--max-flows",
        "8",
    )
    told = run(*relay, "--udp-port", "0", "--port", "0", "--flows", str(of_others), expect=1).stderr
    assert "holds something else than a relay's flows" in told
    assert of_others.read_text() == "what I know"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken, socket.socket() as listening:
        taken.bind(("127.0.0.1", 0))
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        ports = {"--udp-port": taken.getsockname()[1], "--port": listening.getsockname()[1]}
        for option, port in ports.items():
            free = dict.fromkeys(ports, 0) | {option: port}
            told = run(*relay, *(str(each) for pair in free.items() for each in pair), expect=1).stderr
            assert f"in use; {option} takes another, 0 any" in told


def test_a_file_that_is_no_wav_is_one_clear_line(tmp_path: Path) -> None:
    broken = tmp_path / "broken.wav"
    broken.write_bytes(b"RIFF but not really")
    assert "broken.wav" in run("call", "http://127.0.0.1:9/", "--play", str(broken), expect=1).stderr


@pytest.mark.parametrize(
    ("arguments", "in_detail"),
    [(("-vv", "call"), True), (("call", "-vv"), True), (("-v", "call", "-v"), True), (("call", "-v"), False)],
)
def test_the_log_is_asked_for_before_or_behind_a_command(arguments: tuple[str, ...], in_detail: bool) -> None:
    told = run(*arguments, "http://127.0.0.1:9/", expect=1).stderr
    assert told.splitlines()[-1].startswith("Error: cannot reach http://127.0.0.1:9/")
    assert (" DEBUG " in told) is in_detail


def test_each_command_with_a_log_has_the_option_once() -> None:
    for name in TELLING:
        (told,) = (each for each in cli.commands[name].params if "--verbose" in each.opts)
        assert told.opts == ["-v", "--verbose"]


def test_a_report_is_silent_on_what_is_not_known() -> None:
    counted = {"packets": 0, "bytes": 0, "lost": None, "jitter_ms": None}
    text = render(
        {
            "url": "http://127.0.0.1/", "end": "hung up", "setup": [], "steps_ms": {}, "path": "a<->b/udp",
            "ice": {"pair": None, "servers": []},
            "dtls": {"version": "DTLS 1.3", "group": "X25519", "cipher": "TLS", "srtp_profile": "SRTP"},
            "sent": counted, "received": counted | {"lost": 0}, "round_trip_time_ms": None, "heard_seconds": 0.0,
            "moved": 0, "program_failed": False,
        }
    )  # fmt: skip
    assert "  sent     packets 0, bytes 0\n" in text
    assert "  received packets 0, bytes 0, lost 0\n" in text
    assert "None" not in text


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
    steps = [step["step"] for step in report["setup"]]
    assert steps[0] == "session_made"
    assert {"ice_validated", "keys_ready", "dtls_connected", "first_sent", "first_packet"} <= set(steps)
    assert report["setup"][0]["ms"] >= report["steps_ms"]["answer"], "both count from the click"
    samples, rate = read_wav(heard)
    assert rate == 16_000
    assert len(samples) >= 0.9 * rate
    assert capture.read_bytes()[:4] == bytes.fromhex("d4c3b2a1")


async def test_a_server_that_asks_for_a_token_is_called_with_one() -> None:
    media = HostConfig(udp_port=0)
    signaling = SignalingConfig(tokens=("call=sesame",))
    async with serving(echo, ServeConfig(port=0, media=media, signaling=signaling)) as running:
        for arguments in ([], ["--token", "wrong"]):
            refused = await asyncio.to_thread(run, "call", running.url, *arguments, expect=1)
            assert "401 a valid bearer token is needed" in refused.stderr
            assert "--token TOKEN" in refused.stderr
            assert len(refused.stderr.splitlines()) == 1
        report = await call(running.url, "--token", "sesame", "--duration", "0.2")
        assert report["program_failed"] is False
        environment = os.environ | {"VOICE_STACK_CALL_TOKEN": "sesame"}
        short = ("call", running.url, "--duration", "0.2")
        assert "hung up" in (await asyncio.to_thread(run, *short, environment=environment)).stdout


async def test_a_program_that_fails_is_a_failure_of_the_call() -> None:
    async def failing(_call: Call) -> None:
        raise ValueError("a secret of the program")

    async with serving(failing, ServeConfig(port=0, media=HostConfig(udp_port=0))) as running:
        done = await asyncio.to_thread(run, "call", running.url, "--json", expect=1)
        assert json.loads(done.stdout)["program_failed"] is True
        assert "the program failed" in done.stderr
        assert "secret" not in done.stdout + done.stderr


async def test_a_certificate_that_is_not_trusted_is_one_clear_line_or_taken(tmp_path: Path) -> None:
    certificate, key = self_made_certificate(tmp_path)
    config = ServeConfig(port=0, media=HostConfig(udp_port=0), tls_cert=str(certificate), tls_key=str(key))
    async with serving(echo, config) as running:
        assert running.url.startswith("https://")
        refused = await asyncio.to_thread(run, "call", running.url, expect=1)
        assert "is not trusted: self-signed certificate" in refused.stderr
        report = await call(running.url, "--insecure", "--duration", "0.2")
        assert report["end"] == "hung up"


def self_made_certificate(folder: Path) -> tuple[Path, Path]:
    certificate, key = folder / "cert.pem", folder / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1"]
        + ["-subj", "/CN=localhost", "-keyout", str(key), "-out", str(certificate)],
        check=True,
        capture_output=True,
    )
    return certificate, key


async def lines_until(process: asyncio.subprocess.Process, wanted: str) -> list[str]:
    assert process.stdout is not None
    lines = []
    while not lines or wanted not in lines[-1]:
        line = (await asyncio.wait_for(process.stdout.readline(), 60)).decode()
        assert line, f"the server ended before {wanted!r}: {lines}"
        lines.append(line)
    return lines


async def test_a_program_that_is_changed_runs_anew(tmp_path: Path) -> None:
    program = tmp_path / "mine.py"
    text = "print('version {}', flush=True)\nasync def talk(call):\n    await call.wait_ended()\n"
    program.write_text(text.format(1))
    (tmp_path / ".hidden").mkdir()
    root = str(Path(__file__).parents[2])
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "stack", "serve", "--reload", "--agent", "mine:talk"),
        *("--port", "0", "--udp-port", "0"),
        stdout=-1,
        stderr=-1,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": root},
    )
    try:
        assert "version 1\n" in await lines_until(process, "Open http")
        (tmp_path / ".hidden" / "other.py").write_text("")  # is not looked at
        program.write_text("this is no Python")
        await lines_until(process, "mine.py has changed")
        program.write_text(text.format(2))  # what was written wrongly is mended by the next change
        lines = await lines_until(process, "Open http")
        assert "version 2\n" in lines
        assert sum("has changed" in line for line in lines) == 1
    finally:
        process.send_signal(signal.SIGTERM)
        await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 0


@pytest.mark.parametrize("by_terminal", [True, False])
async def test_ctrl_c_ends_a_server_that_reloads_in_an_orderly_way(tmp_path: Path, by_terminal: bool) -> None:
    """A terminal tells both processes; `kill` tells the one that was started."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "stack", "serve", "--reload", "--agent", "echo", "--port", "0", "--udp-port", "0"),
        stdout=-1,
        stderr=-1,
        start_new_session=True,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
    )
    await lines_until(process, "Open http")
    (os.killpg if by_terminal else os.kill)(process.pid, signal.SIGINT)
    output, errors = await asyncio.wait_for(process.communicate(), 30)
    assert (output.decode(), errors.decode()) == ("Ending the calls …\n", "")
    assert process.returncode == 0


def test_a_server_that_cannot_start_is_not_waited_for() -> None:
    assert "neither one of" in run("serve", "--reload", "--agent", "unknown", expect=2).stderr


def test_the_assistant_answers_where_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    missing: set[str] = set()
    monkeypatch.setattr("stack.agents.find_spec", lambda name: None if name in missing else object())
    assert default_agent() == "assistant"
    for name in ("pocketsphinx", "espeakng_loader"):
        missing = {name}
        assert default_agent() == "echo"


@pytest.mark.parametrize(
    ("version", "labels"),
    [
        ("1.2", ["CLIENT_RANDOM"]),
        (
            "1.3",
            [
                "CLIENT_HANDSHAKE_TRAFFIC_SECRET",
                "CLIENT_TRAFFIC_SECRET_0",
                "EXPORTER_SECRET",
                "SERVER_HANDSHAKE_TRAFFIC_SECRET",
                "SERVER_TRAFFIC_SECRET_0",
            ],
        ),
    ],
)
async def test_both_ends_can_write_the_same_keys(version: str, labels: list[str], tmp_path: Path) -> None:
    ours, theirs = tmp_path / "server.keys", tmp_path / "client.keys"
    ours.write_text("# there before\n")
    config = ServeConfig(port=0, media=HostConfig(udp_port=0), key_log=str(ours))
    async with serving(echo, config) as running:
        await call(running.url, "--duration", "0.1", "--dtls", version, "--key-log", str(theirs))
    lines = theirs.read_text().splitlines()
    assert sorted(line.split()[0] for line in lines) == labels
    assert sorted(ours.read_text().splitlines()) == ["# there before", *sorted(lines)]
    assert theirs.stat().st_mode & 0o077 == 0


async def test_a_server_is_asked_whether_it_is_alive(server: Serving) -> None:  # noqa: F811
    async def asked(*arguments: str, **environment: str) -> tuple[int | None, str, str]:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "stack", "health", *arguments,
            env=os.environ | environment, stdout=-1, stderr=-1,
        )  # fmt: skip
        output, errors = await asyncio.wait_for(process.communicate(), 60)
        return process.returncode, output.decode(), errors.decode()

    code, said, _ = await asked(server.url)
    assert (code, json.loads(said)["status"]) == (0, "ok")
    code, said, _ = await asked(VOICE_STACK_PORT=str(server.http_port), VOICE_STACK_HOST="0.0.0.0")
    assert (code, json.loads(said)["status"]) == (0, "ok")
    for wrong, status in (("http://127.0.0.1:9", 1), ("nonsense", 2), (server.url + "/nothing", 1)):
        code, said, error = await asked(wrong)
        assert (code, said, error.count("\n")) == (status, "", 1), error


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


async def test_a_thread_that_does_not_return_holds_up_no_signal() -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "stack", "serve", "--port", "0", "--udp-port", "0"),
        *("--agent", "tests.cli.stuck_thread:program"),
        stdout=-1,
        stderr=-1,
    )
    assert process.stdout is not None
    url = (await asyncio.wait_for(process.stdout.readline(), 30)).decode().split()[1]
    async with asyncio.timeout(60), dial(url):
        while b"waiting" not in (line := await process.stdout.readline()):
            assert line, "the server ended before the call was there"
        process.send_signal(signal.SIGINT)
        _, errors = await process.communicate()
    assert process.returncode == 0
    assert b"the function _wait still runs in a thread, and is left" in errors
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
    return re.findall(r"([0-9a-f.:]+):\d+[,;]", line.partition("UDP")[2].partition(" TCP")[0])


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


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], TicketConfig()),
        (["--instant-connect"], TicketConfig(instant_connect=True)),
        (["--ticket-key", "keys"], TicketConfig("keys")),
        (["--stateless", "never", "--ticket-key", "keys"], TicketConfig("keys", stateless=False)),
        (["--stateless", "never"], None),
    ],
)
def test_answers_are_tickets_unless_that_is_turned_off(
    arguments: list[str], expected: TicketConfig | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    served: list[dict[str, Any]] = []
    monkeypatch.setattr("stack.cli.serve_program", lambda program, **settings: served.append(settings))
    monkeypatch.setattr(sys, "argv", ["stack", "serve", "--agent", "echo", *arguments])
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code in (None, 0)
    assert [settings["config"].tickets for settings in served] == [expected]


def test_keys_of_tickets_are_made_rotated_and_revoked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    keys = str(tmp_path / "ticket.key")
    for arguments, said in (
        ([], "epochs 1, of which 1 seals; 0 tickets revoked"),
        ([], "epochs 1, 2, of which 2 seals; 0 tickets revoked"),
        (["--revoke", "0011223344556677"], "epochs 1, 2, of which 2 seals; 1 tickets revoked"),
        (["--revoke-epoch", "1"], "epochs 2, of which 2 seals; 1 tickets revoked"),
    ):
        monkeypatch.setattr(sys, "argv", ["stack", "ticket-key", keys, *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == 0
        assert said in capsys.readouterr().out
    assert os.stat(keys).st_mode & 0o077 == 0


async def test_a_call_by_a_ticket_says_so(tmp_path: Path) -> None:
    saved = str(tmp_path / "saved")
    media = HostConfig(host="127.0.0.1", udp_port=0, tickets=TicketConfig(instant_connect=True))
    async with serving(echo, ServeConfig(port=0, media=media)) as running:
        first = await call(running.url, "--ticket", saved, "--duration", "1")
        second = await call(running.url, "--ticket", saved, "--duration", "1")
    assert "answer" in first["steps_ms"]
    assert "ticket" in second["steps_ms"]
    assert "answer" not in second["steps_ms"]


def test_help_shows_the_environment() -> None:
    text = run("serve", "--help").stdout
    for name in ("VOICE_STACK_PORT", "VOICE_STACK_TOKEN", "VOICE_STACK_UPSTREAM", "VOICE_STACK_ENDPOINTER"):
        assert name in text


def test_tls_files_that_are_no_use_are_one_clear_line(tmp_path: Path) -> None:
    ports = ["--port", "0", "--udp-port", "0"]
    broken = tmp_path / "x.pem"
    broken.write_text("nothing")
    tls = ["--tls-cert", str(broken), "--tls-key", str(broken)]
    assert "cannot use" in run("serve", *ports, *tls, expect=1).stderr


async def test_the_environment_configures_https_and_tokens_and_a_second_signal_does_not_wait(
    tmp_path: Path,
) -> None:
    import ssl

    import aiohttp

    certificate, key = self_made_certificate(tmp_path)
    settings = {
        "PORT": "0",
        "UDP_PORT": "0",
        "TOKEN": "call=one metrics=two",
        "TLS_CERT": str(certificate),
        "TLS_KEY": str(key),
        "DRAIN_SECONDS": "300",
        "STATELESS": "never",  # else there is no call to wait for
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


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("VOICE_STACK_PROT", "9000", "VOICE_STACK_PROT sets nothing; did you mean VOICE_STACK_PORT?"),
        ("VOICE_STACK_PUBLIC_IP", "foo", "'foo' is not an IP address"),
        ("VOICE_STACK_TOKEN", "good bogus=abc", "'bogus' is no scope"),
        ("VOICE_STACK_PORT", "x", "x is not a whole number from 0 to 65535"),
        ("VOICE_STACK_VERBOSE", "much", "much is not a whole number, 0 or more"),
        ("VOICE_STACK_HOST", "http://x", "'http://x' is not an address or a name"),
        ("VOICE_STACK_STT", "http://127.0.0.1:1", "--stt does nothing without --agent http"),
        ("VOICE_STACK_TURNS", "stack", "--turns does nothing without --upstream"),
    ],
)
def test_a_variable_of_the_environment_is_checked_as_an_option_is(
    name: str, value: str, message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert message in mistake(monkeypatch, capsys, "serve", **{name: value})


def test_two_settings_that_exclude_each_other_are_refused_where_neither_goes_before_the_other(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    both = {"VOICE_STACK_AGENT": "echo", "VOICE_STACK_UPSTREAM": "ws://x"}
    assert "--agent and --upstream exclude each other" in mistake(monkeypatch, capsys, "serve", **both)
    monkeypatch.delenv("VOICE_STACK_UPSTREAM")
    said = mistake(monkeypatch, capsys, "serve", "--upstream", "wss://x", "--turn-url", "turn:x")
    assert said == "Error: --turn-url does nothing without --turn-secret\n", "the command line goes before"


@pytest.mark.parametrize("command", [("call", "http://127.0.0.1:9"), MEDIA, SIGNALING])
def test_every_command_refuses_a_variable_that_sets_nothing(
    command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    told = mistake(monkeypatch, capsys, *command, VOICE_STACK_CALL_TOKN="x")
    assert "VOICE_STACK_CALL_TOKN sets nothing; did you mean VOICE_STACK_CALL_TOKEN?" in told


def test_health_refuses_what_serve_does(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    told = mistake(monkeypatch, capsys, "health", VOICE_STACK_PORT="x")
    assert "x is not a whole number from 0 to 65535" in told
    assert told.count("\n") == 1


def test_without_a_command_there_is_help(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    told = mistake(monkeypatch, capsys)
    assert told.startswith("Usage: python -m stack [OPTIONS] COMMAND")
    assert "  serve " in told


def test_variables_that_are_known_or_empty_are_left_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = {"VOICE_STACK_LLM_KEY": "x", "VOICE_STACK_VERBOSE": "1", "VOICE_STACK_SERVE_PORT": "1"}
    empty = {"VOICE_STACK_TOKEN": "", "VOICE_STACK_PUBLIC_IP": "", "VOICE_STACK_LLM": ""}
    assert "neither one of" in mistake(monkeypatch, capsys, "serve", "--agent", "unknown", **settings, **empty)


@pytest.mark.parametrize(("during", "name"), [("import", "SIGINT"), ("prepare", "SIGINT"), ("prepare", "SIGTERM")])
async def test_a_signal_before_the_start_is_one_line(during: str, name: str) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "stack", "serve", "--port", "0", "--udp-port", "0"),
        *("--agent", f"tests.cli.slow_{during}:program"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert await asyncio.wait_for(process.stdout.readline(), 30) == b"loading\n"
    process.send_signal(getattr(signal, name))  # what is being loaded is not waited for
    output, errors = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 128 + getattr(signal, name)
    assert b"Traceback" not in errors
    assert len([line for line in (output + errors).splitlines() if line]) <= 1


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="children are found in /proc")
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
async def test_a_terminal_s_ctrl_c_while_a_media_worker_loads_is_one_line(name: str) -> None:
    """A terminal sends it to the worker, too, which has no handler of its own as long as it imports."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "stack", "serve", "--agent", "echo", "--port", "0", "--udp-port", "0"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")

    def worker_loads() -> bool:
        pids = children.read_text().split()
        return any("numpy" in Path(f"/proc/{pid}/maps").read_text() for pid in pids)

    await until(worker_loads, 30)
    os.killpg(process.pid, getattr(signal, name))
    output, errors = await asyncio.wait_for(process.communicate(), 30)
    assert (output, errors) == (b"Interrupted before the start.\n", b"")
    assert process.returncode == 128 + getattr(signal, name)


@pytest.mark.parametrize(
    ("arguments", "settings", "told"),
    [
        (("--agent", "http", "--llm", "http://exa mple.com"), {}, "--llm"),
        (("--agent", "http", "--llm", "ftp://me:hush@there"), {}, "'ftp://there' is not the address"),
        (("--agent", "http", "--language", "xx yy"), {}, "--language"),
        (("--claim-header", "bad header"), {}, "--claim-header"),
        (("--agent", "echo"), {"VOICE_STACK_LLM_KEY": "schlüssel"}, "VOICE_STACK_LLM_KEY is no key"),
        (("--agent", "echo"), {"VOICE_STACK_TTS_KEY": "a\nb"}, "VOICE_STACK_TTS_KEY is no key"),
        (
            ("--agent", "http", "--llm", "http://127.0.0.1:1"),
            {"OPENAI_API_KEY": "a b"},
            "OPENAI_API_KEY is no key",
        ),
    ],
)
def test_a_value_that_no_header_or_address_can_hold_is_refused(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    settings: dict[str, str],
    told: str,
) -> None:
    said = mistake(monkeypatch, capsys, "serve", *arguments, **settings)
    assert told in said
    assert "hush" not in said


def test_what_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    serve = ("serve", "--agent", "echo", "--port", "0", "--udp-port", "0", "--workers", "0")
    assert "--host" in mistake(monkeypatch, capsys, *serve, "--host", "203.0.113.99", expect=1)
    said = mistake(monkeypatch, capsys, *serve, expect=1, VOICE_STACK_OPUS="/nonexistent")
    assert said.startswith("Error: VOICE_STACK_OPUS names no library")


@pytest.mark.parametrize("name", ["drain_seconds", "goaway_seconds"])
@pytest.mark.parametrize("seconds", [math.nan, math.inf, -1.0])
def test_a_time_that_is_none_is_refused(name: str, seconds: float) -> None:
    with pytest.raises(LocalError, match=name):
        ServeConfig(**{name: seconds})  # type: ignore[arg-type]
