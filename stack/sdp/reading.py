"""What the attributes of a session description say: read, passed over, remembered.

RFC 8866 §5.13 and §6; 4585 §4.2 (`rtcp-fb`), 5761 §4 (payload types beside RTCP), 8285 §5 (`extmap`).

What a call can do without is passed over where it cannot be read, and counted: `IGNORED` has the counters. Clients
of one kind write the same lines and lists of lines in every offer, so what short ones say is remembered; never
what only one call has, or what is secret.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple, TypeVar

from stack.core.certificate_fingerprint import CertificateFingerprint
from stack.core.counters import CounterName, declare
from stack.core.errors import ParseError
from stack.sdp.dcmap import ChannelMap
from stack.sdp.grammar import (
    STATIC_PAYLOAD_TYPES,
    CandidateSummary,
    Connection,
    ExtMap,
    Group,
    Line,
    Msid,
    RtpMap,
    SdpAttribute,
    SsrcAttribute,
    parse_format_parameters,
    parse_message_size,
    parse_number,
    parse_sctp_init,
    parse_token,
)

MAX_REMEMBERED = 256
"""Lines of each kind of which it is remembered what they say; the two browsers' have 60 between them."""
MAX_REMEMBERED_LENGTH = 100
"""Characters of such a line."""

MAX_REMEMBERED_LISTS = 32
"""Lists of each kind (formats, parameters, extensions) of which it is remembered what they say: every section
of one kind of client has the same."""
MAX_REMEMBERED_LIST = 64
"""Lines of such a list."""

T = TypeVar("T")


# --- what sections of one kind of client have in common --------------------------------------------------------


def _remembered_lists(read: Callable[..., T]) -> Callable[..., T]:
    """Return `read`, which takes lists of lines, with a memory for short ones. Its results stay as they are."""
    remembering = lru_cache(MAX_REMEMBERED_LISTS)(read)

    def find(*lists: tuple[str, ...]) -> T:
        longest = max((max(map(len, lines), default=0) for lines in lists), default=0)
        is_short = longest <= MAX_REMEMBERED_LENGTH and all(len(lines) <= MAX_REMEMBERED_LIST for lines in lists)
        return (remembering if is_short else read)(*lists)

    return find


class FormatTable(NamedTuple):
    """The formats of a section: what they stand for, those that RTCP leaves, and these by `RtpMap.key`."""

    meanings: Mapping[int, RtpMap]
    usable: Mapping[int, RtpMap]
    numbers: Mapping[tuple[str, int, int], Sequence[int]]


@_remembered_lists
def read_formats(formats: tuple[str, ...], rtpmaps: tuple[str, ...]) -> FormatTable:
    """Return what the formats of an m= line of RTP stand for, by its `a=rtpmap`."""
    maps: dict[int, RtpMap] = {}
    for number, rtp_map in each_parsed(rtpmaps, _read_rtpmap):
        maps.setdefault(number, rtp_map)
    numbers = [int(text) for text in formats if is_payload_type(text)]
    known = {number: maps.get(number, STATIC_PAYLOAD_TYPES.get(number)) for number in numbers}
    meanings = {number: rtp_map for number, rtp_map in known.items() if rtp_map is not None}
    usable = {number: rtp_map for number, rtp_map in meanings.items() if not 64 <= number <= 95}
    by_key: dict[tuple[str, int, int], list[int]] = {}
    for number, rtp_map in usable.items():
        by_key.setdefault(rtp_map.key, []).append(number)
    return FormatTable(meanings, usable, by_key)


@_remembered_lists
def read_parameters(values: tuple[str, ...]) -> Mapping[str, Mapping[str, str]]:
    """Return the parameters by the format as it is written; of one that comes twice, the first counts."""
    found: dict[str, dict[str, str]] = {}
    for value in values:
        number, _, rest = value.strip().partition(" ")
        found[number] = parse_format_parameters(rest) | found.get(number, {})
    return found


@_remembered_lists
def read_feedback(values: tuple[str, ...]) -> Sequence[tuple[str, str]]:
    """Return format and message of each `a=rtcp-fb`."""
    found = (value.split(None, 1) for value in values)
    return tuple((fields[0], fields[1].lower()) for fields in found if len(fields) == 2)


@_remembered_lists
def read_extensions(values: tuple[str, ...]) -> tuple[ExtMap, ...]:
    """Return the header extensions, in order."""
    return tuple(each_parsed(values, _read_extmap))


# --- reading what may be passed over ---------------------------------------------------------------------------


def each_parsed(values: Iterable[str], parse: Callable[[str], T]) -> Iterator[T]:
    """Return what `parse` makes of each value; one that it cannot read is passed over."""
    for value in values:
        try:
            yield parse(value)
        except ParseError:
            continue


def read_attributes(lines: list[Line], ignored: Counter[str]) -> tuple[SdpAttribute, ...]:
    """Return the a= lines among `lines`; those whose values mean nothing stay as they came, but are counted."""
    attributes: list[SdpAttribute] = []
    for kind, value in lines:
        if kind != "a":
            continue
        attribute, problem = (_read_of_one_call if value.startswith(_OF_ONE_CALL) else _read_attribute)(value)
        if attribute is not None:
            attributes.append(attribute)
        if problem is not None:
            ignored[problem] += 1
    return tuple(attributes)


def read_connection(lines: list[Line], ignored: Counter[str]) -> Connection | None:
    """Return the first c= line that can be read; nothing depends on it, because ICE has the addresses."""
    found: list[Connection] = []
    for line in lines:
        try:
            if line.kind == "c":
                found.append(Connection.parse(line.value))
        except ParseError:
            ignored["connection"] += 1
    return found[0] if found else None


def is_payload_type(text: str) -> bool:
    """Return True for a format that is a payload type of RTP: 0 to 127."""
    return text.isascii() and text.isdigit() and len(text) <= 3 and int(text) <= 127


def parse_mid(text: str) -> str:
    """Return an identification (RFC 5888 §4); raises `ParseError`."""
    return parse_token(text.strip(), "mid")


def _parse_rtpmap(text: str) -> tuple[int, RtpMap]:
    number, _, encoding = text.strip().partition(" ")
    return parse_number(number, "payload type", 127), RtpMap.parse(encoding.strip())


def _remembered(parse: Callable[[str], T]) -> Callable[[str], T]:
    """Return `parse` with a memory: clients of one kind write the same few lines in every offer."""
    remembering = lru_cache(MAX_REMEMBERED)(parse)

    def read(text: str) -> T:
        return remembering(text) if len(text) <= MAX_REMEMBERED_LENGTH else parse(text)

    return read


def _read_of_one_call(text: str) -> tuple[SdpAttribute | None, str | None]:
    """Return what an a= line says, None for nothing, and as what it is counted if it means nothing."""
    try:
        attribute = SdpAttribute.parse(text)
    except ParseError:
        return None, "attribute"
    parse = _SKIPPABLE.get(attribute.name)
    try:
        if parse is not None:
            parse(attribute.value or "")
    except ParseError:
        return attribute, attribute.name
    return attribute, None


_read_extmap = _remembered(ExtMap.parse)
_read_rtpmap = _remembered(_parse_rtpmap)
_read_attribute = _remembered(_read_of_one_call)
_OF_ONE_CALL = ("ice-", "candidate", "fingerprint", "msid", "ssrc", "sctp-init", "identity", "crypto")
"""How lines begin that no other call has, or that are secrets: they are not remembered."""

_SKIPPABLE: Mapping[str, Callable[[str], object]] = {
    "candidate": CandidateSummary.parse,
    "dcmap": ChannelMap.parse,
    "extmap": _read_extmap,
    "fingerprint": CertificateFingerprint.parse,
    "group": Group.parse,
    "max-message-size": parse_message_size,
    "mid": parse_mid,
    "msid": Msid.parse,
    "rtpmap": _read_rtpmap,
    "sctp-init": parse_sctp_init,
    "ssrc": SsrcAttribute.parse,
}
"""The attributes that a call can do without, each with what reads it."""

IGNORED: Mapping[str, CounterName] = {
    "line": declare("sdp", "ignored_line", "Lines that are no `<type>=<value>`"),
    "nul": declare("sdp", "ignored_nul", "Lines that end in NUL"),
    "attribute": declare("sdp", "ignored_attribute", "Attributes without a name"),
    "connection": declare("sdp", "ignored_connection", "c= lines that could not be read"),
    "format": declare("sdp", "ignored_format", "Formats in m= lines of RTP that are no payload types"),
} | {
    name: declare("sdp", f"ignored_{name.replace('-', '_')}", f"a={name} lines that could not be read")
    for name in _SKIPPABLE
}
"""The counter of each name in `SessionDescription.ignored`."""
