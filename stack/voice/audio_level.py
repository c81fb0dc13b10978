"""The client's own audio level (RFC 6464 §3), which saves a detector the work while nothing can be heard."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from stack.voice.vad import Int16, VoiceDetector, VoiceFrame, level_dbfs

_PREROLL_BLOCKS = 50  # what a detector that skipped is shown before it scores again: a second settles it
_TRUST_MARGIN_DB = 12.0
_AUDIT_EVERY = 16


class AudioLevelGate:
    """Skips a detector while the client's audio level (RFC 6464) says that no speech can be heard.

    A detector with a memory may not just miss frames, so what was skipped last is kept and shown to it before it
    has to score again. A client's word is worth what it has proved to be: now and then its level is measured, and
    once it claims a silence that is not there, it is not asked again. How soft silence is the detector says: one
    that has heard a soft voice listens for softer words. RFC 6464 §3 counts in -dBov: 127 is digital silence.
    """

    def __init__(self, detector: VoiceDetector) -> None:
        self._detector = detector
        self._skipped: deque[tuple[Int16, int, float]] = deque(maxlen=_PREROLL_BLOCKS)
        self._count = 0
        self.trusted = True
        self.skipped = 0
        """How many blocks were never shown to the detector."""

    def push(
        self, samples: Int16, sample_rate: int, media_time: float, audio_level: int | None = None
    ) -> Sequence[VoiceFrame]:
        """As `VoiceDetector.push`; `audio_level` is the header extension's 0 (loud) to 127 (silent), if any."""
        if self.trusted and audio_level is not None and -audio_level <= (silent := self._detector.inaudible):
            self._count += 1
            if self._count % _AUDIT_EVERY == 1 and level_dbfs(samples) > _TRUST_MARGIN_DB + silent:
                self.trusted = False
            else:
                self._skipped.append((samples, sample_rate, media_time))
                self.skipped += 1
                return [VoiceFrame(media_time, len(samples) / sample_rate, 0.0, float(-audio_level))]
        for held in self._skipped:
            self._detector.push(*held)
        self._skipped.clear()
        return self._detector.push(samples, sample_rate, media_time)

    def disown(self) -> None:
        """What was pushed last was our own echo."""
        self._detector.disown()

    def hurry(self, hurried: bool) -> None:
        """A voice must be noticed at once, or need not be any more."""
        self._detector.hurried = hurried

    def reset(self) -> None:
        """Forget everything, the distrust included."""
        self._skipped.clear()
        self._count = 0
        self.trusted = True
        self._detector.reset()
