"""The checksum of SCTP packets: CRC32c (RFC 9260 §6.8 and appendix A).

The wheel `google-crc32c` does it with the processor's own instruction; where that wheel has no compiled part
for the platform, or is not installed, a table does the same a few hundred times more slowly.
"""

from __future__ import annotations

from collections.abc import Callable

_POLYNOMIAL_REFLECTED = 0x82F63B78


def _make_table() -> tuple[int, ...]:
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = (byte >> 1) ^ (_POLYNOMIAL_REFLECTED if byte & 1 else 0)
        table.append(byte)
    return tuple(table)


_TABLE = _make_table()


def crc32c_table(data: bytes, crc: int = 0) -> int:
    """Return the CRC32c of `data` that follows bytes whose CRC32c is `crc`; the readable reference."""
    crc ^= 0xFFFFFFFF
    for byte in data:
        crc = (crc >> 8) ^ _TABLE[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


def _fastest() -> Callable[[int, bytes], int]:
    try:
        import google_crc32c
    except ImportError:
        pass
    else:
        if google_crc32c.implementation == "c":
            extend: Callable[[int, bytes], int] = google_crc32c.extend
            return extend
    return lambda crc, data: crc32c_table(data, crc)


crc32c_extend: Callable[[int, bytes], int] = _fastest()
"""`crc32c_extend(crc, data)`: the CRC32c of `data` that follows bytes whose CRC32c is `crc`."""
