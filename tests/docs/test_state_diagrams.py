"""The page of state diagrams says what the tables say, and forgets none."""

from __future__ import annotations

import ast
from pathlib import Path

from tools.state_diagrams import PAGE, diagrams, draw, page

ROOT = Path(__file__).parents[2]


def test_the_page_is_fresh() -> None:
    assert PAGE.read_text("utf-8") == page(), "run `make diagrams`"


def tables() -> set[str]:
    """Return the files with a literal transition table at their top level."""
    found = set()
    for path in (ROOT / "stack").rglob("*.py"):
        for node in ast.parse(path.read_text("utf-8")).body:
            targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
            if any(isinstance(name, ast.Name) and name.id.endswith("TRANSITIONS") for name in targets):
                found.add(path.relative_to(ROOT).as_posix())
    return found


def test_every_table_is_drawn() -> None:
    assert {diagram.source for diagram in diagrams()} == tables()


def test_every_step_is_an_arrow_and_every_state_is_shown() -> None:
    for diagram in diagrams():
        drawn = draw(diagram)
        for before, label, after in diagram.steps:
            ends = f"    {before.name} --> {after.name}"
            (arrow,) = [line for line in drawn.splitlines() if line.split(":")[0] == ends]
            assert label in arrow
        for state in type(diagram.first):
            assert f" as {state.name}\n" in drawn


def test_labels_are_whole() -> None:
    """In mermaid's notation a semicolon, a hash or a second colon would cut a label off."""
    for diagram in diagrams():
        assert not any(mark in label for _, label, _ in diagram.steps for mark in ';:#"')
