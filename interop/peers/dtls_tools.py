"""DTLS of other stacks in place of ours: a tunnel around a program that speaks it over UDP on loopback.

The programs are those of `interop.dtls_udp`: they shake hands and print the exported keys (RFC 5764 §4.2). What
they do not say is left out: which certificate the peer showed is compared by the other end alone.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from interop import dtls_udp
from interop.servers import free_port
from stack import dtls
from stack.core.counters import Counters
from stack.core.machine import Entropy, Instant

PROFILE = dtls.SrtpProfile.AES128_CM_HMAC_SHA1_80
"""The one that all of them have (RFC 8827 §6.5)."""
MTU = 1_200
POLL = 0.005
"""Seconds between two looks at the program's socket."""
FAREWELL = 1.0
"""Seconds that a program has to say close_notify."""
READY = b"ready"
KEYS = re.compile(rb"(?i)\bkey(?:ing)? material: *([0-9A-Fa-f]{%d})" % (2 * dtls_udp.EXPORT_LENGTH))

Command = Callable[..., list[str]]
TOOLS: dict[str, tuple[Command, Command | None]] = {
    "openssl": (dtls_udp.small_program("openssl"), None),
    "gnutls": (dtls_udp.small_program("gnutls"), None),
    "mbedtls": (dtls_udp.small_program("mbedtls"), None),
    "wolfssl": (dtls_udp.wolfssl("1.2"), dtls_udp.wolfssl("hybrid")),
    "nss": (dtls_udp.small_program("nss"), None),
}
"""What makes the command lines: of DTLS 1.2, and of 1.3 where it is spoken."""


class ToolEndpoint:
    """One side of a DTLS connection that a program speaks; the face of `DtlsEndpoint`, as a session uses it."""

    tool = ""

    def __init__(self, role: dtls.DtlsRole, config: dtls.DtlsConfig, _entropy: Entropy) -> None:
        self.role = role
        self.counters = Counters()
        self.protected_records = 0
        speaks_12, speaks_13 = TOOLS[self.tool]
        is_13 = speaks_13 is not None and config.max_version is dtls.Version.DTLS_1_3
        self._command = speaks_13 if is_13 and speaks_13 is not None else speaks_12
        self.version = dtls.Version.DTLS_1_3 if is_13 else dtls.Version.DTLS_1_2
        # A tool does not name them; a session wants to report something.
        self.cipher_suite = (
            dtls.CipherSuite.TLS_AES_128_GCM_SHA256
            if is_13
            else dtls.CipherSuite.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
        )
        self.group = dtls.NamedGroup.X25519
        self.srtp_profile = PROFILE
        self._folder = tempfile.TemporaryDirectory()
        self._pem = dtls_udp.write_pem(config.certificate, Path(self._folder.name))
        self._events: list[dtls.DtlsEvent] = []
        self._transmits: list[bytes] = []
        self._early: list[bytes] = []
        self._said = b""
        self._keys: bytes | None = None
        self._is_over = False
        self._now: Instant = 0.0
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self._socket.setblocking(False)
        self._tool: subprocess.Popen[bytes] | None = None
        self._address: tuple[str, int] | None = None
        if role is dtls.DtlsRole.SERVER:
            self._address = ("127.0.0.1", free_port(socket.SOCK_DGRAM))
            self._run(self._address[1])

    def _run(self, port: int) -> None:
        argv = self._command(self.role, port, self._pem, PROFILE, MTU)
        self._tool = subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        assert self._tool.stdout is not None
        os.set_blocking(self._tool.stdout.fileno(), False)

    # -- what a session asks of an endpoint ----------------------------------------------------------------

    def start(self, now: Instant) -> None:
        """Begin; a client's program begins when there is a path (`restart_timer`): it sends at once."""
        self._now = now

    def restart_timer(self, now: Instant) -> None:
        """There is a path."""
        self._now = now
        if self.role is dtls.DtlsRole.CLIENT and self._tool is None:
            self._run(self._socket.getsockname()[1])

    @property
    def state(self) -> dtls.DtlsEndpointState:
        """Begun from the start: the program decides when it says what."""
        return dtls.DtlsEndpointState.HANDSHAKE

    def set_initial_timeout(self, _seconds: float) -> None:
        """The program has timers of its own."""

    def set_mtu(self, _size: int) -> None:
        """The program was told a size."""

    def send_again(self, _now: Instant) -> None:
        """The program has timers of its own."""

    @property
    def is_flight_acknowledged(self) -> bool:
        """The program alone knows; nothing of it travels in checks."""
        return True

    @property
    def can_send(self) -> bool:
        """Whether there are keys."""
        return self._keys is not None

    def send(self, _data: bytes, _now: Instant) -> None:
        """Refuse: a command line tool does not keep the bounds of messages."""
        raise AssertionError("a call over a tool's DTLS has no data")

    def export_keying_material(self, _label: str, _context: bytes | None, length: int) -> bytes:
        """The keys that the program printed."""
        assert self._keys is not None
        return self._keys[:length]

    def close(self, now: Instant) -> None:
        """Have the program say close_notify, and wait for it: what follows the end of a session is not sent."""
        self._now = now
        if self._tool is None or self._tool.stdin is None or self._is_over:
            return
        with suppress(OSError):
            self._tool.stdin.close()
        end = time.monotonic() + FAREWELL
        while self._tool.poll() is None and time.monotonic() < end:
            time.sleep(POLL)
        self._read()
        self._end()

    def handle_datagrams(self, batch: Iterable[bytes], now: Instant) -> None:
        """Hand datagrams of the peer to the program."""
        self._early += batch
        self.handle_timeout(now)

    def handle_timeout(self, now: Instant) -> None:
        """Look what the program sends and says."""
        self._now = now
        if self._tool is not None and not self._is_over:
            self._read()
            self._hand_over()

    def poll_timeout(self) -> Instant | None:
        """Look again soon: a tunnel has no socket of its own to wait for."""
        return None if self._is_over or self._tool is None else self._now + POLL

    def drain_transmits(self) -> Sequence[bytes]:
        """What the program sent."""
        made, self._transmits = self._transmits, []
        return made

    def drain_events(self) -> Sequence[dtls.DtlsEvent]:
        """What happened."""
        events, self._events = self._events, []
        return events

    # -- the program ---------------------------------------------------------------------------------------

    def _hand_over(self) -> None:
        if self._address is None or (self.role is dtls.DtlsRole.SERVER and READY not in self._said):
            return
        for datagram in self._early:
            with suppress(OSError):
                self._socket.sendto(datagram, self._address)
        self._early = []

    def _read(self) -> None:
        assert self._tool is not None
        assert self._tool.stdout is not None
        is_running = self._tool.poll() is None
        self._said += self._tool.stdout.read() or b""
        with suppress(BlockingIOError):
            while True:
                data, self._address = self._socket.recvfrom(65_536)
                self._transmits.append(data)
        found = KEYS.search(self._said)
        if self._keys is None and found is not None:
            self._keys = bytes.fromhex(found[1].decode())
            complete = dtls.HandshakeComplete(self.version, self.cipher_suite, self.group, PROFILE, None, None)
            self._events.append(complete)
        if not is_running:
            said = self._said.decode(errors="replace").strip().splitlines()
            detail = f"{self.tool}: {said[-1] if said else 'it ended'}"
            failed = dtls.DtlsFailed(dtls.DtlsFailure.UNEXPECTED_MESSAGE, None, False, detail)
            self._events.append(dtls.PeerClosed() if self._keys is not None else failed)
            self._end()

    def _end(self) -> None:
        self._is_over = True
        self._socket.close()
        self._folder.cleanup()
        if self._tool is not None and self._tool.poll() is None:
            self._tool.kill()
            self._tool.wait()


def replace_dtls(tool: str) -> None:
    """Have the sessions of this process speak DTLS through a tool."""
    ToolEndpoint.tool = tool
    dtls.DtlsEndpoint = ToolEndpoint  # type: ignore[assignment, misc]
