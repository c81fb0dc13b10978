"""From a clone to the first sound in browsers as people have them, and the size of the environment.

What the checkout has committed is cloned into an empty folder; there the environment is made (what `make serve`
does first), `make serve` is started, and Chromium and Firefox with stock profiles open the page and press Start,
one after the other: seconds from the click to the first packet of the program. Then a wheel is built and installed
into an empty environment. pip asks the index for everything (`PIP_NO_CACHE_DIR`), so that the machine's network is
in the first column, and a busy machine in all; processor seconds are those of pip alone. `--against DIR` measures
another checkout as well.

`python -m bench first_call --against ../other-checkout`
"""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.report import Cell, Options, Table
from interop.browsers import BrowserError, available, launch
from interop.servers import free_port

START_PATIENCE = 180.0
SOUND_PATIENCE = 40.0
BROWSERS = ("chromium", "firefox")
COLUMNS = (
    "checkout",
    "environment, s",
    "of processor, s",
    "server, s",
    *BROWSERS,
    "environment, MB",
    "wheel adds, MB",
)


def run(options: Options) -> Table:
    """Measure each checkout once; some minutes each."""
    checkouts = [str(Path(__file__).parent.parent), *options.against]
    rows = []
    for folder in checkouts:
        rows.append(_measured(Path(folder).resolve()))
        if options.verbose:
            print(*rows[-1], file=sys.stderr)
    notes = (
        f"Python {sys.version.split()[0]}; `-`: no sound within {SOUND_PATIENCE:.0f} s, or no such browser here",
    )
    return Table("from a clone to the first sound, and the size of the environment", COLUMNS, rows, notes)


def _measured(checkout: Path) -> Sequence[Cell]:
    environment = {**os.environ, "PIP_NO_CACHE_DIR": "1", "PYTHON": sys.executable}
    with TemporaryDirectory() as folder:
        clone = Path(folder, "clone")
        _run(["git", "clone", "--quiet", "--no-local", str(checkout), str(clone)], environment)
        commit = _run(["git", "-C", str(clone), "log", "-1", "--format=%h"], environment).strip()
        began, spent = time.monotonic(), _children()
        _run(["make", "--silent", ".venv/.ready"], environment, clone)
        made, spent = time.monotonic() - began, _children() - spent
        size = _megabytes(clone / ".venv")
        answers, sounds = asyncio.run(_served(clone, environment))
        return (
            commit,
            made,
            spent,
            answers,
            *(sounds.get(name) for name in BROWSERS),
            size,
            _wheel(clone, environment),
        )


def _run(command: Sequence[str], environment: dict[str, str], folder: Path | None = None) -> str:
    done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed: {done.stderr[-1000:]}")
    return done.stdout


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _megabytes(folder: Path) -> float:
    """Return what the files take on the disk, as `du -sm` counts."""
    found = {(each.lstat().st_dev, each.lstat().st_ino): each.lstat().st_blocks for each in folder.rglob("*")}
    return sum(found.values()) * 512 / 2**20


async def _served(clone: Path, environment: dict[str, str]) -> tuple[float, dict[str, float]]:
    """Return the seconds until the server answered, and until each browser heard something."""
    port = free_port()
    udp = free_port(socket.SOCK_DGRAM)
    command = ["make", "serve", f"ARGS=--port {port} --udp-port {udp}"]
    began = time.monotonic()
    server = subprocess.Popen(
        command,
        cwd=clone,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        url = f"http://127.0.0.1:{port}/"
        while not await asyncio.to_thread(_is_up, url):
            if server.poll() is not None or time.monotonic() - began > START_PATIENCE:
                raise SystemExit(f"the server of {clone} did not come up")
            await asyncio.sleep(0.05)
        answers = time.monotonic() - began
        return answers, {name: heard for name in BROWSERS if (heard := await _first_sound(name, url)) is not None}
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(30)


def _is_up(url: str) -> bool:
    with suppress(OSError), urllib.request.urlopen(url, timeout=2) as answer:
        return bool(answer.status == 200)
    return False


async def _first_sound(name: str, url: str) -> float | None:
    if name not in {each.name for each in available()}:
        return None
    async with launch(name, stock=True) as browser:
        await browser.goto(url)
        await browser.click("#call")
        heard = "voiceStack.timings.first_packet"
        with suppress(BrowserError, TimeoutError):
            await browser.wait_for(f"{heard} || voiceStack.problem", timeout=SOUND_PATIENCE)
        milliseconds = await browser.evaluate(f"{heard} ?? null")
        return None if milliseconds is None else milliseconds / 1000


def _wheel(clone: Path, environment: dict[str, str]) -> float:
    """Return by how much an empty environment grows when the wheel is installed into it."""
    with TemporaryDirectory() as folder:
        python = str(Path(folder, "empty", "bin", "python"))
        _run([sys.executable, "-m", "venv", str(Path(folder, "empty"))], environment)
        _run([sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", folder, str(clone)], environment)
        before = _megabytes(Path(folder, "empty"))
        (wheel,) = Path(folder).glob("*.whl")
        _run([python, "-m", "pip", "install", "--quiet", str(wheel)], environment)
        return _megabytes(Path(folder, "empty")) - before
