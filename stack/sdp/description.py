"""A session description as a tree: the session, its media sections, their attributes in order.

RFC 8866 §5 (structure and order), 8122 §5, 4145 §4, 8839 §5 and 8285 §5 (what a section takes from the session).

Attributes stay as they came, in order, so that whatever is unknown survives a round trip; typed properties read
them on demand. Parsing is lenient about order and missing `s=`/`t=` lines, and strict about what it writes:
lines in the RFC's order, CRLF. Lines of the types i, u, e, p and k are kept but mean nothing here.

One odd line costs itself and not the description: what cannot be read is passed over, and `ignored` tells how much
of it there was, by name. An error are only a transport that makes no sense where it is needed (ICE credentials,
setup), an m= line without a kind, port and protocol, and text that is no description at all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice, pairwise
from typing import Self, TypeVar

from stack.core.certificate_fingerprint import CertificateFingerprint
from stack.core.errors import ParseError
from stack.core.found_once import found_once
from stack.sdp.grammar import (
    CandidateSummary,
    Connection,
    ExtMap,
    Group,
    Line,
    MediaDirection,
    Msid,
    Origin,
    RtpMap,
    SdpAttribute,
    Setup,
    SsrcAttribute,
    decode_text,
    parse_ice_chars,
    parse_number,
    parse_token,
    serialize_lines,
    split_lines,
)
from stack.sdp.reading import (
    FormatTable,
    each_parsed,
    is_payload_type,
    parse_mid,
    read_attributes,
    read_connection,
    read_extensions,
    read_feedback,
    read_formats,
    read_parameters,
)

MAX_MEDIA_DESCRIPTIONS = 64
"""Media sections in one description."""
MAX_FORMATS = 128
"""Formats in one m= line: there are no more payload types."""
MAX_CANDIDATES = 64
"""Candidates that are kept of one section; a call needs a handful."""

T = TypeVar("T")
_DIRECTIONS = {direction.value: direction for direction in MediaDirection}
_INHERITED = ("ice-ufrag", "ice-pwd", "ice-options", "fingerprint", "setup", "extmap")


class _Attributes:
    """Reading a tuple of attributes, at either level. What an answer asks for again and again is found once."""

    attributes: tuple[SdpAttribute, ...]

    @found_once
    def _by_name(self) -> Mapping[str, tuple[str, ...]]:
        found: dict[str, list[str]] = {}
        for attribute in self.attributes:
            found.setdefault(attribute.name, []).append(attribute.value or "")
        return {name: tuple(values) for name, values in found.items()}

    def parsed(self, name: str, parse: Callable[[str], T]) -> Iterator[T]:
        """Return what `parse` makes of every attribute called `name`; one that it cannot read is passed over."""
        return each_parsed(self.values(name), parse)

    def values(self, name: str) -> tuple[str, ...]:
        """Return the values of every attribute called `name`; a property counts as an empty value."""
        return self._by_name.get(name, ())

    def value(self, name: str) -> str | None:
        """Return the first value of `name`; None if there is no such attribute."""
        values = self.values(name)
        return values[0] if values else None

    def has(self, name: str) -> bool:
        """Return True if there is an attribute called `name`."""
        return name in self._by_name

    def _direction(self) -> MediaDirection | None:
        return next((_DIRECTIONS[name] for name in self._by_name if name in _DIRECTIONS), None)


@dataclass(frozen=True)
class MediaDescription(_Attributes):
    """One m= section: `m=<kind> <port> <protocol> <formats>` and what belongs to it (RFC 8866 §5.14)."""

    kind: str
    port: int
    protocol: str
    formats: tuple[str, ...]
    connection: Connection | None = None
    attributes: tuple[SdpAttribute, ...] = ()
    bandwidths: tuple[str, ...] = ()
    other: tuple[Line, ...] = ()

    @classmethod
    def parse_lines(cls, lines: list[Line], ignored: Counter[str]) -> Self:
        """Read one section, the m= line first; it may lack formats, which leaves a section to be declined."""
        fields = lines[0].value.split()
        if len(fields) < 3:
            raise ParseError(f"m= has {len(fields)} fields, at least a kind, a port and a protocol are needed")
        kind, port, protocol, *formats = fields
        if len(formats) > MAX_FORMATS:
            raise ParseError(f"more than {MAX_FORMATS} formats in one m= line")
        if "RTP/" in protocol.upper():
            for _ in (text for text in formats if not is_payload_type(text)):
                ignored["format"] += 1
        return cls(
            parse_token(kind, "media").lower(),
            parse_number(port.partition("/")[0], "port"),
            protocol,
            tuple(formats),
            read_connection(lines, ignored),
            read_attributes(lines, ignored),
            tuple(line.value for line in lines if line.kind == "b"),
            tuple(line for line in lines if line.kind in "ik"),
        )

    def lines(self) -> Iterator[Line]:
        """Return the lines of the section in the order of RFC 8866 §9."""
        yield Line("m", " ".join((self.kind, str(self.port), self.protocol, *self.formats)))
        yield from (line for line in self.other if line.kind == "i")
        if self.connection is not None:
            yield Line("c", self.connection.serialize())
        yield from (Line("b", bandwidth) for bandwidth in self.bandwidths)
        yield from (line for line in self.other if line.kind == "k")
        yield from (Line("a", attribute.serialize()) for attribute in self.attributes)

    @property
    def is_rejected(self) -> bool:
        """True if the section is declined: port 0 without bundle-only (RFC 3264 §6, RFC 9143 §6)."""
        return self.port == 0 and not self.has("bundle-only")

    @found_once
    def mid(self) -> str | None:
        """The name of the section within BUNDLE and for trickled candidates; None if it has none."""
        return next(self.parsed("mid", parse_mid), None)

    @property
    def direction(self) -> MediaDirection:
        """Which way media flows; sendrecv if nothing is said (RFC 8866 §6.7)."""
        return self._direction() or MediaDirection.SENDRECV

    @property
    def setup(self) -> Setup | None:
        """Who opens the DTLS connection."""
        value = self.value("setup")
        return None if value is None else Setup.parse(value.strip())

    @property
    def ice_ufrag(self) -> str | None:
        """The ICE username fragment: 4 to 256 ice-chars."""
        value = self.value("ice-ufrag")
        return None if value is None else parse_ice_chars(value.strip(), "ice-ufrag", 4)

    @property
    def ice_pwd(self) -> str | None:
        """The ICE password: 22 to 256 ice-chars."""
        value = self.value("ice-pwd")
        return None if value is None else parse_ice_chars(value.strip(), "ice-pwd", 22)

    @property
    def ice_options(self) -> tuple[str, ...]:
        """The ICE options (RFC 8839 §5.6)."""
        return tuple(dict.fromkeys(option for value in self.values("ice-options") for option in value.split()))

    @found_once
    def fingerprints(self) -> tuple[CertificateFingerprint, ...]:
        """The certificate's hashes, strongest first; those of functions that prove nothing are left out."""
        parsed = set(self.parsed("fingerprint", CertificateFingerprint.parse))
        return tuple(sorted((f for f in parsed if f.strength), key=lambda f: (-f.strength, f.value)))

    @property
    def candidates(self) -> tuple[str, ...]:
        """The candidates as `candidate:…`, of component 1 only: RTCP always shares the port of RTP.

        A line that is no candidate is passed over (RFC 8839 §5.1), as are those beyond `MAX_CANDIDATES`.
        """
        return tuple(f"candidate:{text}" for text, _ in self._candidates)

    @property
    def candidate_summaries(self) -> tuple[CandidateSummary, ...]:
        """What a description needs to know of its `candidates`."""
        return tuple(summary for _, summary in self._candidates)

    @found_once
    def _candidates(self) -> tuple[tuple[str, CandidateSummary], ...]:
        pairs = self.parsed("candidate", lambda value: (value, CandidateSummary.parse(value)))
        return tuple(islice((pair for pair in pairs if pair[1].component == 1), MAX_CANDIDATES))

    @property
    def payload_types(self) -> Mapping[int, RtpMap]:
        """What the payload types of the m= line stand for, in its order; unknown static ones are left out.

        Formats of other protocols than RTP are no numbers and stand for nothing here.
        """
        return self._format_table.meanings

    @property
    def usable_payload_types(self) -> Mapping[int, RtpMap]:
        """Those payload types that can travel beside RTCP.

        64 to 95 cannot: with the marker bit they are the packet types of RTCP (RFC 5761 §4).
        """
        return self._format_table.usable

    def usable_formats(self, rtp_map: RtpMap) -> Sequence[int]:
        """Return those of them that stand for an encoding, in the order of the m= line."""
        return self._format_table.numbers.get(rtp_map.key, ())

    @found_once
    def _format_table(self) -> FormatTable:
        return read_formats(self.formats, self.values("rtpmap"))

    def format_parameters(self, payload_type: int) -> dict[str, str]:
        """Return the parameters (`a=fmtp`) of a payload type, names in lower case."""
        return dict(read_parameters(self.values("fmtp")).get(str(payload_type), {}))

    def rtcp_feedback(self, payload_type: int) -> tuple[str, ...]:
        """Return the feedback messages (`a=rtcp-fb`) of a payload type, those of `*` included (RFC 4585 §4.2)."""
        found = read_feedback(self.values("rtcp-fb"))
        mine = (message for number, message in found if number in ("*", str(payload_type)))
        return tuple(dict.fromkeys(mine))

    @found_once
    def extensions(self) -> tuple[ExtMap, ...]:
        """The header extensions, in order."""
        return read_extensions(self.values("extmap"))

    @property
    def msid(self) -> Msid | None:
        """The first stream and track that the section sends."""
        return next(self.parsed("msid", Msid.parse), None)

    @property
    def ssrcs(self) -> dict[int, str | None]:
        """The SSRCs that the section names, each with its CNAME, in order (RFC 5576 §6.1)."""
        cnames: dict[int, str | None] = {}
        for attribute in self.parsed("ssrc", SsrcAttribute.parse):
            cnames.setdefault(attribute.ssrc, None)
            if attribute.name == "cname":
                cnames[attribute.ssrc] = attribute.value
        return cnames


@dataclass(frozen=True)
class SessionDescription(_Attributes):
    """A whole description (RFC 8866 §5); `times` holds its t=, r= and z= lines.

    `ignored` counts what `parse` met and could not read, by the name of the attribute, or as "line" (no line at
    all), "nul", "attribute" (one without a name), "connection" and "format" (no payload type, in an m= line of
    RTP).
    """

    origin: Origin
    media: tuple[MediaDescription, ...] = ()
    attributes: tuple[SdpAttribute, ...] = ()
    name: str = "-"
    connection: Connection | None = None
    bandwidths: tuple[str, ...] = ()
    times: tuple[Line, ...] = (Line("t", "0 0"),)
    other: tuple[Line, ...] = ()
    ignored: Mapping[str, int] = field(default_factory=dict, compare=False)

    @classmethod
    def parse(cls, data: str | bytes) -> Self:
        """Read a description; raises `ParseError` for anything that is not one."""
        ignored: Counter[str] = Counter()
        lines = split_lines(decode_text(data, "description"), ignored)
        if not lines or lines[0] != Line("v", "0"):
            raise ParseError("a description begins with v=0")
        unknown = next((line for line in lines[1:] if line.kind not in "osiuepcbtrzkam"), None)
        if unknown is not None:  # RFC 8866 §5: not understood as a whole
            raise ParseError(f"unknown line type {unknown.kind!r}")
        starts = [index for index, line in enumerate(lines) if line.kind == "m"]
        if len(starts) > MAX_MEDIA_DESCRIPTIONS:
            raise ParseError(f"more than {MAX_MEDIA_DESCRIPTIONS} media sections")
        cuts = pairwise([*starts, len(lines)])
        session = lines[1 : starts[0]] if starts else lines[1:]
        by_kind = {kind: [line.value for line in session if line.kind == kind] for kind in "osb"}
        if len(by_kind["o"]) != 1:
            raise ParseError("a description has one o= line")
        media = tuple(MediaDescription.parse_lines(lines[start:end], ignored) for start, end in cuts)
        attributes, connection = read_attributes(session, ignored), read_connection(session, ignored)
        return cls(
            Origin.parse(by_kind["o"][0]),
            media,
            attributes,
            by_kind["s"][0] if by_kind["s"] else "-",
            connection,
            tuple(by_kind["b"]),
            tuple(line for line in session if line.kind in "trz") or (Line("t", "0 0"),),
            tuple(line for line in session if line.kind in "iuepk"),
            ignored=dict(sorted(ignored.items())),
        )

    def lines(self) -> Iterator[Line]:
        """Return the lines in the order of RFC 8866 §9."""
        yield from (Line("v", "0"), Line("o", self.origin.serialize()), Line("s", self.name))
        yield from (line for kind in "iuep" for line in self.other if line.kind == kind)
        if self.connection is not None:
            yield Line("c", self.connection.serialize())
        yield from (Line("b", bandwidth) for bandwidth in self.bandwidths)
        yield from self.times
        yield from (line for line in self.other if line.kind == "k")
        yield from (Line("a", attribute.serialize()) for attribute in self.attributes)
        for media in self.media:
            yield from media.lines()

    def serialize(self) -> str:
        """Return the description as text."""
        return serialize_lines(self.lines())

    @property
    def is_ice_lite(self) -> bool:
        """True if the side that says it is an ICE-lite agent (RFC 8839 §5.3)."""
        return self.has("ice-lite")

    @found_once
    def bundle_groups(self) -> tuple[tuple[str, ...], ...]:
        """The mids of each BUNDLE group, in order (RFC 9143 §4)."""
        groups = self.parsed("group", Group.parse)
        return tuple(group.mids for group in groups if group.semantics.upper() == "BUNDLE")

    @found_once
    def resolved(self) -> SessionDescription:
        """A copy in which every section has what it takes from the session.

        A section's own attribute of the same name goes before the session's (RFC 8122 §5, 4145 §4, 8839 §5.4,
        8866 §6.7); header extensions of both levels add up (RFC 8285 §5).
        """
        direction = self._direction()
        inherited = [a for a in self.attributes if a.name in _INHERITED]
        sections = []
        for media in self.media:
            taken = [a for a in inherited if a.name == "extmap" or not media.has(a.name)]
            if direction is not None and media._direction() is None:
                taken.append(SdpAttribute(direction.value))
            if taken or (media.connection is None and self.connection is not None):
                attributes, connection = (*media.attributes, *taken), media.connection or self.connection
                media = replace(media, attributes=attributes, connection=connection)
            sections.append(media)
        return replace(self, media=tuple(sections))
