"""Leading a client to a relay: the candidates of a session description exchanged for another address.

Works on the lines of any stack's description, so that servers of others can be put behind the relay as well.
"""

from __future__ import annotations

Endpoint = tuple[str, int]


def candidate_address(description: str) -> Endpoint:
    """Return the address of the first UDP candidate of a description; raises `ValueError` if it has none."""
    for line in description.splitlines():
        fields = _udp_candidate(line)
        if fields is not None:
            return fields[4], int(fields[5])
    raise ValueError("the description has no UDP candidate")


def rewrite_candidates(answer: str, relay: Endpoint) -> str:
    """Return an answer whose only candidate in each section is the relay.

    The first UDP candidate of a section keeps its place with the address changed; the others go, so that no
    packet finds a way around. The addresses of m= and c= lines are changed as well, but not in declined sections
    (port 0).
    """
    candidate_address(answer)
    host, port = relay
    family = "IP6" if ":" in host else "IP4"
    lines: list[str] = []
    is_first = is_declined = False
    for line in answer.splitlines():
        fields = _udp_candidate(line)
        if line.startswith("m=") and line.count(" ") >= 2:
            kind, old_port, rest = line.split(" ", 2)
            is_first, is_declined = True, old_port == "0"
            line = f"{kind} {0 if is_declined else port} {rest}"
        elif line.startswith("c=") and not is_declined:
            line = f"c=IN {family} {host}"
        elif line.startswith("a=candidate:"):
            if fields is None or not is_first:
                continue
            is_first = False
            line = " ".join([*fields[:4], host, str(port), *fields[6:]])
        lines.append(line)
    return "\r\n".join(lines) + "\r\n"


def without_candidates(description: str) -> str:
    """Return a description (an offer) without candidates: a full ICE agent then waits for the relay's checks.

    It does not say that there are no more: an agent that has none can be refused at once.
    """
    left_out = ("a=candidate:", "a=end-of-candidates")
    kept = (line for line in description.splitlines() if not line.startswith(left_out))
    return "\r\n".join(kept) + "\r\n"


def is_port(field: str) -> bool:
    """Whether a field of a candidate is the number of a port."""
    return field.isascii() and field.isdigit() and int(field) <= 65_535


def _udp_candidate(line: str) -> list[str] | None:
    """Return the fields of an `a=candidate` line of component 1 over UDP; None for any other line."""
    fields = line.split()
    is_candidate = line.startswith("a=candidate:") and len(fields) >= 8 and is_port(fields[5])
    return fields if is_candidate and fields[1] == "1" and fields[2].lower() == "udp" else None
