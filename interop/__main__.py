"""`python -m interop` is the command line of `interop.cli`; what goes wrong while that loads is one line, too."""

from __future__ import annotations

import sys

from stack.entrance import load

ADVICE = "In a clone: `make interop RUN=quick`, or `make setup` and `.venv/bin/python -m interop`."
"""What to do in a Python that has the code, and nothing of what it needs."""


def main() -> None:
    """Run the command line of this process, and end it."""
    try:
        load("interop.cli", ADVICE).command_line()
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
