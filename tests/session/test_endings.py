"""How a session ends: with everything that came before, and nothing after; and what keeps it alive."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from random import Random
from typing import Any

import numpy as np
import pytest

from interop.network_model import NetworkModel
from stack.core.machine import Instant, Path
from stack.dtls import Version
from stack.ice import IceCredentials, LiteAgent
from stack.sctp import ChannelOpened, MessageReceived
from stack.server import Endpoint
from stack.session import Ended, EndReason
from stack.session.demux import Kind, classify
from stack.stun import Message, MessageClass, Method
from stack.voice.commands import HangUp, Interrupt, OpenChannel, SendMessage, Write
from stack.voice.conversation import Conversation, ConversationConfig
from stack.voice.events import AudioReceived, PeerLeft
from tests.sim.calls import CallPair, agree, is_up
from tests.sim.pair import LEFT, RIGHT

RATE = 16_000
TONE = (8000 * np.sin(2 * np.pi * 440 * np.arange(RATE) / RATE)).astype(np.int16)
QUIET = ConversationConfig(detector="energy", echo="off", complexity=0)


def connected(**options: Any) -> CallPair:
    pair = CallPair(**options)
    assert pair.run(10, lambda: all(is_up(host) for host in pair.hosts))
    return pair


def sounding() -> CallPair:
    """A call in which something was said, so that reports are sent."""
    pair = connected()
    pair.left.handle(Write(TONE, RATE))
    pair.run(0.5)
    return pair


def with_channel(pair: CallPair, label: str = "talk") -> Any:
    """Open a channel on the client's side and let it be known on both."""
    ids: list[Any] = []
    ids.append(pair.left.handle(OpenChannel(label)))
    assert pair.run(5, lambda: bool(pair.right.seen(ChannelOpened)))
    pair.run(1)
    return ids[0]


def raising_once(owner: object, name: str) -> None:
    """Let a method of a protocol raise the first time: a bug of ours."""
    method = getattr(owner, name)

    def fail(*arguments: Any) -> None:
        setattr(owner, name, method)
        raise RuntimeError("a bug")

    setattr(owner, name, fail)


def hosted(conversation: Conversation) -> Endpoint[Any]:
    endpoint: Endpoint[Any] = Endpoint()
    endpoint.add("call", conversation, "ufrag")
    endpoint._routes.bind("call", Path(RIGHT, LEFT))
    endpoint.pump()
    return endpoint


@pytest.mark.parametrize(
    ("protocol", "method"),
    [
        ("_channels", "handle_datagrams"),
        ("_channels", "drain_events"),
        ("_dtls", "drain_transmits"),
        ("_media", "drain_events"),
        ("_media", "handle_datagrams"),
    ],
)
def test_a_bug_in_the_last_batch_does_not_swallow_the_end(protocol: str, method: str) -> None:
    pair = connected()
    channel = with_channel(pair)
    client, endpoint = pair.left.machine, hosted(pair.right.machine)
    client.handle_command(Write(TONE[:960], RATE), pair.now)
    client.handle_command(SendMessage(channel, "goodbye"), pair.now)
    batch = batch_of(client)
    client.handle_command(HangUp(), pair.now)
    raising_once(getattr(pair.right.machine.session, protocol), method)
    endpoint.handle_datagrams([*batch, *batch_of(client)], pair.now)
    events = [event for _, event in endpoint.drain_events()]
    assert events[-1] == Ended(EndReason.PEER_CLOSED)
    assert any(isinstance(event, MessageReceived) for event in events) or protocol != "_media"
    assert endpoint.counters["endpoint.fault_handle_datagrams"] == 1
    assert len(endpoint) == 0


@pytest.mark.parametrize("protocol", ["_channels", "_ice"])
@pytest.mark.parametrize("times", [1, 1000])
def test_a_bug_in_a_wake_up_costs_no_timer(protocol: str, times: int) -> None:
    pair = connected()
    endpoint, owner = hosted(pair.right.machine), getattr(pair.right.machine.session, protocol)
    if times == 1:
        raising_once(owner, "handle_timeout")
    elif protocol == "_channels":
        owner.handle_timeout = lambda now: 1 / 0
    now = pair.now + 40  # late: all is due at once
    events: list[Any] = []
    for _ in range(50):
        endpoint.handle_timeout(now)
        events += [event for _, event in endpoint.drain_events()]
        if (at := endpoint.poll_timeout()) is None:
            break
        now = max(now, at)
    assert events[-1] == Ended(EndReason.CONSENT_EXPIRED)
    assert len(endpoint) == 0


def test_a_bug_at_any_depth_costs_no_timer() -> None:
    pair = sounding()
    session, now = pair.right.machine.session, pair.now + 40
    endpoint = hosted(pair.right.machine)
    raising_once(session._ice, "_handle_consent_timeout")
    raising_once(session._media._transport._reporter, "report")
    events: list[Any] = []
    for _ in range(50):
        endpoint.handle_timeout(now)
        events += [event for _, event in endpoint.drain_events()]
        if (at := endpoint.poll_timeout()) is None:
            break
        now = max(now, at)
    assert events[-1] == Ended(EndReason.CONSENT_EXPIRED)
    assert endpoint.counters["endpoint.fault_handle_timeout"] == 2


def test_reports_go_on_after_a_bug_in_one() -> None:
    pair = sounding()
    raising_once(pair.right.machine.session._media._transport._reporter, "report")
    endpoint, sent = hosted(pair.right.machine), 0
    now = pair.now
    while now < pair.now + 20 and (at := endpoint.poll_timeout()) is not None:
        now = max(now, at)
        endpoint.handle_timeout(now)
        sent += sum(classify(data) is Kind.RTCP for data, _ in endpoint.drain_transmits())
    assert endpoint.counters["endpoint.fault_handle_timeout"] == 1
    assert sent > 1


def test_a_bug_in_the_farewell_costs_no_end() -> None:
    pair = connected()
    session = pair.right.machine.session
    raising_once(session._media, "close")
    with pytest.raises(RuntimeError):
        session.close(pair.now)
    assert [event for event in session.drain_events() if isinstance(event, Ended)] == [Ended(EndReason.HUNG_UP)]


def batch_of(conversation: Conversation) -> list[tuple[bytes, Path]]:
    """What one side sends, as the other side receives it."""
    return [(data, Path(path.remote, path.local)) for data, path in conversation.drain_transmits()]


@pytest.mark.parametrize("version", [Version.DTLS_1_2, Version.DTLS_1_3])
@pytest.mark.parametrize("shuffled", [False, True])
def test_last_words_come_before_the_end_and_nothing_after(version: Version, shuffled: bool) -> None:
    pair = connected(client=ConversationConfig(dtls_version=version))
    channel = with_channel(pair)
    client, server = pair.left.machine, pair.right.machine
    client.handle_command(Write(TONE[:960], RATE), pair.now)
    sound = batch_of(client)
    for delay in (0.02, 0.04):
        client.handle_timeout(pair.now + delay)
    sound += batch_of(client)
    client.handle_command(SendMessage(channel, "goodbye"), pair.now + 0.05)
    client.handle_command(SendMessage(channel, "and thanks"), pair.now + 0.05)
    words = batch_of(client)
    client.handle_command(HangUp(), pair.now + 0.05)
    *bye, closure = batch_of(client)
    batch = [*sound, *words]
    if shuffled:
        Random(3).shuffle(batch)
    batch += bye
    server.handle_datagrams([*batch, closure], pair.now + 0.1)
    events = server.drain_events()
    assert [event.data for event in events if isinstance(event, MessageReceived)] == ["goodbye", "and thanks"]
    assert sum(event.frame.duration for event in events if isinstance(event, AudioReceived)) == pytest.approx(0.06)
    assert any(isinstance(event, PeerLeft) for event in events)
    assert events[-1] == Ended(EndReason.PEER_CLOSED)
    assert sum(isinstance(event, Ended) for event in events) == 1
    server.handle_datagrams([*batch, closure], pair.now + 0.2)
    server.handle_timeout(pair.now + 60)
    server.handle_command(Interrupt(), pair.now + 60)
    server.handle_command(HangUp(), pair.now + 60)
    assert not server.drain_events()
    assert server.poll_timeout() is None


@pytest.mark.parametrize("audio", [False, True])
def test_no_command_makes_anything_be_said_after_the_end(audio: bool) -> None:
    pair = connected(sides=agree(audio=audio))
    with_channel(pair)
    client, server = pair.left.machine, pair.right.machine
    client.handle_command(HangUp(), pair.now)
    server.handle_datagrams(batch_of(client), pair.now)
    for conversation in (client, server):
        assert isinstance(conversation.drain_events()[-1], Ended)
        for command in (OpenChannel("late"), Write(TONE[:960], RATE), Interrupt(), HangUp()):
            conversation.handle_command(command, pair.now + 1)
        assert not conversation.drain_events()
        assert not conversation.drain_transmits()
        assert conversation.poll_timeout() is None


@pytest.mark.parametrize("version", [Version.DTLS_1_2, Version.DTLS_1_3])
def test_data_in_the_same_datagram_as_the_closure_is_delivered(version: Version) -> None:
    pair = connected(sides=agree(audio=False), client=ConversationConfig(dtls_version=version))
    channel = with_channel(pair)
    client, server = pair.left.machine, pair.right.machine
    client.handle_command(SendMessage(channel, "goodbye"), pair.now)
    client.handle_command(HangUp(), pair.now)
    batch = batch_of(client)
    server.handle_datagrams([(b"".join(data for data, _ in batch), batch[0][1])], pair.now)
    events = server.drain_events()
    assert [type(event) for event in events] == [MessageReceived, Ended]


def test_what_waits_behind_a_gap_is_heard_before_the_end() -> None:
    pair = connected()
    client, server = pair.left.machine, pair.right.machine
    client.handle_command(Write(TONE[:1920], RATE), pair.now)
    packets = batch_of(client)
    for number in range(1, 6):
        client.handle_timeout(pair.now + 0.02 * number)
        packets += batch_of(client)
    client.handle_command(HangUp(), pair.now + 0.1)
    *_, closure = batch_of(client)
    sound = [packet for packet in packets if classify(packet[0]) is Kind.RTP]
    server.handle_datagrams([sound[0], *sound[4:], closure], pair.now + 0.1)
    events = server.drain_events()
    heard = sum(event.frame.duration for event in events if isinstance(event, AudioReceived))
    assert heard == pytest.approx(0.02 * len(sound)), "what is lost is made up"
    assert isinstance(events[-1], Ended)


def test_the_clock_discipline_hands_out_what_it_holds_before_the_end() -> None:
    pair = connected(server=ConversationConfig(jitter_buffer="clock"))
    pair.left.handle(Write(TONE, RATE))
    pair.run(0.5)
    heard = sum(event.frame.duration for event in pair.right.seen(AudioReceived) if not event.frame.concealed)
    pair.left.handle(HangUp())
    pair.run(1)
    assert isinstance(pair.right.events[-1], Ended)
    last = [event for event in pair.right.events[-8:] if isinstance(event, AudioReceived)]
    assert sum(np.abs(event.frame.samples).max() > 1000 for event in last) >= 2
    assert heard > 0.4


def test_our_own_hang_up_hands_up_what_was_heard_and_ends_once() -> None:
    pair = connected()
    pair.left.handle(Write(TONE, RATE))
    pair.run(0.5)
    server = pair.right.machine
    server.handle_command(HangUp(), pair.now)
    server.handle_command(HangUp(), pair.now)
    events = server.drain_events()
    assert events[-1] == Ended(EndReason.HUNG_UP)
    assert sum(isinstance(event, Ended) for event in events) == 1
    assert server.drain_transmits()


def test_a_request_of_the_client_that_comes_with_the_end_is_obeyed() -> None:
    pair = connected()
    channel = with_channel(pair, "events")
    client, server = pair.left.machine, pair.right.machine
    client.handle_command(SendMessage(channel, '{"type": "turn_settings", "mode": "manual"}'), pair.now)
    client.handle_command(HangUp(), pair.now)
    server.handle_datagrams(batch_of(client), pair.now)
    assert server.turn_settings.mode.value == "manual"
    assert isinstance(server.drain_events()[-1], Ended)


def test_a_bug_costs_one_event_and_never_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    pair = connected()
    channel = with_channel(pair)
    client, server = pair.left.machine, pair.right.machine

    def fail(*_: object) -> None:
        raise RuntimeError("a bug in the audio line")

    monkeypatch.setattr(server.line, "handle_media", fail)
    client.handle_command(Write(TONE[:320], RATE), pair.now)
    client.handle_command(SendMessage(channel, "goodbye"), pair.now)
    client.handle_command(HangUp(), pair.now)
    rest = iter(batch_of(client))
    for _ in range(5):
        try:
            server.handle_datagrams(rest, pair.now)
        except RuntimeError:
            continue
        break
    assert [type(event) for event in server.drain_events()] == [MessageReceived, Ended]


class Middlebox:
    """Stands before a lite server: from `since` on, checks do not reach it, though they are answered.

    So the server sees what it sees of a peer that never checks again, and the client goes on.
    """

    def __init__(self, pair: CallPair, answers: bool = True) -> None:
        local = pair.right.machine.session.parameters.local
        self._answering = LiteAgent(IceCredentials(local.ice_ufrag, local.ice_pwd))
        self._answering.start(pair.now)
        self._pair, self._answers = pair, answers
        self._handle: Callable[..., None] = pair.right.machine.handle_datagrams
        self.passed: Callable[[bytes], bool] = lambda data: True

    def handle_datagrams(self, batch: Iterable[tuple[bytes, Path]], now: Instant) -> None:
        through: list[tuple[bytes, Path]] = []
        for data, path in batch:
            if data[:1] < b"\4":
                self._answering.handle_datagrams([(data, path)], now)
            elif self.passed(data):
                through.append((data, path))
        for answer in self._answering.drain_transmits():
            if self._answers:
                self._pair.network.carry(self._pair.right, *answer)
        self._handle(through, now)


def never_checked(monkeypatch: pytest.MonkeyPatch, pair: CallPair, **options: Any) -> Middlebox:
    box = Middlebox(pair, **options)
    monkeypatch.setattr(pair.right.machine, "handle_datagrams", box.handle_datagrams)
    return box


def speak(pair: CallPair, side: str, seconds: int) -> None:
    host = getattr(pair, side)
    for second in range(seconds):
        pair.network.after(second, lambda: host.handle(Write(TONE, RATE)))


@pytest.mark.parametrize("kind", ["sound", "reports", "data"])
def test_a_peer_that_never_checks_again_lives_by_what_it_sends(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    pair = connected(sides=agree(audio=kind != "data"), client=QUIET, server=QUIET)
    if kind == "data":
        with_channel(pair)
    box = never_checked(monkeypatch, pair)
    if kind == "sound":
        box.passed = lambda data: not 192 <= data[1] <= 223  # neither RTCP
        speak(pair, "left", 100)
    elif kind == "reports":
        box.passed = lambda data: 20 <= data[0] <= 63 or 192 <= data[1] <= 223
    pair.run(100)
    assert not any(host.seen(Ended) for host in pair.hosts)
    pair.network.detach(pair.left)
    pair.run(31)
    assert pair.right.seen(Ended) == [Ended(EndReason.CONSENT_EXPIRED)]


def test_what_a_stranger_can_send_keeps_no_call_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    pair = connected(client=QUIET, server=QUIET)
    captured: list[bytes] = []
    box = never_checked(monkeypatch, pair)
    box.passed = lambda data: captured.append(data) or True
    speak(pair, "left", 2)
    pair.run(5)
    assert len(captured) > 50
    indication = Message(MessageClass.INDICATION, Method.BINDING, bytes(12), ()).serialize()
    box.passed = lambda data: True
    pair.network.detach(pair.left)
    random = Random(1)
    for second in range(40):
        forged = [bytes([first]) + random.randbytes(60) for first in (22, 23, 44, 128, 129)]
        pair.network.after(
            second,
            lambda forged=forged: pair.right.take_together(
                [(data, Path(RIGHT, LEFT)) for data in (*forged, captured[0], indication, b"")]
            ),
        )
    pair.run(36)
    assert pair.right.seen(Ended) == [Ended(EndReason.CONSENT_EXPIRED)]


def test_a_full_agent_may_not_send_without_an_answer_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    pair = connected(client=QUIET, server=QUIET)
    never_checked(monkeypatch, pair, answers=False)
    speak(pair, "right", 60)
    pair.run(40)
    assert pair.left.seen(Ended) == [Ended(EndReason.CONSENT_UNANSWERED)]


def test_a_bug_in_sctp_costs_one_packet(monkeypatch: pytest.MonkeyPatch) -> None:
    pair = connected(sides=agree(audio=False), model=NetworkModel(delay=0.01))
    channel = with_channel(pair)
    pair.run(1)
    client, server = pair.left.machine, pair.right.machine
    for word in ("one", "two", "three"):
        client.handle_command(SendMessage(channel, word), pair.now)
    batch = batch_of(client)
    assert len(batch) == 3
    channels = server.session.channels
    assert channels is not None
    handle, seen = channels.handle_datagrams, [0]

    def fails_at_the_second(packets: Iterable[bytes], now: Instant) -> None:
        def one_by_one() -> Iterable[bytes]:
            for packet in packets:
                seen[0] += 1
                if seen[0] == 2:
                    raise RuntimeError("a bug")
                yield packet

        handle(one_by_one(), now)

    monkeypatch.setattr(channels, "handle_datagrams", fails_at_the_second)
    with pytest.raises(RuntimeError):
        server.handle_datagrams(batch, pair.now)
    server.handle_datagrams([], pair.now)
    assert seen == [3], "the third is not lost"


@pytest.mark.parametrize("version", [Version.DTLS_1_2, Version.DTLS_1_3])
def test_a_peer_whose_process_is_gone_ends_the_call_by_the_alert_that_it_left(version: Version) -> None:
    pair = CallPair(client=ConversationConfig(dtls_version=version))
    assert pair.right.machine.session.failure_alert() is None
    assert pair.run(10, lambda: all(is_up(host) for host in pair.hosts))
    pair.run(1)
    alert = pair.right.machine.session.failure_alert()
    assert alert is not None
    assert alert.path == Path(RIGHT, LEFT)
    pair.left.take(alert.data, Path(LEFT, RIGHT))
    pair.run(0.1)
    (ended,) = pair.left.seen(Ended)
    assert ended.reason is EndReason.WORKER_FAILED
    assert pair.left.machine.session.failure_alert() is None
