"""The agent on real calls, with servers that stream, are slow, fail and hang."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest

pytest.importorskip("openai", reason="openai is not installed: the extra http")

from stack.agents.http import HttpAgentConfig, Patience, http_agent
from stack.agents.http.history import MAX_HISTORY, ChatHistory
from stack.agents.http.services import ToolCall
from stack.agents.http.thoughts import Thoughts
from stack.aio import Call, HostConfig, control_of
from stack.core.errors import LocalError
from stack.events import ReplyFinished, ReplyInterrupted, ReplyStarted, ReplyText, UserTranscript, Utterance
from stack.signaling.client import dial
from stack.signaling.server import ServeConfig, serving
from tests.agents.http.model_server import (
    BREAK,
    HANG,
    ModelServer,
    Reply,
    as_json,
    events,
    model_server,
    refusal,
    speech,
    tone,
    words,
)
from tests.listening import until

QUICK = Patience(connect=2, transcript=3, first_token=3, next_token=2, first_sound=3, next_sound=2, tool=2)


class Line:
    """The program's call, and what happened on it; turns are typed, so that no speech detector has a part."""

    def __init__(self, call: Call) -> None:
        self.call = call
        self.heard: list[Any] = []

    async def follow(self) -> None:
        async for event in self.call.watch():
            self.heard.append(event)

    def say(self, text: str = "") -> None:
        """Type a turn; without a text it is sound, to be recognised."""
        samples = np.zeros(0 if text else 1600, np.int16)
        control_of(self.call).hand_over(Utterance(samples, 16_000, 0.0, 0.0, 0.0, text))

    async def wait(self, kind: type, count: int = 1) -> Any:
        await until(lambda: len(self.of(kind)) >= count, 20)
        return self.of(kind)[count - 1]

    def of(self, kind: type) -> list[Any]:
        return [event for event in self.heard if isinstance(event, kind)]

    def text(self) -> str:
        return "".join(event.text for event in self.of(ReplyText))


@asynccontextmanager
async def talking(models: ModelServer, **settings: Any) -> AsyncIterator[Line]:
    agent = http_agent(HttpAgentConfig(models.url, patience=QUICK, **settings))
    line: asyncio.Future[Line] = asyncio.get_running_loop().create_future()

    async def program(call: Call) -> None:
        mine = Line(call)
        following = asyncio.create_task(mine.follow())
        line.set_result(mine)
        try:
            await agent(call)
        finally:
            following.cancel()

    config = ServeConfig(port=0, media=HostConfig(host="127.0.0.1", udp_port=0))
    async with (
        asyncio.timeout(60),
        serving(program, config) as server,
        dial(server.url) as placed,
    ):
        await placed.call.wait_connected()
        yield await line


@pytest.fixture
async def models() -> AsyncIterator[ModelServer]:
    async with model_server() as running:
        yield running


pytestmark = pytest.mark.real_clock


def said_to(models: ModelServer, number: int = -1) -> list[tuple[str, str]]:
    """The conversation that the model was told, without the instructions."""
    messages = models.of("/chat/completions")[number].json["messages"]
    return [(message["role"], message["content"]) for message in messages[1:]]


async def test_a_turn_is_recognised_answered_and_spoken(models: ModelServer) -> None:
    models.chats += [lambda _: words("Good morning, dear. How are you today?"), lambda _: words("Fine.")]
    async with talking(models, instructions="Be brief.") as line:
        line.say()
        await line.wait(ReplyFinished)
        line.say("and you?")
        await line.wait(ReplyFinished, 2)
    assert [event.text for event in line.of(UserTranscript)] == ["hello there", "and you?"]
    assert line.text() == "Good morning, dear. How are you today?Fine."
    assert [asked.json["input"] for asked in models.of("/audio/speech")] == [
        "Good morning, dear.", "How are you today?", "Fine."
    ]  # fmt: skip
    assert models.of("/chat/completions")[0].json["messages"][0] == {"role": "system", "content": "Be brief."}
    assert said_to(models) == [
        ("user", "hello there"),
        ("assistant", "Good morning, dear. How are you today?"),
        ("user", "and you?"),
    ]


async def test_the_first_sentence_is_spoken_while_the_model_still_writes(models: ModelServer) -> None:
    first = words("This is the first sentence. And").parts[:-2]
    models.chats.append(lambda _: Reply([*first[:-1], HANG], "text/event-stream"))
    async with talking(models) as line:
        line.say("hello")
        await line.wait(ReplyStarted)
        assert models.of("/audio/speech")[0].json["input"] == "This is the first sentence."


async def test_an_interruption_cancels_the_requests_and_the_model_is_told_what_was_heard(
    models: ModelServer,
) -> None:
    long = "One two three four five six seven eight nine ten. " * 4
    stream = words(long).parts
    models.chats += [lambda _: Reply([*stream[:-3], HANG], "text/event-stream"), lambda _: words("All right.")]
    models.speeches.append(lambda _: speech(1.0))
    models.speeches += [lambda _: Reply([tone(3.0), HANG], "audio/pcm")] * 5
    async with talking(models) as line:
        line.say("count")
        await line.wait(ReplyStarted)
        await asyncio.sleep(0)
        call = line.call
        while (await call.stats()).totals.packets_sent < 70:  # 1.4 s: the first sentence, and some of the second
            await asyncio.sleep(0.01)
        call.interrupt()
        interrupted = await line.wait(ReplyInterrupted)
        for asked in (models.of("/chat/completions")[0], models.of("/audio/speech")[1]):
            async with asyncio.timeout(10):
                await asked.left_early.wait()
        line.say("stop")
        await line.wait(ReplyFinished)
    assert 1000 < interrupted.heard_ms < 3500
    assistant = said_to(models)[1]
    assert assistant[0] == "assistant"
    assert assistant[1].startswith("One two three four five six seven eight nine ten.")
    assert len("One two three four five six seven eight nine ten.") <= len(assistant[1]) < len(long) / 2
    assert said_to(models)[2] == ("user", "stop")


async def test_words_of_a_turn_that_was_interrupted_before_they_were_known_are_not_lost(
    models: ModelServer,
) -> None:
    known = asyncio.Event()
    models.transcripts.append(lambda _: Reply([known, b'{"text": "first words"}']))
    async with talking(models) as line:
        line.say()
        await until(lambda: models.of("/audio/transcriptions"))
        line.call.interrupt()
        await line.wait(ReplyInterrupted)
        line.say("second words")
        known.set()
        await line.wait(ReplyFinished)
    assert said_to(models) == [("user", "first words second words")]
    assert [event.text for event in line.of(UserTranscript)] == ["first words", "second words"]


async def test_functions_are_called_and_their_results_told(models: ModelServer) -> None:
    def weather(city: str) -> str:
        """The weather in a city."""
        return f"rain in {city}"

    async def clock() -> str:
        """The time."""
        return "noon"

    def call(index: int, name: str, arguments: str) -> dict[str, Any]:
        return {"index": index, "id": f"id{index}", "function": {"name": name, "arguments": arguments}}

    wanted = {
        "tool_calls": [call(0, "weather", '{"city": "York"}'), call(1, "clock", ""), call(2, "nothing", "{}")]
    }
    models.chats += [
        lambda _: events({"content": "Let me look. "}, wanted, finish="tool_calls"),
        lambda _: words("It rains in York."),
        lambda _: words("Yes."),
    ]
    async with talking(models, tools=(weather, clock)) as line:
        line.say("how is the weather?")
        await line.wait(ReplyFinished)
        line.say("sure?")
        await line.wait(ReplyFinished, 2)
    assert line.text() == "Let me look. It rains in York.Yes."
    first, second, third = models.of("/chat/completions")
    assert [tool["function"]["name"] for tool in first.json["tools"]] == ["weather", "clock"]
    outputs = {m["tool_call_id"]: m["content"] for m in second.json["messages"] if m["role"] == "tool"}
    assert (outputs["id0"], outputs["id1"]) == ("rain in York", "noon")
    assert outputs["id2"] == "error: there is no function 'nothing'"
    roles = [message["role"] for message in third.json["messages"]]
    assert roles == ["system", "user", "assistant", "tool", "tool", "tool", "assistant", "user"]
    assert second.json["messages"][2]["content"] == "Let me look."  # else it is said again
    assert [third.json["messages"][at]["content"] for at in (2, -2)] == ["Let me look.", "It rains in York."]


async def test_words_before_a_function_that_was_interrupted_stand_before_it(models: ModelServer) -> None:
    async def order(what: str) -> str:
        """Order something."""
        await asyncio.Event().wait()
        return "ordered"

    wanted = {"tool_calls": [{"index": 0, "id": "a", "function": {"name": "order", "arguments": '{"what": "x"}'}}]}
    models.chats.append(lambda _: events({"content": f"{LONG} Wait. "}, wanted, finish="tool_calls"))
    models.speeches.append(lambda _: speech(6.6))
    async with talking(models, tools=(order,)) as line:
        line.say("order it")
        while (await line.call.stats()).totals.packets_sent < 50:
            await asyncio.sleep(0.01)
        line.call.interrupt()
        await line.wait(ReplyInterrupted)
        line.say("and now?")
        await line.wait(ReplyFinished)
    _user, asked, told, _next = said_to(models)
    assert asked[0] == "assistant"
    assert 5 < len(asked[1]) < 30
    assert LONG.startswith(asked[1])
    assert told == ("tool", "error: the person interrupted before this had returned")


@pytest.mark.parametrize("arguments", ['{"city": "Yo', "[1]", "null", "York"])
async def test_arguments_that_are_no_object_are_told_and_kept_out_of_the_history(
    models: ModelServer, arguments: str
) -> None:
    """Servers read the arguments of earlier calls again, and refuse every request after one that is no JSON."""

    def weather(city: str) -> str:
        """The weather in a city."""
        return city

    wanted = {"tool_calls": [{"index": 0, "id": "a", "function": {"name": "weather", "arguments": arguments}}]}
    models.chats += [lambda _: events(wanted, finish="tool_calls"), lambda _: words("Which city?")]
    async with talking(models, tools=(weather,)) as line:
        line.say("how is the weather?")
        await line.wait(ReplyFinished)
    called, returned = models.of("/chat/completions")[1].json["messages"][-2:]
    assert called["tool_calls"][0]["function"]["arguments"] == "{}"
    assert returned["content"] == f"error: the arguments are no JSON object: {arguments}"


TOO_LONG = (400, "This model's maximum context length is 64 tokens. However, you requested 80 tokens.")


async def test_a_conversation_that_is_too_long_for_the_model_loses_its_older_half(
    models: ModelServer, caplog: pytest.LogCaptureFixture
) -> None:
    async with talking(models) as line:
        for number in range(4):
            line.say(f"turn {number}")
            await line.wait(ReplyFinished, number + 1)
        models.chats.append(lambda _: refusal(*TOO_LONG))
        line.say("turn 4")
        await line.wait(ReplyFinished, 5)
        assert "does not answer" not in line.text()
        assert [text for role, text in said_to(models) if role == "user"] == ["turn 3", "turn 4"]
        models.chats += [lambda _: refusal(*TOO_LONG)] * 5
        line.say("turn 5")
        await line.wait(ReplyFinished, 6)
        assert line.text().endswith("the language model does not answer.")  # one turn is too long
        assert said_to(models) == [("user", "turn 5")]
    assert caplog.text.count("it is told half of the conversation") >= 2


async def test_halves_of_surrogate_pairs_come_from_every_server_and_harm_none(models: ModelServer) -> None:
    def files() -> str:
        return "a\udcff.txt"  # as `os.listdir` gives a name that is no UTF-8

    wanted = {"tool_calls": [{"index": 0, "id": "id0", "function": {"name": "files", "arguments": "{}"}}]}
    models.transcripts.append(lambda _: as_json({"text": "half\ud800 of it"}))
    models.chats += [
        lambda _: events(wanted, finish="tool_calls"),
        lambda _: events({"content": "So \ud83d"}, {"content": "\ude00 and \ud83d."}, escaped=True),
    ]
    async with talking(models, tools=(files,), instructions="Be \udcff.") as line:
        line.say()
        await line.wait(ReplyFinished)
    assert [event.text for event in line.of(UserTranscript)] == ["half\ufffd of it"]
    assert line.text() == "So \U0001f600 and \ufffd."
    messages = models.of("/chat/completions")[-1].json["messages"]
    assert [m["content"] for m in messages] == ["Be \ufffd.", "half\ufffd of it", "", "a\ufffd.txt"]


async def test_a_function_that_goes_wrong_costs_neither_turn_nor_call(models: ModelServer) -> None:
    async def given_up() -> None:
        work = asyncio.create_task(asyncio.Event().wait())
        await asyncio.sleep(0)
        work.cancel()
        await work

    async def cancels_itself() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(0)

    def circle() -> list[object]:
        made: list[object] = []
        made.append(made)
        return made

    tools = (given_up, cancels_itself, circle)
    wanted = [
        {"index": index, "id": f"id{index}", "function": {"name": tool.__name__, "arguments": "{}"}}
        for index, tool in enumerate(tools)
    ]
    models.chats += [
        lambda _: events({"tool_calls": wanted}, finish="tool_calls"),
        lambda _: words("It did not work."),
    ]
    async with talking(models, tools=tools) as line:
        line.say("try")
        await line.wait(ReplyFinished)
    assert line.text() == "It did not work."
    outputs = [m["content"] for m in models.of("/chat/completions")[1].json["messages"] if m["role"] == "tool"]
    assert outputs == ["error: CancelledError", "error: the function was cancelled", "[[...]]"]


async def test_functions_of_the_client_are_called_too(models: ModelServer) -> None:
    wanted = {"tool_calls": [{"index": 0, "id": "a", "function": {"name": "lamp", "arguments": '{"on": true}'}}]}
    models.chats += [lambda _: events(wanted, finish="tool_calls"), lambda _: words("It is on.")]
    agent = http_agent(HttpAgentConfig(models.url, patience=QUICK))
    config = ServeConfig(port=0, media=HostConfig(host="127.0.0.1", udp_port=0))
    async with (
        asyncio.timeout(60),
        serving(agent, config) as server,
        dial(server.url + "/v1/realtime/calls") as placed,
    ):
        await placed.call.wait_connected()
        channel = await placed.call.open_channel("oai-events")
        lamp = {"type": "function", "name": "lamp", "parameters": {"type": "object"}}
        session = {"type": "realtime", "tools": [lamp], "instructions": "You are a butler."}
        item = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "light!"}]}
        for kind, fields in (
            ("session.update", {"session": session}),
            ("conversation.item.create", {"item": item}),
            ("response.create", {}),
        ):
            await channel.send(json.dumps({"type": kind, **fields}))
        async for message in channel:
            event = json.loads(message)
            if event["type"] == "response.function_call_arguments.done":
                output = {"type": "function_call_output", "call_id": event["call_id"], "output": "done"}
                await channel.send(json.dumps({"type": "conversation.item.create", "item": output}))
                await channel.send(json.dumps({"type": "response.create"}))
            if event["type"] == "response.output_audio_transcript.delta":
                assert event["delta"] == "It is on."
                break
    first, second = models.of("/chat/completions")
    assert first.json["messages"][0]["content"] == "You are a butler."
    assert second.json["messages"][-1] == {"role": "tool", "tool_call_id": "a", "content": "done"}


@pytest.mark.parametrize(
    ("kind", "reply", "spoken", "logged"),
    [
        ("transcripts", refusal(500, "no GPU"), "the speech recognition does not answer", "answered 500: no GPU"),
        (
            "chats",
            refusal(429, "slow", **{"Retry-After": "60"}),
            "the language model does not answer",
            "Retry-After: 60",
        ),
        (
            "chats",
            Reply([HANG], "text/event-stream"),
            "the language model does not answer",
            "sent no text within 3 s",
        ),
        ("speeches", refusal(400, "no voice"), "the speech synthesis does not answer", "answered 400: no voice"),
        ("chats", Reply([b"<html>"], "text/html"), "the language model does not answer", "answered text/html"),
        ("chats", events({"content": 5}), "the language model does not answer", "sent int where text belongs"),
        (
            "speeches",
            Reply([tone(0.1)], "audio/pcm; rate=999999"),
            "the speech synthesis does not answer",
            "rate=999999",
        ),
    ],
)
async def test_a_server_that_fails_is_one_line_in_the_log_and_a_word_to_the_caller(
    models: ModelServer, caplog: pytest.LogCaptureFixture, kind: str, reply: Reply, spoken: str, logged: str
) -> None:
    caplog.set_level(logging.ERROR)
    getattr(models, kind).append(lambda _: reply)
    async with talking(models) as line:
        line.say()
        finished = await line.wait(ReplyFinished)
        assert finished.heard_ms > 200  # words, or the tones where there is no voice
        assert spoken in line.text()
        errors = [record.getMessage() for record in caplog.records if record.name == "stack.agents.http"]
        assert len(errors) == 1
        assert logged in errors[0]
        assert "\n" not in errors[0]
        line.say("once more")  # the call goes on
        await line.wait(ReplyFinished, 2)
    assert line.text().endswith("Good morning. How are you?")
    assert "does not answer" not in str(said_to(models))


async def test_an_answer_that_breaks_off_was_heard_as_far_as_it_came(models: ModelServer) -> None:
    begun = words("I will tell you. And then").parts[:-3]
    models.chats.append(lambda _: Reply([*begun, HANG], "text/event-stream"))
    async with talking(models) as line:
        line.say("a story")
        await line.wait(ReplyFinished)
        line.say("go on")
        await line.wait(ReplyFinished, 2)
    assert said_to(models)[1] == ("assistant", "I will tell you.")


LONG = "The parliament of the small northern country met yesterday afternoon to talk about the price of bread."


@pytest.mark.parametrize("interrupted", [False, True])
async def test_a_sentence_whose_voice_fails_was_heard_as_far_as_it_came(
    models: ModelServer, interrupted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if interrupted:
        monkeypatch.setattr("stack.agents.http.agent.FAILURE_TONE", np.zeros(16_000 * 5, np.int16))
    models.chats.append(lambda _: words(f"Here are the news. {LONG}"))
    models.speeches += [lambda _: speech(0.5), lambda _: Reply([tone(1.5), BREAK], "audio/pcm")]
    async with talking(models) as line:
        if interrupted:  # in the tones that say that the voice has failed
            line.say("the news")
            await until(lambda: "does not answer" in line.text())
            while (await line.call.stats()).totals.packets_sent < 104:  # 2.0 s of them are sentences
                await asyncio.sleep(0.005)
            line.call.interrupt()
            await line.wait(ReplyInterrupted)
        else:
            line.say("the news")
            await line.wait(ReplyFinished)
        line.say("go on")
        await line.wait(ReplyFinished, 1 if interrupted else 2)
    role, told = said_to(models)[1]
    assert role == "assistant"
    assert told.startswith("Here are the news. The parliament of")
    assert len("Here are the news. ") + 10 < len(told) < 60  # of 6.6 s that it would have taken, 1.5 s


async def test_the_time_of_an_apology_is_not_that_of_the_answer(models: ModelServer) -> None:
    """A turn that is not recognised is apologised for in the same reply that answers the next one."""
    known = asyncio.Event()
    models.transcripts.append(lambda _: Reply([known, b"{nonsense"]))
    models.chats.append(lambda _: words(LONG))
    models.speeches += [lambda _: speech(3.0), lambda _: Reply([tone(6.0), HANG], "audio/pcm")]
    async with talking(models) as line:
        line.say()
        await until(lambda: models.of("/audio/transcriptions"))
        line.call.interrupt()
        await line.wait(ReplyInterrupted)
        line.say("the news")
        known.set()
        await until(lambda: "parliament" in line.text())
        while (await line.call.stats()).totals.packets_sent < 175:  # 3.5 s, of which 3.0 s are the apology
            await asyncio.sleep(0.01)
        line.call.interrupt()
        await line.wait(ReplyInterrupted, 2)
        line.say("go on")
        await line.wait(ReplyFinished)
    told = "".join(content for role, content in said_to(models) if role == "assistant")
    assert len(told) < len(LONG) / 3


async def test_a_greeting_is_spoken_first(models: ModelServer) -> None:
    async with talking(models, greeting="Hello, this is Joe.") as line:
        await line.wait(ReplyFinished)
        line.say("hi")
        await line.wait(ReplyFinished, 2)
    assert said_to(models) == [("assistant", "Hello, this is Joe."), ("user", "hi")]


async def test_noise_is_no_turn(models: ModelServer, caplog: pytest.LogCaptureFixture) -> None:
    models.transcripts.append(lambda _: Reply([b'{"text": " (music) "}']))
    async with talking(models) as line:
        line.say()
        line.say("hello")
        await line.wait(UserTranscript)
        await until(lambda: models.of("/audio/speech"))
    assert said_to(models) == [("user", "hello")]
    lines = [record.getMessage() for record in caplog.records if record.name == "stack.agents.http"]
    assert len(lines) == 1
    assert "heard no words" in lines[0]


async def test_an_answer_without_words_is_one_line_and_an_apology(
    models: ModelServer, caplog: pytest.LogCaptureFixture
) -> None:
    models.chats += [lambda _: events({"content": " "}), lambda _: events({"refusal": "I must not."})]
    async with talking(models) as line:
        line.say("hello")
        await line.wait(ReplyFinished)
        assert line.text() == "I am sorry, the language model does not answer."
        line.say("and now?")
        await line.wait(ReplyFinished, 2)
    assert line.text().endswith("I must not.")
    lines = [record.getMessage() for record in caplog.records if record.name == "stack.agents.http"]
    assert len(lines) == 1
    assert "answered without any words" in lines[0]


async def test_an_apology_stands_apart_from_what_was_said(models: ModelServer) -> None:
    begun = words("I will tell you. And then").parts[:-3]
    models.chats.append(lambda _: Reply([*begun, HANG], "text/event-stream"))
    async with talking(models) as line:
        line.say("a story")
        await line.wait(ReplyFinished)
        assert line.text().startswith("I will tell you. I am sorry")


def test_what_cannot_work_is_said_before_the_first_call(
    models: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(LocalError, match=r"voice-stack\[http\]"):
        http_agent(HttpAgentConfig(models.url)).prepare()


async def test_a_key_that_is_refused_is_said_before_the_first_call(models: ModelServer) -> None:
    models.others.append(lambda _: refusal(401, "who are you?"))
    with pytest.raises(LocalError, match="answered 401: who are you"):
        await asyncio.to_thread(http_agent(HttpAgentConfig(models.url, llm_key="wrong")).prepare)


async def test_a_server_without_a_list_of_models_may_do_all_the_same(
    models: ModelServer, caplog: pytest.LogCaptureFixture
) -> None:
    chosen = {"llm_model": "a", "stt_model": "b", "tts_model": "c"}
    await asyncio.to_thread(http_agent(HttpAgentConfig(models.url + "/nothing", **chosen)).prepare)
    assert caplog.text == ""
    with pytest.raises(LocalError, match="say which model"):
        await asyncio.to_thread(http_agent(HttpAgentConfig(models.url + "/nothing")).prepare)


@pytest.mark.parametrize("size", [1, 3, 100])
@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("<think>hm, let me see</think>\n\nIt is noon.", "It is noon."),
        ("It is <b>noon</b>.", "It is <b>noon</b>."),
        ("  <think>never", ""),
        ("<thin ice", "<thin ice"),
    ],
)
def test_what_a_model_thinks_is_not_spoken(text: str, said: str, size: int) -> None:
    thoughts = Thoughts()
    pieces = [text[at : at + size] for at in range(0, len(text), size)]
    assert "".join(thoughts.without(piece) for piece in pieces).strip() == said


def test_history_forgets_the_oldest_and_never_a_half_of_a_call() -> None:
    history = ChatHistory()
    for number in range(300):
        history.add("user", f"{number} " + "x" * 100)
        history.add_calls([ToolCall(f"c{number}", "f", "{}")], ["out"])
        history.add("assistant", "y" * 100)
        messages = history.prompt("")[1:]
        assert sum(len(message["content"]) for message in messages) <= MAX_HISTORY + 200
        asked = {call["id"] for message in messages for call in message.get("tool_calls", ())}
        assert asked == {message["tool_call_id"] for message in messages if message["role"] == "tool"}
        assert messages[0]["role"] == "user"


def test_two_pieces_of_one_speaker_are_one_message() -> None:
    history = ChatHistory()
    for words_ in ("so", "what"):
        history.add("user", words_)
    assert history.prompt("be brief")[1:] == [{"role": "user", "content": "so what"}]
