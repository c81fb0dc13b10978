"""Hears and speaks at once, without turns: a metronome that follows how loud you are.

`python examples/full_duplex.py`
"""

import numpy as np

from stack import Call, serve
from stack.voice import TurnMode, TurnSettings

RATE = 16_000
CLICK = (12_000 * np.sin(2 * np.pi * 1500 * np.arange(RATE // 50) / RATE)).astype(np.int16)


async def metronome(call: Call) -> None:
    """Click twice a second of what is heard, and four times while it is loud."""
    call.configure_turns(TurnSettings(mode=TurnMode.FULL_DUPLEX))
    since_click = 0.0
    async for frame in call.microphone:
        since_click += len(frame.samples) / frame.sample_rate
        loud = int(np.abs(frame.samples).max()) > 3000
        if since_click >= (0.25 if loud else 0.5):
            since_click = 0.0
            call.speaker.write(CLICK, RATE)


if __name__ == "__main__":
    serve(metronome)
