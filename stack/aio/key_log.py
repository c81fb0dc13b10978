"""The DTLS secrets of calls in a file, in the format of SSLKEYLOGFILE, so that Wireshark can read a capture.

The lines are those of RFC 9850: five for DTLS 1.3, `CLIENT_RANDOM` for 1.2. With the file every call in it can be
read: it is made readable for its owner alone, and there is none unless it is asked for.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from stack.aio.private_files import for_owner_alone
from stack.core.errors import LocalError
from stack.dtls import KeyLog


@contextmanager
def key_log_file(path: str) -> Iterator[KeyLog]:
    """Context: a function that appends a line to the file, at once; `LocalError` if it cannot be written."""
    try:
        number = for_owner_alone(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    except OSError as error:
        raise LocalError(f"cannot write {path}: {error.strerror}") from error
    with open(number, "a", encoding="ascii", buffering=1) as file:

        def write(line: str) -> None:
            with suppress(OSError, ValueError):  # a full disk, or a handshake after the end, costs a line, no call
                file.write(f"{line}\n")

        yield write
