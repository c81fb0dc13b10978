"""Requests with OpenAI's HTTP protocol, to a server that streams, fails and hangs like the real ones."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import logging
import struct
import wave
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("openai", reason="openai is not installed: the extra http")

from stack.agents.http.config import HttpAgentConfig, Patience, Task, base_url
from stack.agents.http.services import ChatAnswer, ServiceFailed, Services
from stack.agents.http.sound import SpeechFormatError, SpeechReader
from stack.core.errors import LocalError
from tests.agents.http.model_server import (
    BREAK,
    HANG,
    RATE,
    REPEAT,
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

SHORT = Patience(
    connect=2, transcript=0.5, first_token=0.5, next_token=0.3, first_sound=0.5, next_sound=0.3, tool=0.3
)
TURN = np.zeros(1600, np.int16)
USER = [{"role": "user", "content": "hello"}]


@pytest.fixture
async def models() -> AsyncIterator[ModelServer]:
    async with model_server() as running:
        yield running


@pytest.fixture
async def services(models: ModelServer) -> AsyncIterator[Services]:
    made = Services(HttpAgentConfig(models.url, llm_key="sk-secret", patience=SHORT))
    async with made.in_use():
        yield made


async def text_of(answer: ChatAnswer) -> str:
    return "".join([piece async for piece in answer.pieces()])


async def sound_of(services: Services, text: str = "hello") -> tuple[np.ndarray, set[int]]:
    pieces = [piece async for piece in services.speak(text)]
    return np.concatenate([samples for samples, _ in pieces]), {rate for _, rate in pieces}


async def test_a_turn_is_sent_as_a_wav_file(services: Services, models: ModelServer) -> None:
    assert await services.transcribe(np.arange(1600, dtype=np.int16), 16_000) == "hello there"
    (asked,) = models.of("/v1/audio/transcriptions")
    assert asked.headers["authorization"] == "Bearer sk-secret"
    file = asked.body[asked.body.index(b"RIFF") :]
    with wave.open(io.BytesIO(file)) as sound:
        assert (sound.getnchannels(), sound.getframerate()) == (1, 16_000)
        assert np.frombuffer(sound.readframes(1600), "<i2").tolist() == list(range(1600))


@pytest.mark.parametrize("said", ["hello there", "", None])
async def test_transcripts_come_in_several_forms(
    services: Services, models: ModelServer, said: str | None
) -> None:
    models.transcripts.append(lambda _: as_json({"text": said}))
    assert await services.transcribe(TURN, 16_000) == (said or "")
    models.transcripts.append(lambda _: Reply([b"as text"], "text/plain"))
    assert await services.transcribe(TURN, 16_000) == "as text"


@pytest.mark.parametrize("line", ["\n", "\r\n"])
@pytest.mark.parametrize("cut", [0, 1, 7, 1000])
@pytest.mark.parametrize("done", [True, False])
async def test_text_is_whole_however_the_stream_is_cut(
    services: Services, models: ModelServer, line: str, cut: int, done: bool
) -> None:
    models.chats.append(lambda _: words("Grüße aus Köln – 你好!", line=line, cut=cut, done=done))
    answer = services.chat(USER, [])
    assert await text_of(answer) == "Grüße aus Köln – 你好!"
    assert (answer.calls, answer.cut) == ((), False)


async def test_an_answer_at_its_limit_says_so(services: Services, models: ModelServer) -> None:
    models.chats.append(lambda _: words("and so", finish="length"))
    answer = services.chat(USER, [])
    await text_of(answer)
    assert answer.cut


CALLS = {
    "in pieces": [
        {
            "tool_calls": [
                {"index": 0, "id": "a", "type": "function", "function": {"name": "one", "arguments": ""}}
            ]
        },
        {"tool_calls": [{"index": 0, "function": {"arguments": '{"x"'}}]},
        {
            "tool_calls": [
                {"index": 1, "id": "b", "type": "function", "function": {"name": "two", "arguments": ""}}
            ]
        },
        {"tool_calls": [{"index": 0, "function": {"arguments": ": 1}"}}]},
        {"tool_calls": [{"index": 1, "function": {"arguments": "{}"}}]},
    ],
    "whole, with one index": [
        {"tool_calls": [{"index": 0, "id": "a", "function": {"name": "one", "arguments": '{"x": 1}'}}]},
        {"tool_calls": [{"index": 0, "id": "b", "function": {"name": "two", "arguments": "{}"}}]},
    ],
    "with one id, and as an object": [
        {"tool_calls": [{"index": 0, "id": "a", "function": {"name": "one", "arguments": {"x": 1}}}]},
        {"tool_calls": [{"index": 1, "id": "a", "function": {"name": "two"}}]},
    ],
    "in one chunk": [
        {
            "tool_calls": [
                {"index": 0, "id": "a", "function": {"name": "one", "arguments": '{"x": 1}'}},
                {"index": 1, "id": "b", "function": {"name": "two", "arguments": "{}"}},
            ]
        },
    ],
}


@pytest.mark.parametrize("form", CALLS)
async def test_calls_of_functions_are_put_together(services: Services, models: ModelServer, form: str) -> None:
    models.chats.append(lambda _: events({"content": "Let me see."}, *CALLS[form], finish="tool_calls"))
    answer = services.chat(USER, [{"type": "function", "function": {"name": "one", "parameters": {}}}])
    assert await text_of(answer) == "Let me see."
    assert [(call.id, call.name, json.loads(call.arguments)) for call in answer.calls] == [
        ("a", "one", {"x": 1}),
        ("a_1" if form == "with one id, and as an object" else "b", "two", {}),
    ]
    (asked,) = models.of("/chat/completions")
    assert asked.json["tools"][0]["function"]["name"] == "one"


async def test_speech_comes_as_it_is_made(services: Services, models: ModelServer) -> None:
    sound = tone(0.3)
    models.speeches.append(lambda _: Reply([sound[:4801], HANG], "audio/pcm"))
    first = await anext(services.speak("hello"))
    assert (len(first[0]), first[1]) == (2400, RATE)
    models.speeches.append(lambda _: speech(0.3, piece=777))
    samples, rates = await sound_of(services)
    assert samples.tolist() == np.frombuffer(sound, "<i2").tolist()
    assert rates == {RATE}
    asked = models.of("/audio/speech")[-1].json
    assert (asked["input"], asked["response_format"], asked["voice"]) == ("hello", "pcm", "alloy")


async def test_a_rate_that_the_server_says_counts(services: Services, models: ModelServer) -> None:
    models.speeches.append(lambda _: Reply([tone(0.1)], "audio/pcm; rate=16000; channels=1"))
    assert (await sound_of(services))[1] == {16_000}
    models.speeches.append(lambda _: Reply([tone(0.1)], 'audio/pcm; Rate="16000"; channels=2'))
    samples, rates = await sound_of(services)
    assert (len(samples), rates) == (RATE // 20, {16_000})


def hang(*before: bytes, content_type: str = "application/json") -> Reply:
    return Reply([*before, HANG], content_type)


def event_stream(*data: str) -> Reply:
    """Events with these data, and the last one."""
    return Reply([f"data: {each}\n\n".encode() for each in (*data, "[DONE]")], "text/event-stream")


def endless(*deltas: dict[str, Any]) -> Reply:
    """A stream of these deltas, of which the last comes again and again."""
    parts = events(*deltas).parts[: 2 + len(deltas)]  # without the end
    return Reply([*parts, REPEAT], "text/event-stream")


CHUNK = (
    b'data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":'
    + (b'{"content":"Hi. "},"finish_reason":null}]}\n\n')
)
STREAM_ERROR = b'data: {"error": {"message": "out of memory", "code": 500}}\n\n'
FAILURES = [
    ("transcripts", refusal(500, "no GPU"), "answered 500: no GPU"),
    ("transcripts", refusal(401, "bad key"), "answered 401: bad key"),
    (
        "transcripts",
        refusal(429, "slow down", **{"Retry-After": "60"}),
        "answered 429 (Retry-After: 60): slow down",
    ),
    ("transcripts", Reply([b"<html>"], "text/html", 502), "answered 502"),
    ("transcripts", hang(), "did not answer within 0.5 s"),
    ("transcripts", Reply([b"{", BREAK]), "RemoteProtocolError"),
    ("transcripts", Reply([b"{nonsense"]), "JSONDecodeError"),
    ("chats", refusal(400, "no tools here"), "answered 400: no tools here"),
    ("chats", hang(content_type="text/event-stream"), "sent no text within 0.5 s"),
    (
        "chats",
        hang(CHUNK, content_type="text/event-stream"),
        "fell silent in the middle of its answer within 0.3 s",
    ),
    ("chats", Reply([CHUNK, BREAK], "text/event-stream"), "RemoteProtocolError"),
    ("chats", Reply([CHUNK, STREAM_ERROR], "text/event-stream"), "out of memory"),
    ("chats", Reply([CHUNK, b'data: {"error": "no memory"}\n\n'], "text/event-stream"), "broke off: no memory"),
    ("chats", event_stream(json.dumps({"object": "error", "message": "no GPU"})), "broke off: no GPU"),
    ("chats", Reply([b"data: {nonsense\n\n"], "text/event-stream"), "JSONDecodeError"),
    ("speeches", refusal(503, "loading", **{"Retry-After": "30"}), "answered 503 (Retry-After: 30): loading"),
    ("speeches", hang(content_type="audio/pcm"), "sent no sound within 0.5 s"),
    (
        "speeches",
        hang(tone(0.1), content_type="audio/pcm"),
        "fell silent in the middle of a sentence within 0.3 s",
    ),
    ("speeches", Reply([tone(0.1), BREAK], "audio/pcm"), "RemoteProtocolError"),
    ("speeches", Reply([], "audio/pcm"), "without any sound"),
    ("speeches", Reply([b"ID3"], "audio/mpeg"), "answered audio/mpeg where response_format=pcm was asked for"),
    # answers of status 200 that are none
    ("transcripts", Reply([b"<html>"], "text/html"), "answered text/html where a transcript was asked for"),
    ("transcripts", as_json({"text": {"a": 1}}), "sent dict where text belongs"),
    ("transcripts", as_json([1]), "did not answer in OpenAI's protocol"),
    ("transcripts", as_json(None), "did not answer in OpenAI's protocol"),
    ("chats", Reply([b"<html>login</html>"], "text/html"), "answered text/html without any chunk of a chat"),
    ("chats", as_json({"choices": [{"message": {"content": "x"}}]}), "answered application/json without"),
    ("chats", event_stream("null"), "did not answer in OpenAI's protocol"),
    ("chats", event_stream("[1, 2]"), "did not answer in OpenAI's protocol"),
    ("chats", event_stream('{"choices": [null]}'), "did not answer in OpenAI's protocol"),
    ("chats", event_stream('{"detail": "x"}'), "answered text/event-stream without any chunk of a chat"),
    ("chats", event_stream(), "answered text/event-stream without any chunk of a chat"),
    ("chats", events({"content": {"a": 1}}), "sent dict where text belongs"),
    (
        "chats",
        events({"tool_calls": [{"index": 0, "id": "a", "function": {"name": 7}}]}),
        "did not answer in OpenAI's protocol",
    ),
    ("speeches", Reply([tone(0.1)], "audio/pcm; rate=999999"), "rate=999999, which cannot be played"),
    ("speeches", Reply([tone(0.1)], "audio/pcm; rate=1000"), "rate=1000, which cannot be played"),
    ("speeches", Reply([tone(0.1)], "audio/pcm; rate=0"), "rate=0, which cannot be played"),
    ("speeches", Reply([tone(0.1)], "audio/pcm; rate=1920000"), "rate=1920000, which cannot be played"),
    ("speeches", Reply([tone(0.1)], "audio/pcm; channels=0"), "channels=0, which cannot be played"),
    # answers that go on without anything that is waited for
    ("chats", endless({}), "sent no text within 0.5 s"),
    ("chats", endless({"reasoning_content": "hm"}), "sent no text within 0.5 s"),
    ("chats", endless({"content": " "}), "sent no text within 0.5 s"),
    ("chats", endless({"content": "<think>"}, {"content": "hm "}), "sent no text within 0.5 s"),
    ("chats", endless({"content": "So. "}, {}), "fell silent in the middle of its answer within 0.3 s"),
    (
        "chats",
        endless(CALLS["whole, with one index"][0], {"tool_calls": [{"index": 0, "function": {"arguments": ""}}]}),
        "fell silent in the middle of its answer within 0.3 s",
    ),
    ("speeches", Reply([b"\0\0", REPEAT], "audio/pcm"), "fell silent in the middle of a sentence within 0.3 s"),
    (
        "speeches",
        Reply([b"RIFF\xff\xff\xff\xffWAVEjunk\xff\xff\xff\x7f", b"\0", REPEAT], "audio/wav"),
        "sent no sound within 0.5 s",
    ),
]


@pytest.mark.parametrize(("kind", "reply", "problem"), FAILURES)
async def test_every_failure_is_one_line_in_bounded_time(
    services: Services, models: ModelServer, kind: str, reply: Reply, problem: str
) -> None:
    getattr(models, kind).extend([lambda _: reply] * 2)  # one that cannot connect is tried again
    with pytest.raises(ServiceFailed) as failed:
        async with asyncio.timeout(20):
            if kind == "transcripts":
                await services.transcribe(TURN, 16_000)
            elif kind == "chats":
                await text_of(services.chat(USER, []))
            else:
                await sound_of(services)
    assert problem in str(failed.value)
    assert models.url in str(failed.value)
    assert "\n" not in str(failed.value)
    assert "sk-secret" not in str(failed.value)


async def test_text_may_come_as_a_list_of_parts(services: Services, models: ModelServer) -> None:
    parts = [{"type": "thinking", "thinking": []}, {"type": "text", "text": "Here "}]
    models.chats.append(lambda _: events({"content": parts}, {"content": "it is."}))
    assert await text_of(services.chat(USER, [])) == "Here it is."


async def test_an_answer_is_over_when_the_model_says_so(services: Services, models: ModelServer) -> None:
    """Some servers neither send `[DONE]` nor end their response."""
    parts = events({"content": "Here "}, {"content": "it is."}, done=False).parts
    services.config = replace(services.config, patience=replace(SHORT, next_token=30))
    models.chats.append(lambda _: Reply([*parts, HANG], "text/event-stream"))
    async with asyncio.timeout(10):
        assert await text_of(services.chat(USER, [])) == "Here it is."


async def test_a_model_that_has_nothing_to_say_is_no_failure(services: Services, models: ModelServer) -> None:
    models.chats.append(lambda _: words(""))
    assert await text_of(services.chat(USER, [])) == ""


async def test_a_server_that_asks_for_a_short_wait_gets_it(services: Services, models: ModelServer) -> None:
    for status in (429, 503):
        models.chats += [lambda _, s=status: refusal(s, "busy", **{"Retry-After": "0"}), lambda _: words("Here.")]
        assert await text_of(services.chat(USER, [])) == "Here."
    models.chats += [lambda _: refusal(503, "busy", **{"Retry-After": "0"})] * 2
    with pytest.raises(ServiceFailed, match="answered 503"):
        await text_of(services.chat(USER, []))
    models.chats += [lambda _: refusal(429, "busy", **{"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"})]
    with pytest.raises(ServiceFailed, match="answered 429"):
        await text_of(services.chat(USER, []))
    assert len(models.of("/chat/completions")) == 7


async def test_nothing_listens(services: Services) -> None:
    lonely = Services(HttpAgentConfig("http://127.0.0.1:9", llm_model="m", patience=SHORT))
    async with lonely.in_use():
        with pytest.raises(
            ServiceFailed, match=r"language model at http://127\.0\.0\.1:9/v1: .*refused|attempts failed"
        ):
            await text_of(lonely.chat(USER, []))


async def test_an_answer_that_is_left_is_cut_off(services: Services, models: ModelServer) -> None:
    models.chats.append(lambda _: hang(CHUNK, content_type="text/event-stream"))
    pieces = services.chat(USER, []).pieces()
    assert await anext(pieces) == "Hi. "
    await pieces.aclose()
    async with asyncio.timeout(10):
        await models.of("/chat/completions")[0].left_early.wait()


async def test_a_model_that_never_ends_is_cut_off(services: Services, models: ModelServer) -> None:
    models.chats.append(lambda _: Reply([CHUNK.replace(b"Hi.", b"x" * 5000)] * 5 + [HANG], "text/event-stream"))
    answer = services.chat(USER, [])
    assert 20_000 < len(await text_of(answer)) <= 26_000
    assert answer.cut


async def test_a_model_that_writes_for_too_long_is_cut_off(
    services: Services, models: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stack.agents.http.services.MAX_ANSWER_TIME", 0.3)
    models.chats.append(lambda _: endless({"content": "So. "}))
    answer = services.chat(USER, [])
    async with asyncio.timeout(20):
        assert (await text_of(answer)).startswith("So. So. ")
    assert answer.cut


@pytest.mark.parametrize(
    ("names", "chat", "speech_model"),
    [
        (["m"], "m", "m"),
        (["llama", "tts-1", "whisper-1"], None, "tts-1"),
        (["llama"], "llama", "llama"),
        ([], None, None),
    ],
)
async def test_a_server_is_asked_for_its_model(
    services: Services, models: ModelServer, names: list[str], chat: str | None, speech_model: str | None
) -> None:
    models.models = names
    for task, expected in ((Task.CHAT, chat), (Task.SPEECH, speech_model)):
        if expected is None:
            with pytest.raises(ServiceFailed, match="say which model"):
                await services.model(task)
        else:
            assert await services.model(task) == expected
            assert await services.model(task) == expected
    assert len(models.of("/models")) <= 2


async def test_what_cannot_work_is_said_at_the_start(
    models: ModelServer, caplog: pytest.LogCaptureFixture
) -> None:
    models.models = ["a", "b"]
    for config, words_ in (
        (HttpAgentConfig(models.url), "--stt-model"),
        (HttpAgentConfig(models.url, stt_model="x"), "--llm-model"),
        (HttpAgentConfig(models.url, stt_model="x", llm_model="x"), "--tts-model"),
    ):
        services = Services(config)
        async with services.in_use():
            with pytest.raises(LocalError, match=words_):
                await services.check()
    lonely = Services(HttpAgentConfig("http://127.0.0.1:9", patience=SHORT))
    async with lonely.in_use():
        await lonely.check()
    assert caplog.text.count("calls will say so until it does") == 3


@pytest.mark.parametrize(
    ("status", "problem", "ends"),
    [(401, "wrong key", True), (401, "Missing scopes: api.model.read", False), (403, "not for you", False)],
)
async def test_a_key_that_may_not_list_models_may_do_all_the_rest(
    models: ModelServer, caplog: pytest.LogCaptureFixture, status: int, problem: str, ends: bool
) -> None:
    models.others += [lambda _: refusal(status, problem)] * 4
    services = Services(HttpAgentConfig(models.url, llm_model="a", stt_model="b", tts_model="c"))
    async with services.in_use():
        if ends:
            with pytest.raises(LocalError, match=problem):
                await services.check()
            return
        await services.check()
        assert caplog.text.count("it is not known whether it takes this key") == 3
        with pytest.raises(LocalError, match=problem):  # which model, is not known either
            await Services(HttpAgentConfig(models.url)).check()


async def test_a_page_instead_of_a_list_of_models_is_said_at_the_start(
    services: Services, models: ModelServer, caplog: pytest.LogCaptureFixture
) -> None:
    models.others += [lambda _: Reply([b"<html>"], "text/html")] * 3
    await services.check()
    assert caplog.text.count("did not answer in OpenAI's protocol") == 3
    assert "attribute" not in caplog.text


@pytest.mark.parametrize(
    ("given", "base"),
    [
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000/v1"),
        ("http://127.0.0.1:8000/", "http://127.0.0.1:8000/v1"),
        ("https://api.example/v1/", "https://api.example/v1"),
        ("https://api.example/openai/v1/chat/completions", "https://api.example/openai/v1"),
        ("http://[::1]:8000/v1/audio/speech", "http://[::1]:8000/v1"),
    ],
)
def test_addresses_in_the_forms_that_people_write(given: str, base: str) -> None:
    assert base_url(given) == base
    assert HttpAgentConfig(given).url(Task.CHAT) == base


@pytest.mark.parametrize("given", ["foo", "ws://x/v1", "http://", "http://x:99999", "", "http://x/v1?model=y"])
def test_what_is_no_address_is_refused(given: str) -> None:
    with pytest.raises(LocalError, match="say it as http://"):
        HttpAgentConfig(given)


def test_a_key_goes_to_its_own_server_alone() -> None:
    config = HttpAgentConfig("http://a", tts="http://b", llm_key="sk-one")
    assert [config.key(task) for task in Task] == ["sk-one", "sk-one", ""]
    assert "sk-one" not in repr(config)


def wav(
    channels: int, rate: int, samples: np.ndarray, *, bits: int = 16, kind: int = 1, extra: bytes = b""
) -> bytes:
    head = struct.pack("<HHIIHH", kind, channels, rate, rate * channels * 2, channels * 2, bits)
    body = samples.astype("<i2").tobytes()
    # a server that streams does not know the length
    return b"".join(
        [b"RIFF\xff\xff\xff\xffWAVE", extra, b"fmt ", struct.pack("<I", 16), head, b"data\xff\xff\xff\xff", body]
    )


@pytest.mark.parametrize("cut", [1, 3, 44, 10_000])
@pytest.mark.parametrize("extra", [b"", b"LIST" + struct.pack("<I", 5) + b"INFOx\0"])
def test_wav_is_read_however_it_is_cut(cut: int, extra: bytes) -> None:
    samples = np.arange(1000, dtype=np.int16)
    file = wav(1, 22_050, samples, extra=extra)
    reader = SpeechReader("audio/wav", RATE)
    got = np.concatenate([reader.feed(file[at : at + cut]) for at in range(0, len(file), cut)])
    reader.finish()
    assert got.tolist() == samples.tolist()
    assert reader.sample_rate == 22_050


def test_stereo_becomes_mono() -> None:
    reader = SpeechReader("", RATE)
    assert reader.feed(wav(2, 48_000, np.array([100, 300, -4, 4]))).tolist() == [200, 0]


@pytest.mark.parametrize(
    ("content_type", "data"),
    [
        ("audio/wav", wav(1, 8000, np.zeros(4), bits=8)),
        ("audio/wav", wav(1, 8000, np.zeros(4), kind=3)),
        ("audio/wav", b"RIFF____WAVEdata____"),
        ("audio/wav", b"RIFF____WAVE" + (b"junk" + struct.pack("<I", 100) + bytes(100)) * 60),
        ("audio/mpeg", b""),
        ("application/json", b"{}"),
        ("video/mp4", b""),
        ("audio/mp4", b""),
    ],
)
def test_what_cannot_be_played_says_what_it_is(content_type: str, data: bytes) -> None:
    with pytest.raises(SpeechFormatError):
        SpeechReader(content_type, RATE).feed(data)


def mpeg_frame(second: int, third: int, size: int) -> bytes:
    return bytes([0xFF, second, third, 0xC4]) + np.random.default_rng(1).bytes(size - 4)


OTHER_FORMATS = {
    "MPEG-1 layer 3, 128 kbit/s, 44.1 kHz": mpeg_frame(0xFB, 0x90, 417) * 3,
    "MPEG-1 layer 3, with padding after it": mpeg_frame(0xFB, 0x92, 418) + mpeg_frame(0xFB, 0x90, 417) * 2,
    "MPEG-2 layer 3, 64 kbit/s, 24 kHz": mpeg_frame(0xF3, 0x84, 192) * 3,
    "MPEG-1 layer 2, 192 kbit/s, 48 kHz": mpeg_frame(0xFD, 0xA4, 576) * 3,
    "ID3": b"ID3\x04\0\0\0\0\0\x23TSSE" + bytes(100),
    "ADTS": (b"\xff\xf1\x50\x80" + bytes([100 >> 3, (100 & 7) << 5 | 0x1F, 0xFC]) + bytes(93)) * 3,
    "Ogg": b"OggS\0\2" + bytes(100),
    "FLAC": b"fLaC\0\0\0\x22" + bytes(100),
    "WebM": b"\x1aE\xdf\xa3" + bytes(100),
    "MP4": b"\0\0\0\x20ftypisom" + bytes(100),
    "HTML": b"\n<!doctype html><title>502</title>" + b"x" * 100,
    "short JSON": b'{"error": 1}',
    "XML": b"\xef\xbb\xbf<?xml version='1.0'?><a/>",
    "plain text": b"Internal Server Error: the model is not loaded, and there is no memory for it",
    "RIFF, not WAVE": b"RIFF\0\0\0\0AVI LIST" + bytes(100),
}


@pytest.mark.parametrize("content_type", ["audio/pcm", ""])
@pytest.mark.parametrize("name", OTHER_FORMATS)
@pytest.mark.parametrize("cut", [7, 10_000])
def test_another_format_is_told_by_its_bytes(name: str, content_type: str, cut: int) -> None:
    data, reader = OTHER_FORMATS[name], SpeechReader(content_type, RATE)
    played = 0
    with pytest.raises(SpeechFormatError, match="where response_format=pcm was asked for"):
        for at in range(0, len(data), cut):
            played += len(reader.feed(data[at : at + cut]))
        reader.finish()
    assert played == 0


@pytest.mark.parametrize(
    "first",
    [
        b"\xff\xfb\x90\xc4",
        b"\xff\xf1\x50\x80\x0c\x9f",
        b"ID3!",
        b"<\0{\0",
        b"{\xff",
        b"",
        b"\xff\xff",
        b"ftyp",
        b"RIF\0",
    ],
)
@pytest.mark.parametrize("size", [0, 6, 20, 3000])
def test_sound_may_begin_with_any_bytes(first: bytes, size: int) -> None:
    data = first + np.random.default_rng(7).bytes(size + size % 2 + len(first) % 2)
    if not data:
        return
    reader = SpeechReader("audio/pcm", RATE)
    got = np.concatenate([*(reader.feed(data[at : at + 5]) for at in range(0, len(data), 5)), reader.finish()])
    assert got.tobytes() == data


def test_what_follows_the_sound_of_a_wav_file_is_not_played() -> None:
    samples = np.arange(1000, dtype=np.int16)
    file = wav(1, RATE, samples).replace(b"data\xff\xff\xff\xff", b"data" + struct.pack("<I", 2000))
    file += b"LIST" + struct.pack("<I", 500) + bytes(range(250)) * 2
    reader = SpeechReader("", RATE)
    got = np.concatenate([reader.feed(file[at : at + 77]) for at in range(0, len(file), 77)])
    assert got.tolist() == samples.tolist()
    assert len(reader.finish()) == 0


async def test_a_password_is_sent_and_never_logged(models: ModelServer, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    services = Services(HttpAgentConfig(models.url.replace("//", "//me:hu%40sh@"), patience=SHORT))
    async with services.in_use():
        assert await services.transcribe(TURN, 16_000) == "hello there"
        models.speeches += [lambda _: refusal(400, "no")]
        with pytest.raises(ServiceFailed) as failed:
            await sound_of(services)
    (asked,) = models.of("/v1/audio/transcriptions")
    assert asked.headers["authorization"] == "Basic " + base64.b64encode(b"me:hu@sh").decode()
    assert not any(word in f"{failed.value}{caplog.text}" for word in ("hu%40sh", "hu@sh"))


@pytest.mark.parametrize("wrong", [{"llm_key": "a\nb"}, {"tts_key": "ü"}, {"language": "xx yy"}])
def test_what_no_request_can_hold_is_refused(wrong: dict[str, str]) -> None:
    with pytest.raises(LocalError):
        HttpAgentConfig("http://127.0.0.1:1", **wrong)  # type: ignore[arg-type]
