"""What a scenario changes in a description on its way: functions from text to text.

An offer that is changed is as good as one that a client made so, as long as the client can live with the answer:
parameters of a format, the order of formats, attributes of a section, a section more, of which the client never
hears. It works on the lines of any stack's description.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

Lines = list[str]


def _text(lines: Sequence[str]) -> str:
    return "\r\n".join(lines) + "\r\n"


def _blocks(sdp: str) -> list[Lines]:
    """The lines of the session, and those of each section."""
    blocks: list[Lines] = [[]]
    for line in sdp.splitlines():
        if line.startswith("m="):
            blocks.append([])
        blocks[-1].append(line)
    return blocks


def _joined(blocks: Sequence[Lines]) -> str:
    return _text([line for block in blocks for line in block])


def _change_audio(sdp: str, change: Callable[[Lines], Lines]) -> str:
    blocks = _blocks(sdp)
    return _joined([change(block) if block[0].startswith("m=audio ") else block for block in blocks if block])


def payload_types(sdp: str, encoding: str) -> list[str]:
    """The payload types of an encoding, as `opus/48000`, in the order of the lines."""
    pattern = re.compile(rf"a=rtpmap:(\d+) {re.escape(encoding)}\b", re.IGNORECASE)
    return [match[1] for line in sdp.splitlines() if (match := pattern.match(line))]


def with_opus_parameters(**parameters: int) -> Callable[[str], str]:
    """Say these parameters of Opus (RFC 7587 §6.1)."""

    def change(lines: Lines) -> Lines:
        numbers = payload_types(_text(lines), "opus/48000")
        made: Lines = []
        for line in lines:
            match = re.match(r"a=fmtp:(\d+) (.*)", line)
            if match and match[1] in numbers:
                continue
            made.append(line)
            mapped = re.match(r"a=rtpmap:(\d+) opus/48000", line, re.IGNORECASE)
            if mapped:
                former = next((each for each in lines if each.startswith(f"a=fmtp:{mapped[1]} ")), "").split(
                    " ", 1
                )
                kept = [each for each in (former[1:] or [""])[0].split(";") if each]
                kept = [each for each in kept if each.split("=")[0].strip() not in parameters]
                said = [*kept, *(f"{name}={value}" for name, value in parameters.items())]
                made.append(f"a=fmtp:{mapped[1]} {';'.join(said)}")
        return made

    return lambda sdp: _change_audio(sdp, change)


def with_ptime(milliseconds: int) -> Callable[[str], str]:
    """Ask for packets of this length (RFC 8866 §6.4)."""

    def change(lines: Lines) -> Lines:
        kept = [line for line in lines if not line.startswith(("a=ptime:", "a=maxptime:"))]
        return [*kept, f"a=ptime:{milliseconds}", f"a=maxptime:{max(milliseconds, 20)}"]

    return lambda sdp: _change_audio(sdp, change)


def red_first(sdp: str) -> str:
    """Prefer redundancy (RFC 2198) around Opus: a sender takes the first format of its peer's description."""

    def change(lines: Lines) -> Lines:
        red = payload_types(_text(lines), "red/48000")
        kind, port, protocol, *formats = lines[0].split()
        ordered = [*(each for each in formats if each in red), *(each for each in formats if each not in red)]
        return [" ".join((kind, port, protocol, *ordered)), *lines[1:]]

    return _change_audio(sdp, change)


def only_codec(encoding: str) -> Callable[[str], str]:
    """Offer one codec alone, as `PCMU`; telephone events stay."""

    def change(lines: Lines) -> Lines:
        text = _text(lines)
        kept = [*payload_types(text, f"{encoding}/8000"), *payload_types(text, f"{encoding}/48000")]
        static = {"PCMU": "0", "PCMA": "8"}.get(encoding.upper())
        kind, port, protocol, *formats = lines[0].split()
        kept = [each for each in formats if each in kept or each == static]
        of_format = re.compile(r"a=(?:rtpmap|fmtp|rtcp-fb):(\d+) ")
        rest = [line for line in lines[1:] if not (m := of_format.match(line)) or m[1] in kept]
        return [" ".join((kind, port, protocol, *kept)), *rest]

    return lambda sdp: _change_audio(sdp, change)


VIDEO = (
    "m=video {port} UDP/TLS/RTP/SAVPF 96",
    "c={address}",
    "a=mid:{mid}",
    "a=sendrecv",
    "a=rtcp-mux",
    "a=rtpmap:96 VP8/90000",
)
_TRANSPORT = ("a=ice-ufrag:", "a=ice-pwd:", "a=fingerprint:", "a=setup:", "a=candidate:", "a=ice-options:")


def with_section(sdp: str, kind: str) -> str:
    """Offer a section more at the end, in the bundle: `video`, or `audio` like the first one (RFC 8843 §7.2)."""
    whole, *sections = _blocks(sdp)
    mid = "further"
    first = next(lines for lines in sections if lines[0].startswith("m=audio "))
    transport = [line for line in first if line.startswith(_TRANSPORT)]
    if kind == "audio":
        left_out = ("a=mid:", "a=ssrc", "a=msid:")
        made = [first[0], f"a=mid:{mid}", *(line for line in first[1:] if not line.startswith(left_out))]
        connection = [line for line in made if line.startswith("c=")]
        made = [made[0], *connection, *(line for line in made[1:] if not line.startswith("c="))]
    else:
        address = next((line[2:] for line in first if line.startswith("c=")), "IN IP4 0.0.0.0")
        given = {"port": first[0].split()[1], "address": address, "mid": mid}
        made = [*(line.format(**given) for line in VIDEO), *transport]
    grouped = [f"{line} {mid}" if line.startswith("a=group:BUNDLE") else line for line in whole]
    return _joined([grouped, *sections, made])


def without_last_section(answer: str) -> str:
    """Take the last section out of an answer: the client never offered it."""
    whole, *sections = _blocks(answer)
    mid = next((line[6:] for line in sections[-1] if line.startswith("a=mid:")), None)
    grouped = []
    for line in whole:
        if line.startswith("a=group:BUNDLE"):
            line = " ".join(each for each in line.split(" ") if each != mid)
        grouped.append(line)
    return _joined([grouped, *sections[:-1]])


def bundle_only(sdp: str) -> str:
    """Offer every section but the first at port 0 with a=bundle-only (RFC 8843 §7.2.1), as max-bundle does."""
    whole, *sections = _blocks(sdp)
    made = sections[:1]
    for lines in sections[1:]:
        kind, _, rest = lines[0].split(" ", 2)
        kept = [line for line in lines[1:] if not line.startswith(_TRANSPORT)]
        made.append([f"{kind} 0 {rest}", *kept, "a=bundle-only"])
    return _joined([whole, *made])


def candidate_lines(sdp: str) -> list[str]:
    """The candidates of the first section, each a line without `a=`."""
    _, *sections = _blocks(sdp)
    return [line[2:] for line in (sections[0] if sections else []) if line.startswith("a=candidate:")]


def first_value(sdp: str, name: str) -> str:
    """The value of the first attribute of this name; empty if there is none."""
    return next((line[len(name) + 3 :] for line in sdp.splitlines() if line.startswith(f"a={name}:")), "")


def max_message_size(sdp: str) -> int:
    """The longest message that a side takes, in bytes (RFC 8841 §6): 64 kB where it says nothing; 0: any."""
    return int(first_value(sdp, "max-message-size") or 65_536)
