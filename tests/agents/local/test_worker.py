import asyncio
import io
import os
import signal
import sys
from contextlib import suppress

import numpy as np
import pytest

from stack.agents.local.frames import PipeFrame, read_frame, write_frame
from stack.agents.local.worker import COMMAND, Worker
from stack.core.errors import LocalError
from tests.agents.local.conftest import FAKE

QUESTION = [{"role": "user", "content": "What?"}]


async def told(condition, patience=5.0):
    async with asyncio.timeout(patience):
        while not condition():
            await asyncio.sleep(0.01)


class TestFrames:
    def test_there_and_back(self):
        pipe = io.BytesIO()
        frames = [PipeFrame({"id": 1, "text": "é"}, b"\x00\xff" * 1000), PipeFrame({}), PipeFrame({"id": 2}, b"x")]
        for frame in frames:
            write_frame(pipe, frame)
        pipe.seek(0)
        assert [read_frame(pipe) for _ in range(4)] == [*frames, None]

    def test_the_other_end_died_in_a_frame(self):
        pipe = io.BytesIO()
        write_frame(pipe, PipeFrame({"id": 1}, b"sound"))
        whole = pipe.getvalue()
        assert all(read_frame(io.BytesIO(whole[:size])) is None for size in range(len(whole)))


class TestWorker:
    async def test_each_gets_its_own_answers(self, worker):
        sounds = [np.zeros(16_000 * seconds, np.int16) for seconds in (1, 2, 3)]
        heard = await asyncio.gather(*map(worker.recognise, sounds))
        assert [text.split()[-2] for text in heard] == ["1", "2", "3"]
        samples, rate = await worker.synthesise("Hello.")
        assert (len(samples), rate) == (6 * 640, 16_000)
        assert samples.dtype == np.int16
        async with worker.generating(QUESTION, 0, 3) as generation:
            pieces = [piece async for piece in generation]
        assert pieces == [f"This is number {index}. " for index in range(3)]
        assert generation.cut

    async def test_leaving_early_stops_the_model(self, worker, asked):
        async with worker.generating(QUESTION, 0, 10_000) as generation:
            await anext(generation)
        await told(lambda: any("stopped" in head for head in asked()))

    async def test_cancelling_stops_the_model(self, worker, asked):
        async def generate():
            async with worker.generating(QUESTION, 1, 10_000) as generation:
                async for _ in generation:
                    pass

        task = asyncio.create_task(generate())
        await told(lambda: any(head.get("type") == "generate" for head in asked()))
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        await told(lambda: any("stopped" in head for head in asked()))

    async def test_a_request_that_fails_raises_and_the_next_does_not(self, worker):
        with pytest.raises(LocalError, match="it hurts"):
            async with worker.generating([{"role": "user", "content": "Fail."}], 0, 3) as generation:
                await anext(generation)
        assert len((await worker.synthesise("Yes"))[0])

    async def test_when_the_process_dies_nobody_waits_for_ever(self, worker):
        with pytest.raises(LocalError, match="crashed"):
            async with (
                asyncio.timeout(10),
                worker.generating([{"role": "user", "content": "Die."}], 0, 3) as generation,
            ):
                await anext(generation)
        with pytest.raises(LocalError, match="gone"):
            await worker.synthesise("Hello?")
        assert not worker.alive

    async def test_as_many_conversations_as_there_is_room_for(self, worker):
        slots = [worker.lease(), worker.lease()]
        assert sorted(slots) == [0, 1]
        assert worker.lease() is None
        worker.give_back(1)
        assert worker.lease() == 1

    def test_it_ends_with_the_server(self, log):
        worker = Worker((sys.executable, str(FAKE), str(log)))
        os.kill(worker.pid, 0)
        worker.close()
        assert not worker.alive
        with pytest.raises(ProcessLookupError):
            os.kill(worker.pid, signal.SIGCONT)

    @pytest.mark.parametrize(("how", "said"), [("-lacking", "lacks piper: pip install"), ("-crash", "crashed")])
    def test_one_that_does_not_start_says_why(self, how, said):
        with pytest.raises(LocalError, match=said):
            Worker((sys.executable, str(FAKE), how))

    def test_without_the_extra_there_is_one_line_with_the_command(self):
        blocked = (
            "import sys; sys.modules['ctranslate2'] = None\nfrom stack.agents.local.models import main; main()"
        )
        with pytest.raises(LocalError, match=r"lacks ctranslate2: pip install .*\[local\]") as raised:
            Worker((*COMMAND[:1], "-c", blocked))
        assert "\n" not in str(raised.value)
