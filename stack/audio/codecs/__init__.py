"""The codecs, one file for each, or for those of one family.

A codec is a `Codec` that registers itself with `register_codec`, and each module of this package is imported here:
a new one is a file beside these. From then on it is offered in SDP, decoded and encoded; nothing else names it.
"""

from __future__ import annotations

from stack.audio.codec import CODECS, Codec
from stack.core.errors import LocalError
from stack.core.registry import import_modules

import_modules(__name__, __path__)


def registered_codecs() -> tuple[Codec, ...]:
    """Return every codec, the preferred one first."""
    return tuple(sorted(CODECS.values(), key=lambda codec: -codec.preference))


def find_codec(name: str) -> Codec:
    """Return the codec of an encoding name, in either case; `LocalError` if there is none."""
    codec = CODECS.get(name.lower())
    if codec is None:
        raise LocalError(f"no codec {name}")
    return codec


__all__ = ["find_codec", "registered_codecs"]
