"""What the report shows of one call, drawn from its evidence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from interop.evidence import SIDES, Evidence

DIAGRAM_PACKETS = 24
"""Datagrams in the sequence diagram of a cell."""


def call_as_json(evidence: Evidence) -> dict[str, Any]:
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
        if line.startswith("m=") and line.count(" ") >= 2:
            kind, port, protocol = line[2:].split(" ")[:3]
            found[f"section {kind}"] = "declined" if port == "0" else protocol
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
