"""`python -m stack` is the command line of `stack.cli`; `relay` is found without loading that.

A relay that is started again is heard as silence while it starts, so it imports nothing that it does not need.
"""

from __future__ import annotations

import sys

from stack.entrance import load

ADVICE = "In a clone: `make serve` once, then `. .venv/bin/activate`. Elsewhere: `pip install voice-stack`."
"""What to do in a Python that has the code, and nothing of what it needs."""


def main() -> None:
    """Run the command line of this process, and end it."""
    try:
        if sys.argv[1:2] == ["relay"]:
            from stack.relay.start import start

            start(sys.argv[2:])
            from stack.cli_run import PROGRAM, run
            from stack.relay.command import relay

            run(relay, f"{PROGRAM} relay", sys.argv[2:])
        load("stack.cli", ADVICE).main()
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
