"""Commands of the documentation are taken as they stand: nothing in them is refused, and nothing missing."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from stack import cli, cli_call

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
LINE = re.compile(r"^    ((?:[A-Z_]+=\S+ )*)python -m stack ((?:serve|call) .*?)(?: +#.*)?$", re.MULTILINE)
PLACEHOLDERS = {"…": "x", "URL": "http://127.0.0.1:8080", '"$(cat /etc/voice.token)"': "token"}


def commands() -> list[Any]:
    found = [
        pytest.param(settings, line, id=f"{page.relative_to(ROOT)}: {line[:60]}")
        for page in PAGES
        for settings, line in LINE.findall(page.read_text())
    ]
    assert len(found) > 20
    return found


@pytest.mark.parametrize(("settings", "line"), commands())
def test_a_command_is_taken_as_it_stands(monkeypatch: pytest.MonkeyPatch, settings: str, line: str) -> None:
    ran = []

    async def place_call(config: object) -> dict[str, Any]:
        ran.append(config)
        return {"program_failed": False}

    monkeypatch.setattr(cli_call, "_until_interrupted", place_call)
    monkeypatch.setattr(cli_call, "render", str)
    monkeypatch.setattr(cli, "serve_program", lambda *_, **settings: ran.append(settings))
    monkeypatch.setattr(cli, "serve_reloading", lambda *_: ran.append("reloading"))
    monkeypatch.setattr(cli, "load_agent", lambda name: name)
    for shown, meant in PLACEHOLDERS.items():
        line, settings = line.replace(shown, meant), settings.replace(shown, meant)
    environment = dict(each.split("=", 1) for each in shlex.split(settings))
    if line == "serve --agent http":  # behind the three variables of the guide
        environment["VOICE_STACK_LLM"] = "http://127.0.0.1:11434/v1"
    outcome = CliRunner().invoke(cli.cli, shlex.split(line), env=environment, auto_envvar_prefix="VOICE_STACK")
    assert ran, outcome.output
