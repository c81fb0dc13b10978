"""The report: one page that holds everything, styles, script and results, and asks nothing of any server.

The results are JSON, gzip (RFC 1952) and base64: calls are alike, and take a tenth of their size. The page has a
bound all the same: beyond it, drawings of calls that passed are left out first, verdicts never.
"""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

_HERE = Path(__file__).parent
MAX_PAGE = 4_000_000
"""Bytes of a page, from which drawings are left out until it is smaller."""
STEPS: tuple[tuple[str, frozenset[str], bool], ...] = (
    ("the descriptions of calls that passed", frozenset({"offer", "answer"}), True),
    (
        "the descriptions, packets and levels of calls that passed",
        frozenset({"offer", "answer", "first", "levels"}),
        True,
    ),
    ("the calls that passed", frozenset(), True),
    ("the calls", frozenset(), False),
)
"""What is left out, one after the other: what of a call, empty for all of it, and whether of passed ones alone."""


def page(results: Mapping[str, Any], former: Mapping[str, Any] | None = None) -> str:
    """Return the page; `former` is an earlier run's JSON, shown beside this one."""
    text = (_HERE / "page.html").read_text("utf-8")
    text = text.replace("/*STYLE*/", (_HERE / "page.css").read_text("utf-8"))
    text = text.replace("/*SCRIPT*/", (_HERE / "page.js").read_text("utf-8"))
    made = ""
    for made in _smaller_and_smaller(text, results, former):
        if len(made.encode()) <= MAX_PAGE:
            break
    return made


def _smaller_and_smaller(text: str, results: Mapping[str, Any], former: Mapping[str, Any] | None) -> Iterator[str]:
    yield text.replace("/*DATA*/", packed({"now": results, "former": former, "left": ""}))
    for left, parts, only_passed in STEPS:
        now, then = (None if each is None else _without(each, parts, only_passed) for each in (results, former))
        yield text.replace("/*DATA*/", packed({"now": now, "former": then, "left": left}))


def _without(results: Mapping[str, Any], parts: frozenset[str], only_passed: bool) -> Mapping[str, Any]:
    """Results whose calls are without these parts, or whose cells are without calls."""
    cells = []
    for cell in results["cells"]:
        if cell["call"] is not None and (cell["outcome"] == "passed" or not only_passed):
            call = {name: _nothing(value) if name in parts else value for name, value in cell["call"].items()}
            cell = {**cell, "call": call if parts else None}
        cells.append(cell)
    return {**results, "cells": cells}


def _nothing(value: Any) -> Any:
    """A value of the same kind with nothing in it."""
    return {name: _nothing(each) for name, each in value.items()} if isinstance(value, dict) else type(value)()


def packed(data: Mapping[str, Any]) -> str:
    """What stands in the page: base64 has no letter that could end a script element."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    return base64.b64encode(gzip.compress(text.encode(), mtime=0)).decode()


def unpacked(page: str) -> Any:
    """The results in a page: the other way round."""
    data = page.split('id="data">')[1].split("</script>")[0]
    return json.loads(gzip.decompress(base64.b64decode(data)))


def write_html(path: Path, results: Mapping[str, Any], former: Mapping[str, Any] | None = None) -> None:
    """Write the page."""
    path.write_text(page(results, former), "utf-8")
