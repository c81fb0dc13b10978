"""How what the program says is coded: its wishes, the peer's description, silence left out, keys pressed."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from msgspec import structs

from stack.audio import packet_duration
from stack.core.errors import LocalError
from stack.sdp import AudioParameters
from stack.voice.audio_sender import AudioSender, SendParameters
from stack.voice.commands import BeginReply, EndReply, SendDigits, Write, WriteReply
from stack.voice.conversation import ConversationConfig
from stack.voice.events import AudioReceived, KeyPressed, ReplyFinished
from tests.sim.calls import CallPair, agree, is_up

RATE = 16_000


def asked(ptime: int | None = None, max_ptime: int | None = None, **parameters: str) -> AudioParameters:
    """What was agreed on with a client whose fmtp says `parameters`."""
    audio = agree().server.negotiation.audio
    assert audio is not None
    return structs.replace(audio, remote_parameters=parameters, ptime=ptime, max_ptime=max_ptime)


def agreed(
    audio: AudioParameters, bitrate: int = 24_000, channels: int = 1, dtx: bool | None = None
) -> SendParameters:
    return SendParameters.agree(audio, bitrate, 5, "voip", channels, dtx)


def tone(seconds: float, channels: int = 1, rate: int = RATE) -> np.ndarray:
    at = np.arange(round(seconds * rate)) / rate
    left = (6000 * np.sin(2 * np.pi * 300 * at) * (1 + np.sin(2 * np.pi * 4 * at))).astype(np.int16)
    return left if channels == 1 else np.stack((left, np.zeros_like(left)), axis=1)


def payloads(sender: AudioSender, sound: np.ndarray, rate: int = RATE) -> list[bytes]:
    sender.write(sound, rate, 0.0)
    frames = []
    for tick in range(round(len(sound) / rate / 0.01) + 10):
        frames += [frame.payload for frame in sender.frames(tick * 0.01)[0]]
    return frames


@pytest.mark.parametrize(("said", "used"), [("12000", 12_000), ("64000", 24_000), ("9", 6_000), ("x", 24_000)])
def test_the_peer_may_lower_the_bitrate(said: str, used: int) -> None:
    assert agreed(asked(maxaveragebitrate=said)).bitrate == used


def test_a_lower_bitrate_makes_smaller_packets() -> None:
    low, high = (
        sum(map(len, payloads(AudioSender(agreed(asked(maxaveragebitrate=b))), tone(2))))
        for b in ("8000", "24000")
    )
    assert low < 0.6 * high


@pytest.mark.parametrize(
    ("ptime", "longest", "milliseconds"),
    [(None, None, 20), (10, None, 10), (40, None, 40), (60, None, 60), (60, 40, 40), (30, None, 20), (20, 10, 10)],
)
def test_the_peer_says_how_long_packets_are(ptime: int | None, longest: int | None, milliseconds: int) -> None:
    made = payloads(AudioSender(agreed(asked(ptime, longest))), tone(1.2))
    assert {packet_duration(payload) for payload in made} == {48 * milliseconds}
    assert len(made) == 1200 // milliseconds


def test_a_constant_bitrate_where_it_is_asked_for() -> None:
    assert len(set(map(len, payloads(AudioSender(agreed(asked(cbr="1"))), tone(1))))) == 1
    assert len(set(map(len, payloads(AudioSender(agreed(asked())), tone(1))))) > 5


def test_stereo_needs_both_sides() -> None:
    both = payloads(AudioSender(agreed(asked(stereo="1"), channels=2)), tone(1, 2, 48_000), 48_000)
    one = payloads(AudioSender(agreed(asked(stereo="0"), channels=2)), tone(1, 2, 48_000), 48_000)
    assert any(payload[0] & 4 for payload in both)  # RFC 6716 §3.1: the s bit
    assert not any(payload[0] & 4 for payload in one)
    assert agreed(asked(stereo="1")).channels == 1


def test_fec_only_for_a_peer_that_can_use_it() -> None:
    for said, carried in (("1", True), ("0", False)):
        sender = AudioSender(replace(agreed(asked(useinbandfec=said)), redundancy=False))
        sender.write(tone(0.1), RATE, 0.0)
        sender.note_loss(0.2, 0.0)
        assert sender._encoder is not None
        assert getattr(sender._encoder, "fec") is carried  # noqa: B009 - G.711 has none


def test_who_asks_for_dtx_gets_it_unless_the_program_says_otherwise() -> None:
    assert agreed(asked(usedtx="1")).dtx is True
    assert agreed(asked()).dtx is False
    assert agreed(asked(usedtx="1"), dtx=False).dtx is False
    assert agreed(asked(), dtx=True).dtx is True


def call(*, server: ConversationConfig, changed: AudioParameters | None = None) -> CallPair:
    sides = agree()
    if changed is not None:
        negotiation = replace(sides.server.negotiation, media=(changed, *sides.server.negotiation.media[1:]))
        sides = replace(sides, server=replace(sides.server, negotiation=negotiation))
    quiet = ConversationConfig(detector="energy", echo="off")
    pair = CallPair(sides, client=quiet, server=replace(server, detector="energy", echo="off"))
    assert pair.run(10, lambda: all(is_up(host) for host in pair.hosts))
    return pair


@pytest.mark.parametrize("dtx", [False, True])
def test_silence_is_left_out_and_the_timeline_goes_on(dtx: bool) -> None:
    pair = call(server=ConversationConfig(dtx=dtx))
    sound = np.concatenate((tone(1), np.zeros(3 * RATE, np.int16), tone(1)))
    pair.right.handle(Write(sound, RATE))
    pair.run(6)
    sent = pair.right.machine.stats(pair.now).totals.packets_sent
    assert sent == 250 if not dtx else 100 < sent < 150
    frames = [event.frame for event in pair.left.seen(AudioReceived)]
    spoken = [f for f in frames if f.media_time > 2 and np.abs(f.samples.astype(int)).max() > 2000]
    assert spoken[0].media_time == pytest.approx(4.0, abs=0.06)
    assert all(b.media_time == pytest.approx(a.media_time + 0.02) for a, b in pairwise(frames))
    hearing = pair.left.machine.stats(pair.now).hearing
    assert hearing is not None
    assert hearing.concealed_share == 0.0  # silence that nobody sent is no loss


def test_a_reply_that_ends_in_silence_is_heard_whole_with_dtx() -> None:
    pair = call(server=ConversationConfig(dtx=True))
    sound = np.concatenate((tone(0.5), np.zeros(RATE, np.int16)))

    def speak(conversation, now):  # type: ignore[no-untyped-def]
        number = conversation.handle_command(BeginReply(), now)
        conversation.handle_command(WriteReply(number, sound, RATE), now)
        conversation.handle_command(EndReply(number), now)

    pair.right.command(speak)
    pair.run(3)
    (finished,) = pair.right.seen(ReplyFinished)
    assert finished.heard_ms == pytest.approx(1500, abs=25)


def test_long_packets_are_heard_whole() -> None:
    audio = agree().server.negotiation.audio
    assert audio is not None
    pair = call(server=ConversationConfig(), changed=structs.replace(audio, ptime=60))
    pair.right.handle(Write(tone(1.2), RATE))
    pair.run(2)
    assert pair.right.machine.stats(pair.now).totals.packets_sent == 20
    frames = [event.frame for event in pair.left.seen(AudioReceived)]
    assert sum(map(len, frames)) == round(1.2 * RATE)
    assert not any(frame.concealed for frame in frames)


def test_digits_arrive_in_order() -> None:
    pair = call(server=ConversationConfig())
    pair.right.handle(SendDigits("123#"))
    pair.run(2)
    assert [event.digit for event in pair.left.seen(KeyPressed)] == ["1", "2", "3", "#"]
    with pytest.raises(LocalError):
        pair.right.machine.handle_command(SendDigits("12E"), pair.now)


def test_complexity_follows_the_load_unless_it_is_fixed() -> None:
    fixed, free = AudioSender(agreed(asked())), AudioSender(replace(agreed(asked()), complexity=None))
    for sender, following in ((fixed, [5, 5, 5]), (free, [2, 0, 0])):
        assert sender.complexity == 5
        assert [sender.follow_load(0.9) for _ in range(3)] == following
    # What is encoded afterwards is what an encoder of that complexity makes, made before or after.
    begun = AudioSender(replace(agreed(asked()), complexity=None))
    first = payloads(begun, tone(0.1))
    begun.follow_load(0.9)
    begun.follow_load(0.9)
    at_0 = payloads(AudioSender(replace(agreed(asked()), complexity=0)), tone(1))
    at_5 = payloads(AudioSender(agreed(asked())), tone(1))
    assert payloads(free, tone(1)) == at_0 != at_5
    assert first == at_5[: len(first) - 1] + first[-1:]
    assert begun.complexity == 0
