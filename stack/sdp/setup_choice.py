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


def choose_setup(offer: SessionDescription) -> Setup:
    """Return our part for a client that leaves it to us."""
    return Setup.ACTIVE if _is_of_aiortc(offer) else Setup.PASSIVE


def _is_of_aiortc(offer: SessionDescription) -> bool:
    """Return True for aiortc, which alone tells its certificate by three hash functions, strongest last."""
    hashes = [
        each.algorithm
        for media in offer.media[:1]
        for each in media.parsed("fingerprint", CertificateFingerprint.parse)
    ]
    return hashes == ["sha-256", "sha-384", "sha-512"]
