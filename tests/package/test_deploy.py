"""The files of `deploy/` and the workflows do what they say: proxies pass calls on, a service is accepted."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import socket
import subprocess
import textwrap
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from stack.agents import echo
from stack.aio import HostConfig
from stack.signaling.server import ServeConfig, serving
from tests.package.self_signed import self_signed

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
OFFER = (ROOT / "tests" / "vectors" / "offers" / "firefox153-audio_dc.sdp").read_text("utf-8")


def program(name: str) -> str:
    found = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin")
    if found is None:
        pytest.skip(f"{name} is not installed here: its file was not tried")
    return found


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@asynccontextmanager
async def running(*arguments: str, folder: Path) -> AsyncIterator[None]:
    process = await asyncio.create_subprocess_exec(
        *arguments, cwd=folder, env=os.environ | {"HOME": str(folder)}, stdout=-3, stderr=-3
    )
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        await asyncio.wait_for(process.wait(), 20)


async def passes_calls_on(url: str) -> None:
    """A page, an offer and a WebSocket come through the proxy at `url`."""
    async with asyncio.timeout(30), aiohttp.ClientSession() as http:
        while True:
            try:
                async with http.get(f"{url}/healthz", ssl=False) as response:
                    assert response.status == 200
                break
            except aiohttp.ClientConnectorError:
                await asyncio.sleep(0.02)
        async with http.get(f"{url}/", ssl=False) as page:
            assert "<html" in await page.text()
        sdp = {"Content-Type": "application/sdp"}
        async with http.post(f"{url}/v1/realtime/calls", data=OFFER, headers=sdp, ssl=False) as response:
            assert response.status == 201, await response.text()
            name = response.headers["Location"].rpartition("/")[2]
        async with http.ws_connect(f"{url}/v1/realtime?call_id={name}", ssl=False) as socket_:
            event = await socket_.receive_json()
            assert event["type"] == "session.created"


def nginx_location(below: str) -> str:
    """Return the `location` of the file, or that of the guide for a server below a path."""
    if not below:
        return re.search(r"    location / \{.*?\n    \}\n", site_of_nginx(), re.DOTALL)[0]
    guide = (ROOT / "docs" / "guides" / "behind-a-proxy.md").read_text("utf-8")
    shown = re.search(r"```nginx\n(location /voice/ \{.*?\n\}\n)```", guide, re.DOTALL)
    assert shown is not None
    return shown[1]


def site_of_nginx() -> str:
    return (DEPLOY / "nginx.conf").read_text("utf-8")


@pytest.mark.real_clock
@pytest.mark.parametrize("below", ["", "/voice"])
async def test_nginx(tmp_path: Path, below: str) -> None:
    nginx = program("nginx")
    key, certificate = self_signed("localhost")
    (tmp_path / "voice.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
    (tmp_path / "voice.key").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    async with serving(echo, ServeConfig(port=0, media=HostConfig(udp_port=0))) as server:
        port = free_port()
        site = site_of_nginx().replace(nginx_location(""), nginx_location(below))
        for before, after in (
            ("/etc/ssl/", f"{tmp_path}/"),
            ("listen 443 ssl", f"listen 127.0.0.1:{port} ssl"),
            ("127.0.0.1:8080", f"127.0.0.1:{server.http_port}"),
        ):
            assert before in site
            site = site.replace(before, after)
        kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        places = "".join(f"{kind}_temp_path {tmp_path}/{kind};\n" for kind in kinds)
        (tmp_path / "nginx.conf").write_text(
            f"daemon off; pid {tmp_path}/pid; error_log {tmp_path}/error.log; events {{}}\n"
            f"http {{ access_log off;\n{places}{site} }}\n",
            "utf-8",
        )
        async with running(nginx, "-p", str(tmp_path), "-c", str(tmp_path / "nginx.conf"), folder=tmp_path):
            await passes_calls_on(f"https://127.0.0.1:{port}{below}")


@pytest.mark.real_clock
@pytest.mark.parametrize("below", ["", "/voice"])
async def test_caddy(tmp_path: Path, below: str) -> None:
    caddy = program("caddy")
    guide = (ROOT / "docs" / "guides" / "behind-a-proxy.md").read_text("utf-8")
    (shown,) = re.findall(r"```\n(voice\.example \{\n    redir .*?\n\}\n)```", guide, re.DOTALL)
    async with serving(echo, ServeConfig(port=0, media=HostConfig(udp_port=0))) as server:
        port = free_port()
        site = shown if below else (DEPLOY / "Caddyfile").read_text("utf-8")
        for before, after in (
            ("voice.example" if below else "{$VOICE_DOMAIN:localhost}", f"http://127.0.0.1:{port}"),
            ("127.0.0.1:8080", f"127.0.0.1:{server.http_port}"),
        ):
            assert before in site
            site = site.replace(before, after)
        (tmp_path / "Caddyfile").write_text("{\n\tadmin off\n}\n" + site, "utf-8")
        async with running(caddy, "run", "--config", "Caddyfile", folder=tmp_path):
            await passes_calls_on(f"http://127.0.0.1:{port}{below}")


def test_systemd_accepts_the_service(tmp_path: Path) -> None:
    analyze = program("systemd-analyze")
    unit = (DEPLOY / "voice-stack.service").read_text("utf-8").replace("/opt/voice/bin/python", "/bin/true")
    path = tmp_path / "voice-stack.service"
    path.write_text(unit, "utf-8")
    done = subprocess.run([analyze, "verify", str(path)], capture_output=True, text=True, check=False, timeout=60)
    assert [line for line in done.stderr.splitlines() if "voice-stack" in line] == []


def test_the_guide_shows_what_the_files_say() -> None:
    guide = (ROOT / "docs" / "guides" / "public.md").read_text("utf-8")
    for name in ("Caddyfile", "nginx.conf", "voice-stack.service"):
        assert f"deploy/{name}" in guide
    (shown,) = re.findall(r"```nginx\n(.*?)```", guide, re.DOTALL)
    assert textwrap.dedent(shown) == re.sub(r"^# .*\n| +#.*", "", site_of_nginx(), flags=re.MULTILINE)


def test_what_stands_behind_a_proxy_is_told_to_believe_it() -> None:
    """Else all callers are one client, and share its limits."""
    guide = (ROOT / "docs" / "guides" / "public.md").read_text("utf-8")
    behind = guide.split("## With a proxy in front")[1].split("\n## ")[0]
    unit = (DEPLOY / "voice-stack.service").read_text("utf-8")
    starts = re.findall(r"python -m stack serve.*", f"{behind}\n{unit}")
    assert len(starts) == 2
    assert all("--trusted-proxy 127.0.0.1" in start for start in starts)
    assert "VOICE_STACK_TRUSTED_PROXY" in (ROOT / "compose.yaml").read_text("utf-8")


def test_no_installation_warns_of_what_an_editable_one_does_not_have() -> None:
    """setuptools writes to standard error for each `--editable`, unless it is told not to."""
    setup = (ROOT / ".ci" / "venv").read_text("utf-8")
    told, _, after = setup.partition('export PYTHONWARNINGS="ignore:Editable installation"')
    assert "--editable" in after
    assert "--editable" not in told
    assert "--editable" not in (ROOT / "Makefile").read_text("utf-8"), "the script is told what to install"


def test_the_server_is_installed_without_what_tests_it() -> None:
    """The first command of a new user is as short as it can be; `make test` and `make docs` install the rest."""
    makefile = (ROOT / "Makefile").read_text("utf-8")
    needs = dict(re.findall(r"^([\w$()/.-]+): (\S+)(?: ##.*)?$", makefile, re.MULTILINE))
    ready = "$(VENV)/.ready"
    assert needs["serve"] == needs["local"] == needs["$(VENV)/.test"] == needs["$(VENV)/.docs"] == ready
    assert {needs[each] for each in ("setup", "test", "lint", "bench")} == {"$(VENV)/.test"}
    assert (needs["interop"], needs["cluster"]) == ("$(VENV)/.calls", "$(VENV)/.cluster")
    installed = re.findall(r"sh \.ci/venv \$\(VENV\) (\S+)", makefile)
    assert installed == ["demo", "test,lint", "docs,release", "local", "cluster", "interop"]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_calls_what_there_is(path: Path) -> None:
    yaml = pytest.importorskip("yaml", reason="the docs extra is not installed: no workflow was read")
    workflow = yaml.safe_load(path.read_text("utf-8"))
    assert workflow["permissions"] == {"contents": "read"}
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    steps = [step for job in workflow["jobs"].values() for step in job["steps"]]
    commands = "\n".join(step["run"] for step in steps if "run" in step)
    assert commands
    assert set(re.findall(r"make ([a-z-]+)", commands)) <= targets
    for named in re.findall(r"(?<![\w./])(\.ci/\w+)", commands):
        assert os.access(ROOT / named, os.X_OK), named
    assert all(re.search(r"@(v\d+|release/v\d+)$", step["uses"]) for step in steps if "uses" in step)


def test_the_whole_is_run_by_a_workflow() -> None:
    assert ".ci/run" in (ROOT / ".github" / "workflows" / "ci.yml").read_text("utf-8")
