"""Counters of the endpoint, and those that it shares with its handshake layer."""

from __future__ import annotations

from stack.core.counters import declare, declare_each
from stack.dtls.alerts import DtlsFailure

DROPPED_PLAINTEXT = declare_each(
    "dtls", "dropped_plaintext", DtlsFailure, "Records in the clear that would have ended the handshake: {}"
)
DROPPED_DATAGRAM_AFTER_END = declare(
    "dtls", "dropped_datagram_after_end", "Datagrams that came after the end, or after the peer's close_notify"
)
DROPPED_HANDSHAKE_BYTES_EXCEEDED = declare(
    "dtls", "dropped_handshake_bytes_exceeded", "Datagrams beyond the bytes that a handshake may take in"
)
DROPPED_PLAINTEXT_AFTER_KEYS = declare(
    "dtls", "dropped_plaintext_after_keys", "Records in the clear from a peer that has keys and uses them"
)
PLAINTEXT_ALERT = declare(
    "dtls", "plaintext_alert", "Alerts in the clear, kept for the case that the peer answers nothing more"
)
DROPPED_HANDSHAKE_AFTER_CLOSE = declare(
    "dtls", "dropped_handshake_after_close", "Handshake records that came after our close_notify"
)
DROPPED_APPLICATION_DATA_EARLY = declare(
    "dtls", "dropped_application_data_early", "Data that overtook the Finished of its sender in 1.2"
)
CHANGE_CIPHER_SPEC = declare("dtls", "change_cipher_spec", "ChangeCipherSpec records: the epochs say the same")
DROPPED_ACK_BEFORE_VERSION = declare(
    "dtls",
    "dropped_ack_before_version",
    "ACKs of our ClientHello that came before the version was known (RFC 9147 §7)",
)
FAILED = declare_each("dtls", "failed", DtlsFailure, "Connections that our side ended: {}")
ALERT_WARNING = declare("dtls", "alert_warning", "Warning alerts received")
