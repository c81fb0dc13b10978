"""Sends connectivity checks that a server refuses, at a steady rate: `python -m bench._flooding HOST PORT …`.

One process, one socket, twenty checks a millisecond at 20,000 a second; it says in one line of JSON what it sent
and what came back.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import time

from stack.stun import (
    IceControlling,
    Message,
    MessageClass,
    Method,
    Priority,
    TransactionId,
    Username,
    short_term_key,
)

DIFFERENT = 64
"""Checks that are made beforehand and sent in turn."""
TICK = 0.001


def checks(username: str) -> list[bytes]:
    """Return checks as a browser would send them, signed with a password that is no call's."""
    key = short_term_key("a password that is no call's")
    return [
        Message(
            MessageClass.REQUEST,
            Method.BINDING,
            TransactionId(os.urandom(12)),
            (Username(username), IceControlling(7), Priority(0x6E7F1EFF)),
        ).sign(key)
        for _ in range(DIFFERENT)
    ]


def flood(host: str, port: int, username: str, rate: float, seconds: float) -> dict[str, float]:
    """Send, and return the numbers and bytes of what went and of what came back."""
    sent = sent_bytes = back = back_bytes = refused_by_kernel = 0
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 24)
        sock.setblocking(False)
        sock.connect((host, port))
        ready = checks(username)
        began = time.monotonic()
        while (elapsed := time.monotonic() - began) < seconds:
            for _ in range(int(elapsed * rate) - sent):
                data = ready[sent % DIFFERENT]
                sent += 1
                try:
                    sock.send(data)
                    sent_bytes += len(data)
                except OSError:
                    refused_by_kernel += 1
            back, back_bytes = _drain(sock, back, back_bytes)
            time.sleep(TICK)
        took = time.monotonic() - began
        time.sleep(0.5)
        back, back_bytes = _drain(sock, back, back_bytes)
    return {
        "sent": sent - refused_by_kernel,
        "sent_bytes": sent_bytes,
        "back": back,
        "back_bytes": back_bytes,
        "rate": sent / took,
    }


def _drain(sock: socket.socket, number: int, size: int) -> tuple[int, int]:
    while True:
        try:
            data = sock.recv(2048)
        except OSError:
            return number, size
        number += 1
        size += len(data)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("host")
    parser.add_argument("port", type=int)
    parser.add_argument("username")
    parser.add_argument("rate", type=float)
    parser.add_argument("seconds", type=float)
    chosen = parser.parse_args()
    print(json.dumps(flood(chosen.host, chosen.port, chosen.username, chosen.rate, chosen.seconds)))
