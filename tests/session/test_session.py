"""Two whole endpoints, from the first check to the last BYE, in virtual time."""

from __future__ import annotations

from base64 import b64encode
from dataclasses import replace
from random import Random
from typing import Any

import numpy as np
import pytest

from interop.network_model import Jitter, NetworkModel
from stack.core.errors import LocalError
from stack.core.header_extensions import URI_MID
from stack.core.machine import Address, Path
from stack.dtls import Version
from stack.sctp import AssociationState, ChannelOpened, MessageReceived
from stack.sdp import ChannelMap, MediaDescription, SdpAttribute, SessionDescription, Setup
from stack.session import Authenticated, Connected, Ended, EndReason, Kind, SessionParameters, classify
from stack.session.session import MAX_EARLY
from stack.voice.commands import HangUp, OpenChannel, SendMessage, Write
from stack.voice.config import prepare
from stack.voice.conversation import Conversation, ConversationConfig
from stack.voice.events import AudioReceived, PeerLeft
from tests.sim.calls import CallPair, agree, is_up
from tests.sim.network import Host
from tests.sim.pair import LEFT, RIGHT

TONE = (8000 * np.sin(2 * np.pi * 440 * np.arange(16_000) / 16_000)).astype(np.int16)


def connected(pair: CallPair) -> bool:
    return all(is_up(host) for host in pair.hosts)


def heard_seconds(host) -> float:
    return sum(event.frame.duration for event in host.seen(AudioReceived))


@pytest.mark.parametrize("version", [Version.DTLS_1_2, Version.DTLS_1_3])
@pytest.mark.parametrize("setup", [Setup.PASSIVE, Setup.ACTIVE])
def test_a_call_comes_up_speaks_both_ways_and_ends(version: Version, setup: Setup) -> None:
    pair = CallPair(agree(setup=setup), client=ConversationConfig(dtls_version=version))
    assert pair.run(10, lambda: connected(pair))
    for host in pair.hosts:
        host.handle(Write(TONE, 16_000))
    pair.run(1.5)
    for host in pair.hosts:
        (event,) = host.seen(Connected)
        assert event.dtls_version == version.label
        assert event.srtp_profile == "AEAD_AES_128_GCM"
        assert heard_seconds(host) == pytest.approx(1.0)
        sound = np.concatenate([event.frame.samples for event in host.seen(AudioReceived)]).astype(float)
        spectrum = np.abs(np.fft.rfft(sound[3200:]))
        assert np.argmax(spectrum) * 16_000 / len(sound[3200:]) == pytest.approx(440, abs=2)
    pair.left.handle(HangUp())
    pair.run(1)
    assert pair.left.seen(Ended)[0].reason is EndReason.HUNG_UP
    assert pair.right.seen(Ended)[0].reason is EndReason.PEER_CLOSED
    assert pair.right.seen(PeerLeft)
    assert all(host.machine.is_finished for host in pair.hosts)


def in_two_sections(offer: SessionDescription, *, payload_type: str) -> SessionDescription:
    """Return an offer that sends sound by one section and hears it by another, as two transceivers do."""
    audio, data = offer.media

    def section(mid: str, direction: str, number: str) -> MediaDescription:
        lines = [SdpAttribute("mid", mid), SdpAttribute(direction), SdpAttribute("extmap", f"9 {URI_MID}")]
        for name, value in audio.attributes:
            if name in ("rtpmap", "fmtp", "rtcp-fb") and value is not None:
                value = value.replace("111", number)
            if name not in ("mid", "sendrecv"):
                lines.append(SdpAttribute(name, value))
        formats = tuple(number if each == "111" else each for each in audio.formats)
        return replace(audio, attributes=tuple(lines), formats=formats)

    group = SdpAttribute("group", "BUNDLE 0 1 2")
    attributes = tuple(group if attribute.name == "group" else attribute for attribute in offer.attributes)
    media = (section("0", "sendonly", "111"), data, section("2", "recvonly", payload_type))
    return replace(offer, media=media, attributes=attributes)


@pytest.mark.parametrize("payload_type", ["111", "126"])
def test_a_voice_in_each_direction_by_a_section_of_its_own(payload_type: str) -> None:
    sides = agree(shape=lambda offer: in_two_sections(offer, payload_type=payload_type))
    for parameters, (sends, hears) in ((sides.client, ("0", "2")), (sides.server, ("2", "0"))):
        audio, received = parameters.negotiation.audio, parameters.negotiation.received_audio
        assert audio is not None
        assert received is not None
        assert (audio.mid, received.mid) == (sends, hears)
    pair = CallPair(sides)
    assert pair.run(10, lambda: connected(pair))
    for host in pair.hosts:
        host.handle(Write(TONE, 16_000))
    pair.run(1.5)
    for host in pair.hosts:
        assert heard_seconds(host) == pytest.approx(1.0)
        assert host.machine.session.all_counters()["rtp.dropped_unknown_payload_type"] == 0


def sending_alone(offer: SessionDescription) -> SessionDescription:
    """Return an offer as a client makes it that takes no sound."""
    return replace(
        offer,
        media=tuple(
            replace(
                media,
                attributes=tuple(
                    SdpAttribute("sendonly") if each.name == "sendrecv" else each for each in media.attributes
                ),
            )
            for media in offer.media
        ),
    )


def test_no_key_is_pressed_where_the_peer_takes_no_sound() -> None:
    pair = CallPair(agree(shape=sending_alone))
    assert pair.run(10, lambda: connected(pair))
    pair.left.command(lambda call, now: call.session.send_dtmf("1", now))
    with pytest.raises(LocalError, match="takes no sound"):
        pair.right.machine.session.send_dtmf("1", pair.now)
    pair.run(1)
    sent = [host.machine.session.statistics(pair.now).rtp[0].outbound.packets_sent for host in pair.hosts]
    assert sent[0] > 0
    assert sent[1] == 0


def without_init(offer: SessionDescription) -> SessionDescription:
    """Return an offer as those make it who do not know `a=sctp-init`."""
    return replace(
        offer,
        media=tuple(
            replace(media, attributes=tuple(each for each in media.attributes if each.name != "sctp-init"))
            for media in offer.media
        ),
    )


def with_a_useless_init(offer: SessionDescription) -> SessionDescription:
    """Return an offer whose INIT chunk has the initiate tag 0 (RFC 9260 §3.3.2)."""
    useless = b"\1\0\0\x14" + bytes(4) + b"\0\1\0\0\0\1\0\1\0\0\0\1"
    offer = without_init(offer)
    audio, data = offer.media
    attribute = SdpAttribute("sctp-init", b64encode(useless).decode())
    return replace(offer, media=(audio, replace(data, attributes=(*data.attributes, attribute))))


@pytest.mark.parametrize("setup", [Setup.PASSIVE, Setup.ACTIVE])
def test_inits_in_the_descriptions_save_the_handshake_of_sctp(setup: Setup) -> None:
    pair = CallPair(agree(setup=setup), NetworkModel(delay=0.05))
    assert pair.run(10, lambda: connected(pair))
    for host in pair.hosts:
        channels = host.machine.session.channels
        assert channels is not None
        assert channels.state is AssociationState.ESTABLISHED, "at the instant at which DTLS is connected"
        assert host.machine.all_counters()["sctp.established_from_sdp"] == 1
    opened = pair.left.handle(OpenChannel("words"))
    pair.left.handle(SendMessage(opened, "hello"))
    pair.run(0.051)
    assert [event.data for event in pair.right.seen(MessageReceived)] == ["hello"]


def test_a_peer_that_does_not_know_them_shakes_hands() -> None:
    pair = CallPair(agree(shape=without_init), NetworkModel(delay=0.05))
    assert pair.run(10, lambda: connected(pair))
    pair.left.handle(SendMessage(pair.left.handle(OpenChannel("words")), "hello"))
    assert pair.run(1, lambda: bool(pair.right.seen(MessageReceived)))
    assert all(host.machine.all_counters()["sctp.established_from_sdp"] == 0 for host in pair.hosts)


def test_an_init_that_makes_no_association_is_not_agreed_on_and_the_handshake_done() -> None:
    sides = agree(shape=with_a_useless_init)
    pair = CallPair(sides)
    assert pair.run(10, lambda: connected(pair))
    assert pair.right.machine.all_counters()["sdp.ignored_sctp_init"] == 1
    pair.left.handle(SendMessage(pair.left.handle(OpenChannel("words")), "hello"))
    assert pair.run(1, lambda: bool(pair.right.seen(MessageReceived)))
    assert all(host.machine.all_counters()["sctp.established_from_sdp"] == 0 for host in pair.hosts)


def round_trips_to_connect(pair: CallPair, round_trip: float) -> tuple[float, float]:
    """Return when client and server were connected, in round trips."""
    begun = pair.now
    found: dict[str, float] = {}

    def note() -> bool:
        for name, host in zip(("client", "server"), pair.hosts, strict=True):
            if is_up(host):
                found.setdefault(name, (pair.now - begun) / round_trip)
        return len(found) == 2

    assert pair.run(5, note)
    return found["client"], found["server"]


PLAIN = ConversationConfig(dtls_in_stun=False)
CARRIED = ConversationConfig()


@pytest.mark.parametrize(
    ("client", "server", "expected"),
    [(CARRIED, CARRIED, (1.0, 1.5)), (PLAIN, CARRIED, (2.0, 2.5)), (CARRIED, PLAIN, (2.0, 2.5))],
    ids=["both", "server alone", "client alone"],
)
def test_a_handshake_in_checks_saves_a_round_trip(
    client: ConversationConfig, server: ConversationConfig, expected: tuple[float, float]
) -> None:
    pair = CallPair(agree(), NetworkModel(delay=0.05), client=client, server=server)
    assert round_trips_to_connect(pair, 0.1) == pytest.approx(expected, abs=0.01)
    counted = pair.right.machine.all_counters()["session.dtls_in_stun"]
    assert counted == (2 if client is server else 0), "both flights of the client"


def first_sound(host: Host[Conversation]) -> float | None:
    """Return when the first packet of the peer was accepted, in ms from the making of the session."""
    return host.machine.session.steps.get("first_packet")


@pytest.mark.parametrize(
    ("server", "expected"),
    [(CARRIED, (100, 150)), (ConversationConfig(send_early=False), (200, 150)), (PLAIN, (200, 250))],
    ids=["early", "not early", "early, no carrier"],
)
def test_a_server_of_1_3_speaks_with_its_finished(server: ConversationConfig, expected: tuple[int, int]) -> None:
    pair = CallPair(agree(data=False), NetworkModel(delay=0.05), server=server)
    spoken: set[str] = set()

    def speak() -> bool:
        """Let each side say something as soon as it may."""
        for host in pair.hosts:
            if host.seen(Connected) and host.name not in spoken:
                spoken.add(host.name)
                host.handle(Write(TONE, 16_000))
        return bool(first_sound(pair.left) and first_sound(pair.right))

    assert pair.run(1, speak)
    assert (first_sound(pair.left), first_sound(pair.right)) == pytest.approx(expected, abs=21)
    (told,) = pair.right.seen(Connected)
    assert told.authenticated is not server.send_early
    assert len(pair.right.seen(Authenticated)) == (1 if server.send_early else 0)
    assert "session.dropped_media_before_finished" not in pair.right.machine.all_counters().snapshot()


def test_a_peer_that_does_not_prove_itself_is_spoken_to_for_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    pair = CallPair(agree(data=False), NetworkModel(delay=0.05), client=PLAIN)
    carry, withheld = pair.network.carry, [True]

    def carry_no_finished(sender: Host[Any], data: bytes, path: Path) -> None:
        if not (withheld[0] and sender.name == pair.left.name and 32 <= data[0] < 64):  # an encrypted record
            carry(sender, data, path)

    monkeypatch.setattr(pair.network, "carry", carry_no_finished)
    assert pair.run(2, lambda: bool(pair.right.seen(Connected)))
    pair.right.handle(Write(np.tile(TONE, 20), 16_000))

    def spoken() -> int:
        return pair.right.machine.stats(pair.now).totals.packets_sent

    pair.run(MAX_EARLY + 0.1)
    before = spoken()
    assert 0 < before < 70
    pair.run(5)
    assert spoken() == before
    assert pair.right.machine.all_counters()["session.early_over"] == 1
    withheld[0] = False
    assert pair.run(5, lambda: bool(pair.right.seen(Authenticated)))
    pair.run(1)
    assert spoken() > before


@pytest.mark.parametrize("rate", [8_000, 48_000, None])
def test_comfort_noise_leaves_with_the_finished_of_a_program_that_says_nothing(rate: int | None) -> None:
    pair = CallPair(agree(data=False), NetworkModel(delay=0.05), server=ConversationConfig(comfort_noise=rate))
    pair.run(0.5)
    if rate is None:
        assert first_sound(pair.left) is None
        return
    assert first_sound(pair.left) == pytest.approx(100, abs=1), "with the flight"
    (noise,) = [event.frame.samples for event in pair.left.seen(AudioReceived) if event.frame.samples.any()][:1]
    assert np.abs(noise.astype(int)).max() < 100
    sent = pair.right.machine.stats(pair.now).totals.packets_sent
    assert sent == 1
    pair.right.handle(Write(TONE, 16_000))
    assert heard_seconds(pair.left) < 0.1
    pair.run(1.5)
    loud = [event for event in pair.left.seen(AudioReceived) if np.abs(event.frame.samples).max() > 4000]
    assert sum(event.frame.duration for event in loud) == pytest.approx(1.0, abs=0.05)


def test_a_program_that_has_something_to_say_is_not_announced_by_noise() -> None:
    pair = CallPair(agree(data=False), NetworkModel(delay=0.05), server=ConversationConfig(comfort_noise=16_000))
    pair.right.handle(Write(TONE, 16_000))
    pair.run(0.2)
    other = CallPair(agree(data=False), NetworkModel(delay=0.05))
    other.right.handle(Write(TONE, 16_000))
    other.run(0.2)
    assert [event.frame.samples.tolist() for event in pair.left.seen(AudioReceived)] == [
        event.frame.samples.tolist() for event in other.left.seen(AudioReceived)
    ]


def test_comfort_noise_at_a_rate_that_is_none_is_refused() -> None:
    with pytest.raises(LocalError, match="comfort noise has one of the sample rates 8000"):
        prepare(ConversationConfig(comfort_noise=1))


EVENTS = (ChannelMap(0, "events"),)


@pytest.mark.parametrize("setup", [Setup.PASSIVE, Setup.ACTIVE])
def test_a_channel_of_the_descriptions_is_open_with_the_connection(setup: Setup) -> None:
    pair = CallPair(agree(channels=EVENTS, setup=setup), NetworkModel(delay=0.05))
    assert pair.run(5, lambda: bool(pair.left.seen(ChannelOpened)))
    assert pair.left.time_of(ChannelOpened) == pair.left.time_of(Connected)
    assert pair.left.handle(OpenChannel("events")) == 0, "that one, and no other"
    assert pair.left.handle(OpenChannel("events", ordered=False)) != 0
    assert pair.run(1, lambda: bool(pair.left.seen(MessageReceived)))
    assert '"turn_settings"' in str(pair.left.seen(MessageReceived)[0].data), "the server tells its client"
    (there,) = (event for event in pair.right.seen(ChannelOpened) if event.channel == 0)
    assert (there.label, there.negotiated, there.by_peer) == ("events", True, True)


def test_a_client_that_does_not_name_it_opens_it_by_a_message() -> None:
    pair = CallPair(agree(), NetworkModel(delay=0.05))
    assert pair.run(5, lambda: connected(pair))
    assert not pair.left.seen(ChannelOpened)
    pair.left.handle(OpenChannel("events"))
    assert pair.run(1, lambda: bool(pair.left.seen(MessageReceived)))
    assert not pair.right.seen(ChannelOpened)[0].negotiated


def test_early_data_do_not_take_the_place_of_the_flight_in_the_checks() -> None:
    pair = CallPair(agree(channels=EVENTS), NetworkModel(delay=0.05))

    def lose(sender: Host[Any], data: bytes, path: Path) -> bytes | None:
        """Lose what of the server's handshake travels by itself."""
        lost = sender is pair.right and classify(data) is Kind.DTLS and not pair.left.seen(Connected)
        return None if lost else data

    pair.network.filter = lose
    assert pair.run(5, lambda: bool(pair.left.seen(Connected)))
    assert pair.left.machine.session.steps["keys_ready"] < 250, "by the second check; the timer would take longer"


def test_a_lite_server_knows_the_round_trip_from_the_first_flight_on() -> None:
    pair = CallPair(agree(), NetworkModel(delay=0.05), client=PLAIN)
    flights: list[float] = []

    def lose(sender: Host[Any], data: bytes, path: Path) -> bytes | None:
        """Lose what the server's handshake sends, and what the client repeats after its first hello."""
        if classify(data) is not Kind.DTLS:
            return data
        if sender is pair.right:
            flights.append(pair.now)
            return None
        return data if not flights else None

    pair.network.filter = lose
    pair.run(0.9)
    assert pair.right.machine.session.ice.round_trip_time == pytest.approx(0.1)
    times = sorted(set(flights))
    assert times[1] - times[0] == pytest.approx(0.3), "twice the round trip and 0.1 s; without it 0.4 s"


def test_nothing_is_taken_from_a_peer_that_has_not_proved_who_it_is() -> None:
    pair = CallPair(agree(), NetworkModel(delay=0.05), client=PLAIN)
    held: list[bytes] = []

    def hold_back(sender: Host[Any], data: bytes, path: Path) -> bytes | None:
        """Let sound pass and keep the client's flight, as a network may that puts packets out of order."""
        if sender is pair.left and 32 <= data[0] < 64:  # an encrypted record
            held.append(data)
            return None
        return data

    pair.network.filter = hold_back
    assert pair.run(5, lambda: bool(pair.left.seen(Connected)))
    pair.left.handle(Write(TONE, 16_000))
    pair.run(0.5)
    assert held
    assert not is_up(pair.right)
    assert pair.right.machine.all_counters()["session.dropped_media_before_finished"] > 5
    assert not pair.right.seen(AudioReceived)


@pytest.mark.parametrize("version", [Version.DTLS_1_2, Version.DTLS_1_3])
@pytest.mark.parametrize("seed", range(5))
def test_a_handshake_in_checks_survives_loss(version: Version, seed: int) -> None:
    model = NetworkModel(delay=0.05, loss=0.2, duplicate=0.05)
    client = ConversationConfig(dtls_version=version)
    for setup in (Setup.PASSIVE, Setup.ACTIVE):
        pair = CallPair(agree(seed, setup=setup), model, seed=seed, client=client)
        assert pair.run(30, lambda pair=pair: connected(pair))


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("loss", [0.0, 0.1, 0.3])
def test_every_call_comes_up_on_a_bad_network(loss: float, seed: int) -> None:
    model = NetworkModel(
        loss=loss,
        delay=0.5 if seed % 2 else 0.02,
        jitter=Jitter(0.02),
        jitter_reorders=True,
        reorder=0.05,
        duplicate=0.05,
    )
    pair = CallPair(model=model, seed=seed)
    ended = lambda: any(host.seen(Ended) for host in pair.hosts)  # noqa: E731
    pair.run(60, lambda: connected(pair) or ended())
    if connected(pair):
        return
    # With 30 % loss both ways a handshake may lose; then it has to say so.
    assert loss == 0.3
    assert ended()
    assert {event.reason for host in pair.hosts for event in host.seen(Ended)} & {
        EndReason.SETUP_TIMEOUT,
        EndReason.DTLS_FAILED,
    }


def test_a_call_is_the_same_from_the_same_seed() -> None:
    def story(seed: int) -> list[tuple[float, str]]:
        pair = CallPair(model=NetworkModel(loss=0.2, delay=0.05), seed=seed, client=CLASSICAL)
        pair.run(20, lambda: connected(pair))
        return [
            (at, repr(event)) for host in pair.hosts for at, event in zip(host.times, host.events, strict=True)
        ]

    stories = [story(seed) for seed in range(8)]
    assert stories == [story(seed) for seed in range(8)]
    assert any(other != stories[0] for other in stories)


CLASSICAL = ConversationConfig(dtls_version=Version.DTLS_1_2)  # the hybrid group of 1.3 cannot be seeded


def test_a_wrong_password_never_gets_a_path() -> None:
    sides = agree()
    wrong = replace(sides.client.negotiation, remote_ice_pwd="x" * 22)
    pair = CallPair(replace(sides, client=replace(sides.client, negotiation=wrong)))
    pair.run(60)
    for host in pair.hosts:
        assert not host.seen(Connected)
        assert host.seen(Ended)[0].reason in (EndReason.SETUP_TIMEOUT, EndReason.ICE_FAILED)
    counters = pair.right.machine.session.all_counters().snapshot()
    assert sum(count for name, count in counters.items() if name.startswith("ice.")) > 0
    assert not any(name.startswith("dtls.") for name in counters)


@pytest.mark.parametrize("version", [Version.DTLS_1_2, Version.DTLS_1_3])
@pytest.mark.parametrize("deceived", ["client", "server"])
def test_a_wrong_fingerprint_ends_the_call_by_its_name(version: Version, deceived: str) -> None:
    sides, other = agree(1), agree(2)
    mine, theirs = getattr(sides, deceived), getattr(other, deceived)
    wrong = replace(mine.negotiation, remote_fingerprints=theirs.negotiation.remote_fingerprints)
    sides = replace(sides, **{deceived: replace(mine, negotiation=wrong)})
    pair = CallPair(sides, client=ConversationConfig(dtls_version=version))
    pair.run(20)
    host, peer = pair.hosts if deceived == "client" else pair.hosts[::-1]
    assert host.seen(Ended)[0].reason is EndReason.FINGERPRINT_MISMATCH
    assert not is_up(host)
    early = deceived == "server" and version is Version.DTLS_1_3
    assert bool(host.seen(Connected)) is early, "a server of 1.3 has sent its Finished before it can know"
    assert peer.seen(Ended)[0].reason in (EndReason.DTLS_FAILED, EndReason.PEER_CLOSED)


def test_a_peer_that_vanishes_is_missed() -> None:
    pair = CallPair()
    assert pair.run(10, lambda: connected(pair))
    pair.network.detach(pair.left)
    pair.run(60)
    assert pair.right.seen(Ended)[0].reason is EndReason.CONSENT_EXPIRED


def test_a_nat_that_rebinds_does_not_end_the_call() -> None:
    pair = CallPair()
    assert pair.run(10, lambda: connected(pair))
    pair.network.rebind(LEFT, Address("192.0.2.1", 1001))
    pair.run(20)
    pair.left.handle(Write(TONE, 16_000))
    pair.right.handle(Write(TONE, 16_000))
    pair.run(2)
    assert not any(host.seen(Ended) for host in pair.hosts)
    assert pair.right.machine.session.path == Path(RIGHT, Address("192.0.2.1", 1001))
    assert [heard_seconds(host) for host in pair.hosts] == pytest.approx([1.0, 1.0])


def test_replayed_media_is_dropped_and_counted() -> None:
    pair = CallPair(model=NetworkModel(duplicate=1.0))
    assert pair.run(10, lambda: connected(pair))
    pair.left.handle(Write(TONE, 16_000))
    pair.run(2)
    assert heard_seconds(pair.right) == pytest.approx(1.0)
    assert pair.right.machine.session.all_counters()["media.dropped_srtp_replay"] >= 50


def test_garbage_disturbs_nothing() -> None:
    random = Random(5)
    pair = CallPair()
    assert pair.run(10, lambda: connected(pair))
    path = Path(RIGHT, LEFT)
    for _ in range(3000):
        first = random.choice([0, 1, 16, 20, 22, 23, 25, 44, 63, 64, 128, 129, 144, 191, 200, 255])
        data = bytes([first]) + random.randbytes(random.randrange(0, 200))
        pair.right.take(data, path)
    pair.right.take(b"", path)
    pair.left.handle(Write(TONE, 16_000))
    pair.run(2)
    assert not pair.right.seen(Ended)
    assert heard_seconds(pair.right) == pytest.approx(1.0)
    dropped = pair.right.machine.session.all_counters().snapshot()
    assert sum(dropped.values()) >= 2900


def test_a_session_can_be_built_elsewhere() -> None:
    sides = agree()
    for parameters in (sides.client, sides.server):
        assert SessionParameters.from_json(parameters.to_json()) == parameters


def test_data_without_audio_and_audio_without_data() -> None:
    for audio, data in ((True, False), (False, True)):
        pair = CallPair(agree(audio=audio, data=data))
        assert pair.run(10, lambda pair=pair: connected(pair))
        session = pair.right.machine.session
        assert (session.has_media, (session.channels is not None)) == (audio, data)
        (told,) = pair.right.seen(Connected)
        assert told.srtp_profile == "AEAD_AES_128_GCM", "some stacks give up a call that agrees on none"


def test_sctp_packets_that_arrive_together_are_answered_together() -> None:
    pair = CallPair(agree(audio=False, data=True))
    assert pair.run(10, lambda: connected(pair))
    assert not pair.run(1, lambda: False)
    conversation = pair.left.machine
    channel = conversation.handle_command(OpenChannel("bulk"), pair.now)
    conversation.handle_command(SendMessage(channel, bytes(9000)), pair.now)
    batch = [(each.data, Path(each.path.remote, each.path.local)) for each in conversation.drain_transmits()]
    assert len(batch) == 9
    session = pair.right.machine.session
    session.handle_datagrams(batch, pair.now)
    assert len(session.drain_transmits()) == 2, "one SACK, and the channel's ACK"
    assert [type(event).__name__ for event in session.drain_events()] == ["ChannelOpened", "MessageReceived"]
