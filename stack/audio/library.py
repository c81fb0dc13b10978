"""The Opus shared library: where it is looked for, and the few functions of it that are called.

`opuslib` brings no libopus; it asks `ctypes.util.find_library("opus")` once, while it is imported. So the library
is found first, in this order: the file named by the environment variable `VOICE_STACK_OPUS`; the system's; the
one inside the wheel `opuslib-next-bundled`; the one that PyAV carries. The two wheels are never imported for it:
one has a sibling that takes the very name `opuslib`, the other drags FFmpeg in.

`opuslib` makes, frees and names the codec states. Three of its ways are gone around here: its `decode` and
`encode` copy sample by sample through Python lists (several times the cost of the codec itself); its `*_ctl`
functions have no argument types, which breaks variadic calls on Apple's ARM64; and its source compares numbers
with `is`, at which a newer Python prints a SyntaxWarning.

The calls keep the interpreter's lock (`ctypes.PyDLL`): they last 0.02 to 0.3 ms, and a thread that gives the lock
away for so long may wait 5 ms until a program that computes returns it. `cffi` cannot keep it, and is no faster
(`docs/audio.md`).
"""

from __future__ import annotations

import ctypes
import ctypes.util
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from stack.core.errors import LocalError

ENVIRONMENT_VARIABLE = "VOICE_STACK_OPUS"
"""Names the file of a libopus that is taken before any other."""

_PATTERNS = ("libopus*.so*", "libopus*.dylib", "*opus*.dll")


def _inside(package: str, *folders: str) -> Iterator[Path]:
    """Every file that looks like libopus in `folders`, relative to where `package` is installed; no import."""
    try:
        spec = find_spec(package)
    except (ImportError, ValueError):  # half-installed, or a stand-in without a spec in sys.modules
        return
    for location in (spec.submodule_search_locations or ()) if spec else ():
        for folder in folders:
            for pattern in _PATTERNS:
                yield from sorted(Path(location, folder).glob(pattern))


def candidates() -> Iterator[str]:
    """What may be given to the dynamic loader, best first."""
    named = os.environ.get(ENVIRONMENT_VARIABLE)
    if named:
        yield named
        return  # a user who names a file wants that one or an error, not a surprise
    system = ctypes.util.find_library("opus")
    if system:
        yield system
    for path in _inside("opuslib_next", "_native"):
        yield str(path)
    for path in _inside("av", "../av.libs", ".dylibs"):
        yield str(path)


def find_opus() -> str:
    """Return the name or path of a libopus that loads; `LocalError` if there is none."""
    failures = []
    for candidate in candidates():
        try:
            library = ctypes.CDLL(candidate)
            library.opus_get_version_string  # noqa: B018 (AttributeError if it is something else)
        except (OSError, AttributeError) as error:
            failures.append(f"{candidate}: {error}")
        else:
            return candidate
    raise LocalError(
        "no Opus library found: `pip install opuslib-next-bundled`, install the system's libopus0, or name the "
        f"file in {ENVIRONMENT_VARIABLE}" + "".join(f"; tried {failure}" for failure in failures)
    )


@dataclass(frozen=True, slots=True)
class OpusLibrary:
    """The C functions that are called per packet, with argument types; states come from `opuslib`."""

    version: str
    encode: Any
    decode: Any
    encoder_ctl: Any
    decoder_ctl: Any
    strerror: Any
    create_encoder: Any
    destroy_encoder: Any
    create_decoder: Any
    destroy_decoder: Any

    def error(self, code: int) -> str:
        """What libopus calls the error `code`."""
        text: bytes = self.strerror(code)
        return text.decode()


@contextmanager
def _answering(location: str) -> Iterator[None]:
    """Context: `ctypes.util.find_library` answers `location` for every library."""
    original = ctypes.util.find_library
    ctypes.util.find_library = lambda name: location
    try:
        yield
    finally:
        ctypes.util.find_library = original


@cache
def opus() -> OpusLibrary:
    """Load libopus on first use; `LocalError` if there is none or `opuslib` is missing."""
    location = find_opus()
    try:
        with warnings.catch_warnings(), _answering(location):
            warnings.simplefilter("ignore", SyntaxWarning)
            import opuslib.api.decoder
            import opuslib.api.encoder
    except ImportError as error:
        raise LocalError(f"the package opuslib is missing or broken: {error}") from error

    library = ctypes.PyDLL(location)

    def function(name: str, result: Any, *arguments: Any) -> Any:
        found = library[name]
        found.restype, found.argtypes = result, arguments
        return found

    pointer, number = ctypes.c_void_p, ctypes.c_int32
    version: bytes = function("opus_get_version_string", ctypes.c_char_p)()
    return OpusLibrary(
        version=version.decode(),
        encode=function("opus_encode", number, pointer, pointer, number, pointer, number),
        decode=function("opus_decode", number, pointer, ctypes.c_char_p, number, pointer, number, number),
        encoder_ctl=function("opus_encoder_ctl", number, pointer, number),
        decoder_ctl=function("opus_decoder_ctl", number, pointer, number),
        strerror=function("opus_strerror", ctypes.c_char_p, number),
        create_encoder=opuslib.api.encoder.create_state,
        destroy_encoder=opuslib.api.encoder.destroy,
        create_decoder=opuslib.api.decoder.create_state,
        destroy_decoder=opuslib.api.decoder.destroy,
    )
