"""Results for programs: JSON, which the HTML page and a later comparison read, and JUnit XML."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from xml.etree import ElementTree

from interop.evidence import SIDES, Evidence
from interop.runner import Cell
from interop.scenarios import SCENARIOS
from interop.verdict import Outcome
from stack import __version__

DIAGRAM_PACKETS = 24
"""Datagrams in the sequence diagram of a cell."""


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
        "call": None if cell.evidence is None else call(cell.evidence),
    }


def call(evidence: Evidence) -> dict[str, Any]:
    """What is shown of one call."""
    first = [packet for packet in evidence.packets if packet.fate.name != "FORGED"][:DIAGRAM_PACKETS]
    return {
        "client": evidence.client,
        "server": evidence.server,
        "waterfall": {name: round(at, 4) for name, at in evidence.waterfall().items()},
        "packets": len(evidence.packets),
        "first": [
            {
                "number": packet.number,
                "at": round(packet.at, 4),
                "side": packet.side,
                "what": packet.summary,
                "size": len(packet.data),
                "fate": packet.fate.name.lower(),
            }
            for packet in first
        ],
        "levels": {
            side: [[round(level.at, 2), level.rms] for level in evidence.levels[side]][:600] for side in SIDES
        },
        "negotiated": negotiated(evidence),
        "measured": evidence.facts,
        "offer": evidence.offer,
        "answer": evidence.answer,
    }


def negotiated(evidence: Evidence) -> Mapping[str, str]:
    """What the two agreed on, from the answer, and from the statistics of an end that tells."""
    found: dict[str, str] = {}
    lines = evidence.answer.splitlines()
    for line in lines:
        if line.startswith("m="):
            kind, port = line[2:].split()[:2]
            found[f"section {kind}"] = "declined" if port == "0" else line.split()[2]
        elif line.startswith("a=setup:"):
            found["answer's setup"] = line[8:]
    if "a=ice-lite" in lines:
        found["ICE"] = "the server is lite"
    names = {"tlsVersion": "DTLS", "dtlsCipher": "cipher suite", "dtlsGroup": "group", "srtpCipher": "SRTP"}
    for side in SIDES:
        for part in evidence.statistics.get(side) or ():
            if isinstance(part, dict) and part.get("type") == "transport":
                for key, name in names.items():
                    if part.get(key):
                        found[name] = {"FEFC": "1.3", "FEFD": "1.2"}.get(str(part[key]), str(part[key]))
            if isinstance(part, dict) and part.get("type") == "codec" and "mimeType" in part:
                found["codec"] = str(part["mimeType"])
    return found


def as_junit(cells: Sequence[Cell]) -> str:
    """JUnit XML: what is absent or unsupported is skipped, what is red has failed."""
    root = ElementTree.Element("testsuites")
    for pair in dict.fromkeys(cell.pair for cell in cells):
        own = [cell for cell in cells if cell.pair == pair]
        suite = ElementTree.SubElement(root, "testsuite", name=pair, tests=str(len(own)))
        suite.set("failures", str(sum(cell.verdict.outcome.is_red for cell in own)))
        for cell in own:
            case = ElementTree.SubElement(suite, "testcase", name=cell.scenario, classname=pair)
            case.set("time", f"{cell.seconds:.2f}")
            if cell.verdict.outcome.is_red:
                blame = cell.verdict.blame.value if cell.verdict.blame is not None else cell.verdict.outcome.value
                ElementTree.SubElement(case, "failure", type=blame, message=cell.verdict.sentence)
            elif cell.verdict.outcome is not Outcome.PASSED:
                message = f"{cell.verdict.outcome.value}: {cell.verdict.sentence}"
                ElementTree.SubElement(case, "skipped", message=message)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True)
