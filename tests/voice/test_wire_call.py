"""A call of which every command and every event has crossed a process: it is the same call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
import pytest

from stack.core.errors import LocalError
from stack.core.machine import Instant
from stack.session import Ended
from stack.voice import commands as cmd
from stack.voice.conversation import Command, Conversation, ConversationConfig
from stack.voice.events import AudioReceived, ConversationEvent, ReplyFinished, Utterance
from stack.voice.wire import (
    decode_command,
    decode_events,
    decode_result,
    encode_command,
    encode_error,
    encode_events,
    encode_result,
)
from tests.sim.calls import CallPair, is_up

RATE = 16_000
ResultT = TypeVar("ResultT")


class FarConversation(Conversation):
    """A conversation that is spoken to in bytes, and answers in bytes."""

    def handle_command(self, command: Command[ResultT], now: Instant) -> ResultT:
        crossed: Command[object] = decode_command(encode_command(command))  # type: ignore[arg-type]
        try:
            answer = encode_result(super().handle_command(crossed, now))
        except LocalError as error:
            answer = encode_error(error)
        return decode_result(command, answer)

    def drain_events(self) -> Sequence[ConversationEvent]:
        data = encode_events([("call", event) for event in super().drain_events()])
        return [event for _, event in decode_events(data)]


def speak(monkeypatch: pytest.MonkeyPatch | None) -> tuple[list[str], list[np.ndarray]]:
    """Return the events of a call and the sound in them; with a patcher, everything crosses."""
    if monkeypatch is not None:
        monkeypatch.setattr("tests.sim.calls.Conversation", FarConversation)
    quick = ConversationConfig(detector="energy", echo="off")
    pair = CallPair(client=quick, server=quick)
    assert isinstance(pair.right.machine, FarConversation) is (monkeypatch is not None)
    assert pair.run(10, lambda: all(is_up(host) for host in pair.hosts))
    time = np.arange(RATE) / RATE
    sound = (8000 * np.sin(2 * np.pi * 300 * time) * (np.sin(2 * np.pi * 4 * time) > 0)).astype(np.int16)
    pair.right.handle(cmd.Listen())
    pair.right.handle(cmd.ReportPieces())
    pair.left.handle(cmd.Write(sound, RATE))
    assert pair.run(10, lambda: pair.right.seen(Utterance))
    reply = pair.right.machine.handle_command(cmd.BeginReply(), pair.now)
    with pytest.raises(LocalError, match="reply"):
        pair.right.machine.handle_command(cmd.BeginReply(), pair.now)
    queued = pair.right.machine.handle_command(cmd.WriteReply(reply, sound, RATE), pair.now)
    assert queued == pytest.approx(1.0, abs=0.1)
    pair.right.handle(cmd.EndReply(reply))
    assert pair.run(10, lambda: pair.right.seen(ReplyFinished))
    channel = pair.left.machine.handle_command(cmd.OpenChannel("chat"), pair.now)
    pair.run(1)
    pair.left.handle(cmd.SendMessage(channel, b"\x00\xff"))
    pair.run(1)
    statistics = pair.right.machine.handle_command(cmd.GetStatistics(), pair.now)
    assert statistics == pair.right.machine.stats(pair.now)
    parameters = pair.right.machine.handle_command(cmd.GetParameters(), pair.now)
    assert parameters == pair.right.machine.session.parameters
    pair.left.handle(cmd.HangUp())
    assert pair.run(10, lambda: pair.right.seen(Ended))
    heard = [event.frame.samples for event in pair.right.events if isinstance(event, AudioReceived)]
    return [repr(event) for event in pair.right.events], heard


def test_a_call_of_which_everything_crosses_is_the_same_call(monkeypatch: pytest.MonkeyPatch) -> None:
    events, heard = speak(None)
    far_events, far_heard = speak(monkeypatch)
    assert far_events == events
    assert len(heard) >= 50
    assert all(np.array_equal(here, there) for here, there in zip(heard, far_heard, strict=True))
