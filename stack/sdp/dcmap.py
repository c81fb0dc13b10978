"""Data channels that are agreed on in the descriptions: `a=dcmap` (RFC 8864 §5.1).

    a=dcmap:0 label="events"
    a=dcmap:2 label="notes";subprotocol="json";ordered=false;max-retr=3

Both sides know such a channel before the first packet, so that it is open as soon as the association is up: no
DATA_CHANNEL_OPEN has to cross the network first. An offer names the channels, the answer repeats those that it
takes.

Left out: `a=dcsa`, the attributes of a subprotocol (§5.2), which no subprotocol of ours has; channels that a
further offer adds or takes away (§6.4): those of the first exchange stay.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import quote, unquote

from stack.core.errors import LocalError, ParseError
from stack.sdp.grammar import parse_number

MAX_CHANNEL_MAPS = 16
"""Channels that one description may agree on; what it names beyond them is not taken."""
MAX_CHANNEL_ID = 65_534
DEFAULT_PRIORITY = 256
"""RFC 8831 §6.4: below high, above low."""
_UINT32 = 0xFFFFFFFF
_OPTION = re.compile(r'\s*([a-z-]+)=("[^"]*"|[^";]*)\s*(?:;|$)')


@dataclass(frozen=True, slots=True)
class ChannelMap:
    """One channel: its stream's identifier, its label, and how its messages travel (lifetime in milliseconds)."""

    channel_id: int
    label: str = ""
    subprotocol: str = ""
    ordered: bool = True
    max_retransmits: int | None = None
    max_lifetime_ms: int | None = None
    priority: int = DEFAULT_PRIORITY

    def __post_init__(self) -> None:
        if not 0 <= self.channel_id <= MAX_CHANNEL_ID:
            raise LocalError(f"a channel is 0 to {MAX_CHANNEL_ID}, not {self.channel_id}")
        if self.max_retransmits is not None and self.max_lifetime_ms is not None:
            raise LocalError("either max_retransmits or max_lifetime_ms, not both")

    @classmethod
    def parse(cls, text: str) -> ChannelMap:
        """Read the value of `a=dcmap`; raises `ParseError`. Options of unknown names are passed over."""
        number, _, rest = text.strip().partition(" ")
        values: dict[str, str] = {}
        place = 0
        while place < len(rest):
            option = _OPTION.match(rest, place)
            if option is None:
                raise ParseError("a=dcmap is a channel and options")
            values.setdefault(option[1], option[2])
            place = option.end()
        known = {name: read(values[key]) for key, (name, read) in _OPTIONS.items() if key in values}
        if "max_retransmits" in known and "max_lifetime_ms" in known:  # RFC 8864 §5.1.1: one at most
            raise ParseError("a=dcmap has both max-retr and max-time")
        return cls(parse_number(number, "channel", MAX_CHANNEL_ID), **known)  # type: ignore[arg-type]

    def serialize(self) -> str:
        """Return the value of `a=dcmap`; what is as usual is not said."""
        options = [f'label="{quote(self.label)}"'] if self.label else []
        if self.subprotocol:
            options.append(f'subprotocol="{quote(self.subprotocol)}"')
        if not self.ordered:
            options.append("ordered=false")
        if self.max_retransmits is not None:
            options.append(f"max-retr={self.max_retransmits}")
        if self.max_lifetime_ms is not None:
            options.append(f"max-time={self.max_lifetime_ms}")
        if self.priority != DEFAULT_PRIORITY:
            options.append(f"priority={self.priority}")
        return " ".join(filter(None, (str(self.channel_id), ";".join(options))))


def acceptable(maps: Iterable[ChannelMap]) -> Sequence[ChannelMap]:
    """Return the channels that can be agreed on: each identifier once, and no more than the bound."""
    by_id: dict[int, ChannelMap] = {}
    for each in maps:
        by_id.setdefault(each.channel_id, each)
    return tuple(by_id.values())[:MAX_CHANNEL_MAPS]


def _quoted(text: str) -> str:
    if len(text) < 2 or text[0] != '"':
        raise ParseError("the text of an option of a=dcmap stands in quotes")
    try:
        return unquote(text[1:-1], errors="strict")
    except UnicodeDecodeError:
        raise ParseError("an option of a=dcmap is no UTF-8") from None


def _boolean(text: str) -> bool:
    if text not in ("true", "false"):
        raise ParseError("ordered is true or false")
    return text == "true"


def _number(text: str) -> int:
    return parse_number(text.strip(), "option", _UINT32)


def _priority(text: str) -> int:
    return parse_number(text.strip(), "priority", 0xFFFF)


_OPTIONS: Mapping[str, tuple[str, Callable[[str], object]]] = {
    "label": ("label", _quoted),
    "subprotocol": ("subprotocol", _quoted),
    "ordered": ("ordered", _boolean),
    "max-retr": ("max_retransmits", _number),
    "max-time": ("max_lifetime_ms", _number),
    "priority": ("priority", _priority),
}
