"""The walks and the layers that the page shows are those that the tests and the contracts hold."""

from __future__ import annotations

import configparser
import re
from pathlib import Path

import pytest

from tests.voice import test_walk

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "architecture.md").read_text("utf-8")
WALKS = {
    "A media packet comes in": test_walk.MEDIA_IN,
    "A frame goes out": test_walk.MEDIA_OUT,
    "A STUN check": test_walk.CHECK,
    "A DATA chunk": test_walk.DATA,
}


@pytest.mark.parametrize("title", WALKS)
def test_the_walk_is_the_one_that_is_followed(title: str) -> None:
    part = PAGE.split(f"**{title}**", 1)[1].split("**", 1)[0].split("\n## ", 1)[0]
    hops = re.findall(r"^\d\. `([\w.]+)`", part, re.MULTILINE)
    assert hops == [hop.rstrip(".") for hop in WALKS[title]]


def test_the_layers_are_those_of_the_contract() -> None:
    contracts = configparser.ConfigParser()
    contracts.read(ROOT / "setup.cfg", "utf-8")
    layers = contracts["importlinter:contract:layers"]["layers"].split("\n")
    part = PAGE.split("## Who may import whom", 1)[1]
    shown = [line.strip() for line in re.findall(r"^    (.+)$", part.split("\nA package", 1)[0], re.MULTILINE)]
    assert shown == [line for line in layers if line]


def test_every_package_has_its_row() -> None:
    rooms = PAGE.split("## The rooms", 1)[1].split("\n## ", 1)[0]
    named = {
        name for row in re.findall(r"^\| (`.+?) \|", rooms, re.MULTILINE) for name in re.findall(r"`(\w+)`", row)
    }
    packages = {path.parent.name for path in (ROOT / "stack").glob("*/__init__.py")} - {"web"}
    modules = {path.stem for path in (ROOT / "stack").glob("*.py")} - {"__init__", "__main__"}
    assert named == packages | modules
