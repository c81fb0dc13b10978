"""Candidates that come after the offer: `application/trickle-ice-sdpfrag` (RFC 8840 §9, used by RFC 9725 §4.4).

    a=ice-ufrag:user
    a=ice-pwd:password+password+password
    m=audio 9 UDP/TLS/RTP/SAVPF 0
    a=mid:0
    a=candidate:1 1 udp 2130706431 192.0.2.1 3478 typ host
    a=end-of-candidates

There is one transport, so the candidates of all sections are one list; a section's own credentials count like
those of the session. Lines that mean nothing here are passed over and counted. Left out: which section a candidate
stood in, and candidates of component 2.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Self

from stack.core.errors import ParseError
from stack.sdp.description import MAX_CANDIDATES, MediaDescription
from stack.sdp.grammar import Line, decode_text, serialize_lines, split_lines
from stack.sdp.reading import read_attributes

_UNKNOWN_SECTION = Line("m", "audio 9 UDP/TLS/RTP/SAVPF 0")  # RFC 8840 §9: nothing in it is looked at but the mid


@dataclass(frozen=True, slots=True)
class TrickleFragment:
    """ICE credentials, candidates (`candidate:…`) and whether there will be more of them.

    Without credentials the fragment belongs to the ICE session that is running; with others than its own, it
    asks for an ICE restart. `mid` is the section that the candidates are written under. `ignored` counts what
    `parse` passed over, by the names of `SessionDescription.ignored`.
    """

    ice_ufrag: str | None = None
    ice_pwd: str | None = None
    candidates: tuple[str, ...] = ()
    end_of_candidates: bool = False
    mid: str | None = None
    ignored: Mapping[str, int] = field(default_factory=dict, compare=False)

    @classmethod
    def parse(cls, data: str | bytes) -> Self:
        """Read a fragment, which may be empty; raises `ParseError` for anything that is not one."""
        text = decode_text(data, "fragment")
        ignored: Counter[str] = Counter()
        lines = split_lines(text, ignored)
        known = [line for line in lines if line.kind in "am"]
        if not known and (lines or text.strip(" \t\r\n\0\ufeff")):
            raise ParseError("a fragment holds a= and m= lines")
        for _ in range(len(lines) - len(known)):
            ignored["line"] += 1
        everything = MediaDescription("audio", 9, "", (), attributes=read_attributes(known, ignored))
        ufrag, pwd = everything.ice_ufrag, everything.ice_pwd
        if (ufrag is None) != (pwd is None):
            raise ParseError("a fragment has both ICE credentials or none")
        ended = everything.has("end-of-candidates")
        return cls(ufrag, pwd, everything.candidates, ended, everything.mid, dict(sorted(ignored.items())))

    def serialize(self) -> str:
        """Return the fragment as text."""
        return serialize_lines(self._lines())

    def _lines(self) -> Iterator[Line]:
        if self.ice_ufrag is not None and self.ice_pwd is not None:
            yield Line("a", f"ice-ufrag:{self.ice_ufrag}")
            yield Line("a", f"ice-pwd:{self.ice_pwd}")
        if self.mid is not None:
            yield _UNKNOWN_SECTION
            yield Line("a", f"mid:{self.mid}")
        yield from (Line("a", candidate) for candidate in self.candidates[:MAX_CANDIDATES])
        if self.end_of_candidates:
            yield Line("a", "end-of-candidates")
