"""Results for programs: JSON, which the HTML page and a later comparison read, and JUnit XML."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from interop.call_summary import call_as_json
from interop.runner import Cell
from interop.scenarios import SCENARIOS
from interop.verdict import Outcome
from stack import __version__


def as_json(cells: Sequence[Cell], seconds: float) -> dict[str, Any]:
    """Everything that the report shows."""
    return {
        "format": 1,
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "project": __version__,
        "machine": f"{platform.system()} {platform.release()}, Python {platform.python_version()}",
        "seconds": round(seconds, 1),
        "scenarios": {
            name: {"sentence": each.sentence, "cites": each.cites}
            for name, each in SCENARIOS.items()
            if any(cell.scenario == name for cell in cells)
        },
        "cells": [_cell(cell) for cell in cells],
    }


def _cell(cell: Cell) -> dict[str, Any]:
    return {
        "pair": cell.pair,
        "peer": cell.peer,
        "version": cell.version,
        "side": cell.side,
        "scenario": cell.scenario,
        "seconds": round(cell.seconds, 2),
        "kept": cell.kept,
        **cell.verdict.as_json(),
        "call": cell.call if cell.evidence is None else call_as_json(cell.evidence),
    }


def merged(former: Mapping[str, Any], now: Mapping[str, Any], pairs: Sequence[str]) -> dict[str, Any]:
    """A former run with the cells of this one in place of its own; `pairs` are the columns in their order.

    What was run lately is the latest of a cell's pair and scenario, repetitions included; the seconds add up. What
    was not tried takes the place of nothing.
    """
    had = {(cell["pair"], cell["scenario"]) for cell in former["cells"]}
    taken = [
        cell
        for cell in now["cells"]
        if cell["outcome"] != "untried" or (cell["pair"], cell["scenario"]) not in had
    ]
    fresh = {(cell["pair"], cell["scenario"]) for cell in taken}
    cells = [cell for cell in former["cells"] if (cell["pair"], cell["scenario"]) not in fresh] + taken
    columns = {
        name: number for number, name in enumerate(dict.fromkeys((*pairs, *(cell["pair"] for cell in cells))))
    }
    rows = {name: number for number, name in enumerate(SCENARIOS)}
    known = {**former["scenarios"], **now["scenarios"]}
    rows |= {name: len(rows) for name in known if name not in rows}
    return {
        **now,
        "seconds": round(former["seconds"] + now["seconds"], 1),
        "scenarios": {name: known[name] for name in sorted(known, key=rows.__getitem__)},
        "cells": sorted(cells, key=lambda cell: (columns[cell["pair"]], rows[cell["scenario"]])),
    }


def read_results(file: Path) -> Mapping[str, Any]:
    """What `as_json` made, from a file; `ValueError` in one line if it is anything else, `OSError` as it comes."""
    try:
        found = json.loads(file.read_text("utf-8"))
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if not isinstance(found, dict) or not isinstance(found.get("cells"), list) or not found["cells"]:
        raise ValueError("it has no cells")
    if not isinstance(found.get("scenarios"), dict) or not isinstance(found.get("seconds"), int | float):
        raise ValueError("scenarios or seconds are missing")
    for number, cell in enumerate(found["cells"], 1):
        if not isinstance(cell, dict):
            raise ValueError(f"cell {number} is no object")
        for name, kind in _MEMBERS.items():
            if not isinstance(cell.get(name, ...), kind):
                raise ValueError(f"{name} of cell {number} is missing, or of another type")
        if str(cell["outcome"]).upper() not in Outcome.__members__:
            raise ValueError(f"cell {number} has no outcome that is known")
    return found


_MEMBERS: Mapping[str, Any] = {
    **dict.fromkeys(("pair", "peer", "version", "side", "scenario", "outcome", "sentence"), str),
    "seconds": int | float,
    "blame": str | None,
    "further": list,
    "call": dict | None,
}
"""The members of a cell that the report needs."""


def as_junit(results: Mapping[str, Any]) -> str:
    """Results (`as_json`) as JUnit XML: what is absent or unsupported is skipped, what is red has failed."""
    root = ElementTree.Element("testsuites")
    cells = results["cells"]
    for pair in dict.fromkeys(cell["pair"] for cell in cells):
        own = [(cell, Outcome[str(cell["outcome"]).upper()]) for cell in cells if cell["pair"] == pair]
        suite = ElementTree.SubElement(root, "testsuite", name=pair, tests=str(len(own)))
        suite.set("failures", str(sum(outcome.is_red for _, outcome in own)))
        for cell, outcome in own:
            case = ElementTree.SubElement(suite, "testcase", name=cell["scenario"], classname=pair)
            case.set("time", f"{cell['seconds']:.2f}")
            if outcome.is_red:
                blame = cell["blame"] or outcome.value
                ElementTree.SubElement(case, "failure", type=blame, message=cell["sentence"])
            elif outcome is not Outcome.PASSED:
                ElementTree.SubElement(case, "skipped", message=f"{outcome.value}: {cell['sentence']}")
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True)
