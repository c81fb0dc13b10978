"""`python -m interop` is the command line of `interop.cli`; what goes wrong while that loads is one line, too."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import NoReturn


def main() -> None:
    """Run the command line of this process, and end it."""
    try:
        _whole_command_line()()
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        sys.exit(130)


def _whole_command_line() -> Callable[[], NoReturn]:
    """Return `interop.cli.command_line`; end with one line in a Python that lacks what it needs."""
    try:
        from interop.cli import command_line
    except ModuleNotFoundError as error:
        if (error.name or "stack").partition(".")[0] in ("stack", "interop"):
            raise
        advice = "In a clone: `make interop RUN=quick`, or `make setup` and `.venv/bin/python -m interop`."
        print(f"Error: {sys.executable} has no module {error.name!r}. {advice}", file=sys.stderr)
        sys.exit(1)
    return command_line


if __name__ == "__main__":
    main()
