"""SRTP and SRTCP (RFC 3711, RFC 7714): sound and reports, encrypted and authenticated.

`SrtpEngine` is what calls use, over libsrtp; `SrtpContext` is the same transform written to be read, over the
primitives of `cryptography`. Both answer to the interface `SrtpTransform`.
"""

from stack.core.srtp_profile import SrtpProfile
from stack.srtp.context import SrtpContext
from stack.srtp.engine import SrtpEngine
from stack.srtp.master_key import MasterKey, keying_material_length, split_keying_material
from stack.srtp.transform import MAX_REMOTE_SOURCES, SrtpError, SrtpFailure, SrtpTransform

__all__ = [
    "MAX_REMOTE_SOURCES",
    "MasterKey",
    "SrtpContext",
    "SrtpEngine",
    "SrtpError",
    "SrtpFailure",
    "SrtpProfile",
    "SrtpTransform",
    "keying_material_length",
    "split_keying_material",
]
