"""OpenAI's protocol without a network: each event that we emit is held against OpenAI's own types."""

from __future__ import annotations

import json
from collections.abc import Iterator

import numpy as np
import pytest

from stack.signaling.realtime_parts import (
    MAX_ITEMS,
    AddContext,
    Clear,
    Commit,
    Configure,
    FinishTool,
    HandOver,
    InterruptReply,
)
from stack.signaling.realtime_session import RealtimeSession
from stack.voice import events as ev
from stack.voice.turns import Eagerness, TurnMode

openai_realtime = pytest.importorskip("openai.types.realtime", reason="openai is not installed")
pydantic = pytest.importorskip("pydantic")
SERVER_EVENT = pydantic.TypeAdapter(openai_realtime.RealtimeServerEvent)


class Client:
    """A session, everything that it says checked and sorted."""

    def __init__(self, session: dict | None = None) -> None:
        numbers: Iterator[int] = iter(range(10**6))
        self.session = RealtimeSession(lambda prefix: f"{prefix}_{next(numbers)}", session or {}, lambda: 1e9)
        check(self.session.greeting())
        self.configured = self.session.drain_commands()

    def hear(self, *events: ev.ConversationEvent) -> list[dict]:
        for event in events:
            self.session.handle_event(event)
        return self.drain()

    def say(self, kind: str, **fields) -> list[dict]:
        error = self.session.handle_client({"type": kind, **fields})
        return [*([check(error)] if error else []), *self.drain()]

    def drain(self) -> list[dict]:
        return [check(event) for event in self.session.drain()]

    def commands(self) -> list:
        return [command for command in self.session.drain_commands() if type(command).__name__ != "AwaitReply"]


def check(event: dict) -> dict:
    event = json.loads(json.dumps(event))
    parsed = SERVER_EVENT.validate_python(event, strict=True)
    assert parsed.type == event["type"]
    assert isinstance(event["event_id"], str)
    return event


def kinds(events: list[dict]) -> list[str]:
    return [event["type"] for event in events]


def utterance(seconds: float = 1.0) -> ev.Utterance:
    return ev.Utterance(np.zeros(round(16_000 * seconds), np.int16), 16_000, 1.0, 2.0, 500.0)


MESSAGE = {"type": "message", "role": "user"}
TURN = (ev.UserStartedSpeaking(1.0, 70.0), ev.UserStoppedSpeaking(2.0), utterance())


def test_a_turn_and_its_reply() -> None:
    client = Client()
    told = client.hear(*TURN)
    assert kinds(told) == [
        "input_audio_buffer.speech_started",
        "input_audio_buffer.speech_stopped",
        "input_audio_buffer.committed",
        "conversation.item.added",
        "conversation.item.done",
        "response.created",
    ]
    assert told[0]["audio_start_ms"] == 1000
    assert told[1]["audio_end_ms"] == 2000
    assert len({event["item_id"] for event in told[:3]}) == 1
    assert [type(command) for command in client.commands()] == [HandOver]
    told = client.hear(ev.ReplyStarted(1, 20.0), ev.ReplyText(1, "Hello "), ev.ReplyText(1, "there."))
    assert kinds(told) == [
        "response.output_item.added",
        "conversation.item.added",
        "response.content_part.added",
        "output_audio_buffer.started",
        "response.output_audio_transcript.delta",
        "response.output_audio_transcript.delta",
    ]
    told = client.hear(ev.ReplyFinished(1, 900.0))
    assert kinds(told)[-2:] == ["response.done", "output_audio_buffer.stopped"]
    done = next(event for event in told if event["type"] == "response.done")["response"]
    assert done["status"] == "completed"
    assert done["output"][0]["content"] == [{"type": "output_audio", "transcript": "Hello there."}]


def test_an_interruption_is_told_in_order_and_cut_where_it_was_heard() -> None:
    client = Client()
    client.hear(*TURN, ev.ReplyStarted(1, 20.0), ev.ReplyText(1, "A long story"))
    told = client.hear(
        ev.UserStartedSpeaking(5.0, 60.0), ev.ReplyHeld(1, 620.0, 64.0), ev.ReplyInterrupted(1, 623.4, 700)
    )
    order = [
        "input_audio_buffer.speech_started",
        "output_audio_buffer.cleared",
        "response.done",
        "conversation.item.truncated",
    ]
    assert [kind for kind in kinds(told) if kind in order] == order
    assert told[-1]["audio_end_ms"] == 623
    details = next(event for event in told if event["type"] == "response.done")["response"]["status_details"]
    assert details == {"type": "cancelled", "reason": "turn_detected"}
    (retrieved,) = client.say("conversation.item.retrieve", item_id=told[-1]["item_id"])
    assert retrieved["item"]["status"] == "incomplete"
    assert "transcript" not in retrieved["item"]["content"][0]


def test_the_client_cancels() -> None:
    client = Client()
    (refused,) = client.say("response.cancel", event_id="mine")
    assert refused["error"]["code"] == "response_cancel_not_active"
    assert refused["error"]["event_id"] == "mine"
    client.hear(*TURN, ev.ReplyStarted(1, 20.0))
    client.commands()
    assert client.say("response.cancel") == []
    assert client.say("output_audio_buffer.clear") == []
    assert client.commands() == [InterruptReply(), InterruptReply()]
    told = client.hear(ev.ReplyInterrupted(1, 100.0, 120.0))
    done = next(event for event in told if event["type"] == "response.done")
    assert done["response"]["status_details"]["reason"] == "client_cancelled"


def test_a_reply_to_a_cancelled_response_is_dropped() -> None:
    client = Client()
    client.hear(*TURN)
    client.commands()
    assert kinds(client.say("response.cancel")) == ["response.done"]
    assert client.commands() == [InterruptReply()]
    assert client.hear(ev.ReplyStarted(1, None)) == []
    assert client.commands() == [InterruptReply()]


def test_every_response_ends_although_the_program_says_nothing() -> None:
    client = Client()
    told = client.hear(*TURN)
    client.session.give_up(told[-1]["response"]["id"])
    (done,) = client.drain()
    assert (done["type"], done["response"]["status"]) == ("response.done", "completed")
    assert kinds(client.say("response.create")) == [
        "response.created",
        "response.done",
    ]  # there is nothing to answer


def test_a_second_response_is_refused_with_the_name_of_the_event() -> None:
    client = Client()
    client.hear(*TURN)
    (refused,) = client.say("response.create", event_id="second")
    assert refused["error"]["event_id"] == "second"
    assert refused["error"]["code"] == "conversation_already_has_active_response"


def test_a_next_turn_ends_a_response_that_is_owed() -> None:
    client = Client()
    client.hear(*TURN)
    told = client.hear(utterance())
    assert kinds(told)[-2:] == ["response.done", "response.created"]


def test_a_reply_without_a_sound_ends_its_response() -> None:
    client = Client()
    client.hear(*TURN)
    (done,) = client.hear(ev.ReplyFinished(1, 0.0))
    assert (done["type"], done["response"]["output"]) == ("response.done", [])


def test_a_turn_over_a_reply_that_may_not_be_interrupted_is_answered_after_it() -> None:
    client = Client()
    client.hear(*TURN, ev.ReplyStarted(1, 20.0))
    assert "response.done" not in kinds(client.hear(*TURN))
    told = kinds(client.hear(ev.ReplyFinished(1, 900.0)))
    assert told.index("response.done") < told.index("output_audio_buffer.stopped") < told.index("response.created")
    client.hear(ev.ReplyStarted(2, 20.0))
    assert "response.done" in kinds(client.hear(ev.ReplyFinished(2, 900.0)))


def test_a_program_that_takes_no_turns_is_owed_nothing() -> None:
    client = Client()
    client.session.program_takes_turns = lambda: False
    assert "response.created" not in kinds(client.hear(*TURN))


def test_a_program_may_speak_unasked() -> None:
    client = Client()
    assert kinds(client.hear(ev.ReplyStarted(1, None)))[0] == "response.created"
    assert "response.done" in kinds(client.hear(ev.ReplyFinished(1, 10.0)))


def test_text_is_a_turn_too() -> None:
    client = Client()
    item = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "what time is it"}]}
    assert kinds(client.say("conversation.item.create", item=item)) == [
        "conversation.item.added",
        "conversation.item.done",
    ]
    assert client.commands() == []
    assert kinds(client.say("response.create")) == ["response.created"]
    (handed,) = client.commands()
    assert handed.utterance.text == "what time is it"


def test_a_function_is_called_and_its_output_comes_back() -> None:
    client = Client()
    tool = {"type": "function", "name": "weather", "parameters": {"type": "object"}}
    client.say("session.update", session={"type": "realtime", "tools": [tool]})
    (configured,) = client.commands()
    assert [tool.name for tool in configured.tools] == ["weather"]
    client.hear(*TURN)
    client.commands()
    told = client.hear(ev.ToolRequested("call_1", "weather", '{"city": "Bonn"}'))
    assert kinds(told) == [
        "response.output_item.added",
        "conversation.item.added",
        "response.function_call_arguments.delta",
        "response.function_call_arguments.done",
        "response.output_item.done",
        "conversation.item.done",
        "response.done",
    ]
    assert told[4]["item"]["status"] == "completed"
    output = {"type": "function_call_output", "call_id": "call_1", "output": "rain"}
    client.say("conversation.item.create", item=output)
    assert client.commands() == [FinishTool("call_1", "rain", soon=True)]
    assert kinds(client.say("response.create")) == ["response.created"]
    assert client.commands() == [FinishTool("call_1", "rain", soon=False)]
    assert "response.created" not in kinds(client.hear(ev.ReplyStarted(1, None)))  # it is the answer to that


def test_a_program_that_failed_is_an_error_and_the_end_of_its_response() -> None:
    client = Client()
    client.hear(utterance())
    told = client.hear(ev.ProgramFailed())
    assert kinds(told)[-2:] == ["response.done", "error"]
    assert told[-2]["response"]["status"] == "failed"
    assert (told[-1]["error"]["type"], told[-1]["error"]["message"]) == ("server_error", "the program failed")


def test_what_is_understood_so_far_is_told_by_what_is_new() -> None:
    client = Client()
    client.hear(utterance())
    said = ("i", "i like", "i like", "eye like tea")  # the last was understood otherwise: it is no delta
    told = client.hear(*(ev.UserTranscript(text, False) for text in said), ev.UserTranscript("I like tea.", True))
    assert [event.get("delta", event.get("transcript")) for event in told] == ["i", " like", "I like tea."]
    client.hear(utterance())
    (fresh,) = client.hear(ev.UserTranscript("i", False))
    assert fresh["delta"] == "i"


def test_transcripts_of_what_the_person_said() -> None:
    client = Client()
    item_id = client.hear(*TURN)[0]["item_id"]
    told = client.hear(ev.UserTranscript("hel", False), ev.UserTranscript("hello", True))
    assert [event["item_id"] for event in told] == [item_id, item_id]
    assert kinds(told)[1] == "conversation.item.input_audio_transcription.completed"
    (retrieved,) = client.say("conversation.item.retrieve", item_id=item_id)
    assert retrieved["item"]["content"][0]["transcript"] == "hello"


@pytest.mark.parametrize(
    ("given", "mode", "wait"),
    [
        ({"type": "server_vad"}, TurnMode.SERVER_VAD, 0.5),
        ({"type": "server_vad", "silence_duration_ms": 800}, TurnMode.SERVER_VAD, 0.8),
        ({"type": "semantic_vad"}, TurnMode.SEMANTIC, 4.0),
        ({"type": "semantic_vad", "eagerness": "low"}, TurnMode.SEMANTIC, 8.0),
        ({"type": "semantic_vad", "eagerness": "high"}, TurnMode.SEMANTIC, 2.0),
    ],
)
def test_turn_detection_becomes_our_rules(given: dict, mode: TurnMode, wait: float) -> None:
    client = Client()
    update = {"type": "realtime", "audio": {"input": {"turn_detection": given}}}
    (updated,) = client.say("session.update", session=update)
    assert updated["session"]["audio"]["input"]["turn_detection"] == given
    assert updated["session"]["audio"]["output"]["voice"] == "alloy"
    (command,) = client.commands()
    assert isinstance(command, Configure)
    assert (command.settings.mode, command.settings.longest_wait) == (mode, wait)
    assert command.settings.create_response
    assert command.settings.resume_after_ms is None
    assert Eagerness.AUTO.longest_wait == Eagerness.MEDIUM.longest_wait == 4.0


def test_manual_turns() -> None:
    client = Client({"audio": {"input": {"turn_detection": None}}})
    assert client.configured[0].settings.mode is TurnMode.MANUAL
    assert client.say("input_audio_buffer.commit", event_id="e") == []
    assert client.commands() == [Commit("e")]
    assert kinds(client.hear(utterance())) == [
        "input_audio_buffer.committed",
        "conversation.item.added",
        "conversation.item.done",
    ]
    assert client.commands() == []
    assert kinds(client.say("response.create")) == ["response.created"]
    assert [type(command) for command in client.commands()] == [HandOver]
    assert kinds(client.say("input_audio_buffer.clear")) == ["input_audio_buffer.cleared"]
    assert client.commands() == [Clear()]
    assert check(client.session.refuse("e"))["error"]["code"] == "input_audio_buffer_commit_empty"


TEXT = [{"type": "input_text", "text": "x"}]


def updating(**session: object) -> dict:
    return {"type": "session.update", "session": {"type": "realtime", **session}}


def detecting(**detection: object) -> dict:
    return updating(audio={"input": {"turn_detection": detection}})


def creating(**item: object) -> dict:
    return {"type": "conversation.item.create", "item": item}


def responding(**response: object) -> dict:
    return {"type": "response.create", "response": response}


FUNCTION = {"type": "function", "name": "f"}
DETECTION = "session.audio.input.turn_detection"


@pytest.mark.parametrize(
    ("message", "code", "param"),
    [
        ({"type": "nonsense"}, "unknown_event", "type"),
        ({"type": 5}, "invalid_event", "type"),
        ({"type": "input_audio_buffer.append", "audio": ""}, "not_supported", "type"),
        ({"type": "input_audio_buffer.commit", "final": True}, "unknown_parameter", "final"),
        ({"type": "session.update"}, "missing_required_parameter", "session"),
        ({"type": "session.update", "session": []}, "invalid_type", "session"),
        ({"type": "session.update", "session": {}}, "missing_required_parameter", "session.type"),
        ({"type": "session.update", "session": {"tools": []}}, "missing_required_parameter", "session.type"),
        ({"type": "session.update", "session": {"type": "transcription"}}, "invalid_value", "session.type"),
        # the beta's flat form
        (updating(voice="ash"), "unknown_parameter", "session.voice"),
        (updating(modalities=["text"]), "unknown_parameter", "session.modalities"),
        (updating(turn_detection=None), "unknown_parameter", "session.turn_detection"),
        (updating(input_audio_transcription={}), "unknown_parameter", "session.input_audio_transcription"),
        ({**updating(), "modalities": ["text"]}, "unknown_parameter", "modalities"),
        (updating(audio={"output": {"voices": "ash"}}), "unknown_parameter", "session.audio.output.voices"),
        (updating(instructions=None), "invalid_type", "session.instructions"),
        (updating(instructions=5), "invalid_type", "session.instructions"),
        (updating(max_output_tokens=0), "invalid_value", "session.max_output_tokens"),
        (updating(max_output_tokens=True), "invalid_type", "session.max_output_tokens"),
        (updating(output_modalities=["text"]), "invalid_value", "session.output_modalities"),
        (updating(output_modalities=["song"]), "invalid_value", "session.output_modalities[0]"),
        (updating(tools=[{"type": "function"}]), "missing_required_parameter", "session.tools[0].name"),
        (updating(tools=[{"type": "mcp"}]), "invalid_value", "session.tools[0].type"),
        (updating(tools=[{**FUNCTION, "meta": 1}]), "unknown_parameter", "session.tools[0].meta"),
        (updating(tools=[FUNCTION] * 129), "invalid_value", "session.tools"),
        (updating(audio=5), "invalid_type", "session.audio"),
        (updating(audio={"input": None}), "invalid_type", "session.audio.input"),
        (updating(audio={"output": {"voice": {"x": ""}}}), "unknown_parameter", "session.audio.output.voice.x"),
        (updating(audio={"output": {"speed": float("nan")}}), "invalid_value", "session.audio.output.speed"),
        (detecting(type="x"), "invalid_value", f"{DETECTION}.type"),
        (detecting(threshold=0.5), "missing_required_parameter", f"{DETECTION}.type"),
        (detecting(type="server_vad", threshold=7), "invalid_value", f"{DETECTION}.threshold"),
        (detecting(type="server_vad", create_response=None), "invalid_type", f"{DETECTION}.create_response"),
        (detecting(type="semantic_vad", threshold=0.5), "unknown_parameter", f"{DETECTION}.threshold"),
        (updating(instructions="x" * 70_000), "invalid_value", "session"),
        ({"type": "conversation.item.create", "item": []}, "invalid_type", "item"),
        (creating(), "missing_required_parameter", "item.type"),
        (creating(type="x"), "invalid_value", "item.type"),
        (creating(type="message", content=TEXT), "missing_required_parameter", "item.role"),
        (creating(**MESSAGE), "missing_required_parameter", "item.content"),
        (creating(**MESSAGE, content=TEXT, name="x"), "unknown_parameter", "item.name"),
        (creating(**MESSAGE, content=[{"type": "input_image"}]), "invalid_value", "item.content[0].type"),
        (creating(**MESSAGE, content=[{"type": "input_audio"}]), "invalid_value", "item.content[0].type"),
        (creating(type="message", role="assistant", content=TEXT), "invalid_value", "item.content[0].type"),
        (creating(type="function_call_output", call_id="none", output=""), "invalid_tool_call_id", "item.call_id"),
        ({**creating(**MESSAGE, content=TEXT), "previous_item_id": []}, "invalid_type", "previous_item_id"),
        ({**creating(**MESSAGE, content=TEXT), "previous_item_id": "x"}, "item_not_found", "previous_item_id"),
        ({"type": "conversation.item.retrieve", "item_id": "none"}, "item_not_found", "item_id"),
        ({"type": "conversation.item.delete"}, "missing_required_parameter", "item_id"),
        ({"type": "conversation.item.truncate", "item_id": [], "audio_end_ms": 1}, "invalid_type", "item_id"),
        ({"type": "conversation.item.truncate", "item_id": "x", "audio_end_ms": 1},
         "missing_required_parameter", "content_index"),
        ({"type": "conversation.item.truncate", "item_id": "x", "content_index": 0, "audio_end_ms": -1},
         "invalid_value", "audio_end_ms"),
        (responding(conversation="none"), "invalid_value", "response.conversation"),
        (responding(conversation="other"), "invalid_value", "response.conversation"),
        (responding(input=[]), "invalid_value", "response.input"),
        (responding(tools=[]), "invalid_value", "response.tools"),
        (responding(output_modalities=["text"]), "invalid_value", "response.output_modalities"),
        (responding(modalities=["audio"]), "unknown_parameter", "response.modalities"),
        (responding(metadata={"a": 5}), "invalid_type", "response.metadata.a"),
        (responding(metadata={str(number): "" for number in range(17)}), "invalid_value", "response.metadata"),
        ({"type": "response.create", "response": []}, "invalid_type", "response"),
        ({"type": "response.create", "instructions": "x"}, "unknown_parameter", "instructions"),
        ({"type": "response.cancel", "response_id": "none"}, "response_cancel_not_active", None),
    ],
)  # fmt: skip
def test_mistakes_are_named_and_change_nothing(message: dict, code: str, param: str | None) -> None:
    client = Client()
    before = json.dumps(client.session.session)
    error = client.session.handle_client({**message, "event_id": "mine"})
    assert error is not None
    error = check(error)["error"]
    assert (error["type"], error["code"], error["event_id"]) == ("invalid_request_error", code, "mine")
    assert error["param"] == param
    assert client.drain() == []
    assert client.commands() == []
    assert json.dumps(client.session.session) == before
    assert kinds(client.say("session.update", session={"type": "realtime"})) == ["session.updated"]  # it goes on
    assert kinds(client.say("response.create")) == ["response.created", "response.done"]  # and nothing was kept


def test_an_event_id_that_is_none_is_an_error_without_one() -> None:
    (error,) = Client().say("input_audio_buffer.clear", event_id=5)
    assert (error["error"]["code"], error["error"]["param"]) == ("invalid_type", "event_id")
    assert error["error"]["event_id"] is None


def test_what_openais_own_client_says_first_is_understood() -> None:
    """The session that `@openai/agents-realtime` sends when its channel opens, and its way to speak."""
    pcm = {"type": "audio/pcm", "rate": 24000}
    session = {
        "type": "realtime",
        "instructions": "be brief",
        "model": "gpt-realtime-2",
        "output_modalities": ["audio"],
        "audio": {
            "input": {
                "format": pcm,
                "noise_reduction": None,
                "transcription": {"model": "gpt-4o-mini-transcribe"},
                "turn_detection": {"type": "semantic_vad"},
            },
            "output": {"format": pcm, "voice": "marin", "speed": 1},
        },
        "tool_choice": "auto",
        "tools": [{"type": "function", "name": "f", "description": "", "parameters": {"type": "object"}}],
    }
    client = Client()
    (updated,) = client.say("session.update", session=session)
    for name, value in session.items():
        assert updated["session"][name] == value
    assert kinds(client.say("session.update", session={"type": "realtime", "tracing": "auto"})) == [
        "session.updated"
    ]
    client.say("conversation.item.create", item={**MESSAGE, "content": TEXT})
    assert kinds(client.say("response.create")) == ["response.created"]


def test_an_update_reaches_the_program() -> None:
    client = Client()
    assert [command.session for command in client.configured] == [None]
    update = {"type": "realtime", "instructions": "be brief", "audio": {"output": {"voice": {"id": "voice_1"}}}}
    client.say("session.update", session=update)
    (configure,) = client.commands()
    assert configure.session["instructions"] == "be brief"
    assert configure.session["audio"]["output"]["voice"] == {"id": "voice_1"}
    assert configure.session["audio"]["input"]["turn_detection"]["type"] == "server_vad"


def test_an_update_replaces_what_is_no_part_of_the_session() -> None:
    client = Client()
    g711 = {"type": "realtime", "audio": {"input": {"format": {"type": "audio/pcmu"}}}}
    (updated,) = client.say("session.update", session=g711)
    assert updated["session"]["audio"]["input"]["format"] == {"type": "audio/pcmu"}


def test_a_response_may_have_its_own_wishes_and_a_label() -> None:
    client = Client({"audio": {"input": {"turn_detection": None}}})
    client.hear(utterance())
    client.say("conversation.item.create", item={**MESSAGE, "content": TEXT})
    wishes = {"instructions": "whisper", "max_output_tokens": 5, "audio": {"output": {"voice": "ash"}}}
    (created,) = client.say(
        "response.create", response={**wishes, "metadata": {"topic": "x"}, "conversation": "auto"}
    )
    assert created["response"]["metadata"] == {"topic": "x"}
    spoken, typed = (command.utterance for command in client.commands())
    assert (dict(spoken.request), dict(typed.request)) == ({}, wishes)
    assert typed.text == "x"
    (done,) = client.hear(ev.ReplyFinished(1, 0.0))
    assert done["response"]["metadata"] == {"topic": "x"}
    client.say("response.create", response={"instructions": "say hello"})
    (handed,) = client.commands()
    assert (handed.utterance.text, handed.utterance.request) == ("say hello", {"instructions": "say hello"})


def test_wishes_for_the_answer_to_a_function_are_refused() -> None:
    client = Client()
    client.hear(*TURN, ev.ToolRequested("call_1", "weather", "{}"))
    output = {"type": "function_call_output", "call_id": "call_1", "output": "rain"}
    client.say("conversation.item.create", item=output)
    client.commands()
    (refused,) = client.say("response.create", response={"instructions": "sing"})
    assert refused["error"]["param"] == "response.instructions"
    assert client.commands() == []
    assert kinds(client.say("response.create", response={"metadata": {"a": "b"}})) == ["response.created"]
    again = client.say("conversation.item.create", item=output)
    assert again[0]["error"]["code"] == "invalid_tool_call_id"


@pytest.mark.parametrize(("role", "part"), [("system", "input_text"), ("assistant", "output_text")])
def test_a_message_that_asks_for_no_answer_reaches_the_program(role: str, part: str) -> None:
    client = Client()
    item = {"type": "message", "role": role, "content": [{"type": part, "text": "know this"}]}
    assert "error" not in kinds(client.say("conversation.item.create", item=item))
    assert client.commands() == [AddContext(role, "know this")]
    assert kinds(client.say("response.create")) == ["response.created", "response.done"]


def test_what_is_put_before_other_items_is_no_turn() -> None:
    client = Client()
    client.say("conversation.item.create", item={**MESSAGE, "content": TEXT})
    earlier = {**MESSAGE, "content": [{"type": "input_text", "text": "long ago"}]}
    client.say("conversation.item.create", item=earlier, previous_item_id="root")
    assert client.commands() == [AddContext("user", "long ago")]
    client.say("response.create")
    (handed,) = client.commands()
    assert handed.utterance.text == "x"


def test_a_turn_that_is_deleted_before_it_was_answered_is_not_handed_over() -> None:
    client = Client()
    client.say("conversation.item.create", item={**MESSAGE, "id": "a", "content": TEXT})
    client.say("conversation.item.delete", item_id="a")
    assert kinds(client.say("response.create")) == ["response.created", "response.done"]
    assert client.commands() == []


@pytest.mark.parametrize("content", [[], [{"type": "output_text", "text": "typed"}]])
def test_only_what_was_said_aloud_can_be_truncated(content: list) -> None:
    client = Client()
    client.say(
        "conversation.item.create", item={"id": "a", "type": "message", "role": "assistant", "content": content}
    )
    (refused,) = client.say("conversation.item.truncate", item_id="a", content_index=0, audio_end_ms=0)
    assert refused["error"]["param"] == "item_id"


@pytest.mark.parametrize("message", [None, [], "text", 5, {}])
def test_what_is_no_event_is_an_error(message: object) -> None:
    error = Client().session.handle_client(message)
    assert error is not None
    assert check(error)["error"]["code"] == "invalid_event"


def test_items_are_placed_deleted_and_bounded() -> None:
    client = Client()

    def create(name: str, **where) -> list[dict]:
        item = {"id": name, "type": "message", "role": "user", "content": [{"type": "input_text", "text": name}]}
        return client.say("conversation.item.create", item=item, **where)

    create("a")
    assert create("c")[0]["previous_item_id"] == "a"
    assert create("b", previous_item_id="a")[0]["previous_item_id"] == "a"
    assert create("first", previous_item_id="root")[0]["previous_item_id"] is None
    assert create("x", previous_item_id="none")[0]["error"]["code"] == "item_not_found"
    assert create("a")[0]["error"]["param"] == "item.id"
    assert kinds(client.say("conversation.item.delete", item_id="b")) == ["conversation.item.deleted"]
    assert create("d")[0]["previous_item_id"] == "c"
    for index in range(MAX_ITEMS):
        create(f"item {index}")
    assert client.say("conversation.item.retrieve", item_id="a")[0]["type"] == "error"


def test_a_client_may_truncate_what_was_said() -> None:
    client = Client()
    client.hear(*TURN, ev.ReplyStarted(1, 20.0))
    told = client.hear(ev.ReplyFinished(1, 900.0))
    item_id = next(event for event in told if "item_id" in event)["item_id"]
    other = client.say("conversation.item.truncate", item_id=item_id, content_index=1, audio_end_ms=10)
    assert other[0]["error"]["param"] == "content_index"
    too_long = client.say("conversation.item.truncate", item_id=item_id, content_index=0, audio_end_ms=1000)
    assert too_long[0]["error"]["param"] == "audio_end_ms"
    (cut,) = client.say("conversation.item.truncate", item_id=item_id, content_index=0, audio_end_ms=400)
    assert (cut["type"], cut["audio_end_ms"]) == ("conversation.item.truncated", 400)


def test_keys_and_silence_are_told() -> None:
    client = Client()
    assert kinds(client.hear(ev.KeyPressed("5"), ev.UserIdle())) == [
        "input_audio_buffer.dtmf_event_received",
        "input_audio_buffer.timeout_triggered",
    ]


def test_a_transcript_belongs_to_the_turn_that_the_program_took() -> None:
    """A recogniser that is late: the person has said another turn meanwhile."""
    client = Client()
    earlier = ev.Utterance(np.zeros(16_000, np.int16), 16_000, 1.0, 2.0, 500.0)
    later = ev.Utterance(np.zeros(16_000, np.int16), 16_000, 4.0, 5.0, 500.0)
    told = client.hear(earlier, later)
    first, second = [each["item"]["id"] for each in told if each["type"] == "conversation.item.done"]
    told = client.hear(
        ev.UserTranscript("the first", True, 1.0),
        ev.UserTranscript("typed", True, 4.5, True),
        ev.UserTranscript("unknown", True, 9.0),
        ev.UserTranscript("the second", True, 4.0),
    )
    assert [(each["item_id"], each["transcript"]) for each in told] == [
        (first, "the first"),
        (second, "the second"),
    ]
    (retrieved,) = client.say("conversation.item.retrieve", item_id=first)
    assert retrieved["item"]["content"][0]["transcript"] == "the first"


def test_a_turn_that_is_typed_beside_the_session_is_an_item_with_its_text() -> None:
    client = Client()
    typed = ev.Utterance(np.zeros(0, np.int16), 16_000, 1.0, 1.0, 0.0, "hello")
    told = client.hear(typed)
    assert kinds(told) == ["conversation.item.added", "conversation.item.done", "response.created"]
    assert told[0]["item"]["content"] == [{"type": "input_text", "text": "hello"}]
    assert client.commands() == [HandOver(typed)]


def test_a_message_of_the_program_is_an_event_of_its_own() -> None:
    client = Client()
    client.session.handle_event(ev.ProgramMessage({"type": "lamp"}))
    (told,) = client.session.drain()
    assert (told["type"], told["message"]) == ("program.message", {"type": "lamp"})
    assert isinstance(told["event_id"], str)
