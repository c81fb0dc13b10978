"""From a TSN that does not wrap, which is what both halves count in, to the one on the wire."""

from __future__ import annotations

from stack.core.serial import SERIAL32, ExtendedTsn, Tsn

_MASK = SERIAL32.mask


def wrap_tsn(tsn: ExtendedTsn) -> Tsn:
    """Return a TSN as it travels (RFC 9260 §1.6)."""
    return tsn & _MASK  # type: ignore[return-value]  # `Tsn(…)` would be one more call for each packet
