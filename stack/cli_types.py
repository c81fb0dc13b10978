"""What kinds of values the options of commands have: each refuses another one, and shows the right form.

`click`'s own say of "x" that it is "not a valid integer range", take nan for a number between two others, and an
empty text for a file. It imports little, because a relay starts fast.
"""

from __future__ import annotations

import math
from typing import Any

import click


def _between(kind: str, least: float | None, most: float | None) -> str:
    if least is not None and most is not None:
        return f"{kind} from {least:g} to {most:.15g}"
    return f"{kind}, {least:g} or more" if least is not None else kind


class WholeRange(click.IntRange):
    """Whole numbers between two."""

    name = "integer"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            return super().convert(value, param, ctx)
        except click.BadParameter:
            self.fail(f"{value!s:.40} is not {_between('a whole number', self.min, self.max)}", param, ctx)


class FiniteRange(click.FloatRange):
    """Numbers between two: `nan` and `inf` are read as floats, and are none."""

    name = "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            number = super().convert(value, param, ctx)
        except click.BadParameter:
            number = math.nan
        if not math.isfinite(number):
            self.fail(f"{value!s:.40} is not {_between('a finite number', self.min, self.max)}", param, ctx)
        return number


class Place(click.Path):
    """The path of a file, or of a folder where no file may be: an empty text is neither."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == "":
            self.fail(f"'' is no {'file' if self.file_okay else 'folder'}: name one, or leave it out", param, ctx)
        return super().convert(value, param, ctx)


FILE = Place(dir_okay=False)
FOLDER = Place(file_okay=False)
