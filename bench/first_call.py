"""From a clone to the first sound in browsers as people have them, and the size of the environment.

What the checkout has committed is cloned into an empty folder; there the environment is made (what `make serve`
does first), `make serve` is started, and Chromium and Firefox with stock profiles open the page and press Start,
one after the other: seconds from the click to the first packet of the program. Then a wheel is built and installed
into an empty environment. pip asks the index for everything (`PIP_NO_CACHE_DIR`), so that the machine's network is
in the first column, and a busy machine in all; processor seconds are those of pip alone. `--against DIR` measures
another checkout, or commit, as well; what does not work there, or not in time, stands in the table.

`python -m bench first_call --against 7439a47`
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
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.report import BadOption, Cell, Options, Table
from interop.browsers import BrowserError, available, launch
from interop.servers import free_port

PATIENCE = 3600.0
"""Seconds for each command; START_PATIENCE for the server to answer.

pip needs a minute of a processor, and a quarter of an hour and more at idle priority beside other work.
"""
START_PATIENCE = 300.0
BROWSER_PATIENCE = 240.0
"""Seconds for all that is done with a browser; SOUND_PATIENCE from the click to a sound."""
SOUND_PATIENCE = 120.0
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
    """Measure each checkout once; some minutes each, and an end to each step: see `PATIENCE`."""
    for what in options.against:
        try:
            _commit(what)
        except StepFailed as failed:
            raise BadOption(f"--against {what}: {failed}") from None
    rows = []
    for what in ("HEAD", *options.against):
        rows.append(_measured(what))
        if options.verbose:
            print(*rows[-1], file=sys.stderr)
    notes = (f"Python {sys.version.split()[0]}; what did not work stands in its place, the rest goes on",)
    return Table("from a clone to the first sound, and the size of the environment", COLUMNS, rows, notes)


class StepFailed(Exception):
    """A step did not work: the message is what stands in the table."""


def _measured(what: str) -> Sequence[Cell]:
    environment = {**os.environ, "PIP_NO_CACHE_DIR": "1", "PYTHON": sys.executable}
    row: dict[str, Cell] = dict.fromkeys(COLUMNS)
    row["checkout"] = what
    with TemporaryDirectory() as folder:
        clone = Path(folder, "clone")
        row["checkout"] = _cell(lambda: _clone(what, clone, environment))
        if not clone.is_dir() or not any(clone.glob("*")):
            return tuple(row.values())
        began, spent = time.monotonic(), _children()
        failed = _cell(lambda: _run(["make", "--silent", ".venv/.ready"], environment, clone))
        row["environment, s"] = failed or time.monotonic() - began
        if not failed:
            row["of processor, s"] = _children() - spent
            row["environment, MB"] = _megabytes(clone / ".venv")
            asyncio.run(_served(clone, environment, row))
            row["wheel adds, MB"] = _cell(lambda: _wheel(clone, environment))
    return tuple(row.values())


def _cell(step: Callable[[], Cell]) -> Cell:
    try:
        return step()
    except StepFailed as failed:
        return str(failed)


def _clone(what: str, clone: Path, environment: dict[str, str]) -> str:
    """Clone a folder's commit, or a commit of this repository, and return its short name."""
    folder, name = _commit(what)
    _run(["git", "clone", "--quiet", "--no-local", "--no-checkout", str(folder), str(clone)], environment)
    _run(["git", "-C", str(clone), "checkout", "--quiet", "--detach", name], environment)
    return name


def _commit(what: str) -> tuple[Path, str]:
    """Return the repository and the short name of a folder's commit, or of a commit of this repository."""
    here = Path(__file__).parent.parent
    folder, commit = (Path(what).resolve(), "HEAD") if Path(what).is_dir() else (here, what)
    named = ["git", "-C", str(folder), "rev-parse", "--short", "--verify", f"{commit}^{{commit}}"]
    return folder, _run(named, dict(os.environ)).strip()


def _run(command: Sequence[str], environment: dict[str, str], folder: Path | None = None) -> str:
    """Return what a command says; raises `StepFailed` if it fails, or has not ended after `PATIENCE`."""
    with subprocess.Popen(
        command,
        env=environment,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            out, err = process.communicate(timeout=PATIENCE)
        except BaseException as error:  # Ctrl-C, too, which a session of its own does not get
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            if isinstance(error, subprocess.TimeoutExpired):
                raise StepFailed(f"{command[0]} did not end in {PATIENCE:.0f} s") from None
            raise
    if process.returncode:
        last = (err.strip() or "no word").splitlines()[-1][:80]
        raise StepFailed(f"{command[0]} failed: {last}")
    return out


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _megabytes(folder: Path) -> float:
    """Return what the files take on the disk, as `du -sm` counts."""
    found = {(each.lstat().st_dev, each.lstat().st_ino): each.lstat().st_blocks for each in folder.rglob("*")}
    return sum(found.values()) * 512 / 2**20


async def _served(clone: Path, environment: dict[str, str], row: dict[str, Cell]) -> None:
    """Note the seconds until the server answered, and until each browser heard something."""
    port = free_port()
    udp = free_port(socket.SOCK_DGRAM)
    command = ["make", "serve", f"ARGS=--port {port} --udp-port {udp}"]
    began = time.monotonic()
    server = subprocess.Popen(
        command,
        cwd=clone,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        url = f"http://127.0.0.1:{port}/"
        while not await asyncio.to_thread(_is_up, url):
            if server.poll() is not None or time.monotonic() - began > START_PATIENCE:
                row["server, s"] = "did not come up"
                return
            await asyncio.sleep(0.05)
        row["server, s"] = time.monotonic() - began
        for name in BROWSERS:
            try:
                async with asyncio.timeout(BROWSER_PATIENCE):
                    row[name] = await _first_sound(name, url)
            except (BrowserError, OSError) as error:  # a `TimeoutError` is an `OSError`
                row[name] = f"did not connect: {error}"[:80] if str(error) else "did not connect"
    finally:
        _end(server)


def _end(server: subprocess.Popen[bytes]) -> None:
    for how in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(server.pid, how)
        with suppress(subprocess.TimeoutExpired):
            server.wait(30)
            return


def _is_up(url: str) -> bool:
    with suppress(OSError), urllib.request.urlopen(url, timeout=2) as answer:
        return bool(answer.status == 200)
    return False


async def _first_sound(name: str, url: str) -> Cell:
    if name not in {each.name for each in available()}:
        return "no such browser here"
    async with launch(name, stock=True) as browser:
        await browser.goto(url)
        await browser.click("#call")
        heard = "voiceStack.timings.first_packet"
        with suppress(BrowserError, TimeoutError):
            await browser.wait_for(f"{heard} || voiceStack.problem", timeout=SOUND_PATIENCE)
        milliseconds = await browser.evaluate(f"{heard} ?? null")
        return "did not connect" if milliseconds is None else milliseconds / 1000


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
