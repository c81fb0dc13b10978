"""Command lines that are read by `argparse`, and say in one line what is wrong."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from typing import NoReturn, TypeVar

Value = TypeVar("Value")
_DIGITS = 20


class OneLineParser(argparse.ArgumentParser):
    """A parser whose errors are one line on stderr and exit code 2, without the list of all options."""

    def error(self, message: str) -> NoReturn:
        """Exit with the code 2."""
        self.exit(2, f"{self.prog.removeprefix('python -m ')}: {message} (--help lists the options)\n")


def written_as(form: str, read: Callable[[str], Value]) -> Callable[[str], Value]:
    """Return a type of values: `read`, whose `ValueError` shows the right form."""

    def value(text: str) -> Value:
        try:
            return read(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not {form}") from None

    return value


def whole(least: int, most: int) -> Callable[[str], int]:
    """Return a type of values: whole numbers between the two."""

    def value(text: str) -> int:
        # So long a text is no number that counts anything, and `int` refuses it at some length.
        if not text.isdecimal() or len(text) > _DIGITS or not least <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"{text!r} is no whole number from {least} to {most}")
        return int(text)

    return value


def seconds(text: str) -> float:
    """Read a time above 0; raises `ValueError` for another text."""
    time = float(text)
    if not (math.isfinite(time) and time > 0):
        raise ValueError(text)
    return time
