"""Write `docs/state-diagrams.md` from the transition tables of the code: `python -m tools.state_diagrams`.

Each diagram is drawn from the table that the machine itself uses. Two forms of table exist: from a state and an
input to the states that may follow, and from a state to the states that may follow.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Any, NamedTuple

from stack.dtls import client12, client13, endpoint, server12, server13
from stack.dtls.messages import HandshakeType
from stack.ice.events import ICE_TRANSITIONS
from stack.ice.pair import PAIR_TRANSITIONS
from stack.sctp import state as association
from stack.voice import turns

PAGE = Path(__file__).parents[1] / "docs" / "state-diagrams.md"

_HEAD = """# State diagrams

Written by `make diagrams` from the transition tables of the code; a test compares the two. What a table does not
name changes nothing or ends the handshake, as the module says. Inputs that lead from one state to one other state
share an arrow.
"""


class Step(NamedTuple):
    """One arrow: from a state by an input to a state. Tables without inputs have no label."""

    before: Enum
    label: str
    after: Enum


class Diagram(NamedTuple):
    """A table and what the page says of it."""

    title: str
    source: str
    text: str
    first: Enum
    steps: Sequence[Step]


def name_of(state: Enum) -> str:
    """Return the state's name in words."""
    return state.name.lower().replace("_", " ")


def steps_to_sets(table: Mapping[Any, Any]) -> Iterator[Step]:
    """Read a table from a state to the set of those that can follow, in the order of the states."""
    for before, following in table.items():
        for after in type(before):
            if after in following:
                yield Step(before, "", after)


def steps_of_handshake(table: Mapping[Any, Any]) -> Iterator[Step]:
    """Read a table from a state and a handshake message to the states that may follow."""
    for (before, message), following in table.items():
        for after in following:
            yield Step(before, HandshakeType(message).name.lower(), after)


def steps_of_endpoint(table: Mapping[Any, Any]) -> Iterator[Step]:
    """Read a table from a state and an input to one state."""
    for (before, cause), after in table.items():
        yield Step(before, cause.value, after)


def steps_of_association(table: Mapping[Any, Any]) -> Iterator[Step]:
    """Read a table of rows: from a state, by an input, to one state."""
    for before, row in table.items():
        for cause, after in row.items():
            yield Step(before, cause.value, after)


def steps_of_turns(table: Mapping[Any, Any]) -> Iterator[Step]:
    """Read a table of rows: from a state, by an input, to one state and the actions on the way."""
    for before, row in table.items():
        for cause, (after, _) in row.items():
            yield Step(before, cause.value.replace("_", " "), after)


def diagrams() -> list[Diagram]:
    """Return every diagram of the page, in the order of the layers."""
    found = [
        _diagram(
            "ICE agent",
            "stack/ice/events.py",
            "The full agent and the lite agent have the same states (RFC 8445 §6.1.3).",
            steps_to_sets(ICE_TRANSITIONS),
        ),
        _diagram(
            "ICE candidate pair",
            "stack/ice/pair.py",
            "The states of RFC 8445 §6.1.2.6; the first pair of a foundation begins as waiting.",
            steps_to_sets(PAIR_TRANSITIONS),
        ),
        _diagram(
            "DTLS endpoint",
            "stack/dtls/endpoint.py",
            "In 1.3 a close_notify closes one direction and changes no state (RFC 8446 §6.1).",
            steps_of_endpoint(endpoint.TRANSITIONS),
        ),
    ]
    for module, title in (
        (client12, "DTLS 1.2 client handshake"),
        (server12, "DTLS 1.2 server handshake"),
        (client13, "DTLS 1.3 client handshake"),
        (server13, "DTLS 1.3 server handshake"),
    ):
        source = f"stack/dtls/{module.__name__.rsplit('.', 1)[-1]}.py"
        text = "A state is named after what is awaited, an arrow after the handshake message that was taken."
        table: Mapping[Any, Any] = module.TRANSITIONS
        found.append(_diagram(title, source, text, steps_of_handshake(table)))
    found.append(
        _diagram(
            "SCTP association",
            "stack/sctp/state.py",
            "RFC 9260 §4, figure 3, with the state `ended` instead of a return to `closed`.",
            steps_of_association(association.TRANSITIONS),
        )
    )
    found.append(
        _diagram(
            "Turns",
            "stack/voice/turns.py",
            "The actions that belong to each arrow are in the table and in [voice](voice.md).",
            steps_of_turns(turns.TRANSITIONS),
        )
    )
    return found


def _diagram(title: str, source: str, text: str, steps: Iterator[Step]) -> Diagram:
    taken = tuple(steps)
    return Diagram(title, source, text, next(iter(type(taken[0].before))), taken)


def draw(diagram: Diagram) -> str:
    """Return the diagram in mermaid's notation; arrows between the same two states are one."""
    arrows: dict[tuple[Enum, Enum], list[str]] = {}
    for step in diagram.steps:
        arrows.setdefault((step.before, step.after), []).append(step.label)
    leaving = {before for before, after in arrows if after is not before}
    states = [state for state in type(diagram.first) if any(state in ends for ends in arrows)]
    lines = ["stateDiagram-v2"]
    lines += [f'    state "{name_of(state)}" as {state.name}' for state in states]
    lines.append(f"    [*] --> {diagram.first.name}")
    for (before, after), labels in arrows.items():
        label = " / ".join(label for label in labels if label)
        lines.append(f"    {before.name} --> {after.name}" + (f": {label}" if label else ""))
    lines += [f"    {state.name} --> [*]" for state in states if state not in leaving]
    return "\n".join(lines)


def page() -> str:
    """Return the whole page."""
    parts = [_HEAD]
    for diagram in diagrams():
        parts.append(
            f"## {diagram.title}\n\n`{diagram.source}`. {diagram.text}\n\n```mermaid\n{draw(diagram)}\n```\n"
        )
    return "\n".join(parts)


def main() -> None:
    """Write the page."""
    PAGE.write_text(page(), "utf-8")
    sys.stdout.write(f"{PAGE.name}: {len(diagrams())} diagrams\n")


if __name__ == "__main__":
    main()
