"""A caller for the tests of your own program: it speaks, interrupts at a moment, and knows what it heard and when.

    from stack.testing import Caller, run_call

    def test_it_stops_when_it_is_interrupted() -> None:
        async def scenario(caller: Caller) -> None:
            await caller.say("tell me a story")                     # or a WAV file, or samples with their rate
            await caller.interrupt("please stop now", after=1.0)    # once it has been heard for a second
            assert (await caller.reply_heard()).duration < 2.5

        run_call(program, scenario)

`run_call` runs in virtual time: a call of minutes takes as long as its codec computes. A program that uses the
network or threads of its own cannot: `run_call(…, virtual=False)`, or `async with calling(program) as caller`,
place the same call over loopback. No test framework is needed.
"""

from stack.testing.caller import Caller, Heard
from stack.testing.calls import calling, run_call
from stack.testing.clock import VirtualTimeLoop

__all__ = ["Caller", "Heard", "VirtualTimeLoop", "calling", "run_call"]
