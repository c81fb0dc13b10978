"""A verdict is a sentence: what was expected by which section, what was seen, and which packet shows it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Self

from interop.evidence import Packet, Side


def printable(text: str) -> str:
    """What others said, with everything escaped that a terminal or XML would take for more than a letter."""
    return "".join(
        each if each.isprintable() or each in "\n\t" else each.encode("unicode_escape").decode() for each in text
    )


class Layer(Enum):
    """Where a fault sits, in the order in which a call is made: the first one explains those behind it."""

    SIGNALLING = "signalling"
    ICE = "ICE"
    DTLS = "DTLS"
    MEDIA = "media"
    DATA = "data"
    END = "end"
    SOUND = "sound"


LAYERS = tuple(Layer)
NO_ANSWER = "no-answer"
"""The rule of a finding that a server answers nothing at all, whatever it is offered."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A fault that the evidence shows."""

    rule: str
    """A name that does not change: known faults refer to it."""
    layer: Layer
    side: Side | None
    """Whose fault it is; None: the evidence does not tell."""
    expected: str
    section: str
    seen: str
    packet: Packet | None = None

    def sentence(self, name: str) -> str:
        """The finding as a sentence about `name`, the one whose fault it is; empty where that is not clear."""
        subject = f"{name}: " if name else ""
        shown = f"; {self.packet} shows it" if self.packet is not None else ""
        return f"{subject}expected {self.expected} ({self.section}), seen {self.seen}{shown}."


class Unexpected(Exception):
    """A scenario's expectation did not hold."""

    def __init__(
        self,
        expected: str,
        section: str,
        seen: str,
        *,
        side: Side | None = None,
        layer: Layer = Layer.SOUND,
        packet: Packet | None = None,
        rule: str = "",
    ) -> None:
        self.finding = Finding(rule or "expectation", layer, side, expected, section, seen, packet)
        super().__init__(self.finding.sentence("it"))


class Outcome(Enum):
    """What came of one scenario with one peer."""

    PASSED = "passed"
    FAILED = "failed"
    KNOWN = "known fault of the peer"
    HEALED = "a known fault is gone"
    UNSUPPORTED = "unsupported by the peer"
    ABSENT = "absent"
    UNTRIED = "not tried"
    BROKEN = "the harness failed"

    @property
    def is_red(self) -> bool:
        """It has to be looked at."""
        return self in (Outcome.FAILED, Outcome.HEALED, Outcome.BROKEN)

    def counted(self, count: int) -> str:
        """Its words after a number."""
        return self.value.replace("fault", "faults") if self is Outcome.KNOWN and count > 1 else self.value


class Blame(Enum):
    """Whose fault a failure is."""

    OURS = "ours"
    THEIRS = "theirs"
    UNCLEAR = "unclear"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of one scenario with one peer, in words."""

    outcome: Outcome
    sentence: str
    blame: Blame | None = None
    rule: str = ""
    further: tuple[str, ...] = ()
    """What else was found, which the first finding may explain."""
    layer: str = ""
    """Where the fault sits (`Layer`), if there is one."""

    def as_json(self) -> Mapping[str, Any]:
        """Ready for JSON."""
        return {
            "outcome": self.outcome.name.lower(),
            "sentence": self.sentence,
            "blame": None if self.blame is None else self.blame.value,
            "rule": self.rule,
            "layer": self.layer,
            "further": list(self.further),
        }

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> Self:
        """What `as_json` made."""
        blame = None if told["blame"] is None else Blame(told["blame"])
        outcome = Outcome[str(told["outcome"]).upper()]
        further = tuple(told["further"])
        return cls(outcome, told["sentence"], blame, told["rule"], further, told.get("layer", ""))
