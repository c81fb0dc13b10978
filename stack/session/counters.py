"""What a session counts by itself; each protocol in it has counters of its own."""

from __future__ import annotations

from stack.core.counters import declare

DROPPED_AFTER_END = declare("session", "dropped_after_end", "Datagrams that came after the session's end")
DROPPED_UNKNOWN_PROTOCOL = declare(
    "session", "dropped_unknown_protocol", "Datagrams of no protocol that is expected (RFC 7983 §7)"
)
DROPPED_UNWANTED_MEDIA = declare("session", "dropped_unwanted_media", "Media datagrams of a session without media")
DROPPED_MEDIA_BEFORE_FINISHED = declare(
    "session", "dropped_media_before_finished", "Media datagrams of a peer that has not proved who it is yet"
)
EARLY_OVER = declare(
    "session", "early_over", "Peers that had not proved who they are after a second of being spoken to"
)
DROPPED_DTLS_BEFORE_ICE = declare(
    "session",
    "dropped_dtls_before_ice",
    "DTLS datagrams that came before ICE had validated their path, beyond a few",
)
DROPPED_UNPROVEN = declare(
    "session",
    "dropped_unproven",
    "Datagrams not sent to where the peer has not shown that it is: more than it has sent itself",
)
DROPPED_WHILE_PAUSED = declare(
    "session", "dropped_while_paused", "Datagrams not sent because the peer has fallen silent"
)
REFUSED_SCTP_INIT = declare(
    "session", "refused_sctp_init", "INIT chunks in the peer's SDP that make no association"
)
DROPPED_UNWANTED_DATA = declare(
    "session", "dropped_unwanted_data", "SCTP packets of a session without data channels"
)
