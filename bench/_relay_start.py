"""How long a relay is away that was killed: from its start, or its death, to the first datagram that it forwards.

One flow goes through it, a datagram every two milliseconds. The node is a socket of ours, which answers the one
check that makes the flow as a node does.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median

from bench._load import ROOT, Absent
from interop.servers import free_port

EVERY = 0.002
STEADY = 1.1
"""Seconds between two deaths: a supervisor of processes that die sooner waits."""
PATIENCE = 20.0
_USERNAME = b"0n1+" + b"0" * 12 + b":abc"
"""Of a multiple of four bytes: without padding."""
_CHECK = struct.pack("!HHI12sHH", 1, 4 + len(_USERNAME), 0x2112A442, b"x" * 12, 6, len(_USERNAME)) + _USERNAME


class Flow:
    """A client and a node, and a relay between them."""

    def __init__(self, folder: Path) -> None:
        self.arrived: list[float] = []
        self.sent = 0
        self._node = socket.socket(type=socket.SOCK_DGRAM)
        self._node.bind(("127.0.0.1", 0))
        self._node.settimeout(0.1)
        self._client = socket.socket(type=socket.SOCK_DGRAM)
        port = free_port(socket.SOCK_DGRAM)
        self._client.connect(("127.0.0.1", port))
        self._command = [
            sys.executable, "-m", "stack", "relay", "--node", f"n1=127.0.0.1:{self._node.getsockname()[1]}",
            "--host", "127.0.0.1", "--inner", "127.0.0.1", "--udp-port", str(port), "--port", "0",
            "--flows", str(folder / "flows"),
        ]  # fmt: skip
        self._ending = threading.Event()
        self.relay = self.start()

    def start(self) -> subprocess.Popen[bytes]:
        """Start the relay."""
        return subprocess.Popen(
            self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=ROOT, start_new_session=True
        )

    def open(self) -> None:
        """Make the flow, and begin to send."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError):  # it may not listen yet
                self._client.send(_CHECK)
                data, relay = self._node.recvfrom(2048)
                self._node.sendto(b"\x01\x01" + data[2:20], relay)
                break
        else:
            raise Absent("the relay did not come up")
        for work in (self._send, self._receive):
            threading.Thread(target=work, daemon=True).start()
        time.sleep(STEADY)

    def _send(self) -> None:
        while not self._ending.is_set():
            with contextlib.suppress(OSError):
                self._client.send(b"\x80" + bytes(160))
            self.sent += 1
            time.sleep(EVERY)

    def _receive(self) -> None:
        while not self._ending.is_set():
            with contextlib.suppress(OSError):
                if self._node.recv(2048)[0] == 0x80:
                    self.arrived.append(time.monotonic())

    def first_after(self, instant: float) -> float:
        """Return the seconds from an instant to the first datagram that arrives after it."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            place = bisect_right(self.arrived, instant)
            if place < len(self.arrived):
                return self.arrived[place] - instant
            time.sleep(EVERY)
        raise Absent("the relay forwards nothing")

    def longest_pause(self, since: float) -> float:
        """Return the longest time without a datagram that ended after an instant."""
        times = self.arrived[max(0, bisect_right(self.arrived, since) - 1) :]
        return max(after - before for before, after in pairwise(times))

    def close(self) -> None:
        """End it all."""
        self._ending.set()
        self.relay.terminate()
        self.relay.wait()
        self._node.close()
        self._client.close()


@dataclass(frozen=True, slots=True)
class Restarts:
    """What several deaths in turn have cost: seconds of each, and datagrams lost by all of them."""

    seconds: Sequence[float]
    lost: int

    @property
    def median_ms(self) -> float:
        """The median, in milliseconds."""
        return median(self.seconds) * 1e3


def forwarding_process_killed(flow: Flow, times: int) -> Restarts:
    """Kill the child that forwards; the time is the longest pause."""
    seconds, sent, arrived = [], flow.sent, len(flow.arrived)
    for _ in range(times):
        pid = flow.relay.pid
        child = int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])
        at = time.monotonic()
        os.kill(child, signal.SIGKILL)
        time.sleep(STEADY)
        seconds.append(flow.longest_pause(at))
    return Restarts(seconds, flow.sent - sent - (len(flow.arrived) - arrived))


def relay_killed(flow: Flow, times: int) -> Restarts:
    """Kill all of the relay, and start it again at once; the time is from its start to the first datagram."""
    seconds, sent, arrived = [], flow.sent, len(flow.arrived)
    for _ in range(times):
        flow.relay.kill()
        flow.relay.wait()
        time.sleep(0.01)  # what was on its way has arrived
        at = time.monotonic()
        flow.relay = flow.start()
        seconds.append(flow.first_after(at))
        time.sleep(0.3)
    return Restarts(seconds, flow.sent - sent - (len(flow.arrived) - arrived))


def measure(times: int) -> tuple[Restarts, Restarts]:
    """Return what the death of the process that forwards costs, and that of the whole relay."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        flow = Flow(Path(folder))
        try:
            flow.open()
            return forwarding_process_killed(flow, times), relay_killed(flow, times)
        finally:
            flow.close()
