"""When a pause is the end of the turn: estimators of how long to wait, behind one interface.

An estimator is asked when speech has stopped, and answers with the seconds of silence after which the turn is over
if the person does not speak again. It is a function of the `Pause`, which says all that is known, and keeps
nothing: one serves all calls, from any thread. `TurnTaking.end_of_turn_at` takes the answer, within the
eagerness's bounds.

- `RuleEndpointer` (the default) adds up what is known of how people finish (`prosody.py`): the pitch falls, moves
  and the energy dies away, the sentence is long enough to be one for what was asked, and, where there is a
  transcript, whether its words are complete.
  Each is a hint and none is proof, so they move a wait between two bounds. Only a transcriber that knows what can
  follow (a grammar, a language model) may say that nothing can: that is quicker.
- `SmartTurnEndpointer` asks a smart-turn model (an ONNX file that the user has): 100–300 ms of work. So the turn
  manager does not call it but asks upwards (`TurnPaused`), and `stack/aio/endpointing.py` calls it in a thread.

Words, beside a model that is asked: a transcriber that can say how complete its words are decides alone, at once.
Words without that are in the `Pause` if they were known when it was asked; if they come later they are weighed
against its answer as the rules weigh them against the tune (`weigh_late_words`).

Left out: learning the pauses of one speaker beyond the call, and languages other than English for the words.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

from stack.core.errors import LocalError
from stack.voice.onnx import load_model
from stack.voice.prosody import WEIGHTS, Prosody, prosody, sounds_finished
from stack.voice.turns import Eagerness, Expects
from stack.voice.vad import DETECTOR_RATE, Float, Int16

LONGEST_LOOK: Final = 8.0
"""Seconds of an utterance that estimators are shown: its end."""
LONGEST_SILENCE: Final = 0.5
"""Seconds that they are shown of what came after it."""
PAUSES_KEPT: Final = 12
"""The latest of a speaker's own pauses, which are kept for the estimators."""


@dataclass(frozen=True, slots=True, eq=False)
class Pause:
    """What is known when speech has stopped. A judge may keep it and must not write to it."""

    utterance: Int16
    """The utterance so far, 16 kHz, from its onset to its last speech; of a long one the last `LONGEST_LOOK`."""
    speech: float
    """Seconds of speech since the turn began."""
    transcript: str | None = None
    """What was said, if it is known."""
    completeness: float | None = None
    """How complete that is, if the transcriber can say: 0 cut in the middle, 1 nothing can follow."""
    eagerness: Eagerness = Eagerness.AUTO
    pauses: tuple[float, ...] = ()
    """Seconds of silence after which this speaker has gone on in the same turn; the latest last."""
    silence: Int16 = field(default_factory=lambda: np.zeros(0, np.int16))
    """What has been heard since the last speech, `LONGEST_SILENCE` at most."""
    expects: Expects = Expects.ANY
    """What the program has asked for."""


class Endpointer(Protocol):
    """Whatever can say how long to wait. It keeps nothing from pause to pause, and any thread may ask it."""

    def wait(self, pause: Pause) -> float:
        """Return the seconds of silence, from the last speech on, after which the turn is over."""
        ...


@dataclass(frozen=True, slots=True)
class Bounds:
    """Seconds: as long as that if the turn sounds finished, if it does not, and if its words leave no doubt."""

    finished: float
    unfinished: float
    certain: float

    def between(self, finished: float) -> float:
        """Return the seconds to wait for a turn that is so finished, 0 to 1."""
        return self.unfinished + (self.finished - self.unfinished) * finished


BOUNDS: Final = {
    Eagerness.HIGH: Bounds(0.3, 1.0, 0.15),
    Eagerness.AUTO: Bounds(0.45, 1.6, 0.25),
    Eagerness.MEDIUM: Bounds(0.45, 1.6, 0.25),
    Eagerness.LOW: Bounds(0.8, 3.0, 0.5),
}


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_OPEN_ENDS = _words(
    """
    a an the and or but so because if when while that which who whose to of in on at for from with by as than into
    about my your his her its our their this these some any is are was were am be been do does did can could will
    would should have has had not very um uh er like i'm it's i we they he she you let's maybe also then
    """
)
_QUESTIONS = _words("what who where when why how which whose is are do does did can could will would have has")
_WHOLE = _words(
    """
    yes no yeah yep nope okay ok sure stop thanks please hello hi hey goodbye bye right exactly correct wait
    """
)


_BACKCHANNELS = _words(
    "mm mhm mm-hm mhmm mm-hmm hmm hm uh-huh aha ah oh yeah yep okay ok right sure really wow i see"
)


def is_backchannel(transcript: str) -> bool:
    """Return whether a person who says that over a voice wants it to go on."""
    words = [word.strip(".,!?;:\"'").lower() for word in transcript.split()]
    return 0 < len(words) <= 3 and all(word in _BACKCHANNELS for word in words)


def completeness(transcript: str) -> float:
    """Return how much the words look like a whole: 1 finished, 0 cut in the middle, 0.5 unknown."""
    text = transcript.strip()
    words = [word.strip(".,!?;:\"'").lower() for word in text.split()]
    words = [word for word in words if word]
    if not words:
        return 0.5
    if text.endswith((",", "-", "…", "...")):
        return 0.1
    if words[-1] in _OPEN_ENDS and not (len(words) == 1 and words[0] in _WHOLE):
        return 0.05
    if text.endswith(("?", "!")):
        return 0.95
    if text.endswith("."):
        return 0.85
    if words[0] in _WHOLE and len(words) <= 3:
        return 0.9
    if words[0] in _QUESTIONS and len(words) >= 3:
        return 0.8
    return 0.6 if len(words) >= 4 else 0.45


def weigh_words(sound: float, pause: Pause) -> float:
    """Return how finished the turn is, 0 to 1, when it sounds `sound` finished and these are the words."""
    if pause.completeness is not None:
        return pause.completeness
    if pause.transcript:
        return 0.35 * sound + 0.65 * completeness(pause.transcript)
    return sound


def weigh_late_words(answer: float | None, asked: Pause, known: Pause) -> float:
    """Return the seconds to wait when a judge was asked about `asked`, and `known` is what is known by now.

    Until the `answer` is there, as long as if the turn were not finished.
    """
    bounds = bounds_of(known)
    if answer is None:
        return bounds.unfinished
    if known.transcript == asked.transcript:
        return answer
    sound = (bounds.unfinished - answer) / (bounds.unfinished - bounds.finished)
    return bounds.between(weigh_words(min(1.0, max(0.0, sound)), known))


def bounds_of(pause: Pause) -> Bounds:
    """Return between which waits a judge may choose: by the eagerness, and by what the program has asked for.

    An answer of a word or two is over when it sounds finished, and is not waited for long if it does not. A person
    who dictates an address or tells a story stops between the parts, and each part sounds finished: there the
    rules go by how much has been said (`prosody.WEIGHTS`).
    """
    bounds = BOUNDS[pause.eagerness]
    if pause.expects is Expects.SHORT:
        return Bounds(bounds.finished, 0.5 * (bounds.finished + bounds.unfinished), bounds.certain)
    if pause.expects is Expects.LONG:
        return Bounds(bounds.between(0.7), 1.25 * bounds.unfinished, bounds.certain)
    return bounds


class RuleEndpointer:
    """The default: rules on prosody, on the speaker's own pauses, and on words if there are any."""

    _LONGEST_LOOK = 5 * DETECTOR_RATE // 2

    def wait(self, pause: Pause) -> float:
        """Return the seconds of silence after which the turn is over."""
        bounds = bounds_of(pause)
        if pause.completeness is not None and pause.completeness >= 1.0:
            return bounds.certain
        wait = bounds.between(self.finished(pause))
        if pause.pauses:
            # A speaker who pauses long inside sentences gets half as much again, within the bounds.
            wait = max(wait, min(1.5 * float(np.median(pause.pauses)), bounds.unfinished))
        return wait

    def finished(self, pause: Pause) -> float:
        """Return how finished the turn sounds, 0 to 1."""
        if pause.completeness is not None:
            return pause.completeness
        heard = _heard(pause.utterance[-self._LONGEST_LOOK :].tobytes())
        return weigh_words(sounds_finished(heard, pause.speech, WEIGHTS[pause.expects]), pause)


@lru_cache(maxsize=16)
def _heard(sound: bytes) -> Prosody:
    """Return how it ends. It takes 5 to 10 ms, and is asked again when there are words."""
    return prosody(np.frombuffer(sound, np.int16))


class SmartTurnEndpointer:
    """A smart-turn model of version 3 from a file that the user has: log-mel of 8 s in, probability out.

    It needs `onnxruntime`. One call takes 100 to 300 ms on one core: call it off the loop. It is given what it was
    trained with: at the end of eight seconds the turn from its onset, and 0.2 s of the silence after it.
    """

    SECONDS: Final = 8
    _SILENCE = DETECTOR_RATE // 5
    _MELS = 80
    _FFT = 400
    _HOP = 160

    def __init__(self, model: str) -> None:
        self._session = load_model(model)
        inputs = self._session.get_inputs()
        if len(inputs) != 1 or list(inputs[0].shape[1:]) != [self._MELS, self.SECONDS * 100]:
            raise LocalError(f"{model} is not a smart-turn model of version 3")
        self._input = inputs[0].name
        self._filters = _mel_filters(self._MELS, self._FFT)
        self._window = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(self._FFT) / self._FFT)).astype(np.float32)

    def probability(self, sound: Int16) -> float:
        """Return the probability that the turn is complete; the last 8 s count."""
        output = self._session.run(None, {self._input: self.features(sound)[None]})[0]
        return float(np.asarray(output).reshape(-1)[0])

    def wait(self, pause: Pause) -> float:
        """Return the seconds of silence after which the turn is over."""
        sound = np.concatenate([pause.utterance, pause.silence[: self._SILENCE]])
        return bounds_of(pause).between(weigh_words(self.probability(sound), pause))

    def features(self, sound: Int16) -> Float:
        """Return the log-mel spectrogram of shape (80, 800): silence before, the sound at the end."""
        count = self.SECONDS * DETECTOR_RATE
        signal = sound[-count:].astype(np.float32) / 32768.0
        signal = np.pad(signal, (count - len(signal), 0))
        signal = (signal - signal.mean()) / np.sqrt(signal.var() + 1e-7)
        padded = np.pad(signal, self._FFT // 2, mode="reflect")
        frames = np.lib.stride_tricks.sliding_window_view(padded, self._FFT)[:: self._HOP][:-1] * self._window
        power = np.abs(np.fft.rfft(frames, axis=1)) ** 2
        logarithm: npt.NDArray[np.float64] = np.log10(np.maximum(self._filters @ power.T, 1e-10))
        logarithm = np.maximum(logarithm, logarithm.max() - 8.0)
        scaled: Float = ((logarithm + 4.0) / 4.0).astype(np.float32)
        return scaled


def _mel_filters(count: int, size: int) -> npt.NDArray[np.float64]:
    """Return triangular filters on Slaney's mel scale, each of the same area, of shape (count, size // 2 + 1)."""

    def to_mel(hertz: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        linear = 3.0 * hertz / 200.0
        return np.where(
            hertz < 1000.0, linear, 15.0 + np.log(np.maximum(hertz, 1.0) / 1000.0) * 27.0 / np.log(6.4)
        )

    def to_hertz(mel: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return np.where(mel < 15.0, 200.0 * mel / 3.0, 1000.0 * np.exp(np.log(6.4) / 27.0 * (mel - 15.0)))

    top = to_mel(np.array([DETECTOR_RATE / 2.0]))[0]
    edges = to_hertz(np.linspace(0.0, top, count + 2))
    bins = np.linspace(0.0, DETECTOR_RATE / 2.0, size // 2 + 1)
    rising = (bins[None, :] - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - bins[None, :]) / (edges[2:] - edges[1:-1])[:, None]
    triangles = np.maximum(0.0, np.minimum(rising, falling))
    filters: npt.NDArray[np.float64] = triangles * (2.0 / (edges[2:] - edges[:-2]))[:, None]
    return filters
