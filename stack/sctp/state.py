"""The states of an association and what leads from one to the next (RFC 9260 §4, figure 3)."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Final


class AssociationState(Enum):
    """RFC 9260 §4, and ENDED: this association does not come back."""

    CLOSED = "closed"
    COOKIE_WAIT = "cookie-wait"
    COOKIE_ECHOED = "cookie-echoed"
    ESTABLISHED = "established"
    SHUTDOWN_PENDING = "shutdown-pending"
    SHUTDOWN_SENT = "shutdown-sent"
    SHUTDOWN_RECEIVED = "shutdown-received"
    SHUTDOWN_ACK_SENT = "shutdown-ack-sent"
    ENDED = "ended"

    __hash__ = object.__hash__


class AssociationInput(Enum):
    """What moves an association: a command, a chunk that was accepted, or the last acknowledgement."""

    ASSOCIATE = "ASSOCIATE"
    PEER_INIT_IN_SDP = "peer's INIT in the SDP"
    INIT_ACK = "INIT ACK"
    COOKIE_ECHO = "COOKIE ECHO"
    COOKIE_ACK = "COOKIE ACK"
    STALE_COOKIE = "ERROR (stale cookie)"
    RESTART = "COOKIE ECHO of a peer that began anew"
    SHUTDOWN_COMMAND = "shutdown()"
    ALL_ACKNOWLEDGED = "no outstanding data"
    SHUTDOWN = "SHUTDOWN"
    SHUTDOWN_ACK = "SHUTDOWN ACK"
    SHUTDOWN_COMPLETE = "SHUTDOWN COMPLETE"
    ABORT = "ABORT, sent or received"

    __hash__ = object.__hash__


_S, _I = AssociationState, AssociationInput

TRANSITIONS: Final[Mapping[AssociationState, Mapping[AssociationInput, AssociationState]]] = {
    _S.CLOSED: {
        _I.ASSOCIATE: _S.COOKIE_WAIT,
        _I.PEER_INIT_IN_SDP: _S.ESTABLISHED,
        _I.COOKIE_ECHO: _S.ESTABLISHED,
        _I.SHUTDOWN_COMMAND: _S.ENDED,
        _I.ABORT: _S.ENDED,
    },
    _S.COOKIE_WAIT: {
        _I.INIT_ACK: _S.COOKIE_ECHOED,
        _I.PEER_INIT_IN_SDP: _S.ESTABLISHED,
        _I.COOKIE_ECHO: _S.ESTABLISHED,
        _I.RESTART: _S.ESTABLISHED,
        _I.SHUTDOWN_COMMAND: _S.ENDED,
        _I.ABORT: _S.ENDED,
    },
    _S.COOKIE_ECHOED: {
        _I.COOKIE_ACK: _S.ESTABLISHED,
        _I.STALE_COOKIE: _S.COOKIE_WAIT,
        _I.PEER_INIT_IN_SDP: _S.ESTABLISHED,
        _I.COOKIE_ECHO: _S.ESTABLISHED,
        _I.RESTART: _S.ESTABLISHED,
        _I.SHUTDOWN_COMMAND: _S.ENDED,
        _I.ABORT: _S.ENDED,
    },
    _S.ESTABLISHED: {
        _I.RESTART: _S.ESTABLISHED,
        _I.SHUTDOWN_COMMAND: _S.SHUTDOWN_PENDING,
        _I.SHUTDOWN: _S.SHUTDOWN_RECEIVED,
        _I.ABORT: _S.ENDED,
    },
    _S.SHUTDOWN_PENDING: {
        _I.RESTART: _S.ESTABLISHED,
        _I.ALL_ACKNOWLEDGED: _S.SHUTDOWN_SENT,
        _I.SHUTDOWN: _S.SHUTDOWN_RECEIVED,
        _I.ABORT: _S.ENDED,
    },
    _S.SHUTDOWN_SENT: {
        _I.RESTART: _S.ESTABLISHED,
        _I.SHUTDOWN: _S.SHUTDOWN_ACK_SENT,
        _I.SHUTDOWN_ACK: _S.ENDED,
        _I.ABORT: _S.ENDED,
    },
    _S.SHUTDOWN_RECEIVED: {
        _I.RESTART: _S.ESTABLISHED,
        _I.ALL_ACKNOWLEDGED: _S.SHUTDOWN_ACK_SENT,
        _I.ABORT: _S.ENDED,
    },
    _S.SHUTDOWN_ACK_SENT: {
        _I.SHUTDOWN: _S.SHUTDOWN_ACK_SENT,
        _I.SHUTDOWN_ACK: _S.ENDED,
        _I.SHUTDOWN_COMPLETE: _S.ENDED,
        _I.ABORT: _S.ENDED,
    },
    _S.ENDED: {},
}
"""An input that a state does not name changes nothing in it."""

# Tuples: finding a member in one takes a comparison of identities.
SETTING_UP = (_S.CLOSED, _S.COOKIE_WAIT, _S.COOKIE_ECHOED)
EXISTS = tuple(state for state in _S if state not in (_S.CLOSED, _S.ENDED))
ACCEPTS_MESSAGES = (_S.ESTABLISHED, *SETTING_UP)
RECEIVES_DATA = (_S.ESTABLISHED, _S.SHUTDOWN_PENDING, _S.SHUTDOWN_SENT)
SENDS_DATA = (_S.ESTABLISHED, _S.SHUTDOWN_PENDING, _S.SHUTDOWN_RECEIVED)
