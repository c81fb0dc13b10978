"""What a program knows of a reply when the person hangs up in the middle of it."""

from __future__ import annotations

import numpy as np
import pytest

from stack import Call
from stack.aio import Reply
from stack.testing import Caller, run_call

RATE = 16_000


@pytest.mark.parametrize("seconds", [5, 30])  # the longer one still writes when it happens
@pytest.mark.parametrize("at_once", [True, False])
def test_the_program_knows_what_was_heard(seconds: int, at_once: bool) -> None:
    voices: list[Reply] = []
    tone = (9000 * np.sin(2 * np.pi * 500 * np.arange(seconds * RATE) / RATE)).astype(np.int16)

    async def program(call: Call) -> None:
        async with call.reply() as voice:
            voices.append(voice)
            for at in range(0, len(tone), len(tone) if at_once else RATE // 2):
                await voice.write(tone[at:][: len(tone) if at_once else RATE // 2], RATE)

    async def scenario(caller: Caller) -> None:
        await caller.until(lambda: caller.heard and caller.heard[0].duration >= 1.5)
        caller.call.hang_up()
        await caller.call.wait_ended()

    run_call(program, scenario)
    assert voices[0].interrupted
    assert voices[0].heard_ms == pytest.approx(1500, abs=150)
