"""One case of the runner: shake hands as the flags say, check what is to be checked, echo, and close.

Exit status: 0 with nothing on stderr if all was as expected; 1 with a reason in capitals between colons, which the
error map in `config.json` translates; 89 for a case that is not for us.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from interop.bogo.flags import Flags, Unimplemented, configuration, parse
from interop.bogo.wire import Wire, WireError
from stack.core.errors import LocalError
from stack.dtls import (
    AlertDescription,
    ApplicationData,
    DtlsEndpoint,
    DtlsEvent,
    DtlsFailed,
    DtlsFailure,
    DtlsRole,
    HandshakeComplete,
    PeerClosed,
)

_UNIMPLEMENTED = 89
_FIRST_WORDS = b"hello"


class CaseFailed(Exception):
    """Something was not as the runner expects it, or the connection failed."""


def _describe(failed: DtlsFailed) -> str:
    """Return the reason as the error map knows it: `:WRONG_CIPHER:`, or `:ALERT_RECEIVED:DECODE_ERROR:`."""
    text = f":{failed.reason.name}:"
    if failed.reason is DtlsFailure.ALERT_RECEIVED:
        known = {alert.value: alert.name for alert in AlertDescription}
        text += f"{known.get(failed.alert or 0, failed.alert)}:"
    return f"{text} {failed.detail}"


class Case:
    """One connection to the runner."""

    def __init__(self, flags: Flags) -> None:
        self._flags = flags
        config = configuration(flags)
        self._endpoint = DtlsEndpoint(DtlsRole.SERVER if flags.server else DtlsRole.CLIENT, config, os.urandom)
        self._wire = Wire(flags.port, flags.shim_id, flags.ipv6, self._endpoint)
        self._is_complete = self._is_closed = False

    def run(self) -> None:
        """Do everything; `CaseFailed` if anything is wrong."""
        try:
            self._converse()
        except WireError as error:
            raise CaseFailed(f":WIRE: {error}") from None
        except OSError as error:
            # The runner has hung up on us: what went wrong before that is what counts.
            self._note(self._endpoint.drain_events())
            raise CaseFailed(f":SOCKET: {error}") from None
        finally:
            with suppress(OSError):
                self._wire.finish()

    def _converse(self) -> None:
        wire, endpoint, flags = self._wire, self._endpoint, self._flags
        endpoint.start(wire.now)
        self._note(wire.flush())
        while not self._is_complete:
            if not wire.is_open or self._is_closed:
                raise CaseFailed(":EOF: the connection ended in the handshake")
            self._note(wire.step())
        self._check()
        if flags.send_alert:
            endpoint.abort(AlertDescription.DECOMPRESSION_FAILURE)
            wire.flush()
            return
        if not flags.shim_shuts_down:
            self._await_end()
        endpoint.close(wire.now)
        self._note(wire.flush())
        if flags.check_close_notify:
            self._await_end()
            if not self._is_closed:
                raise CaseFailed(":EOF: no close_notify")

    def _await_end(self) -> None:
        """Answer what comes until there is no more."""
        if self._flags.key_update_before_read:
            self._endpoint.update_keys(self._wire.now)
            self._note(self._wire.flush())
        while self._wire.is_open and not self._is_closed:
            self._note(self._wire.step())

    def _note(self, events: Sequence[DtlsEvent]) -> None:
        for event in events:
            if isinstance(event, DtlsFailed):
                raise CaseFailed(_describe(event))
            if isinstance(event, HandshakeComplete):
                self._is_complete = True
                self._speak_first()
            elif isinstance(event, ApplicationData):
                self._answer(event.data)
            elif isinstance(event, PeerClosed):
                self._is_closed = True

    def _speak_first(self) -> None:
        flags, endpoint, now = self._flags, self._endpoint, self._wire.now
        if flags.export_keying_material:
            context = flags.export_context.encode() if flags.use_export_context else None
            size = flags.export_keying_material
            endpoint.send(endpoint.export_keying_material(flags.export_label, context, size), now)
        if flags.shim_writes_first:
            endpoint.send(_FIRST_WORDS, now)
        self._note(self._wire.flush())

    def _answer(self, data: bytes) -> None:
        if self._flags.shim_shuts_down:
            return
        now = self._wire.now
        if self._flags.key_update:
            self._endpoint.update_keys(now)
        self._endpoint.send(bytes(byte ^ 0xFF for byte in data), now)
        if self._flags.key_update_before_read:
            self._endpoint.update_keys(now)
        self._note(self._wire.flush())

    def _check(self) -> None:
        """Hold what was negotiated against the flags."""
        flags, endpoint = self._flags, self._endpoint
        negotiated = endpoint.negotiated
        wanted = [
            ("version", flags.expect_version, endpoint.version),
            ("cipher suite", flags.expect_cipher or flags.expect_cipher_aes, endpoint.cipher_suite),
            ("group", flags.expect_curve_id, endpoint.group),
            (
                "signature scheme",
                flags.expect_peer_signature_algorithm,
                negotiated.peer_signature_scheme,
            ),
            ("protocol", (flags.select_alpn or flags.expect_alpn).encode(), negotiated.alpn),
            ("peer chain", _chain(flags.expect_peer_cert_file), negotiated.peer_chain),
        ]
        for what, expected, got in wanted:
            if expected and expected != got:
                raise CaseFailed(f":EXPECTATION: the {what} is {got!r}, not {expected!r}")
        if not (flags.select_alpn or flags.expect_alpn) and negotiated.alpn is not None:
            raise CaseFailed(":EXPECTATION: a protocol was negotiated")
        needs_peer = not flags.server or flags.require_any_client_certificate
        if (flags.expect_no_peer_cert and negotiated.peer_chain) or (needs_peer and not negotiated.peer_chain):
            raise CaseFailed(f":EXPECTATION: the peer sent {len(negotiated.peer_chain)} certificates")
        if (flags.expect_hrr or flags.expect_no_hrr) and negotiated.hello_retried is not flags.expect_hrr:
            raise CaseFailed(f":EXPECTATION: HelloRetryRequest: {negotiated.hello_retried}")
        if flags.expect_extended_master_secret and not negotiated.extended_master_secret:
            raise CaseFailed(":EXPECTATION: no extended master secret")


def _chain(path: str) -> tuple[bytes, ...]:
    if not path:
        return ()
    return tuple(
        certificate.public_bytes(Encoding.DER)
        for certificate in x509.load_pem_x509_certificates(Path(path).read_bytes())
    )


def main(arguments: Sequence[str]) -> int:
    """Run one case; return the exit status."""
    try:
        flags = parse(arguments)
        if flags.is_handshaker_supported:
            print("No")
            return 0
        if not flags.dtls or flags.resume_count:
            raise Unimplemented("only DTLS, and nothing is resumed")
        Case(flags).run()
    except Unimplemented as error:
        print(f":UNIMPLEMENTED: {error}", file=sys.stderr)
        return _UNIMPLEMENTED
    except (CaseFailed, LocalError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0
