"""`/metrics`, `/livez` and `/readyz` of a relay: a responder of three paths in the loop that forwards.

So `/livez` answers while that loop turns. A whole HTTP server would cost the start 50 ms. One request for each
connection (RFC 9112), at most `MAX_CONNECTIONS` at once; the answer fits into the socket's buffer.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping
from contextlib import suppress
from typing import NamedTuple

from stack.core.counters import declared_counters
from stack.core.machine import Address

MAX_CONNECTIONS = 32
"""Connections at once; the oldest makes room."""
MAX_REQUEST = 8192
"""Bytes of a request's head."""
PATIENCE = 5.0
"""Seconds that a client has to send it."""
_REASONS = {200: "OK", 400: "Bad Request", 404: "Not Found", 405: "Method Not Allowed", 503: "Service Unavailable"}


class RelayStatus(NamedTuple):
    """What is told."""

    region: str
    flows: int
    unproven: int
    max_flows: int
    nodes: int
    draining: bool
    counters: Mapping[str, int]


def respond(head: bytes, status: RelayStatus) -> bytes:
    """Return the response to the head of a request, whatever it is."""
    method, _, rest = head.partition(b" ")
    path = rest.partition(b" ")[0].partition(b"?")[0]
    if method not in (b"GET", b"HEAD"):
        code, body = (405, "only GET\n") if rest else (400, "no request\n")
    elif path == b"/livez":
        code, body = 200, "alive\n"
    elif path == b"/readyz":
        state = "draining" if status.draining else "ready" if status.nodes else "no nodes"
        code = 200 if state == "ready" else 503
        body = f'{{"status": "{state}", "nodes": "{status.nodes}"}}\n'
    elif path == b"/metrics":
        code, body = 200, render(status)
    else:
        code, body = 404, "/metrics, /livez, /readyz\n"
    kind = "application/json" if path == b"/readyz" else "text/plain; version=0.0.4; charset=utf-8"
    sent = body.encode()
    lines = (
        f"HTTP/1.1 {code} {_REASONS[code]}",
        f"Content-Type: {kind}",
        f"Content-Length: {len(sent)}",
        "Connection: close",
    )
    return "\r\n".join((*lines, "", "")).encode() + (b"" if method == b"HEAD" else sent)


def render(status: RelayStatus) -> str:
    """Return what Prometheus reads (its text format 0.0.4)."""
    label = f'{{region="{status.region}"}}'
    gauges = {
        "voice_relay_flows": ("Flows that a node has confirmed.", status.flows),
        "voice_relay_flows_unproven": ("Flows that no node has confirmed yet.", status.unproven),
        "voice_relay_flows_share": (
            "Flows, as a share of those that there can be.",
            status.flows / status.max_flows,
        ),
        "voice_relay_nodes": ("Nodes that are known.", status.nodes),
    }
    lines: list[str] = []
    for name, (text, value) in gauges.items():
        lines += [f"# HELP {name} {text}", f"# TYPE {name} gauge", f"{name}{label} {value}"]
    lines += ["# HELP voice_counters_total What was dropped or seen: docs/counters.md.",
              "# TYPE voice_counters_total counter"]  # fmt: skip
    for each in declared_counters().values():
        if each.owner == "relay":
            short = each.name.partition(".")[2]
            amount = status.counters.get(each.name, 0)
            lines.append(f'voice_counters_total{{owner="relay",name="{short}"}} {amount}')
    return "\n".join(lines) + "\n"


class StatusListener:
    """The listening socket. Raises `OSError` if it cannot be bound."""

    def __init__(self, host: str, port: int) -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.socket = socket.socket(family, socket.SOCK_STREAM)
        try:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self.socket.bind((host, port))
            self.socket.listen(MAX_CONNECTIONS)
        except OSError:
            self.socket.close()
            raise
        self.socket.setblocking(False)
        self.address = Address(*self.socket.getsockname()[:2])

    def accept(self, now: float) -> StatusConnection | None:
        """Return the next connection, if there is one."""
        with suppress(OSError):
            made, _ = self.socket.accept()
            made.setblocking(False)
            return StatusConnection(made, now + PATIENCE)
        return None


class StatusConnection:
    """One connection."""

    def __init__(self, made: socket.socket, deadline: float) -> None:
        self.socket = made
        self.deadline = deadline
        self._head = bytearray()

    def receive(self, status: RelayStatus) -> bool:
        """Read what came, and answer a whole head; True when the connection is over."""
        try:
            data = self.socket.recv(MAX_REQUEST)
            self._head += data
            if data and b"\r\n\r\n" not in self._head and len(self._head) < MAX_REQUEST:
                return False
            if self._head:
                self.socket.send(respond(bytes(self._head), status))
        except (BlockingIOError, InterruptedError):
            return False
        except OSError:
            pass
        return True
