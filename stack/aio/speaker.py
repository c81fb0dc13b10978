"""What the person hears: sound outside of replies, queued and paced on the media side."""

from __future__ import annotations

import asyncio

import numpy as np

from stack.aio.control import CallControl
from stack.audio import AudioFrame, ByteStream, Pcm, check_sample_rate, to_int16
from stack.core.errors import LocalError
from stack.voice import commands as cmd

SPEAKER_LIMIT = 600.0
"""Seconds of sound that may wait to be spoken."""


class Speaker:
    """What the person hears. Sound may be written faster than real time; it is paced behind here."""

    def __init__(self, control: CallControl) -> None:
        self._control = control
        self._queued_until: float = 0.0
        self._bytes = ByteStream()
        self._writes = 0  # SpeakerDrained says how many of them it knew of
        self._played = 0
        self._drained = asyncio.Event()
        self._drained.set()

    def write(self, sound: AudioFrame | Pcm, sample_rate: int | None = None) -> None:
        """Queue sound to be spoken: an `AudioFrame`, or PCM with its `sample_rate` in Hz.

        PCM is int16 or float (−1 … 1) numpy of shape (n,), (n, channels) or (1, n), or bytes of little-endian
        int16, which may be cut within a sample.
        Raises `LocalError` for anything else, when more than `SPEAKER_LIMIT` seconds would wait, and for a program
        that has written 128 MB without waiting, so that its media worker could take nothing.
        Does nothing once the call has ended.
        """
        if isinstance(sound, AudioFrame):
            samples, sample_rate = sound.samples, sound.sample_rate
        else:
            if sample_rate is None:
                raise LocalError("say at which sample_rate the sound is")
            stereo = (
                isinstance(sound, np.ndarray) and sound.ndim == 2 and sound.shape[0] != 1 and sound.shape[1] == 2
            )
            samples = to_int16(self._bytes.join(sound), 2 if stereo else 1)
        sample_rate = check_sample_rate(sample_rate)
        if not len(samples) or self._control.ended:
            return
        now = self._control.clock()
        queued_until = max(self._queued_until, now) + len(samples) / sample_rate
        if queued_until - now > SPEAKER_LIMIT:
            raise LocalError(f"more than {SPEAKER_LIMIT:g} s of sound would wait to be spoken")
        self._control.command(cmd.Write(samples, sample_rate))  # may be refused
        self._queued_until = queued_until
        self.note_written()

    def flush(self) -> None:
        """Fall silent at once: what was written and not sent yet is forgotten."""
        self._queued_until = 0.0
        self._bytes.clear()
        self._control.command(cmd.FlushSpeaker())

    async def drained(self) -> None:
        """Wait until the person has heard everything that was written, in replies too, or the call has ended.

        That is later than the last packet leaves: by the way to the client, and by what its jitter buffer holds
        back, which it tells (the page does) or which is estimated; at most `MAX_UNPLAYED` seconds later. So a
        farewell is heard whole by who waits for this before `hang_up`; a program that returns need not, since a
        call ends only then. What was interrupted or flushed is not waited for.
        """
        await self._drained.wait()
        if self._control.ended:
            await asyncio.sleep(0)  # a program that goes on after the end must not keep the loop to itself

    def note_written(self) -> None:
        """Sound is on its way to the media side."""
        if not self._control.ended:
            self._writes += 1
            self._drained.clear()

    def note_not_written(self) -> None:
        """Sound did not leave this process after all."""
        self._writes -= 1
        if self._writes == self._played:
            self._drained.set()

    def note_earlier(self, writes: int) -> None:
        """So often another program has written before this one had the call: that is not waited for."""
        self._writes = self._played = writes

    def note_drained(self, writes: int | None) -> None:
        """So many writes have been played; None: the call is over."""
        if writes is not None:
            self._played = writes
        if writes is None or writes == self._writes:
            self._drained.set()
