"""How a command line of ours is loaded. It imports nothing: what it loads takes a moment, and may not be there."""

from __future__ import annotations

import sys
from types import ModuleType

OURS = ("stack", "interop")
"""Packages of this project: a module of theirs that is missing is our fault, and a traceback."""


def load(module: str, advice: str) -> ModuleType:
    """Import a module; in a Python that lacks what it needs, end the process with one line and `advice`."""
    from importlib import import_module

    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if (error.name or OURS[0]).partition(".")[0] in OURS:
            raise
        print(f"Error: {sys.executable} has no module {error.name!r}. {advice}", file=sys.stderr)
        sys.exit(1)
