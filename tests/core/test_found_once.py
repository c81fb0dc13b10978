"""A property that is worked out once."""

from __future__ import annotations

from dataclasses import dataclass, replace

from stack.core.found_once import found_once


@dataclass(frozen=True)
class Line:
    text: str

    @found_once
    def length(self) -> int:
        """How long it is."""
        asked.append(self.text)
        return len(self.text)


asked: list[str] = []


def test_it_is_worked_out_at_the_first_look_and_for_each_object() -> None:
    asked.clear()
    one, other = Line("one"), Line("other")
    assert not asked
    assert (one.length, one.length, other.length) == (3, 3, 5)
    assert asked == ["one", "other"]
    assert replace(one, text="another").length == 7, "a copy has found nothing"
    assert one == Line("one"), "what was found is no part of the value"


def test_it_says_what_it_is() -> None:
    assert isinstance(Line.length, found_once)
    assert Line.length.__doc__ == "How long it is."
