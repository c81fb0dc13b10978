"""Writes down what is said, offline; `pip install 'voice-stack[demo]'`, then `python examples/transcriber.py`.

The recogniser knows a small grammar. Put any other in its place that can `push` samples of 16 kHz while a turn
comes, say its `hypothesis` in a pause, and `finish`.
"""

import asyncio

from stack import Call, serve
from stack.agents.speech import Recogniser

GRAMMAR = """#JSGF V1.0; grammar g;
public <s> = (go | turn | move) (forward | back | left | right) [(one | two | three | ten) (meters | steps)];"""


async def transcribe(call: Call) -> None:
    """Tell the client what was understood of each turn."""
    recogniser = await asyncio.to_thread(Recogniser, GRAMMAR)
    async for turn in call.utterances(recogniser):
        call.transcribed(turn.text)
        print(f"{turn.duration:5.1f} s  {turn.text or '(not understood)'}", flush=True)


if __name__ == "__main__":
    serve(transcribe)
