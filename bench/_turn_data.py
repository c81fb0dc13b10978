"""Turns whose end is known, recorded or synthetic, and with the silences of a person who thinks.

A folder holds one turn in each `NAME.wav` (16 bit, 16 kHz, mono). It ends where the last label of `NAME.txt` or
`NAME.scv` ends (as for `bench hearing`), and without one at its last sound.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench._voices import RATE, VOICES, last_sound, levelled, pcm, sounding, spoken
from bench.hearing import label_spans, samples_of
from stack.core.errors import LocalError

PAUSES = (0.25, 1.5)
"""Seconds that a person thinks for."""
LEAD = 0.5
TAIL = 3.0
"""Seconds of the recording's own background before and after a turn."""

LONG = """I would like to book a table for four people, on Friday evening, somewhere near the station.
Well, I have been trying to reach you all morning, but nobody picked up.
Could you tell me, please, when the next train to Hamburg leaves?
If it rains tomorrow, we could move the meeting to Thursday.
First I went to the bank, then I went to the post office, and after that I came straight home.
Please send it to fourteen Maple Street, apartment three, Springfield, Illinois.
My number is five five five, two eight one, four four six seven.
When I opened the box, the lamp was broken, and one of the screws was missing.
I need two tickets for tonight, if there are any left.
Can you play some music, something calm, without any singing?
Turn off the lights in the kitchen, and set an alarm for half past six.
My mother, who lives in Canada, is coming to visit us in the summer.
To be honest, I have no idea what it means.
I tried restarting it, I tried unplugging it, and nothing helped.
Remind me to call the dentist, tomorrow at nine.
She lives at twenty two Church Road, in the old part of town, right behind the library.""".splitlines()
SHORT_ANSWERS = """Yes.
No.
Okay.
Tomorrow.
Seven.
Maria.
Yes, please.
No, thank you.
On Monday.
Twenty two.
I don't know.
The first one.""".splitlines()


@dataclass(frozen=True)
class KnownTurn:
    """A turn from its first to its last sound, float32 in int16 scale, and the RMS of what is behind it."""

    samples: np.ndarray
    background: float

    def whole(self, rng: np.random.Generator) -> tuple[np.ndarray, float]:
        """Return it between two silences, as int16, and the second at which it ends."""
        noise = [rng.standard_normal(round(seconds * RATE)) * self.background for seconds in (LEAD, TAIL)]
        return pcm(np.concatenate([noise[0], self.samples, noise[1]])), LEAD + len(self.samples) / RATE

    def thinking(self, rng: np.random.Generator, pauses: int) -> tuple[np.ndarray, float]:
        """Return it with so many silences at quiet places 0.6 s from its ends and from each other, or fewer."""
        loud = sounding(self.samples)
        quiet = [i for i in range(60, len(loud) - 60) if not loud[i - 2 : i + 3].any()]
        places: list[int] = []
        for place in rng.permutation(quiet).astype(int).tolist():
            if len(places) < pauses and all(abs(place - other) > 60 for other in places):
                places.append(place)
        parts, at = [], 0
        for place in sorted(places):
            silence = rng.standard_normal(round(rng.uniform(*PAUSES) * RATE)) * self.background
            parts += [self.samples[at * 160 : place * 160], silence.astype(np.float32)]
            at = place
        longer = np.concatenate([*parts, self.samples[at * 160 :]])
        return KnownTurn(longer, self.background).whole(rng)


def known(samples: np.ndarray, end: int | None = None) -> KnownTurn:
    """Return the turn in a recording, which ends at its last sound, or at sample `end`."""
    voice = levelled(samples)
    blocks = voice[: len(voice) // 160 * 160].reshape(-1, 160)
    background = max(1.0, float(np.percentile(np.std(blocks, axis=1), 5)))
    return KnownTurn(voice[: last_sound(voice) if end is None else end], background)


def recorded(folder: Path) -> list[KnownTurn]:
    """Return the turns of a folder; `LocalError` if it has none, or one cannot be read."""
    found = []
    for path in sorted(folder.glob("*.wav")):
        samples = samples_of(path)
        if len(samples) < RATE // 4 or not samples.any():
            raise LocalError(f"{path} holds no turn")
        spans = label_spans(path)
        found.append(known(samples, round(spans[-1][1] * RATE) if spans else None))
    if not found:
        raise LocalError(f"{folder} has no NAME.wav")
    return found


def synthetic(texts: list[str]) -> list[KnownTurn]:
    """Return what is to be said, in the synthesiser's voices by turns."""
    return [known(spoken(text, *VOICES[k % len(VOICES)])) for k, text in enumerate(texts)]
