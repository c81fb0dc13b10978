"""Checks of settings that are numbers, before they are reckoned with."""

from __future__ import annotations

import sys

from stack.core.errors import LocalError


def check_number(name: str, value: object, least: float | None = None, most: float | None = None) -> None:
    """Raise `LocalError`, which names the setting, for what is no finite number or is out of its bounds."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= sys.float_info.max:
        raise LocalError(f"{name} is a finite number, not {value!r}")
    if least is not None and value < least:
        raise LocalError(f"{name} is {least:g} or more, not {value!r}")
    if most is not None and value > most:
        raise LocalError(f"{name} is {most:g} at most, not {value!r}")
