"""The package: what is built is whole, described for its page, and can be installed without a compiler."""

from __future__ import annotations

import configparser
import email
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from email.message import Message
from pathlib import Path

import pytest

import stack

ROOT = Path(__file__).parents[2]
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
MOST_ADDED = 120 * 2**20
"""Bytes that an installation may add to an empty environment."""
DESCRIBING = ("setup.cfg", "setup.py", "pyproject.toml")
TOOLS = ("build", "twine", "check_wheel_contents")
CALL = """
import asyncio
from stack import dial, serving
from stack.agents import echo
from stack.aio import HostConfig
from stack.signaling import ServeConfig

async def main():
    config = ServeConfig(port=0, media=HostConfig(udp_port=0))
    async with serving(echo, config) as server, dial(server.url) as placed:
        print((await placed.call.wait_connected()).dtls_version)

asyncio.run(main())
"""


def tool(*arguments: str, cwd: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-m", *arguments], cwd=cwd, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="session")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the source distribution, and the wheel that was built from it and not from the repository."""
    for name in TOOLS:
        pytest.importorskip(name, reason="the release extra is not installed: no package was built")
    source, place = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    for name in ("setup.cfg", "setup.py", "pyproject.toml", "MANIFEST.in", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    shutil.copytree(ROOT / "stack", source / "stack", ignore=shutil.ignore_patterns("__pycache__"))
    (source / "tests").mkdir()
    (source / "tests" / "test_none.py").touch()
    tool("build", "--no-isolation", "--outdir", str(place), cwd=source)
    assert len(list(place.iterdir())) == 2
    return place


@pytest.fixture(scope="session")
def wheel(dist: Path) -> Path:
    (found,) = dist.glob("*.whl")
    return found


@pytest.fixture(scope="session")
def metadata(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (each for each in archive.namelist() if each.endswith(".dist-info/METADATA"))
        return email.message_from_bytes(archive.read(name))


def test_the_checkers_accept_it(dist: Path, wheel: Path) -> None:
    tool("twine", "check", "--strict", *(str(path) for path in dist.iterdir()), cwd=dist)
    tool("check_wheel_contents", str(wheel), cwd=dist)


def test_the_wheel_has_the_code_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        found = {name for name in archive.namelist() if ".dist-info/" not in name}
    wanted = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "stack").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert found == wanted
    assert {"stack/py.typed", "stack/web/index.html"} <= found


def test_the_source_distribution_has_what_builds_it(dist: Path) -> None:
    (path,) = dist.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        top = {Path(name).parts[1] for name in archive.getnames() if len(Path(name).parts) > 1}
    assert top == {
        *("setup.cfg", "setup.py", "pyproject.toml", "MANIFEST.in", "README.md", "LICENSE", "PKG-INFO"),
        *("stack", "voice_stack.egg-info"),
    }


def test_the_version_stands_in_one_place(metadata: Message) -> None:
    assert metadata["Version"] == stack.__version__
    places = [
        path.relative_to(ROOT).as_posix()
        for path in (*(ROOT / name for name in DESCRIBING), *(ROOT / "stack").rglob("*.py"))
        if f'"{stack.__version__}"' in path.read_text("utf-8")
    ]
    assert places == ["stack/__init__.py"]


def test_its_page_leads_to_the_repository(metadata: Message) -> None:
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg", "utf-8")
    home = config["metadata"]["url"]
    assert home.startswith("https://")
    links = dict(line.split(", ", 1) for line in metadata.get_all("Project-URL", []))
    assert {"Documentation", "Source", "Changelog", "Issues"} <= set(links)
    assert all(link.startswith(home) for link in links.values())
    assert metadata["Keywords"]
    assert metadata["Summary"]


def test_no_link_of_its_page_is_relative(metadata: Message) -> None:
    text = metadata.get_payload()
    assert isinstance(text, str)
    links = re.findall(r"\]\(([^)]+)\)", text)
    assert len(links) > 5
    assert [link for link in links if not link.startswith(("https://", "#"))] == []
    for link in links:  # each names a file that is there
        named = re.fullmatch(rf"https://\S+/(?:blob|raw)/v{re.escape(stack.__version__)}/([^#]+)(?:#.*)?", link)
        if named is not None:
            assert (ROOT / named[1]).exists(), link


def interpreter(version: str) -> str | None:
    """Return a Python of this version: on the PATH, or beside the one that runs."""
    found = shutil.which(f"python{version}")
    beside = Path(sys.base_prefix).parent.glob(f"{version}.*/bin/python")
    for candidate in (*filter(None, [found]), *map(str, beside)):
        done = subprocess.run(
            [candidate, "-c", "import sys, venv; print('%d.%d' % sys.version_info[:2])"],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.stdout.strip() == version:
            return candidate
    return None


def size(folder: Path) -> int:
    return sum(path.lstat().st_size for path in folder.rglob("*"))


@pytest.mark.slow
@pytest.mark.parametrize("version", PYTHONS)
def test_it_installs_without_a_compiler(wheel: Path, version: str, tmp_path: Path) -> None:
    python = interpreter(version)
    if python is None:
        pytest.skip(f"there is no Python {version} here")
    place = tmp_path / "environment"
    subprocess.run([python, "-m", "venv", str(place)], check=True)
    before = size(place)
    own = place / "bin"
    given = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    given |= {"PATH": str(own), "CC": "/nowhere/cc"}
    done = subprocess.run(
        [own / "python", "-m", "pip", "install", "--quiet", str(wheel)],
        env=given, cwd=tmp_path, capture_output=True, text=True, timeout=500, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    added = size(place) - before
    print(f"Python {version}: {added / 2**20:.0f} MB added")
    assert added <= MOST_ADDED
    shown = subprocess.run(
        [own / "voice-stack", "version"], env=given, cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert f"voice-stack {stack.__version__} (Python {version}" in shown.stdout
    called = subprocess.run(
        [own / "python", "-c", CALL],
        env=given, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert called.stdout.strip() == "DTLS 1.3", called.stderr
