"""Where the three servers are, what they are asked for, and how long they may take."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any
from urllib.parse import urlsplit

from stack.core.errors import LocalError
from stack.core.urls import without_user

INSTRUCTIONS = (
    "You are on a phone call. Answer in one to three short sentences, in plain words that can be read aloud: "
    "no lists, no markup, no emoji."
)
_UNUSABLE = re.compile(r"[^\x21-\x7e]")
_LANGUAGE = re.compile(r"[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*")
"""ISO 639, with what BCP 47 may add."""
ENDPOINTS = ("/chat/completions", "/audio/transcriptions", "/audio/speech")


class Task(Enum):
    """What a server does; the value is how it is called in the log and to the caller."""

    TRANSCRIPTION = "speech recognition"
    CHAT = "language model"
    SPEECH = "speech synthesis"


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds that a caller is kept waiting before an answer is given up."""

    connect: float = 5.0
    transcript: float = 20.0
    """From the end of a turn to its words."""
    first_token: float = 20.0
    """To the first text that is to be said, or the first function: what a model thinks before does not count."""
    next_token: float = 10.0
    first_sound: float = 15.0
    """From a sentence to its first sound."""
    next_sound: float = 8.0
    """To the next, and altogether beyond four times the length of what has come."""
    tool: float = 20.0
    """For a function of yours."""


@dataclass(frozen=True, slots=True)
class HttpAgentConfig:
    """An URL is one of a server (`http://127.0.0.1:8000`) or of its API (`…/v1`); `LocalError` for any other.

    Without a model the server is asked which it has. Keys are sent to no other server than their own.
    """

    llm: str
    """Chat: `/v1/chat/completions`."""
    stt: str | None = None
    """Speech to text: `/v1/audio/transcriptions`; None: the same server as `llm`."""
    tts: str | None = None
    """Text to speech: `/v1/audio/speech`; None: the same server as `llm`."""
    llm_model: str | None = None
    stt_model: str | None = None
    tts_model: str | None = None
    llm_key: str = field(default="", repr=False)
    stt_key: str = field(default="", repr=False)
    tts_key: str = field(default="", repr=False)
    voice: str = "alloy"
    language: str | None = None
    """Of the person, as `en`, which helps some recognisers; None: they find out."""
    speech_rate: int = 24_000
    """Hz of raw PCM; a server that sends WAV, or says `audio/pcm; rate=…`, needs none of it."""
    instructions: str = INSTRUCTIONS
    greeting: str = ""
    """What is said when the call begins; empty: the person speaks first."""
    apology: str = "I am sorry, the {task} does not answer."
    """What is said when a server fails; the reason is in the log."""
    tools: tuple[Callable[..., Any], ...] = ()
    """Functions that the model may call; see `tools.py`."""
    patience: Patience = field(default_factory=Patience)

    def __post_init__(self) -> None:
        for name in ("llm", "stt", "tts"):
            given = getattr(self, name)
            if given is not None:
                base_url(given)
            if not is_key(getattr(self, f"{name}_key")):
                raise LocalError(f"{name}_key is no key: a header takes visible ASCII characters alone")
        if self.language and not is_language(self.language):
            raise LocalError(f"{self.language!r} is no language, as en or pt-BR")
        if not 8000 <= self.speech_rate <= 192_000:
            raise LocalError(f"speech_rate is 8000 to 192000 Hz, not {self.speech_rate}")

    def url(self, task: Task) -> str:
        """Return the base URL of the server for `task`."""
        given = {Task.TRANSCRIPTION: self.stt, Task.CHAT: self.llm, Task.SPEECH: self.tts}[task]
        return base_url(self.llm if given is None else given)

    def key(self, task: Task) -> str:
        """Return the key for the server of `task`."""
        own = {Task.TRANSCRIPTION: self.stt_key, Task.CHAT: self.llm_key, Task.SPEECH: self.tts_key}[task]
        return own or (self.llm_key if self.url(task) == self.url(Task.CHAT) else "")

    def model(self, task: Task) -> str | None:
        """Return the model that was chosen for `task`."""
        return {Task.TRANSCRIPTION: self.stt_model, Task.CHAT: self.llm_model, Task.SPEECH: self.tts_model}[task]


def is_key(key: str) -> bool:
    """Return True for what an `Authorization` header can hold (RFC 9110 §5.5, without spaces), and for no key."""
    return not _UNUSABLE.search(key)


def is_language(text: str) -> bool:
    """Return True for the form of a language tag."""
    return bool(_LANGUAGE.fullmatch(text))


def base_url(url: str) -> str:
    """Return the URL below which the endpoints are: what is before `/chat/completions` and its like."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable or parts.query or parts.fragment or _UNUSABLE.search(url):
        raise LocalError(
            f"{without_user(url)!r} is no address of an HTTP server: say it as http://127.0.0.1:8000/v1"
        )
    path = parts.path.rstrip("/")
    for endpoint in ENDPOINTS:
        path = path.removesuffix(endpoint)
    return parts._replace(path=path or "/v1").geturl()
