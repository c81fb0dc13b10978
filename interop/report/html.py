"""The report: one page that holds everything, styles, script and results, and asks nothing of any server."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_HERE = Path(__file__).parent


def page(results: Mapping[str, Any], former: Mapping[str, Any] | None = None) -> str:
    """Return the page; `former` is an earlier run's JSON, shown beside this one."""
    data = json.dumps({"now": results, "former": former}, ensure_ascii=False, separators=(",", ":"))
    text = (_HERE / "page.html").read_text("utf-8")
    text = text.replace("/*STYLE*/", (_HERE / "page.css").read_text("utf-8"))
    text = text.replace("/*SCRIPT*/", (_HERE / "page.js").read_text("utf-8"))
    # In a script element only "</" and "<!--" end anything.
    return text.replace("/*DATA*/", data.replace("<", "\\u003c"))


def write_html(path: Path, results: Mapping[str, Any], former: Mapping[str, Any] | None = None) -> None:
    """Write the page."""
    path.write_text(page(results, former), "utf-8")
