"""Questions and answers of multicast DNS, as far as candidates with names need them (RFC 6762, RFC 1035 §4).

Browsers write `….local` in place of an address of theirs (draft-ietf-mmusic-mdns-ice-candidates): a host on the
same network can ask for it by multicast. Here is what the question and the answer look like; `stack.aio.mdns`
asks.

    +---------------------+
    |        Header       |  identifier, flags, four counts
    +---------------------+
    |       Question      |  name, type (A 1, AAAA 28), class IN
    +---------------------+
    |        Answer       |  name, type, class, time to live, length, address
    +---------------------+

Left out: everything else, such as other types, names in data, and probing.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address

from stack.core.errors import LocalError, ParseError
from stack.core.wire import Reader, Writer

TYPE_A, TYPE_AAAA = 1, 28
CLASS_IN = 1
CLASS_MASK = 0x7FFF
"""The first bit says that a cache is to be flushed (RFC 6762 §10.2)."""
_RESPONSE = 0x8000

MAX_NAME = 255
MAX_LABELS = 128
"""Labels and pointers of one name; a name that points at itself ends here."""
MAX_ANSWERS = 32
"""Records read of one message."""


def is_mdns_name(host: str) -> bool:
    """Return True for a name that is resolved by multicast (RFC 6762 §3)."""
    return host.lower().rstrip(".").endswith(".local")


def serialize_question(name: str) -> bytes:
    """Return the question for the addresses of a name. Raises `LocalError` for a name that cannot be asked for."""
    labels = name.rstrip(".").encode("ascii", "replace").split(b".")
    if len(name) > MAX_NAME or not all(0 < len(label) < 64 for label in labels):
        raise LocalError(f"{name[:40]!r} is no host name")
    encoded = b"".join(bytes([len(label)]) + label for label in labels) + b"\0"
    writer = Writer().u16(0).u16(0).u16(2).u16(0).u16(0).u16(0)
    for kind in (TYPE_A, TYPE_AAAA):
        writer.put(encoded).u16(kind).u16(CLASS_IN)
    return writer.finish()


def parse_answer(data: bytes, name: str) -> list[str]:
    """Return the addresses that a message has for a name; raises `ParseError` for what is no answer."""
    reader = Reader(data)
    reader.skip(2)
    if not reader.u16() & _RESPONSE:
        raise ParseError("a question, not an answer")
    questions, answers, authorities, additional = (reader.u16() for _ in range(4))
    wanted = name.lower().rstrip(".")
    for _ in range(min(questions, MAX_ANSWERS)):
        _read_name(reader, data)
        reader.skip(4)
    return list(_addresses(reader, data, min(answers + authorities + additional, MAX_ANSWERS), wanted))


def _addresses(reader: Reader, data: bytes, records: int, wanted: str) -> Iterator[str]:
    for _ in range(records):
        name = _read_name(reader, data)
        kind, record_class = reader.u16(), reader.u16() & CLASS_MASK
        reader.skip(4)
        value = reader.take(reader.u16())
        fits = (kind, len(value)) in ((TYPE_A, 4), (TYPE_AAAA, 16))
        if fits and record_class == CLASS_IN and name.lower() == wanted:
            yield str(ip_address(value))


def _read_name(reader: Reader, data: bytes) -> str:
    """Read a name, which may end in a pointer to an earlier one (RFC 1035 §4.1.4)."""
    labels: list[str] = []
    for _ in range(MAX_LABELS):
        size = reader.u8()
        if size == 0:
            return ".".join(labels)
        if size & 0xC0 == 0xC0:
            # What follows is elsewhere; the reader of the record stays behind the pointer.
            reader = Reader(data, (size & 0x3F) << 8 | reader.u8())
        elif size & 0xC0:
            raise ParseError("a label of unknown kind")
        else:
            labels.append(reader.take(size).decode("ascii", "replace"))
    raise ParseError("a name without an end")
