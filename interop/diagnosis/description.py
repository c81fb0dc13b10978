"""What an answer must have, seen beside its offer (RFC 3264, 8829, 8843, 8445, 5763)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from interop.diagnosis.rules import rule
from interop.evidence import Evidence
from interop.redirect import is_port
from interop.verdict import Finding, Layer

SHOWN = 60
"""Characters of a line that a finding shows."""
FINGERPRINT = re.compile(r"[-!#$%&'*+.^_`|~\w]+ [0-9A-Fa-f]{2}(:[0-9A-Fa-f]{2})*")


@dataclass(slots=True)
class Section:
    """A media section as lines; what stands at session level is in `whole`, too."""

    line: str
    lines: list[str] = field(default_factory=list)
    whole: list[str] = field(default_factory=list)

    @property
    def kind(self) -> str:
        """audio, video, application."""
        return "".join(self.line[2:].split()[:1])

    @property
    def is_declined(self) -> bool:
        """Port 0, unless another section carries it (RFC 8843 §6)."""
        return self.line.split()[1:2] == ["0"] and "a=bundle-only" not in self.lines

    @property
    def is_whole(self) -> bool:
        """Media, port, protocol and a format (RFC 8866 §5.14)."""
        fields = self.line[2:].split()
        return len(fields) >= 4 and fields[1].partition("/")[0].isdigit()

    @property
    def formats(self) -> list[str]:
        """Payload types."""
        return self.line.split()[3:]

    def value(self, name: str) -> str | None:
        """The value of the first attribute of this name, here or at session level; "" for a flag."""
        for line in (*self.lines, *self.whole):
            if line == f"a={name}":
                return ""
            if line.startswith(f"a={name}:"):
                return line[len(name) + 3 :]
        return None

    @property
    def direction(self) -> str:
        """sendrecv unless another is given (RFC 8866 §6.7)."""
        given = (line[2:] for line in (*self.lines, *self.whole))
        return next(
            (each for each in given if each in ("sendonly", "recvonly", "inactive", "sendrecv")), "sendrecv"
        )


def sections(sdp: str) -> list[Section]:
    """Take a description apart."""
    whole: list[str] = []
    found: list[Section] = []
    for line in sdp.splitlines():
        if line.startswith("m="):
            found.append(Section(line, [], whole))
        elif found:
            found[-1].lines.append(line)
        else:
            whole.append(line)
    return found


def audio_payload_types(sdp: str) -> set[int]:
    """The payload types of the sections of sound that are taken."""
    return {
        int(number)
        for section in sections(sdp)
        if section.kind == "audio" and not section.is_declined
        for number in section.formats
        if number.isdigit()
    }


def fault(name: str, expected: str, section: str, seen: str) -> Finding:
    """A finding about the answer."""
    return Finding(name, Layer.SIGNALLING, "server", expected, section, seen)


@rule
def answer_fits_the_offer(evidence: Evidence) -> Iterator[Finding]:
    """Sections, mids and formats."""
    if not evidence.offer or not evidence.answer:
        return
    offered, answered = sections(evidence.offer), sections(evidence.answer)
    if len(offered) != len(answered):
        yield fault(
            "answer-sections",
            f"an answer with the {len(offered)} sections of the offer",
            "RFC 3264 §6",
            f"{len(answered)}",
        )
        return
    for number, (theirs, ours) in enumerate(zip(offered, answered, strict=True)):
        where = f"section {number} ({theirs.kind})"
        if not ours.is_whole:
            expected = f"media, port, protocol and formats in the m= line of {where}"
            yield fault("answer-media-line", expected, "RFC 8866 §5.14", f"{ours.line[:SHOWN]!r}")
        elif theirs.kind != ours.kind:
            yield fault("answer-kind", f"{where} to stay what it is", "RFC 3264 §6", f"m={ours.kind}")
        elif ours.is_declined:
            continue
        elif theirs.value("mid") != ours.value("mid"):
            yield fault(
                "answer-mid",
                f"the mid {theirs.value('mid')} in {where}",
                "RFC 8843 §7.3",
                f"{ours.value('mid') or 'none'}",
            )
        elif theirs.kind == "audio":
            yield from _formats(where, theirs, ours)


def _formats(where: str, theirs: Section, ours: Section) -> Iterator[Finding]:
    foreign = [number for number in ours.formats if number not in theirs.formats]
    if len(foreign) == len(ours.formats):
        yield fault(
            "answer-formats",
            f"at least one of the offer's formats {' '.join(theirs.formats)} in {where}",
            "RFC 3264 §6.1",
            f"{' '.join(ours.formats)}",
        )
    allowed = {
        "sendrecv": {"sendrecv", "sendonly", "recvonly", "inactive"},
        "sendonly": {"recvonly", "inactive"},
        "recvonly": {"sendonly", "inactive"},
        "inactive": {"inactive"},
    }[theirs.direction]
    if ours.direction not in allowed:
        yield fault(
            "answer-direction",
            f"{where} to be {' or '.join(sorted(allowed))} where {theirs.direction} was offered",
            "RFC 3264 §6.1",
            ours.direction,
        )


@rule
def answer_can_be_connected_to(evidence: Evidence) -> Iterator[Finding]:
    """Credentials, fingerprint, role, candidates."""
    for number, section in enumerate(sections(evidence.answer)):
        if section.is_declined:
            continue
        where = f"section {number} ({section.kind})"
        ufrag, password = section.value("ice-ufrag") or "", section.value("ice-pwd") or ""
        if len(ufrag) < 4 or len(password) < 22:
            yield fault(
                "answer-ice",
                f"an ice-ufrag of 4 characters or more and an ice-pwd of 22 or more in {where}",
                "RFC 8839 §5.4",
                f"{len(ufrag)} and {len(password)} characters",
            )
        fingerprint = section.value("fingerprint")
        if fingerprint is None:
            yield fault("answer-fingerprint", f"a fingerprint in {where}", "RFC 8827 §6.5", "none")
        elif not FINGERPRINT.fullmatch(fingerprint):
            expected = f"a hash function and a hash in hexadecimal as the fingerprint of {where}"
            yield fault("answer-fingerprint", expected, "RFC 8122 §5", f"{fingerprint[:SHOWN]!r}")
        setup = section.value("setup")
        if setup not in ("active", "passive"):
            yield fault(
                "answer-setup",
                f"setup:active or setup:passive in {where}",
                "RFC 5763 §5",
                f"setup:{setup}" if setup else "no setup attribute",
            )
        if section.kind in ("audio", "video") and section.value("rtcp-mux") is None:
            yield fault("answer-rtcp-mux", f"rtcp-mux in {where}, as offered", "RFC 8834 §4.5", "none")
        break  # a bundle's transport is described by its first section


@rule
def candidates_can_be_read(evidence: Evidence) -> Iterator[Finding]:
    """A port that there is."""
    for line in evidence.answer.splitlines():
        fields = line.split()
        if line.startswith("a=candidate:") and not (len(fields) >= 8 and is_port(fields[5])):
            expected = "candidates with an address, a port from 0 to 65535 and a type in the answer"
            yield fault("answer-candidate", expected, "RFC 8839 §5.1", f"{line[:SHOWN]!r}")
            break
