"""A further offer on a connection that is up, and when it is one.

RFC 3264 §8 (what a later offer may change), RFC 8829 §5.3, RFC 8839 §4.4 (ICE restart), RFC 8842 §5.5 (the DTLS
association stays while the fingerprint does), RFC 9143 §7.3.

The answer is made as for a first offer, from the same local parameters; then it is held against what runs. What
may change: directions, ICE credentials (a restart), candidates, the SSRC and stream that the peer names, and
sections that we decline. Left out, and refused: adding or taking away sound or data, other payload types, another
certificate.
"""

from __future__ import annotations

from stack.sdp.description import SessionDescription
from stack.sdp.negotiate import negotiate
from stack.sdp.parameters import (
    AudioParameters,
    LocalParameters,
    Negotiation,
    NegotiationError,
    NegotiationFailure,
)

_FIXED_AUDIO = (
    "mid",
    "payload_type",
    "codec",
    "clock_rate",
    "channels",
    "red_payload_type",
    "telephone_event_payload_type",
    "extensions",
)


def renegotiate(offer: SessionDescription, former: Negotiation, local: LocalParameters) -> Negotiation:
    """Answer a further offer; raises `NegotiationError` if the connection cannot be changed that way.

    `local` is what the former answer was made of, `session_version` raised (RFC 3264 §8), and other ICE
    credentials if the offer has others (`restarts_ice`).
    """
    answered = former.answer.media
    if len(offer.media) < len(answered):  # RFC 3264 §8: a section is never taken away
        raise _refusal(f"it has {len(offer.media)} media sections, the connection has {len(answered)}")
    for index, (section, old) in enumerate(zip(offer.media, answered, strict=False)):
        if not old.is_rejected and (section.kind, section.mid) != (old.kind, old.mid):
            raise _refusal(f"section {index} is {section.kind} {section.mid}, not {old.kind} {old.mid}")
    agreed = negotiate(offer, local)
    if set(agreed.remote_fingerprints) != set(former.remote_fingerprints):
        raise _refusal("it has another fingerprint, so it is another connection")
    if agreed.dtls_role is not former.dtls_role:
        raise _refusal("its a=setup turns the DTLS roles around")
    _check_audio(agreed.audio, former.audio)
    if (agreed.data is None) != (former.data is None):
        change = "taken away" if agreed.data is None else "added"
        raise _refusal(f"data channels cannot be {change} later: offer them from the beginning")
    if agreed.data and former.data and agreed.data.remote_sctp_port != former.data.remote_sctp_port:
        raise _refusal("its SCTP port is another")
    return agreed


def restarts_ice(agreed: Negotiation, former: Negotiation) -> bool:
    """Return True if the peer has other ICE credentials now (RFC 8839 §4.4.1.1.1).

    A session that a ticket made knows the former fragment alone, without its password.
    """
    if not former.remote_ice_pwd:
        return agreed.remote_ice_ufrag != former.remote_ice_ufrag
    return (agreed.remote_ice_ufrag, agreed.remote_ice_pwd) != (former.remote_ice_ufrag, former.remote_ice_pwd)


def _check_audio(agreed: AudioParameters | None, former: AudioParameters | None) -> None:
    if agreed is None or former is None:
        if agreed is not former:
            how = "taken away: say a=inactive" if agreed is None else "added later: offer it from the beginning"
            raise _refusal(f"sound cannot be {how}")
        return
    for name in _FIXED_AUDIO:
        if getattr(agreed, name) != getattr(former, name):
            raise _refusal(f"the {name.replace('_', ' ')} of the sound would change")


def _refusal(detail: str) -> NegotiationError:
    return NegotiationError(NegotiationFailure.CANNOT_CHANGE, detail)
