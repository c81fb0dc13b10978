"""Session descriptions: text to tree, offer to answer (RFC 8866, 8829, 9143, 8839, 8841, 5763, 8285).

```python
offer = SessionDescription.parse(text)                      # ParseError
agreed = negotiate(offer, LocalParameters(…))               # NegotiationError
agreed.answer.serialize(), agreed.audio.payload_type, agreed.dtls_role
```

Pure functions without state. The page `docs/sdp.md` says how an offer travels through the files.
"""

from stack.core.certificate_fingerprint import CertificateFingerprint
from stack.core.dtls_role import DtlsRole
from stack.sdp.dcmap import ChannelMap
from stack.sdp.description import (
    MAX_CANDIDATES,
    MAX_FORMATS,
    MAX_MEDIA_DESCRIPTIONS,
    MediaDescription,
    SessionDescription,
)
from stack.sdp.fragment import TrickleFragment
from stack.sdp.grammar import (
    MAX_DESCRIPTION_SIZE,
    MAX_LINES,
    Connection,
    ExtMap,
    Group,
    MediaDirection,
    Msid,
    Origin,
    RtpMap,
    SdpAttribute,
    Setup,
)
from stack.sdp.negotiate import accept_answer, awaits_checks, create_offer, negotiate, negotiate_for
from stack.sdp.parameters import (
    OPUS,
    PCMA,
    PCMU,
    UNLIMITED_MESSAGE_SIZE,
    AudioLineParameters,
    AudioParameters,
    CodecDescription,
    DataParameters,
    LocalAudio,
    LocalData,
    LocalParameters,
    Negotiation,
    NegotiationError,
    NegotiationFailure,
    opus,
)
from stack.sdp.reading import IGNORED
from stack.sdp.renegotiate import renegotiate, restarts_ice
from stack.sdp.setup_choice import choose_setup

__all__ = [
    "IGNORED",
    "MAX_CANDIDATES",
    "MAX_DESCRIPTION_SIZE",
    "MAX_FORMATS",
    "MAX_LINES",
    "MAX_MEDIA_DESCRIPTIONS",
    "OPUS",
    "PCMA",
    "PCMU",
    "UNLIMITED_MESSAGE_SIZE",
    "AudioLineParameters",
    "AudioParameters",
    "CertificateFingerprint",
    "ChannelMap",
    "CodecDescription",
    "Connection",
    "DataParameters",
    "DtlsRole",
    "ExtMap",
    "Group",
    "LocalAudio",
    "LocalData",
    "LocalParameters",
    "MediaDescription",
    "MediaDirection",
    "Msid",
    "Negotiation",
    "NegotiationError",
    "NegotiationFailure",
    "Origin",
    "RtpMap",
    "SdpAttribute",
    "SessionDescription",
    "Setup",
    "TrickleFragment",
    "accept_answer",
    "awaits_checks",
    "choose_setup",
    "create_offer",
    "negotiate",
    "negotiate_for",
    "opus",
    "renegotiate",
    "restarts_ice",
]
