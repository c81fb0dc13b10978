"""The session's page has every part of the media plane's contract, every timer and every event."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

from stack.sctp import SctpEvent
from stack.session import Connected, Ended, MediaPlane
from stack.session.media_plane import MediaEvent
from stack.session.states import SessionTimer

PAGE = (Path(__file__).parents[2] / "docs" / "session.md").read_text("utf-8")
OF_EVERY_MACHINE = {"handle_timeout", "poll_timeout", "drain_transmits", "drain_events"}


def test_the_contract_of_the_media_plane() -> None:
    table = PAGE.split("## The media plane", 1)[1].split("\n## ", 1)[0]
    first = "\n".join(re.findall(r"^\| (`.+?) \|", table, re.MULTILINE))
    named = set(re.findall(r"`(\w+)(?:\([\w, ]*\))?`", first))
    contract = {name for name in (*vars(MediaPlane), *MediaPlane.__annotations__) if not name.startswith("_")}
    assert named == contract - OF_EVERY_MACHINE


def test_the_timers() -> None:
    part = PAGE.split("## Timers", 1)[1].split("\n## ", 1)[0]
    assert re.findall(r"^\| `(\w+)` \|", part, re.MULTILINE) == [timer.name for timer in SessionTimer]


def test_the_events_are_named_or_of_a_union_that_is() -> None:
    emitted = PAGE.split("## What it emits", 1)[1].split("\n## ", 1)[0]
    named = set(re.findall(r"`([A-Z][a-z]\w+)`", emitted))
    known = {each.__name__ for each in (*get_args(MediaEvent), *get_args(SctpEvent), Connected, Ended)}
    assert named - known == {"SessionEvent", "EndReason"}
    assert {each.__name__ for each in get_args(MediaEvent)} - named == {"DtmfEnded"}
