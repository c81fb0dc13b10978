"""The runner's end of the wire: datagrams and commands over a TCP connection, and a clock that it turns.

```
P u32 datagram   either way
T u64 ns         time passes: answer t first, then look at the timers
E u64 ns         our next timer must be due so many nanoseconds from now; 2^64-1: there is none
M u32            a new MTU
U u32 ms         a new initial timeout
```

The clock counts nanoseconds, as the runner does, and stands still unless it is told; deadlines are compared to
the microsecond.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence

from stack.dtls import DtlsEndpoint, DtlsEvent

_NEVER = (1 << 64) - 1


class WireError(Exception):
    """The runner wants what is not so, or went away."""


class Wire:
    """One connection to the runner, and the endpoint behind it."""

    def __init__(self, port: int, shim_id: int, ipv6: bool, endpoint: DtlsEndpoint) -> None:
        self._socket = socket.create_connection(("::1" if ipv6 else "127.0.0.1", port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._file = self._socket.makefile("rb")
        self._socket.sendall(shim_id.to_bytes(8, "little"))
        self._endpoint = endpoint
        self._nanoseconds = 0
        self.is_open = True

    @property
    def now(self) -> float:
        """The virtual instant."""
        return self._nanoseconds / 1e9

    def flush(self) -> Sequence[DtlsEvent]:
        """Send what the endpoint has to send; return what happened in it."""
        for datagram in self._endpoint.drain_transmits():
            self._socket.sendall(b"P" + len(datagram).to_bytes(4, "big") + datagram)
        return self._endpoint.drain_events()

    def step(self) -> Sequence[DtlsEvent]:
        """Take one datagram or command; `is_open` is False when there are no more."""
        opcode = self._file.read(1)
        if opcode == b"P":
            self._endpoint.handle_datagram(self._take(self._number(4)), self.now)
        elif opcode == b"T":
            elapsed = self._number(8)
            self._socket.sendall(b"t")
            self._nanoseconds += elapsed
            while (due := self._endpoint.poll_timeout()) is not None and self._until(due) <= 0:
                # A deadline is a sum of floats: within the microsecond it is now, and never before it.
                self._endpoint.handle_timeout(max(self.now, due))
        elif opcode == b"E":
            self._expect_timeout(self._number(8))
        elif opcode == b"M":
            self._endpoint.set_mtu(self._number(4))
        elif opcode == b"U":
            self._endpoint.set_initial_timeout(self._number(4) / 1000)
        elif not opcode:
            self.is_open = False
        else:
            raise WireError(f"unknown opcode {opcode!r}")
        return self.flush()

    def _until(self, due: float) -> int:
        """Microseconds from now."""
        return round((due - self.now) * 1e6)

    def _expect_timeout(self, nanoseconds: int) -> None:
        wanted = None if nanoseconds == _NEVER else nanoseconds // 1000
        due = self._endpoint.poll_timeout()
        # A deadline that has passed is due now.
        got = None if due is None else max(0, self._until(due))
        if got != wanted:
            raise WireError(f"the next timeout is due in {got} us, not in {wanted} us")

    def _take(self, size: int) -> bytes:
        data = self._file.read(size)
        if len(data) != size:
            raise WireError("truncated")
        return data

    def _number(self, size: int) -> int:
        return int.from_bytes(self._take(size), "big")

    def finish(self) -> None:
        """Half-close, and read until the runner has closed too: it must not meet a reset."""
        self._socket.shutdown(socket.SHUT_WR)
        while self._file.read(4096):
            pass
        self._file.close()
        self._socket.close()
