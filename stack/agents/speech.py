"""Recogniser and synthesiser of the offline assistant: pocketsphinx and espeak-ng, both from the `[demo]` extra.

pocketsphinx (BSD) decodes against a grammar; espeak-ng (GPL-3) speaks. Neither is imported before it is used, and
nothing else in this package needs them, so the licence of espeak-ng concerns only users of the extra.

Left out: recognition of free speech. A grammar is right nearly always about the little that it knows.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Iterable
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from stack.aio import Hypothesis
from stack.core.errors import LocalError

Int16 = npt.NDArray[np.int16]

_INSTALL = "the offline assistant needs `pip install 'voice-stack[demo]'`"
_AUDIO_OUTPUT_SYNCHRONOUS = 2
_DONT_EXIT = 0x8000
_UTF8 = 1
_RATE_PARAMETER = 1
_PITCH_PARAMETER = 3
_HISS = 15.0
_LOUD = 1500.0
"""RMS of 20 ms (-27 dBFS) above which a voice is turned down."""
_BLOCK = 320
_PIECE = 2 * 1600  # bytes: 100 ms
_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)


class Synthesiser:
    """espeak-ng through ctypes. The library is one per process, so its use is under a lock; 4 ms a sentence."""

    _lock: ClassVar[threading.Lock] = threading.Lock()
    _library: ClassVar[Any] = None
    _callback: ClassVar[Any] = None
    _rate: ClassVar[int] = 0
    _pieces: ClassVar[list[Int16]] = []

    def __init__(self, voice: str = "en-us", words_per_minute: int = 165, pitch: int = 50) -> None:
        """`voice` is a name that espeak-ng knows, `pitch` is 0 to 100."""
        self._voice, self._pace, self._pitch = voice.encode(), words_per_minute, pitch
        with self._lock:
            self._load()
            if self._library.espeak_SetVoiceByName(self._voice) != 0:
                raise LocalError(f"espeak-ng has no voice {voice!r}")

    @property
    def sample_rate(self) -> int:
        """In Hz; espeak-ng's own."""
        return self._rate

    def speak(self, text: str) -> Int16:
        """Return `text` as int16 samples of shape (n,) at `sample_rate`."""
        data = text.encode() + b"\0"
        with self._lock:
            library, pieces = self._library, Synthesiser._pieces
            pieces.clear()
            library.espeak_SetVoiceByName(self._voice)
            library.espeak_SetParameter(_RATE_PARAMETER, self._pace, 0)
            library.espeak_SetParameter(_PITCH_PARAMETER, self._pitch, 0)
            library.espeak_Synth(data, len(data), 0, 1, 0, _UTF8, None, None)
            library.espeak_Synchronize()
            return np.concatenate([np.zeros(0, np.int16), *pieces])

    @classmethod
    def _load(cls) -> None:
        if cls._library is not None:
            return
        try:
            import espeakng_loader
        except ImportError as error:
            raise LocalError(_INSTALL) from error
        library = ctypes.CDLL(espeakng_loader.get_library_path())
        data = str(espeakng_loader.get_data_path()).encode()
        rate = library.espeak_Initialize(_AUDIO_OUTPUT_SYNCHRONOUS, 0, data, _DONT_EXIT)
        if rate <= 0:
            raise LocalError("espeak-ng does not start")

        def take(samples: Any, count: int, events: Any) -> int:
            if samples and count > 0:
                cls._pieces.append(np.ctypeslib.as_array(samples, (count,)).copy())
            return 0

        cls._callback = _CALLBACK(take)  # kept alive as long as the library may call it
        library.espeak_SetSynthCallback(cls._callback)
        cls._library, cls._rate = library, rate


class Recogniser:
    """pocketsphinx with a JSGF grammar; 16 kHz. A `Transcriber`: `push` while a turn comes, then `finish`.

    What one thread does to it another one waits for.
    """

    SAMPLE_RATE = 16_000

    def __init__(
        self,
        grammar: str,
        words: Iterable[tuple[str, str]] = (),
        completeness: Callable[[str], float] | None = None,
    ) -> None:
        """`grammar` is the text of a JSGF grammar; `words` are pronunciations that the dictionary lacks.

        `completeness` says of words how complete they are, 0 to 1.
        """
        self._completeness = completeness
        self._lock = threading.Lock()
        try:
            from pocketsphinx import Decoder
        except ImportError as error:
            raise LocalError(_INSTALL) from error
        self._decoder = Decoder(samprate=self.SAMPLE_RATE, lm=None, bestpath=False, loglevel="FATAL")
        for word, phones in words:
            self._decoder.add_word(word, phones, False)
        self._decoder.add_jsgf_string("grammar", grammar)
        self._decoder.activate_search("grammar")
        self._hiss = np.random.default_rng(0)
        self._loudest, self._gain = _LOUD, 1.0
        self._open = False

    def push(self, samples: Int16) -> None:
        """Take int16 samples of shape (n,)."""
        with self._lock:
            # Its features are logarithms: digital silence would be an event of its own, so there is a little hiss.
            hissing = self._softened(samples) + self._hiss.normal(0.0, _HISS, len(samples))
            pcm = np.clip(np.rint(hissing), -32768, 32767).astype("<i2").tobytes()
            if not self._open:
                self._decoder.start_utt()
                self._open = True
            # It keeps the interpreter while it works: short pieces let the others have it in between.
            for start in range(0, len(pcm), _PIECE):
                self._decoder.process_raw(pcm[start : start + _PIECE], no_search=False, full_utt=False)

    def _softened(self, samples: Int16) -> npt.NDArray[np.floating]:
        """Its models are of quiet voices, and it gets used to a loud one only after a sentence: turn that down.

        By how much is decided once in an utterance, whose first piece has its first syllable in it.
        """
        blocks = samples[: len(samples) // _BLOCK * _BLOCK].astype(float).reshape(-1, _BLOCK)
        if len(blocks):
            self._loudest = max(self._loudest, float(np.sqrt((blocks**2).mean(axis=1).max())))
        if not self._open:
            self._gain = min(1.0, _LOUD / self._loudest)
        return samples * self._gain

    def hypothesis(self) -> Hypothesis:
        """Return the best path so far, which need not be a whole sentence of the grammar."""
        with self._lock:
            text = self._best() if self._open else ""
        return Hypothesis(text, self._completeness(text) if self._completeness is not None else None)

    def finish(self) -> str:
        """Return what was said, in lower case; empty if it was nothing that the grammar knows."""
        with self._lock:
            if not self._open:
                return ""
            self._decoder.end_utt()
            self._open = False
            self._loudest = max(_LOUD, 0.7 * self._loudest)
            return self._best()

    def _best(self) -> str:
        best = self._decoder.hyp()
        return best.hypstr.lower() if best is not None else ""

    def recognise(self, samples: Int16) -> str:
        """Return what was said in one whole utterance."""
        self.push(samples)
        return self.finish()
