"""Writes down what is said, offline; `pip install 'voice-stack[demo]'`, then `python examples/transcriber.py`.

The recogniser knows a small grammar. Put any other in its place: it is handed whole turns of 16 kHz samples.
"""

import asyncio

from stack import Call, serve
from stack.agents.speech import Recogniser

GRAMMAR = """#JSGF V1.0; grammar g;
public <s> = (go | turn | move) (forward | back | left | right) [(one | two | three | ten) (meters | steps)];"""


async def transcribe(call: Call) -> None:
    """Tell the client what was understood of each turn."""
    recogniser = await asyncio.to_thread(Recogniser, GRAMMAR)
    async for turn in call.utterances():
        text = turn.text or await asyncio.to_thread(recogniser.recognise, turn.samples)
        call.transcribed(text)
        print(f"{turn.duration:5.1f} s  {text or '(not understood)'}", flush=True)


if __name__ == "__main__":
    serve(transcribe)
