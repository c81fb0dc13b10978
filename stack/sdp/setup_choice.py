"""Which part of DTLS we take where an offer leaves it to us (`a=setup:actpass`, RFC 5763 §5): what was measured.

PASSIVE, so that the client begins, is as good for a stock browser, and better for a client that puts its
ClientHello into the first check. A client that speaks DTLS 1.2 alone is connected, and heard, a round trip earlier
when we begin: our ClientHello leaves with the response to its first check.

An offer does not say which versions its side speaks; a client is known by the shape of its offer. The figures are
in `docs/setup.md`; a client joins when it was measured (`python -m bench setup --client … --server ours-active
ours-passive`).
"""

from __future__ import annotations

from stack.core.certificate_fingerprint import CertificateFingerprint
from stack.sdp.description import SessionDescription
from stack.sdp.grammar import Setup

_HASHES = ["sha-256", "sha-384", "sha-512"]


def choose_setup(offer: SessionDescription) -> Setup:
    """Return our part for a client that leaves it to us."""
    return Setup.ACTIVE if _is_of_aiortc(offer) else Setup.PASSIVE


def _is_of_aiortc(offer: SessionDescription) -> bool:
    """Return True for aiortc, which alone tells its certificate by three hash functions, strongest last."""
    if not offer.media or len(offer.media[0].values("fingerprint")) < len(_HASHES):
        return False
    hashes = [each.algorithm for each in offer.media[0].parsed("fingerprint", CertificateFingerprint.parse)]
    return hashes == _HASHES
