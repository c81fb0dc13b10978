"""The image: its recipe is well written, and its steps, in an empty folder, make a server that is healthy."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.package.recipe import Image, allowed, build, instructions
from tests.package.self_signed import self_signed

ROOT = Path(__file__).parents[2]
AGENT = """
from stack import Call

async def answer(call: Call) -> None:
    async for frame in call.microphone:
        call.speaker.write(frame)
"""


def free_port(kind: socket.SocketKind) -> int:
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_the_recipe_is_well_written() -> None:
    linter = shutil.which("hadolint", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if linter is None:
        pytest.skip("hadolint is not installed here (the release extra): nothing was checked")
    done = subprocess.run([linter, "Dockerfile"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


DEBIAN = """
root daemon bin sys adm tty disk lp mail news uucp man proxy kmem dialout fax voice cdrom floppy tape sudo audio
dip www-data backup operator list irc src shadow utmp video sasl plugdev staff games users nogroup sync gnats input
sgx clock kvm render crontab netdev systemd-network systemd-journal messagebus
"""
"""The users and groups of the image that ours begins with: Debian's `base-passwd`, and what its packages add."""


def test_the_user_is_none_that_is_there_already() -> None:
    """useradd makes a group with the user's name, and fails where there is one."""
    steps = instructions((ROOT / "Dockerfile").read_text("utf-8"))
    (made,) = (rest for word, rest in steps if word == "RUN" and rest.startswith("useradd "))
    name = made.split()[-1]
    assert name not in re.findall(r"\S+", DEBIAN)
    (folder,) = (rest for word, rest in steps if word == "WORKDIR" and rest.startswith("/home/"))
    assert folder == f"/home/{name}/app"


def test_dependencies_come_before_the_code() -> None:
    steps = [f"{word} {rest}" for word, rest in instructions((ROOT / "Dockerfile").read_text("utf-8"))]
    code = steps.index("COPY stack stack")
    (needed,) = (number for number, step in enumerate(steps) if "pip install" in step and "--no-deps" not in step)
    (own,) = (number for number, step in enumerate(steps) if "--no-deps" in step)
    assert needed < code < own


def test_the_builder_is_sent_what_is_copied_and_nothing_else(tmp_path: Path) -> None:
    sent = {path.relative_to(ROOT).parts[0] for path in allowed(ROOT, (ROOT / ".dockerignore").read_text("utf-8"))}
    assert sent == {"setup.cfg", "setup.py", "pyproject.toml", "README.md", "LICENSE", "stack"}
    (tmp_path / "stack" / "__pycache__").mkdir(parents=True)
    (tmp_path / "stack" / "__pycache__" / "x.pyc").touch()
    (tmp_path / "stack" / "x.py").touch()
    (tmp_path / "secret.env").touch()
    ignore = (ROOT / ".dockerignore").read_text("utf-8")
    assert {path.name for path in allowed(tmp_path, ignore)} == {"x.py"}


def test_compose_names_what_the_server_reads() -> None:
    """Each variable in the file is one of the server's, and each has a value where none is given."""
    text = (ROOT / "compose.yaml").read_text("utf-8")
    named = re.findall(r"^      (VOICE_STACK_\w+):", text, re.MULTILINE)
    assert "VOICE_STACK_AGENT" in named
    given = [sys.executable, "-m", "stack", "serve", "--help"]
    shown = subprocess.run(given, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60).stdout
    assert [name for name in named if name not in re.sub(r"\s+", " ", shown)] == []
    assert re.findall(r"\$\{\w+\}", text) == []


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    """What the recipe makes, in an empty folder."""
    built = build(ROOT / "Dockerfile", ROOT, tmp_path_factory.mktemp("image"))
    assert len(built.ran) == 3
    return built


@asynccontextmanager
async def running(image: Image, **environment: str) -> AsyncIterator[tuple[int, dict[str, str]]]:
    """Start the image's program as Docker would; yield its HTTP port and its environment."""
    ports = {
        "VOICE_STACK_HOST": "127.0.0.1",
        "VOICE_STACK_PORT": str(free_port(socket.SOCK_STREAM)),
        "VOICE_STACK_UDP_PORT": str(free_port(socket.SOCK_DGRAM)),
    }
    given = image.environment | ports | environment
    process = await asyncio.create_subprocess_exec(
        *image.command(image.entrypoint), cwd=image.folder, env=given, stdout=-1, stderr=-1
    )
    assert process.stdout is not None
    try:
        said = await asyncio.wait_for(process.stdout.readline(), 60)
        assert said.startswith(b"Open http"), said
        yield int(ports["VOICE_STACK_PORT"]), given
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        _, errors = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0, errors.decode()


async def run(image: Image, words: list[str], environment: dict[str, str]) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        *image.command(words), cwd=image.folder, env=environment, stdout=-1, stderr=-2
    )
    output, _ = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode is not None
    return process.returncode, output.decode()


@pytest.mark.slow
@pytest.mark.real_clock
async def test_it_is_healthy_and_takes_calls(image: Image) -> None:
    (image.folder / "agent.py").write_text(AGENT, "utf-8")  # FROM voice-stack; COPY agent.py .
    async with running(image, VOICE_STACK_AGENT="agent:answer") as (port, environment):
        code, said = await run(image, image.health, environment)
        assert (code, json.loads(said)["status"]) == (0, "ok")
        call = ["python", "-m", "stack", "call", f"http://127.0.0.1:{port}", "--duration", "0.5", "--json"]
        code, said = await run(image, call, environment)
        assert code == 0, said
        assert json.loads(said)["dtls"]["version"] == "DTLS 1.3"
    code, said = await run(image, image.health, environment)
    assert code == 1
    assert "Traceback" not in said


@pytest.mark.slow
@pytest.mark.real_clock
async def test_the_health_check_knows_tls(image: Image, tmp_path: Path) -> None:
    key, certificate = self_signed("localhost")
    files = {"VOICE_STACK_TLS_CERT": tmp_path / "cert.pem", "VOICE_STACK_TLS_KEY": tmp_path / "key.pem"}
    files["VOICE_STACK_TLS_CERT"].write_bytes(certificate.public_bytes(Encoding.PEM))
    files["VOICE_STACK_TLS_KEY"].write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    async with running(image, **{name: str(path) for name, path in files.items()}) as (_, environment):
        code, said = await run(image, image.health, environment)
        assert (code, json.loads(said)["status"]) == (0, "ok")
