"""What one call holds, by part: every object that can be reached from its conversation, and libopus' states.

Calls of the simulated network in this process, so that the sizes are exact, and the same each time. An object
counts for the nearest object of the stack that holds it. Not in it: what OpenSSL and libsrtp allocate, what the
program's side and the event loop hold, and what the allocator loses. `memory`, under load, has all of that.
"""

from __future__ import annotations

import ctypes
import gc
import random
import sys
from collections import Counter
from collections.abc import Sequence
from enum import Enum
from types import (
    BuiltinFunctionType,
    CodeType,
    FunctionType,
    GetSetDescriptorType,
    MemberDescriptorType,
    ModuleType,
)
from typing import Any

import numpy as np

from bench.report import Cell, Options, Table
from stack.audio import OpusDecoder, OpusEncoder
from stack.audio.library import OpusLibrary, find_opus
from stack.dtls import Certificate
from stack.session import Connected
from stack.voice.commands import Listen, Write
from stack.voice.conversation import Conversation, ConversationConfig
from stack.voice.turns import TurnSettings
from tests.sim.calls import CallPair

SECONDS = 12.0
"""Longer than any history: what has a bound has reached it."""
CHUNK = 0.2
RATE = 16_000
KINDS = ("idle", "sounding", "listening", "loudspeaker")
LOUDSPEAKER_DELAY = 0.1

PARTS = {
    "echo canceller": ("stack.voice.echo",),
    "voice detector": ("stack.voice.vad", "stack.voice.speech"),
    "turns, and sound kept for them": ("stack.voice.turn", "stack.voice.pauses"),
    "libopus": ("libopus",),
    "playout queue and record": ("stack.audio.playout", "stack.voice.playout_record", "stack.voice.audio_sender"),
    "jitter buffer and decoder": ("stack.audio", "stack.rtp.jitter"),
    "RTP": ("stack.rtp",),
    "DTLS": ("stack.dtls", "cryptography"),
    "SRTP": ("stack.srtp", "pylibsrtp"),
    "SCTP": ("stack.sctp",),
    "ICE": ("stack.ice", "stack.stun"),
    "descriptions": ("stack.sdp", "stack.session.parameters"),
    "the rest": ("",),
}
"""By the beginning of the module of the class that holds an object; the first that fits."""

_NOT_THE_CALLS = (
    type,
    ModuleType,
    FunctionType,
    BuiltinFunctionType,
    CodeType,
    GetSetDescriptorType,
    MemberDescriptorType,
    Enum,
    OpusLibrary,
    Certificate,
    ConversationConfig,
    random.Random,
)


def run(options: Options) -> Table:
    """Run everything; about 10 seconds, whatever the scale."""
    sizes = [kilobytes_by_part(kind) for kind in KINDS]
    rows: list[Sequence[Cell]] = [(part, *(size[part] for size in sizes)) for part in PARTS]
    rows.append(("all", *(sum(size.values()) for size in sizes)))
    note = f"After {SECONDS:.0f} s, by the size of the objects."
    return Table("what the media side of a call holds, by part (kB)", ("part", *KINDS), rows, (note,))


def kilobytes_by_part(kind: str) -> dict[str, float]:
    """Return what the server's conversation of a call of that kind holds after `SECONDS`."""
    sizes = _sizes(_standing_call(kind))
    parts = dict.fromkeys(PARTS, 0.0)
    for owner, size in sizes.items():
        part = next(name for name, starts in PARTS.items() if owner.startswith(starts))
        parts[part] += size / 1000
    return parts


def _standing_call(kind: str) -> Conversation:
    turns = TurnSettings(create_response=False, interrupt_response=False)
    pair = CallPair(server=ConversationConfig(turns=turns))
    pair.run(10, lambda: pair.left.seen(Connected) and pair.right.seen(Connected))
    if kind == "idle":
        pair.run(SECONDS)
        return pair.right.machine
    if kind != "sounding":
        pair.right.machine.handle_command(Listen(), pair.now)
        pair.right.pump()
    size, loud = round(CHUNK * RATE), kind == "loudspeaker"
    noise = np.random.default_rng(1)
    said = np.zeros(round(LOUDSPEAKER_DELAY * RATE), np.int16)
    for _ in range(round(SECONDS / CHUNK)):
        words = noise.normal(0, 3000, size).astype(np.int16)
        said = np.concatenate((said, words))
        heard = said[:size] // 2 if loud else noise.normal(0, 3000, size).astype(np.int16)
        said = said[size:]
        for host, sound in ((pair.left, heard), (pair.right, words)):
            host.machine.handle_command(Write(sound, RATE), pair.now)
            host.pump()
        pair.run(CHUNK)
    return pair.right.machine


def _sizes(conversation: Conversation) -> Counter[str]:
    """Return bytes by the module of the holding class."""
    library = ctypes.CDLL(find_opus())
    gc.collect()
    seen: set[int] = set()
    sizes: Counter[str] = Counter()
    waiting: list[tuple[Any, str]] = [(conversation, "")]
    while waiting:
        each, owner = waiting.pop()
        if id(each) in seen or isinstance(each, _NOT_THE_CALLS):
            continue
        seen.add(id(each))
        module = type(each).__module__
        if module.startswith(("stack.", "cryptography", "pylibsrtp")):
            owner = module
        sizes[owner] += sys.getsizeof(each)
        if isinstance(each, OpusEncoder):
            sizes["libopus"] += library.opus_encoder_get_size(each.channels)
        elif isinstance(each, OpusDecoder) and each._state is not None:
            sizes["libopus"] += library.opus_decoder_get_size(each.channels)
        elif isinstance(each, np.ndarray) and each.base is not None:
            waiting.append((each.base, owner))
        waiting += [(referred, owner) for referred in gc.get_referents(each)]
    return sizes
