"""The registry of rules, and what runs them."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from interop.evidence import Evidence, Fate
from interop.verdict import LAYERS, Finding

Rule = Callable[[Evidence], Iterable[Finding]]
RULES: list[Rule] = []


def rule(function: Rule) -> Rule:
    """Register a rule."""
    RULES.append(function)
    return function


def diagnose(evidence: Evidence) -> list[Finding]:
    """Return what the rules find, the layer that is set up first at the head."""
    found = [finding for each in RULES for finding in each(evidence)]
    return sorted(found, key=lambda finding: LAYERS.index(finding.layer))


def loses(evidence: Evidence) -> bool:
    """Whether the network under trial lost something: then a packet that is missing proves little."""
    return any(packet.fate is Fate.LOST for packet in evidence.packets)
