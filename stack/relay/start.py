"""Starts a relay with as little as possible between its command line and its first datagram."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from stack.core.errors import StackError
from stack.relay.options import OptionError, configure, read
from stack.relay.supervisor import run_relay


def start(arguments: Sequence[str]) -> None:
    """Run a relay and end the process; returns where the whole command has to say what is wrong, or to help."""
    options = read(arguments, os.environ)
    if options is None:
        return
    try:
        run_relay(*configure(options))
    except OptionError:
        return
    except StackError as error:
        print(f"Error: {error}", file=sys.stderr)
        sys.exit(1)
    sys.exit(0)
