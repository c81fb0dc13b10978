"""Command lines that are read by `argparse`, and say in one line what is wrong."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from typing import NoReturn, TypeVar

Value = TypeVar("Value")


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


def seconds(text: str) -> float:
    """Read a time above 0; raises `ValueError` for another text."""
    time = float(text)
    if not (math.isfinite(time) and time > 0):
        raise ValueError(text)
    return time
