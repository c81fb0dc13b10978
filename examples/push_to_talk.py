"""Listens while a key is held and plays it back when it is let go: `python examples/push_to_talk.py`.

The key is the page's "push to talk", or `input_audio_buffer.commit` of an OpenAI client with turn detection off.
"""

from stack import Call, serve
from stack.voice import TurnMode, TurnSettings


async def walkie_talkie(call: Call) -> None:
    """Repeat each turn whole."""
    call.configure_turns(TurnSettings(mode=TurnMode.MANUAL))
    async for turn in call.utterances():
        async with call.reply() as voice:
            await voice.write(turn.samples, turn.sample_rate)
        if voice.interrupted:
            print(f"interrupted after {voice.heard_ms:.0f} ms", flush=True)


if __name__ == "__main__":
    serve(walkie_talkie)
